"""Brax's two-link arm that brings its tip to a goal, as in JaxGCRL (Bortkiewicz et al., 2025).

JaxGCRL simulates the same file with brax's `generalized` physics.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.envs.goal.common import add_camera, add_goal_mark, brax_spec, goal_task
from jaxrl.envs.suite.common import BODY_FRAME, add_sensor
from jaxrl.envs.task import Sim

CONTROL_DT = 0.02  # s
STEPS = 1000
RADIUS = 0.05  # m
REACH = 0.2  # m, largest distance of a goal from the shoulder
HEIGHT = 0.01  # m, of tip and goal
RESTING = (0.0, 0.0)  # rad
POSITION_NOISE = 0.1  # rad
VELOCITY_NOISE = 0.005  # rad/s
MARK = 0.01  # m


def model() -> mujoco.MjSpec:
    """Brax's reacher with a mocap goal in place of its body on slides."""
    spec = brax_spec("reacher.xml")
    spec.delete(spec.body("target"))
    add_sensor(spec, "tip_position", "framepos", BODY_FRAME, "fingertip")
    add_sensor(spec, "tip_velocity", "framelinvel", BODY_FRAME, "fingertip")
    add_goal_mark(spec, MARK, HEIGHT)
    add_camera(spec, (0.0, 0.0, 0.9), (0.0, 0.0, 0.0), up=(0.0, 1.0, 0.0))
    return spec


def start(model, data, random):
    """Nearly straight arm; goal at a uniform distance and angle."""
    data.qpos[:] = RESTING
    data.qpos[:] += random.uniform(-POSITION_NOISE, POSITION_NOISE, 2)
    data.qvel[:] = random.uniform(-VELOCITY_NOISE, VELOCITY_NOISE, 2)
    distance, angle = random.uniform(0, REACH), random.uniform(0, 2 * np.pi)
    return np.array([distance * np.cos(angle), distance * np.sin(angle), HEIGHT])


def state(sim: Sim) -> jax.Array:
    """Cosines (2) and sines (2) of the joint angles, position (3) and velocity (3) of the tip."""
    tip = [sim.sensor("tip_position"), sim.sensor("tip_velocity")]
    return jnp.concatenate([jnp.cos(sim.qpos), jnp.sin(sim.qpos), *tip])


TASKS = [
    goal_task(
        "reacher-goal",
        model,
        state=state,
        state_size=10,
        achieved=slice(4, 7),
        radius=RADIUS,
        start=start,
        control_dt=CONTROL_DT,
        steps=STEPS,
    )
]
