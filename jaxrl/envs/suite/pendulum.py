"""Pendulum: swing up with too little torque, reward sparse (dm_control suite/pendulum.py)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.envs.suite.common import suite_spec, tolerance
from jaxrl.envs.task import Sim, Task

COSINE_RANGE = (np.cos(np.deg2rad(8.0)), 1.0)


def model() -> mujoco.MjSpec:
    """The suite's pendulum. The pole's axes follow from its angle, so no sensor is needed."""
    spec = suite_spec("pendulum.xml")
    spec.option.enableflags &= ~int(mujoco.mjtEnableBit.mjENBL_ENERGY)
    return spec


def start(model, data, random):
    """Any angle, at rest."""
    data.qpos[0] = random.uniform(-np.pi, np.pi)
    return {}


def observe(sim: Sim) -> jax.Array:
    """Cosine and sine of the pole's angle, its velocity (rad/s)."""
    angle = sim.qpos[0]
    return jnp.stack([jnp.cos(angle), jnp.sin(angle), sim.qvel[0]])


def reward(sim: Sim) -> jax.Array:
    """Whether the pole is within 8 degrees of upright."""
    # The cosine's float32 rounding may exceed 1, which the upper bound excludes.
    return tolerance(jnp.minimum(jnp.cos(sim.qpos[0]), 1.0), COSINE_RANGE)


TASKS = [
    Task(
        name="pendulum-swingup",
        model=model,
        control_dt=0.02,
        time_limit=20.0,
        start=start,
        observe=observe,
        reward=reward,
    )
]
