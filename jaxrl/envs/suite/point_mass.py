"""Planar point mass: easy (dm_control suite/point_mass.py)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mujoco

from jaxrl.envs.suite.common import randomize_joints, suite_spec, tolerance
from jaxrl.envs.task import Sim, Task

TARGET_SIZE = 0.015  # m


def model() -> mujoco.MjSpec:
    """The suite's point mass. Its joints measure from the target, so no sensor is needed."""
    return suite_spec("point_mass.xml")


def start(model, data, random):
    """Anywhere between the walls, at rest."""
    randomize_joints(model, data, random)
    return {}


def observe(sim: Sim) -> jax.Array:
    """Position (2), velocity (2)."""
    return jnp.concatenate([sim.qpos, sim.qvel])


def reward(sim: Sim) -> jax.Array:
    """Closeness to the target, times 4/5 to 1 for small controls."""
    distance = jnp.linalg.norm(sim.qpos)
    near = tolerance(distance, (0.0, TARGET_SIZE), margin=TARGET_SIZE)
    effort = tolerance(sim.ctrl, margin=1, value_at_margin=0, sigmoid="quadratic").mean()
    return near * (4 + effort) / 5


TASKS = [
    Task(
        name="point_mass-easy",
        model=model,
        control_dt=0.02,
        time_limit=20.0,
        start=start,
        observe=observe,
        reward=reward,
    )
]
