"""A point mass in a maze: goal tasks that an agent learns in seconds, for tests and pictures.

The ball is driven by two forces against strong friction, so that its velocity follows the action
within a few hundredths of a second; walls are contacts. `point-spiral` is SGCRL's
point_Spiral11x11 (Liu et al., 2025, arXiv 2408.05804): one cell a step at most, an episode of 100
steps, always between the same two cells, reached within 1 m. Its state is the position only; ours
has the velocity too, as the physics has one. It starts in a corner of its cell and aims at one,
ours in the middle: (5, 5) and (10, 10) in the units of either.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import mujoco

from jaxrl.envs.goal.common import add_goal_mark, goal_task
from jaxrl.envs.goal.mazes import (
    BIG_MAZE,
    SPIRAL,
    U_MAZE,
    Maze,
    add_maze_camera,
    add_walls,
    parse,
    read,
)
from jaxrl.envs.task import Sim, Task

CELL = 1.0  # m
BALL = 0.2  # m, radius
WALL_HEIGHT = 0.5  # m
TOP_SPEED = 10.0  # m/s: a cell in a control step
LAG = 0.02  # s, after which the speed has made 63 % of a step of the action
MASS = 1.0  # kg
WALL_CATEGORY = 2


def model(maze: Maze, radius: float) -> mujoco.MjSpec:
    """A ball on two slides among the maze's walls."""
    spec = mujoco.MjSpec()
    spec.option.timestep = 0.01
    spec.option.gravity = [0.0, 0.0, 0.0]
    spec.worldbody.add_light(pos=[0.0, 0.0, 10.0], dir=[0.2, 0.1, -1.0], type=DIRECTIONAL)
    spec.worldbody.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[40.0, 40.0, 1.0],
        contype=0,
        conaffinity=0,
        rgba=[0.6, 0.6, 0.6, 1.0],
    )
    ball = spec.worldbody.add_body(name="ball", pos=[0.0, 0.0, BALL])
    ball.add_geom(
        name="ball",
        type=mujoco.mjtGeom.mjGEOM_SPHERE,
        size=[BALL, 0.0, 0.0],
        mass=MASS,
        contype=0,
        conaffinity=WALL_CATEGORY,
        friction=[0.0, 0.0, 0.0],
        condim=1,
        rgba=[0.1, 0.3, 0.9, 1.0],
    )
    damping = MASS / LAG
    for axis, direction in (("x", [1.0, 0.0, 0.0]), ("y", [0.0, 1.0, 0.0])):
        ball.add_joint(
            name=axis, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=direction, damping=[damping, 0, 0]
        )
        motor = spec.add_actuator(
            name=axis, target=axis, trntype=mujoco.mjtTrn.mjTRN_JOINT, ctrlrange=[-1.0, 1.0]
        )
        motor.ctrllimited = mujoco.mjtLimited.mjLIMITED_TRUE
        motor.gear[0] = damping * TOP_SPEED
    add_walls(spec, maze, WALL_HEIGHT, WALL_CATEGORY)
    add_goal_mark(spec, radius)
    add_maze_camera(spec, maze, WALL_HEIGHT)
    return spec


DIRECTIONAL = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL


def start(model, data, random, maze: Maze, spread: float):
    """Ball and goal each in one of their cells."""
    data.qpos[:] = maze.draw(maze.starts, random, spread)
    return maze.draw(maze.goals, random, spread)


def state(sim: Sim) -> jax.Array:
    """Position (2), velocity (2)."""
    return jnp.concatenate([sim.qpos, sim.qvel])


def point_maze(
    name: str, maze: Maze, *, radius: float = 0.5, steps: int = 100, spread: float = 0.5
) -> Task:
    """The task of going to goals in `maze`.

    Args:
      name: `domain-task`.
      maze: of cells 1 m wide.
      radius: distance under which the goal counts as reached, m.
      steps: control steps of an episode.
      spread: share of a cell's edge in which starts and goals are uniform; 0 gives its centre.
    """
    return goal_task(
        name,
        functools.partial(model, maze, radius),
        state=state,
        state_size=4,
        achieved=slice(0, 2),
        radius=radius,
        start=functools.partial(start, maze=maze, spread=spread),
        control_dt=0.1,
        steps=steps,
    )


def anywhere(text: str) -> str:
    """The map with starts and goals anywhere free."""
    return text.replace("R", ".").replace("G", ".")


def from_map(name: str, path: str) -> Task:
    """The point mass in the maze that a text file draws (see `jaxrl.envs.goal.mazes`).

    Raises:
      UsageError: no such file, or not a maze.
    """
    return point_maze(name, read(path, CELL))


TASKS = [
    point_maze("point-umaze", parse(U_MAZE, CELL)),
    point_maze("point-medium", parse(BIG_MAZE, CELL)),
    point_maze("point-spiral", parse(SPIRAL, CELL), radius=1.0, spread=0.0),
    point_maze("point-spiral-anywhere", parse(anywhere(SPIRAL), CELL), radius=1.0),
]
