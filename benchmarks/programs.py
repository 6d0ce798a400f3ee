"""What a training run computes, as a hash: its compiled programs, settings and physics code.

Two versions of this code base that lower a run's functions to the same programs (StableHLO) compute
the same, however their files differ; an option that is added and not used changes nothing. What
runs on the host, where no program says it (the engine, how starts are drawn), is hashed as source;
what reads a dataset is not, whose checksum a run keeps.
Programs of two versions of jax cannot be compared, so the hash names jax's.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import jaxrl
from jaxrl import agents
from jaxrl.agents._offline import Statistics
from jaxrl.cli.commands import parse_train
from jaxrl.envs.goal.options import DOMAINS
from jaxrl.envs.registry import brax_tasks, goal_tasks
from jaxrl.replay.ring import Rows
from jaxrl.replay.stored import gather
from jaxrl.report.tracked import code_hash
from jaxrl.train.config import ENV_OPTIONS, OfflineConfig, TrainConfig
from jaxrl.train.evaluate import GOAL_METRICS, Evaluator
from jaxrl.train.offline import OfflineLoop
from jaxrl.train.online import OnlineLoop

PACKAGE = Path(jaxrl.__file__).parent
OFFLINE_ROWS = 100_000
"""Nominal rows of a dataset, whose real number is in a run's configuration."""
HOST = ("core", "task", "mujoco_env", "wrappers", "host_call", "physics/native", "suite/common")
"""Of jaxrl/envs: what surrounds every task's physics."""
SETTINGS = (
    *("seed", "steps", "num_envs", "env_steps_per_update", "capacity", "learning_starts"),
    *("chunk_steps", "eval_every", "eval_episodes", "stagger"),
)
"""Of the host's loop."""


@functools.cache
def run_hash(arguments: tuple[str, ...]) -> str:
    """Of the run that `jaxrl train` with these arguments makes today: "jax VERSION HASH"."""
    _, agent, task, run = parse_train(list(arguments))
    if isinstance(run, OfflineConfig):
        return _offline_hash(agent, task, run)
    options = {option: getattr(run, option) for option in ENV_OPTIONS}
    env = jaxrl.make(
        task, num_instances=run.num_envs, start_slots=2, stagger=run.stagger, **options
    )
    evaluator = Evaluator(
        jaxrl.make(task, num_instances=run.eval_episodes, **options), run.eval_episodes
    )
    agent = agents.bound(agent, env.spec).canonical()
    loop = OnlineLoop(env, run.num_envs, run.env_steps_per_update, run.capacity)
    settings = [(name, getattr(run, name)) for name in SETTINGS]
    settings += [(k, v) for k, v in sorted(options.items()) if v != getattr(TrainConfig(), k)]
    digest = hashlib.sha256(repr((task, settings)).encode())
    for text in programs(agent, loop, evaluator):
        digest.update(text.encode())
    digest.update(host_code(task).encode())
    return f"jax {jax.__version__} {digest.hexdigest()[:16]}"


