"""A fixture for tests that train: compilation would take most of their time."""

from __future__ import annotations

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

SETTINGS = {
    "jax_disable_most_optimizations": True,
    "jax_persistent_cache_min_compile_time_secs": 0.1,
}


@pytest.fixture(scope="module", autouse=True)
def quick_compilation(tmp_path_factory):
    """Compiles without optimisation and keeps programs for the session, in child processes too."""
    folder = tmp_path_factory.getbasetemp() / "compiled"
    settings = {**SETTINGS, "jax_compilation_cache_dir": str(folder)}
    before = {name: jax.config.values[name] for name in settings}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            jax.config.update(name, value)
            patch.setenv(name.upper(), str(value))
        compilation_cache.reset_cache()
        yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
