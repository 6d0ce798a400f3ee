"""How the tests compile: quickly, and equal programs once."""

import os

import pytest

from jaxrl.envs.physics.engines import THREADS
from tests import compiling

# Before jax starts: a pool of threads in which tests of mjx do not wait for themselves.
os.environ.setdefault("NPROC", str(THREADS))  # see `engines.ask_for_threads`
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {compiling.FLAGS}".strip()

import jax
from jax.experimental.compilation_cache import compilation_cache

SETTINGS = {
    "jax_disable_most_optimizations": True,
    "jax_persistent_cache_min_compile_time_secs": 0.1,
}


@pytest.fixture(scope="session", autouse=True)
def quick_compilation(tmp_path_factory):
    """Compiles without optimisation, as compilation would take most of the time, and keeps
    programs for the session, in child processes too."""
    folder = tmp_path_factory.getbasetemp() / "compiled"
    for name, value in {**SETTINGS, "jax_compilation_cache_dir": str(folder)}.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)
    compilation_cache.reset_cache()


@pytest.fixture
def optimised():
    """For a test that computes for longer than it compiles, or reads an optimised program."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
