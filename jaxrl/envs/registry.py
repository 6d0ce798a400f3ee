"""Environments by name: `make("walker-walk")`."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import importlib
from collections.abc import Sequence

from jaxrl.envs.core import Env
from jaxrl.errors import UsageError

SUITE = (
    "acrobot",
    "ball_in_cup",
    "cartpole",
    "cheetah",
    "dog",
    "finger",
    "fish",
    "hopper",
    "humanoid",
    "pendulum",
    "point_mass",
    "quadruped",
    "reacher",
    "swimmer",
    "walker",
)


@functools.cache
def tasks() -> dict:
    """Every task of the suite by its `domain-task` name."""
    modules = [importlib.import_module(f"jaxrl.envs.suite.{domain}") for domain in SUITE]
    return {task.name: task for module in modules for task in module.TASKS}


def goal_tasks() -> dict:
    """Every goal task by its `domain-task` name."""
    from jaxrl.envs.goal import options

    return options.goal_tasks()


def brax_tasks() -> dict:
    """Every task on brax's own physics by its name, `brax/domain-task`."""
    from jaxrl.envs.adapters import brax

    return brax.tasks()


@functools.cache
def probes() -> dict:
    """Probe environments by name: closed-form values, for tests of agents."""
    from jaxrl.envs.probe import PROBES

    return PROBES


def names() -> list[str]:
    """All names that `make` takes, probes last."""
    return [*sorted(tasks()), *sorted(goal_tasks()), *sorted(brax_tasks()), *sorted(probes())]


def make(
    name: str,
    physics: str = "auto",
    *,
    num_instances: int = 1,
    start_slots: int = 1,
    action_cost: float = 0.0,
    action_repeat: int = 1,
    stagger: bool = False,
    frozen_starts: bool = False,
    dense_reward: bool = False,
    goal: Sequence[float] | None = None,
    terminate: bool = True,
) -> Env:
    """The environment `name`, one instance, pure; batch it with `jax.vmap`.

    Args:
      name: `domain-task`, such as "walker-walk"; `jaxrl envs` lists them. Or `path/file.py:task`,
        a task of your own (`jaxrl.envs.taskfile`).
      physics: "native" (MuJoCo's C engine), "mjx" (MuJoCo XLA), "warp" (MuJoCo Warp) or "auto",
        which picks by device (`jaxrl.envs.physics.engines.choose`). Tasks `brax/...` bring theirs.
      num_instances: how many step together, over all seeds; sizes warp's buffers.
      start_slots: starts drawn ahead per instance, K (see `MujocoEnv`).
      action_cost: c_a in r - c_a * sum(a^2) / A.
      action_repeat: control steps per action.
      stagger: let the first episodes end at different times.
      frozen_starts: keep an instance's first start and goal for its whole life, as JaxGCRL does.
      dense_reward: minus the distance to the goal; for goal tasks.
      goal: command this goal in every episode; for goal tasks.
      terminate: end episodes where the task says so, as at a fall; else the clock alone does.

    Raises:
      UsageError: unknown name, engine or a bad option; the message gives the way out.
    """
    from jaxrl.envs import taskfile, wrappers
    from jaxrl.envs.goal import options as goal_options
    from jaxrl.envs.mujoco_env import MujocoEnv
    from jaxrl.envs.physics import engines
    from jaxrl.envs.task import never

    if start_slots < 1:
        raise UsageError(f"start slots must be at least 1, got {start_slots}")
    if num_instances < 1:
        raise UsageError(f"instances must be at least 1, got {num_instances}")
    engines.check_name(physics)
    if physics == "mjx":
        engines.ask_for_threads()  # before jax starts, as trying out a task of a file has it do
    if name in probes() and (frozen_starts or dense_reward or goal is not None or not terminate):
        raise UsageError(f"options of starts, goals and ends do not apply to the probe {name}")
    if name in probes():
        env: Env = probes()[name]()
    elif task := (
        tasks().get(name)
        or goal_options.goal_task_named(name)
        or brax_tasks().get(name)
        or taskfile.load(name)
    ):
        if dense_reward:
            task = goal_options.with_dense_reward(task)
        if goal is not None:
            task = goal_options.with_goal(task, goal)
        if not terminate:
            task = dataclasses.replace(task, terminated=never)
        if name in brax_tasks():
            from jaxrl.envs.adapters.brax import FrozenSpringEnv, SpringEnv

            if physics != "auto":
                raise UsageError(f"{name} runs on brax's spring physics: leave out {physics!r}")
            env = (FrozenSpringEnv if frozen_starts else SpringEnv)(task, start_slots)
        else:
            kind = goal_options.FrozenStarts if frozen_starts else MujocoEnv
            engine = engines.choose(task, physics)
            env = kind(task, start_slots, engines.maker(task, engine, num_instances))
            if engine == "warp":
                from jaxrl.envs.overflow import CountOverflow

                env = CountOverflow(env)
    else:
        near = difflib.get_close_matches(name, names(), n=3, cutoff=0.0)
        raise UsageError(f"unknown task {name!r}; did you mean {', '.join(map(repr, near))}?")
    if stagger:  # innermost: it sets the clock of the control steps
        env = wrappers.Stagger(env)
    if action_repeat != 1:
        env = wrappers.ActionRepeat(env, action_repeat)
    if action_cost != 0:
        env = wrappers.ActionCost(env, action_cost)
    return env
