"""Goal tasks by name, and what any of them can be asked: dense reward, one goal, frozen starts."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Sequence

import numpy as np

from jaxrl.envs.goal.common import GoalReward, GoalStart
from jaxrl.envs.mujoco_env import MujocoEnv
from jaxrl.envs.task import Physics, Task
from jaxrl.errors import UsageError

DOMAINS = (
    "ant",
    "ant_maze",
    "ant_objects",
    "cheetah",
    "humanoid",
    "point",
    "pusher",
    "reacher",
)

MAPS = {"ant-map": "ant_maze", "point-map": "point"}
"""Kinds of tasks in a map of the user's, `KIND:FILE`, and the modules that make them."""


@functools.cache
def goal_tasks() -> dict[str, Task]:
    """Every goal task by its `domain-task` name."""
    modules = [importlib.import_module(f"jaxrl.envs.goal.{domain}") for domain in DOMAINS]
    return {task.name: task for module in modules for task in module.TASKS}


def goal_task_named(name: str) -> Task | None:
    """The goal task `name`, which may be `point-map:FILE` or `ant-map:FILE`; None if there is none.

    Raises:
      UsageError: the file is missing or not a maze.
    """
    kind, colon, path = name.partition(":")
    if not colon or kind not in MAPS:
        return goal_tasks().get(name)
    return importlib.import_module(f"jaxrl.envs.goal.{MAPS[kind]}").from_map(name, path)


def with_dense_reward(task: Task) -> Task:
    """The goal task with minus the distance to the goal as its reward."""
    reward = dataclasses.replace(_goal_only(task, "a dense reward"), dense=True)
    return dataclasses.replace(task, reward=reward)


def with_goal(task: Task, goal: Sequence[float]) -> Task:
    """The goal task with `goal` commanded in every episode.

    Raises:
      UsageError: a goal of the wrong size, or not finite.
    """
    reward = _goal_only(task, "a goal")
    commanded = np.asarray(goal, np.float64)
    size = reward.goal.commanded.stop - reward.goal.commanded.start
    if commanded.shape != (size,) or not np.isfinite(commanded).all():
        raise UsageError(
            f"{task.name} takes a goal of {size} finite numbers ({reward.goal.unit}), got {goal!r}"
        )
    if not isinstance(task.start, GoalStart):
        raise UsageError(f"{task.name} draws its own goals: make it by goal_task to command one")
    return dataclasses.replace(task, start=dataclasses.replace(task.start, goal=commanded))


def _goal_only(task: Task, option: str) -> GoalReward:
    if not isinstance(task.reward, GoalReward):
        raise UsageError(f"{option} is an option of goal tasks, and {task.name} is none")
    return task.reward


class FrozenStarts(MujocoEnv):
    """Each instance keeps the start and the goal of its first episode for its whole life, as in
    JaxGCRL, whose auto-reset returns to the first state."""

    def _draw(self, key: np.ndarray, number: int) -> tuple[Physics, dict[str, np.ndarray]]:
        return super()._draw(key, 0)
