"""jaxrl: reinforcement-learning research on accelerators.

import jaxrl
env = jaxrl.make("walker-walk")
policy = jaxrl.load_policy("runs/demo")
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "load_policy", "make"]


def __getattr__(name: str) -> Any:
    if name == "make":  # late, because it imports jax and mujoco
        from jaxrl.envs.registry import make

        return make
    if name == "load_policy":
        from jaxrl.train.policy import load_policy

        return load_policy
    raise AttributeError(f"module 'jaxrl' has no attribute {name!r}")
