"""What agents of goal tasks share: where a task keeps its goals."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, TypeVar

import jax
import jax.numpy as jnp
import tyro

from jaxrl.envs.core import EnvSpec, GoalSpec
from jaxrl.errors import UsageError

Array = jax.Array
T = TypeVar("T")

Slice = Annotated[tuple[int, int], tyro.conf.Suppress]
"""Start and stop in the observation. `bind` takes it from the task, not from the command line."""

Radius = Annotated[float, tyro.conf.Suppress]
"""In the goal's unit, likewise."""

UNBOUND = (0, 0)


def goal_of(spec: EnvSpec, agent: str) -> GoalSpec:
    """The task's goal.

    Raises:
      UsageError: the task has none; the message names those that do.
    """
    if spec.goal is None:
        from jaxrl.envs.registry import goal_tasks

        raise UsageError(
            f"{agent} learns to reach goals, and {spec.name} has none; goal tasks are: "
            f"{', '.join(sorted(goal_tasks()))}"
        )
    return spec.goal


def bind(agent: T, spec: EnvSpec, name: str) -> T:
    """The agent with its fields `achieved` and `commanded` as the task has them.

    Raises:
      UsageError: the task has no goal.
    """
    goal = goal_of(spec, name)
    slices: dict[str, Any] = {
        "achieved": (goal.achieved.start, goal.achieved.stop),
        "commanded": (goal.commanded.start, goal.commanded.stop),
    }
    return dataclasses.replace(agent, **slices)  # type: ignore[type-var]


def split(obs: Array, commanded: tuple[int, int]) -> tuple[Array, Array]:
    """Observations [..., S + G] to states [..., S] and commanded goals [..., G]."""
    start, stop = commanded
    state = jnp.concatenate([obs[..., :start], obs[..., stop:]], axis=-1)
    return state, obs[..., start:stop]
