"""Evaluation: E fresh episodes in parallel, on instances and keys of its own; greedy by default."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.core import Env, EnvState, GoalSpec

Array = jax.Array

STEPS = 250
"""Steps per compiled call, so that signals are looked at in time."""

GOAL_METRICS = ("success", "success_easy", "time_near_goal", "final_distance")
"""Of an episode of a goal task: whether any step was within the goal's radius, or within the looser
one; how many steps were within the radius; distance at the end, in the goal's unit."""


class Evaluator:
    """Evaluates agents on `episodes` parallel episodes of `env`. Compiles once."""

    def __init__(self, env: Env, episodes: int):
        self.env = env
        self.episodes = episodes
        self._reset = jax.jit(jax.vmap(env.reset))
        self._advance = jax.jit(self._advance_pure)
        self._record = jax.jit(self._record_pure)

    def returns(
        self, agent: Any, agent_state: Any, key: Array, explore: bool = False
    ) -> dict[str, np.ndarray]:
        """Metrics of each episode at its end, [E] each: "episode_return" and its kin, and for goal
        tasks `GOAL_METRICS`. Greedy, or as the agent acts to explore, from the same starts."""
        env = self._reset(jax.random.split(key, self.episodes))
        noises = (jax.random.fold_in(key, i) if explore else None for i in itertools.count())
        done = jnp.zeros((self.episodes,), bool)
        final = {k: v for k, v in env.metrics.items() if k.startswith("episode_return")}
        if self.env.spec.goal is not None:
            final |= {name: jnp.zeros((self.episodes,)) for name in GOAL_METRICS}
        while not bool(done.all()):
            env, done, final = self._advance(agent, agent_state, env, done, final, next(noises))
        return {name: np.asarray(value) for name, value in final.items()}

    def record(self, agent: Any, agent_state: Any, key: Array) -> list[EnvState]:
        """The rows of one greedy episode, unbatched, first to last, on the host."""
        env = self._reset(jax.random.split(key, self.episodes))
        rows = jax.device_get(self._record(agent, agent_state, jax.tree.map(lambda x: x[0], env)))
        episode = []
        for i in range(self.env.spec.episode_length + 1):
            episode.append(jax.tree.map(lambda x, i=i: x[i], rows))
            if episode[-1].last:
                break
        return episode

    def _advance_pure(
        self,
        agent: Any,
        agent_state: Any,
        env: EnvState,
        done: Array,
        final: Any,
        noise: Array | None = None,
    ):
        def step(carry, noise):
            env, done, final = carry
            env = self._act(agent, agent_state, env, noise)
            ends = env.last & ~done
            returns = {k: v for k, v in env.metrics.items() if k in final}
            returns = {k: jnp.where(ends, v, final[k]) for k, v in returns.items()}
            final = {**final, **returns}
            if self.env.spec.goal is not None:
                final |= _near_goal(final, env.obs, ~done, self.env.spec.goal)
            return (env, done | env.last, final), None

        noises = None if noise is None else jax.random.split(noise, STEPS)
        return jax.lax.scan(step, (env, done, final), noises, STEPS)[0]

    def _record_pure(self, agent: Any, agent_state: Any, env: EnvState) -> EnvState:
        def step(env, _):
            visible = env.replace(start=(), key=())
            batch = jax.tree.map(functools.partial(jnp.expand_dims, axis=0), env)
            batch = self._act(agent, agent_state, batch)
            return jax.tree.map(lambda x: x[0], batch), visible

        return jax.lax.scan(step, env, None, self.env.spec.episode_length + 1)[1]

    def _act(
        self, agent: Any, agent_state: Any, env: EnvState, noise: Array | None = None
    ) -> EnvState:
        """The next rows: exploring with the key `noise`, greedy without one."""
        key = jax.random.key(0) if noise is None else noise
        action = agent.act(agent_state, env.obs, key, explore=noise is not None)
        return jax.vmap(self.env.step)(env, agent.decode(action, self.env.spec))


def _near_goal(
    before: dict[str, Array], obs: Array, running: Array, goal: GoalSpec
) -> dict[str, Array]:
    """`GOAL_METRICS` after one more step to obs [E, O], for the episodes that are `running` [E]."""
    from jaxrl.envs.goal.common import distance, easy_radius

    away = distance(obs[:, goal.achieved], obs[:, goal.commanded])
    near, easy = running & (away < goal.radius), running & (away < easy_radius(goal))
    return {
        "success": jnp.maximum(before["success"], near),
        "success_easy": jnp.maximum(before["success_easy"], easy),
        "time_near_goal": before["time_near_goal"] + near,
        "final_distance": jnp.where(running, away, before["final_distance"]),
    }
