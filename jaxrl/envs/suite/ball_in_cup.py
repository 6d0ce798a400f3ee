"""Ball in a cup: catch (dm_control suite/ball_in_cup.py)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mujoco

from jaxrl.envs.suite.common import suite_spec
from jaxrl.envs.task import Sim, Task, forward_passive

TARGET_ABOVE_BALL = 0.35  # m, where all joints are at zero
REACH = 0.025  # m: half the target's width (and height) without the ball's radius
ATTEMPTS = 1000


def model() -> mujoco.MjSpec:
    """The suite's cup and ball. Both move on slides, so no sensor is needed to place them."""
    return suite_spec("ball_in_cup.xml")


def start(model, data, random):
    """Ball anywhere around the cup, at rest and without a collision."""
    for _ in range(ATTEMPTS):
        data.qpos[2:] = random.uniform(-0.2, 0.2), random.uniform(0.2, 0.5)
        forward_passive(model, data)
        if data.ncon == 0:
            return {}
    raise RuntimeError(f"ball_in_cup: no collision-free start in {ATTEMPTS} attempts")


def observe(sim: Sim) -> jax.Array:
    """Positions of cup and ball (2 x 2), their velocities (2 x 2)."""
    return jnp.concatenate([sim.qpos, sim.qvel])


def reward(sim: Sim) -> jax.Array:
    """Whether the whole ball is inside the target in the cup."""
    cup, ball = sim.qpos[:2], sim.qpos[2:]
    to_target = cup - ball + jnp.array([0.0, TARGET_ABOVE_BALL])
    return jnp.all(jnp.abs(to_target) < REACH).astype(jnp.float32)


TASKS = [
    Task(
        name="ball_in_cup-catch",
        model=model,
        control_dt=0.02,
        time_limit=20.0,
        start=start,
        observe=observe,
        reward=reward,
    )
]
