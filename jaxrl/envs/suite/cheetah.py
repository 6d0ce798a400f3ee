"""Planar cheetah: run (dm_control suite/cheetah.py)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mujoco

from jaxrl.envs.suite.common import suite_spec, tolerance
from jaxrl.envs.task import Sim, Task

RUN_SPEED = 10.0  # m/s
SETTLING_STEPS = 200


def model() -> mujoco.MjSpec:
    """The suite's cheetah; it has the one sensor that the task reads."""
    return suite_spec("cheetah.xml")


def start(model, data, random):
    """Random joint angles, settled on the ground for two seconds."""
    limited = model.jnt_limited == 1
    low, high = model.jnt_range[limited].T
    data.qpos[limited] = random.uniform(low, high)
    # dm_control's step: second half of a step, whole steps, first half of the next.
    mujoco.mj_step2(model, data)
    mujoco.mj_step(model, data, SETTLING_STEPS - 1)
    mujoco.mj_step1(model, data)
    data.time = 0.0
    return {}


def observe(sim: Sim) -> jax.Array:
    """Positions without the horizontal one (8), velocities (9)."""
    return jnp.concatenate([sim.qpos[1:], sim.qvel])


def reward(sim: Sim) -> jax.Array:
    """Horizontal speed of the centre of mass, linear up to 10 m/s."""
    speed = sim.sensor("torso_subtreelinvel")[0]
    return tolerance(
        speed, (RUN_SPEED, jnp.inf), margin=RUN_SPEED, value_at_margin=0, sigmoid="linear"
    )


TASKS = [
    Task(
        name="cheetah-run",
        model=model,
        control_dt=0.01,
        time_limit=10.0,
        start=start,
        observe=observe,
        reward=reward,
    )
]
