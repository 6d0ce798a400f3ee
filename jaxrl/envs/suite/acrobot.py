"""Acrobot: swing up two links by the elbow alone, reward smooth or sparse (dm_control
suite/acrobot.py).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.envs.suite.common import suite_spec, tolerance
from jaxrl.envs.task import Sim, Task

SHOULDER_TO_TARGET = 2.0  # m, straight up: the length of both links
TARGET_RADIUS = 0.2  # m


def model() -> mujoco.MjSpec:
    """The suite's acrobot. Links and tip follow from the two angles, so no sensor is needed."""
    spec = suite_spec("acrobot.xml")
    spec.option.enableflags &= ~int(mujoco.mjtEnableBit.mjENBL_ENERGY)
    return spec


def start(model, data, random):
    """Any two angles, at rest."""
    data.qpos[:] = random.uniform(-np.pi, np.pi, 2)
    return {}


def link_directions(sim: Sim) -> tuple[jax.Array, jax.Array]:
    """Horizontal and vertical components of the upper and the lower link's direction, [2] each."""
    angles = jnp.cumsum(sim.qpos)
    return jnp.sin(angles), jnp.cos(angles)


def observe(sim: Sim) -> jax.Array:
    """Directions of the links (2 x 2), joint velocities (2)."""
    return jnp.concatenate([*link_directions(sim), sim.qvel])


def reward(sim: Sim, sparse: bool) -> jax.Array:
    """Closeness of the tip to the target above; or whether it is inside."""
    horizontal, vertical = link_directions(sim)  # of links 1 m long
    distance = jnp.hypot(horizontal.sum(), vertical.sum() - SHOULDER_TO_TARGET)
    return tolerance(distance, (0.0, TARGET_RADIUS), margin=0.0 if sparse else 1.0)


TASKS = [
    Task(
        name=f"acrobot-{name}",
        model=model,
        control_dt=0.01,
        time_limit=10.0,
        start=start,
        observe=observe,
        reward=functools.partial(reward, sparse=sparse),
    )
    for name, sparse in (("swingup", False), ("swingup-sparse", True))
]
