"""Brax's cheetah that runs to a goal 5 m ahead, as in JaxGCRL (Bortkiewicz et al., 2025).

JaxGCRL simulates the same file with brax's `mjx` backend; its goal is the same in every episode.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.envs.goal.common import add_camera, add_goal_mark, brax_spec, goal_task, plain_floor
from jaxrl.envs.task import Sim

CONTROL_DT = 0.05  # s
STEPS = 1000
RADIUS = 0.5  # m
GOAL = 5.0  # m
NOISE = 0.1  # of the start: half-width in m and rad, deviation in m/s and rad/s
MARK = 0.25  # m


def model() -> mujoco.MjSpec:
    """Brax's cheetah and the goal's mark."""
    spec = brax_spec("half_cheetah.xml")
    plain_floor(spec)
    add_goal_mark(spec, MARK)
    add_camera(spec, (2.5, -10.0, 2.0), (2.5, 0.0, 0.8))
    return spec


def start(model, data, random):
    """Noisy pose at the origin."""
    data.qpos[:] = random.uniform(-NOISE, NOISE, 9)
    data.qvel[:] = NOISE * random.randn(9)
    return np.array([GOAL])


def state(sim: Sim) -> jax.Array:
    """Positions (9), velocities (9)."""
    return jnp.concatenate([sim.qpos, sim.qvel])


TASKS = [
    goal_task(
        "cheetah-goal",
        model,
        state=state,
        state_size=18,
        achieved=slice(0, 1),
        radius=RADIUS,
        start=start,
        control_dt=CONTROL_DT,
        steps=STEPS,
    )
]