def _offline_hash(agent: Any, task: str, run: OfflineConfig) -> str:
    """Of a run that learns from a dataset: as if it had OFFLINE_ROWS rows."""
    evaluator = Evaluator(jaxrl.make(task, num_instances=run.eval_episodes), run.eval_episodes)
    spec = evaluator.env.spec
    agent = agents.bound(agent, spec).for_run(run.steps).canonical()
    loop = OfflineLoop(spec, OFFLINE_ROWS)
    names = ("seed", "steps", "eval_every", "eval_episodes")
    digest = hashlib.sha256(repr((task, [(name, getattr(run, name)) for name in names])).encode())
    key, told = jax.random.key(0), Statistics.neutral(spec.observation_size)
    state = jax.eval_shape(loop.init, agent, key, told)
    index = jax.eval_shape(loop.draw, agent, key, jnp.int32(0))
    span = agent.replay(OFFLINE_ROWS).span
    rows = Rows(
        jax.ShapeDtypeStruct((OFFLINE_ROWS, spec.observation_size), jnp.float32),
        jax.ShapeDtypeStruct((OFFLINE_ROWS, spec.action_size), jnp.float32),
        jax.ShapeDtypeStruct((OFFLINE_ROWS,), jnp.float32),
        jax.ShapeDtypeStruct((OFFLINE_ROWS,), jnp.uint8),
    )
    windows = jax.eval_shape(functools.partial(gather, span=span), rows, index)
    sums = jax.eval_shape(lambda s, w: loop.zero_sums(agent, s, w), state, windows)
    count = jnp.int32(0)
    for text in (
        _lowered(loop.init, agent, key, told),
        _lowered(loop.draw, agent, key, count),
        _lowered(loop.learn, agent, state, sums, windows, index, count, count, count),
        _lowered(type(agent).on_progress, agent, state.agent, jnp.float32(0)),
        _evaluation(agent, evaluator, state.agent),
    ):
        digest.update(text.encode())
    digest.update(host_code(task).encode())
    return f"jax {jax.__version__} {digest.hexdigest()[:16]}"


def programs(agent: Any, loop: OnlineLoop, evaluator: Evaluator) -> list[str]:
    """Everything that a run compiles, lowered to text; hyperparameters are constants in it."""
    key = jax.random.key(0)
    state = jax.eval_shape(loop.init, agent, key)
    count, number = jnp.int32(0), jnp.float32(0)
    return [
        _lowered(loop.init, agent, key),
        *(_lowered(loop.chunk, agent, state, count, count, learn=x) for x in (False, True)),
        _lowered(type(agent).on_progress, agent, state.agent, number),
        _lowered(type(agent).on_evaluation, agent, state.agent, number, number),
        _evaluation(agent, evaluator, state.agent),
    ]


def _evaluation(agent: Any, evaluator: Evaluator, state: Any) -> str:
    """A piece of an evaluation."""
    keys = jax.random.split(jax.random.key(0), evaluator.episodes)
    env = jax.eval_shape(jax.vmap(evaluator.env.reset), keys)
    done = jax.ShapeDtypeStruct((evaluator.episodes,), bool)
    final = {name: env.reward for name in (*env.metrics, *GOAL_METRICS)}
    if evaluator.env.spec.goal is None:
        final = {name: x for name, x in final.items() if name.startswith("episode_return")}
    return _lowered(evaluator._advance_pure, agent, state, env, done, final)


def _lowered(function: Callable[..., Any], agent: Any, *arguments: Any, **static: bool) -> str:
    """The function's program; the agent's hyperparameters are constants in it."""
    return jax.jit(functools.partial(function, agent, **static)).lower(*arguments).as_text()


def host_code(task: str) -> str:
    """Hash of the source of the engine, the task and its starts."""
    envs = PACKAGE / "envs"
    domain = task.split("-")[0]
    if task in brax_tasks():
        own = [envs / "adapters" / "brax.py", *goal_files(task.removeprefix("brax/"))]
    elif task in goal_tasks():
        own = goal_files(task)
    else:
        own = [envs / "probe.py" if domain == "probe" else envs / "suite" / f"{domain}.py"]
    return code_hash([envs / f"{name}.py" for name in HOST] + own)


def goal_files(task: str) -> list[Path]:
    """Source of a goal task: the module that defines it, what that imports of its neighbours, and
    the options of them all, sorted."""
    goal = PACKAGE / "envs" / "goal"
    tasks = {name: importlib.import_module(f"jaxrl.envs.goal.{name}").TASKS for name in DOMAINS}
    home = next(name for name, own in tasks.items() if task in {t.name for t in own})
    found, to_read = set(), {"options", home}
    while to_read:
        name = to_read.pop()
        found.add(name)
        source = (goal / f"{name}.py").read_text()
        imported = re.findall(r"from jaxrl\.envs\.goal(?: import |\.)(\w+)", source)
        to_read |= set(imported) - found
    return [goal / f"{name}.py" for name in sorted(found)]
