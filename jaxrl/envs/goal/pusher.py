"""Brax's seven-joint arm that pushes a cylinder, as in JaxGCRL (Bortkiewicz et al., 2025).

The goal's height is that of brax's mark on the table, 4.8 cm under the middle of the object, so a
goal is reached within 8.8 cm in the plane. JaxGCRL simulates the same file with brax's
`generalized` physics; where object and goal are drawn nearer than 17 cm it scales the object's
position, which may leave the goal reached already, and we draw again.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.envs.goal.common import add_camera, add_goal_mark, brax_spec, goal_task
from jaxrl.envs.suite.common import add_sensor
from jaxrl.envs.task import Sim

CONTROL_DT = 0.05  # s
STEPS = 1000
RADIUS = 0.1  # m
ORIGIN = (0.45, -0.05, -0.323)  # m: where object and goal lie when their slides are at 0
LEAST_DISTANCE = 0.17  # m, of the object from the goal at a start
VELOCITY_NOISE = 0.005  # rad/s
MARK = 0.06  # m
OBJECT = {"y": (-0.3, 0.0), "x": (-0.2, 0.2)}
"""Where the object starts, m along its slides."""
GOALS = {
    "easy": {"y": (-0.55, -0.25), "x": (-0.2, 0.2)},
    "hard": {"y": (-0.65, 0.35), "x": (-0.55, 0.45)},
}
"""Where goals lie, m along the slides that brax's mark has."""


def model() -> mujoco.MjSpec:
    """Brax's pusher with a mocap goal in place of its body on slides."""
    spec = brax_spec("pusher.xml")
    spec.delete(spec.body("goal"))
    inertial = mujoco.mjtObj.mjOBJ_BODY
    add_sensor(spec, "tip_position", "framepos", inertial, "r_wrist_flex_link")
    add_sensor(spec, "object_position", "framepos", inertial, "object")
    add_goal_mark(spec, MARK)
    add_camera(spec, (1.6, -0.5, 1.0), (0.4, -0.2, -0.25))
    return spec


def start(model, data, random, told=None, *, kind: str):
    """Resting arm, object in front of it, goal (that which is told, if any) at least 17 cm away."""

    def draw(ranges):
        return np.array([random.uniform(*ranges["y"]), random.uniform(*ranges["x"])])

    def draw_goal():
        return draw(GOALS[kind]) if told is None else np.subtract(told, ORIGIN)[1::-1]

    placed, goal = draw(OBJECT), draw_goal()
    while np.linalg.norm(placed - goal) < LEAST_DISTANCE:
        placed, goal = draw(OBJECT), draw_goal()
    data.qpos[7:9] = placed
    data.qvel[:7] = random.uniform(-VELOCITY_NOISE, VELOCITY_NOISE, 7)
    return np.array([ORIGIN[0] + goal[1], ORIGIN[1] + goal[0], ORIGIN[2]])


def state(sim: Sim) -> jax.Array:
    """Arm's angles (7), position of its wrist (3) and of the object (3), arm's velocities (7)."""
    places = [sim.sensor("tip_position"), sim.sensor("object_position")]
    return jnp.concatenate([sim.qpos[:7], *places, sim.qvel[:7]])


TASKS = [
    goal_task(
        f"pusher-{kind}",
        model,
        state=state,
        state_size=20,
        achieved=slice(10, 13),
        radius=RADIUS,
        start=functools.partial(start, kind=kind),
        start_knows_goal=True,
        control_dt=CONTROL_DT,
        steps=STEPS,
    )
    for kind in GOALS
]
