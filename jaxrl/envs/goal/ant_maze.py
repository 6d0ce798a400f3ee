"""Brax's ant in mazes, as in JaxGCRL (Bortkiewicz et al., 2025).

Cells are 4 m wide; the ant starts in the middle of an R, and goals are the middles of G's. The body
is that of `ant-goal`; torso, upper legs and feet touch the walls. JaxGCRL uses brax's `spring`
physics.
"""

from __future__ import annotations

import functools

import mujoco

from jaxrl.envs.goal import ant
from jaxrl.envs.goal.common import add_goal_mark, goal_task
from jaxrl.envs.goal.mazes import (
    BIG_MAZE,
    HARDEST_MAZE,
    U_MAZE,
    Maze,
    add_maze_camera,
    add_walls,
    parse,
    read,
)
from jaxrl.envs.task import Task

CELL = 4.0  # m
WALL_HEIGHT = 2.0  # m
WALL_CATEGORY = 2
LEGS = ("left", "right", "third", "fourth")
TOUCHING = (
    "torso_geom",
    *(f"{leg}_foot_geom" for leg in LEGS),
    *(f"aux_{number}_geom" for number in (1, 2, 3, 4)),
)
"""Geoms of the ant that touch walls."""


def model(maze: Maze) -> mujoco.MjSpec:
    """The ant among the maze's walls."""
    spec = ant.body()
    for name in TOUCHING:
        spec.geom(name).conaffinity = WALL_CATEGORY
    add_walls(spec, maze, WALL_HEIGHT, WALL_CATEGORY)
    add_goal_mark(spec, ant.MARK)
    add_maze_camera(spec, maze, WALL_HEIGHT)
    return spec


def start(model, data, random, maze: Maze):
    """Noisy standing pose in the middle of a start cell; goal in the middle of a goal cell."""
    ant.stand(data, random)
    data.qpos[:2] = maze.draw(maze.starts, random, 0.0)
    return maze.draw(maze.goals, random, 0.0)


def ant_maze(name: str, maze: Maze) -> Task:
    """The task of walking to goals in `maze`, of cells 4 m wide."""
    return goal_task(
        name,
        functools.partial(model, maze),
        state=ant.state,
        state_size=ant.STATE_SIZE,
        achieved=slice(0, 2),
        radius=ant.RADIUS,
        start=functools.partial(start, maze=maze),
        control_dt=ant.CONTROL_DT,
        steps=ant.STEPS,
        terminated=ant.fallen,
    )


def from_map(name: str, path: str) -> Task:
    """The ant in the maze that a text file draws (see `jaxrl.envs.goal.mazes`).

    Raises:
      UsageError: no such file, or not a maze.
    """
    return ant_maze(name, read(path, CELL))


TASKS = [
    ant_maze("ant-umaze", parse(U_MAZE, CELL)),
    ant_maze("ant-bigmaze", parse(BIG_MAZE, CELL)),
    ant_maze("ant-hardestmaze", parse(HARDEST_MAZE, CELL)),
]
