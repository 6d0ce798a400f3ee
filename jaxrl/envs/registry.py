"""Environments by name: `make("walker-walk")`."""

from __future__ import annotations

import difflib
import functools
import importlib

from jaxrl.envs.core import Env
from jaxrl.errors import UsageError

SUITE = (
    "acrobot",
    "ball_in_cup",
    "cartpole",
    "cheetah",
    "finger",
    "fish",
    "pendulum",
    "point_mass",
    "reacher",
    "swimmer",
    "walker",
)


@functools.cache
def tasks() -> dict:
    """Every task of the suite by its `domain-task` name."""
    modules = [importlib.import_module(f"jaxrl.envs.suite.{domain}") for domain in SUITE]
    return {task.name: task for module in modules for task in module.TASKS}


@functools.cache
def probes() -> dict:
    """Probe environments by name: closed-form values, for tests of agents."""
    from jaxrl.envs.probe import PROBES

    return PROBES


def names() -> list[str]:
    """All names that `make` takes, probes last."""
    return [*sorted(tasks()), *sorted(probes())]


def make(
    name: str,
    physics: str = "auto",
    *,
    start_slots: int = 1,
    action_cost: float = 0.0,
    action_repeat: int = 1,
    stagger: bool = False,
) -> Env:
    """The environment `name`, one instance, pure; batch it with `jax.vmap`.

    Args:
      name: `domain-task`, such as "walker-walk"; `jaxrl envs` lists them.
      physics: "native" (MuJoCo's C engine) or "auto".
      start_slots: starts drawn ahead per instance, K (see `MujocoEnv`).
      action_cost: c_a in r - c_a * sum(a^2) / A.
      action_repeat: control steps per action.
      stagger: let the first episodes end at different times.

    Raises:
      UsageError: unknown name, engine or a bad option; the message gives the way out.
    """
    from jaxrl.envs import wrappers

    if start_slots < 1:
        raise UsageError(f"start slots must be at least 1, got {start_slots}")
    if physics not in ("auto", "native"):
        raise UsageError(f"unknown physics engine {physics!r}; there are: auto, native")
    if name in probes():
        env: Env = probes()[name]()
    elif name in tasks():
        from jaxrl.envs.mujoco_env import MujocoEnv

        env = MujocoEnv(tasks()[name], start_slots)
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
