"""Brax's ant with an object, as in JaxGCRL (Bortkiewicz et al., 2025): a ball, a movable block.

`ant-ball`: bring the ball to a goal 5 m away. `ant-push`: reach a goal behind a block that must be
pushed out of the way first, and not into it (Nachum et al., 2018, arXiv 1805.08296); the goal is of
the ant, and the block's position is part of the state. JaxGCRL runs ant_ball on brax's `spring`
physics and ant_push on `mjx`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.envs.goal import ant
from jaxrl.envs.goal.common import add_camera, add_goal_mark, goal_task
from jaxrl.envs.goal.mazes import PUSH_MAZE, add_maze_camera, add_walls, parse
from jaxrl.envs.suite.common import BODY_FRAME, add_sensor
from jaxrl.envs.task import Sim

STATE_SIZE = ant.STATE_SIZE + 2
FLOOR_CATEGORY, OBJECT_CATEGORY = 1, 2

BALL = 0.5  # m, radius
BALL_GOAL_DISTANCE = 5.0  # m
BALL_MASS = 0.576  # kg: JaxGCRL's two spheres, of densities 1 and 0.1
BALL_CLEARANCE = 0.8  # m, least distance of the ball from the torso at a start
TOUCHING_BALL = (
    "torso_geom",
    *(f"{leg}_foot_geom" for leg in ("left", "right", "third", "fourth")),
)


def state(sim: Sim) -> jax.Array:
    """Positions (15) and velocities (14) of the ant, position of the object (2)."""
    return jnp.concatenate([ant.state(sim), sim.sensor("object_position")[:2]])


def add_object(
    spec: mujoco.MjSpec, pos: list[float], axes: str, friction: float = 0.0
) -> mujoco.MjsBody:
    """Adds the body `object`, which moves along `axes` and does not turn, and the sensor of its
    position; `friction` in N along each axis."""
    body = spec.worldbody.add_body(name="object", pos=pos)
    for axis in axes:
        body.add_joint(
            name=f"object_{axis}",
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=np.eye(3)["xyz".index(axis)],
            damping=[0.0, 0.0, 0.0],
            armature=0.0,
            frictionloss=friction,
            limited=mujoco.mjtLimited.mjLIMITED_FALSE,
        )
    add_sensor(spec, "object_position", "framepos", BODY_FRAME, "object")
    return body


def ball_model() -> mujoco.MjSpec:
    """The ant and a ball that slides with friction and does not roll; torso and feet touch it."""
    spec = ant.body()
    for name in TOUCHING_BALL:
        spec.geom(name).conaffinity = OBJECT_CATEGORY
    ball = add_object(spec, [0.0, 0.0, BALL], "xyz")
    ball.add_geom(
        name="object",
        type=mujoco.mjtGeom.mjGEOM_SPHERE,
        size=[BALL, 0.0, 0.0],
        mass=BALL_MASS,
        contype=OBJECT_CATEGORY | FLOOR_CATEGORY,
        conaffinity=0,
        rgba=[0.2, 0.4, 0.9, 1.0],
    )
    add_goal_mark(spec, ant.MARK)
    add_camera(spec, (0.0, -12.0, 12.5), (0.0, -0.5, 0.0))
    return spec


def ball_start(model, data, random, told=None):
    """Noisy standing pose, goal on a circle (or that which is told), ball a fifth of the way with
    JaxGCRL's offset."""
    ant.stand(data, random)
    while True:
        angle, other = random.uniform(0, 2 * np.pi, 2)
        if told is not None:
            angle = np.arctan2(told[1], told[0])
        goal = BALL_GOAL_DISTANCE * np.array([np.cos(angle), np.sin(angle)])
        goal = goal if told is None else told
        # JaxGCRL's offset takes the sine of the goal's angle, not of its own.
        ball = 0.2 * goal + [np.cos(other), np.sin(angle)]
        if np.linalg.norm(ball - data.qpos[:2]) > BALL_CLEARANCE:
            break
    data.qpos[15:17] = ball  # relative to the body's own place, the origin
    return goal


PUSH_CELL = 8.0  # m
PUSH_WALL_HEIGHT = 4.0  # m
BLOCK = (3.6, 3.6, 1.8)  # m, half sizes
BLOCK_MASS = 0.5  # kg; JaxGCRL's of 0.2 g is lifted by the friction of what pushes it
BLOCK_FRICTION = 1.0  # N
DENSITY = 40.0  # kg/m^3, of the ant's geoms
SOLIMP = (0.995, 0.995, 0.01, 0.5, 2.0)
TOUCHING_BLOCK = TOUCHING_BALL


def push_model() -> mujoco.MjSpec:
    """A heavier ant in a room whose middle a block fills."""
    spec = ant.body()
    maze = parse(PUSH_MAZE, PUSH_CELL, cells="#.RGM")
    for geom in spec.geoms:
        geom.solimp = SOLIMP
        geom.density = DENSITY
    for name in TOUCHING_BLOCK:
        spec.geom(name).conaffinity = OBJECT_CATEGORY
    add_walls(spec, maze, PUSH_WALL_HEIGHT, OBJECT_CATEGORY)
    middle = maze.centre(maze.where("M")[0])
    block = add_object(spec, [*middle, BLOCK[2]], "xy", BLOCK_FRICTION)
    block.add_geom(
        name="object",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=BLOCK,
        mass=BLOCK_MASS,
        contype=OBJECT_CATEGORY,
        conaffinity=OBJECT_CATEGORY,
        solimp=SOLIMP,
        rgba=[0.9, 0.1, 0.1, 1.0],
    )
    add_goal_mark(spec, ant.MARK)
    add_maze_camera(spec, maze, PUSH_WALL_HEIGHT)
    return spec


def push_start(model, data, random):
    """Noisy standing pose; goal in one of the two cells behind the block."""
    ant.stand(data, random)
    corner = random.permutation([16.0, 8.0])
    return corner + random.uniform(0, 2, 2)


TASKS = [
    goal_task(
        "ant-ball",
        ball_model,
        state=state,
        state_size=STATE_SIZE,
        achieved=slice(29, 31),
        radius=ant.RADIUS,
        start=ball_start,
        start_knows_goal=True,
        control_dt=ant.CONTROL_DT,
        steps=ant.STEPS,
        terminated=ant.fallen,
    ),
    goal_task(
        "ant-push",
        push_model,
        state=state,
        state_size=STATE_SIZE,
        achieved=slice(0, 2),
        radius=ant.RADIUS,
        start=push_start,
        control_dt=ant.CONTROL_DT,
        steps=ant.STEPS,
        terminated=ant.fallen,
    ),
]
