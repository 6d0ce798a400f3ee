"""Where compiled programs are kept between processes."""

from __future__ import annotations

import os
from pathlib import Path


def enable_compilation_cache() -> None:
    """Keeps compiled programs in ~/.cache/jaxrl, unless JAX_COMPILATION_CACHE_DIR says otherwise.

    Programs with a host callback, and so those with native physics, are kept from jax 0.12 on.
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(home / "jaxrl" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
