"""States that random play visits, and a measure of how far two engines come apart in one step."""

from __future__ import annotations

import dataclasses
import functools
import sys
from pathlib import Path
from typing import Any

import jax
import mujoco
import numpy as np

from jaxrl.envs import registry
from jaxrl.envs.mujoco_env import MujocoEnv
from jaxrl.envs.physics import engines
from jaxrl.envs.task import Physics, Sim, Task, sensor_slices

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.envs.poses import POSES  # noqa: E402

INSTANCES, ROUNDS, STEPS = 200, 5, 25
"""A round of states is taken every STEPS steps of play by so many instances, by default."""


def task_named(name: str) -> Task:
    """The task, half of whose episodes start in a pose of high reward, where tests have one."""
    task = registry.tasks().get(name) or registry.goal_tasks()[name]
    pose = POSES.get(name.split("-")[0]) if name in registry.tasks() else None
    if pose is None:
        return task

    def start(model, data, random):
        arrays = task.start(model, data, random)
        if random.rand() < 0.5:
            pose(model, data, random)
        return arrays

    return dataclasses.replace(task, start=start)


@functools.cache
def _moves(name: str) -> tuple[Any, ...]:
    """All of a task that `visited` and `errors` depend on."""
    task = {**registry.tasks(), **registry.goal_tasks()}[name]
    model = engines.compiled(task)
    saved = np.zeros(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, saved)
    functions = (
        (f.func, f.args, tuple(sorted(f.keywords.items())))
        if isinstance(f, functools.partial)
        else f
        for f in (task.start, task.observe, task.terminated)
    )
    return saved.tobytes(), task.control_dt, task.time_limit, *functions


def twins(name: str) -> list[str]:
    """The tasks that differ from `name` in their reward at most, itself among them, sorted."""
    every = sorted({**registry.tasks(), **registry.goal_tasks()})
    domain = name.split("-")[0]
    return [other for other in every if other.startswith(domain) and _moves(other) == _moves(name)]


@dataclasses.dataclass(frozen=True)
class Visited:
    """States [M], the episodes' own arrays and an action for each, and native's step from there."""

    env: MujocoEnv
    physics: Physics
    task: dict[str, jax.Array]
    actions: np.ndarray
    native: Physics


def visited(name: str, instances: int = INSTANCES, seed: int = 0) -> Visited:
    """instances * ROUNDS states of random play on `native`, from starts and high-reward poses."""
    env = MujocoEnv(task_named(name))
    low, high = np.array(env.spec.action_low), np.array(env.spec.action_high)
    random = np.random.RandomState(seed)
    bias = random.uniform(-1, 1, (instances, len(low)))

    def act() -> np.ndarray:
        noise = np.clip(bias + random.uniform(-1, 1, bias.shape), -1, 1)
        return np.float32(low + (high - low) * (noise + 1) / 2)

    step = jax.jit(jax.vmap(env.step))
    state = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(seed), instances))
    rounds = []
    for _ in range(ROUNDS):
        actions = act()
        rounds.append((state.physics, state.task, actions))
        for _ in range(STEPS):
            state = step(state, act())
    physics, task, actions = jax.tree.map(lambda *x: np.concatenate(x), *rounds)
    native = jax.jit(jax.vmap(env.engine.step))(physics, actions)
    return Visited(env, physics, task, actions, native)


def observations(states: Visited, physics: Physics) -> np.ndarray:
    """What the task observes in `physics` [M], [M, O]."""
    sensors = sensor_slices(states.env.model)
    observe = states.env.task.observe
    return np.asarray(jax.vmap(lambda p, t: observe(Sim(p, t, sensors)))(physics, states.task))


def errors(states: Visited, physics: Physics) -> dict[str, np.ndarray]:
    """max |a - b| / max(1, |b|) over the entries of each state, b native's; inf where a is NaN.

    Returns:
      "state" (qpos, qvel, act) and "obs", [M] each.
    """

    def error(a, b):
        a, b = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (a, b))
        if not a.shape[1]:
            return np.zeros(len(a))
        apart = np.abs(a - b) / np.maximum(1, np.abs(b))
        return np.where(np.isfinite(apart), apart, np.inf).max(axis=1)

    pairs = [(getattr(physics, x), getattr(states.native, x)) for x in ("qpos", "qvel", "act")]
    return {
        "state": np.max([error(a, b) for a, b in pairs], axis=0),
        "obs": error(observations(states, physics), observations(states, states.native)),
    }
