"""The online training loop as pure functions: act, step, add, learn, compiled once.

    state = loop.init(agent, key)
    state, metrics = loop.chunk(agent, state, t, blocks, learn=True)     jit this, donate `state`
    state = loop.refill(state)                                           between chunks

A *block* is the smallest unit that keeps the update ratio exact: I iterations of (act, step, add)
followed by U updates, with I * N / U = `env_steps_per_update`. A chunk runs any number of blocks;
the number is an argument, so every chunk of a run shares one compilation.

Everything is a function of (agent, key, t): seeds and float hyperparameters may have a leading
axis (`jax.vmap(loop.chunk, in_axes=(0, 0, None, None))`), while the clock `t` stays shared.

Shapes: N instances, O observation size, A action size.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxrl.envs.core import Env, EnvState
from jaxrl.errors import UsageError
from jaxrl.replay import ring
from jaxrl.replay.ring import Rows

Array = jax.Array
Metrics = dict[str, Array]


@struct.dataclass
class TrainState:
    """All that training changes: one pytree, and a checkpoint of it is a checkpoint of the run."""

    agent: Any
    env: EnvState  # [N, ...]
    replay: Any
    key: Array  # the run's key for acting and sampling; never changes


@dataclasses.dataclass(frozen=True)
class OnlineLoop:
    """Trains any agent with a replay (`jaxrl.agents`) on N instances of an environment."""

    env: Env
    num_envs: int
    """N."""
    env_steps_per_update: int
    """Rows collected per gradient step."""
    capacity: int
    """Rows kept for replay, over all instances."""

    def __post_init__(self) -> None:
        if self.num_envs < 1 or self.env_steps_per_update < 1:
            raise UsageError(
                f"num_envs and env_steps_per_update must be at least 1, "
                f"got {self.num_envs} and {self.env_steps_per_update}"
            )

    @property
    def iterations(self) -> int:
        """I: iterations per block."""
        return math.lcm(self.num_envs, self.env_steps_per_update) // self.num_envs

    @property
    def updates(self) -> int:
        """U: updates per block."""
        return math.lcm(self.num_envs, self.env_steps_per_update) // self.env_steps_per_update

    @property
    def block_steps(self) -> int:
        """Rows per block; a run is a whole number of blocks."""
        return self.iterations * self.num_envs

    @property
    def time_slots(self) -> int:
        """T: rows kept per instance."""
        return self.capacity // self.num_envs

    def init(self, agent: Any, key: Array) -> TrainState:
        """Fresh agent, first rows, empty replay."""
        agent_key, env_key, loop_key = jax.random.split(key, 3)
        agent_state = agent.init(agent_key, self.env.spec)
        env = jax.vmap(self.env.reset)(jax.random.split(env_key, self.num_envs))
        action = agent.act(agent_state, env.obs, agent_key, explore=True)
        replay = agent.replay(self.time_slots, self.num_envs).init(_row(env, action))
        return TrainState(agent=agent_state, env=env, replay=replay, key=loop_key)

    def refill(self, state: TrainState) -> TrainState:
        """Redraws the starts that the last chunk used."""
        return state.replace(env=jax.vmap(self.env.refill)(state.env))

    def chunk(
        self, agent: Any, state: TrainState, t: Array, blocks: Array, learn: bool
    ) -> tuple[TrainState, Metrics]:
        """Runs `blocks` blocks from iteration `t` on.

        Args:
          agent: hyperparameters.
          state: donate it.
          t: iterations done so far, [] int32; shared by vmapped seeds.
          blocks: how many to run, [] int32.
          learn: False while the replay is filled for the first time.

        Returns:
          the state, and sums over the chunk: "episodes", "transitions", "updates", "return/..."
          (over finished episodes) and "losses/..." (over updates).
        """

        def block(i: Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, sums = carry
            start = t + i * self.iterations
            state, sums = jax.lax.fori_loop(
                0,
                self.iterations,
                lambda j, c: self._iteration(agent, c[0], c[1], start + j),
                (state, sums),
            )
            if not learn:
                return state, sums
            end = start + self.iterations
            return jax.lax.fori_loop(
                0, self.updates, lambda u, c: self._update(agent, c[0], c[1], end, u), (state, sums)
            )

        zeros = self._zero_sums(agent, state, learn)
        return jax.lax.fori_loop(0, blocks, block, (state, zeros))

    def _iteration(
        self, agent: Any, state: TrainState, sums: Metrics, t: Array
    ) -> tuple[TrainState, Metrics]:
        """Act, add the row, step. Absolute row t is the one that is acted on."""
        key = jax.random.fold_in(jax.random.fold_in(state.key, t), 0)
        action = agent.act(state.agent, state.env.obs, key, explore=True)
        replay = agent.replay(self.time_slots, self.num_envs).add(
            state.replay, _row(state.env, action), t
        )
        env = jax.vmap(self.env.step)(state.env, agent.decode(action, self.env.spec))
        sums = {
            **sums,
            "transitions": sums["transitions"] + jnp.sum(~state.env.last),
            "episodes": sums["episodes"] + jnp.sum(env.last),
            **{
                f"return/{name}": sums[f"return/{name}"] + jnp.sum(env.last * env.metrics[name])
                for name in _returns(env)
            },
        }
        return state.replace(env=env, replay=replay), sums

    def _update(
        self, agent: Any, state: TrainState, sums: Metrics, t: Array, update: Array
    ) -> tuple[TrainState, Metrics]:
        """One gradient step from the replay, which holds `t` rows per instance."""
        key = jax.random.fold_in(jax.random.fold_in(state.key, t - 1), 1 + update)
        sample_key, update_key = jax.random.split(key)
        replay = agent.replay(self.time_slots, self.num_envs)
        batch = replay.sample(state.replay, t, sample_key)
        agent_state, metrics = agent.update(state.agent, batch, update_key)
        td_error = metrics.pop("td_error")
        metrics["td_error"] = td_error.mean()
        new = state.replace(
            agent=agent_state,
            replay=replay.update_priorities(state.replay, batch.index, td_error),
        )
        sums = {
            **sums,
            "updates": sums["updates"] + 1,
            **{f"losses/{k}": sums[f"losses/{k}"] + v for k, v in metrics.items()},
        }
        return new, sums

    def _zero_sums(self, agent: Any, state: TrainState, learn: bool) -> Metrics:
        counts = {name: jnp.zeros((), jnp.int32) for name in ("transitions", "episodes", "updates")}
        returns = {f"return/{name}": jnp.zeros(()) for name in _returns(state.env)}
        if not learn:
            return {**counts, **returns}

        def losses(state: TrainState) -> Metrics:
            zero = jnp.zeros((), jnp.int32)
            replay = agent.replay(self.time_slots, self.num_envs)
            batch = replay.sample(state.replay, zero, state.key)
            return agent.update(state.agent, batch, state.key)[1]

        names = jax.eval_shape(losses, state)
        return {**counts, **returns, **{f"losses/{name}": jnp.zeros(()) for name in names}}


def _row(env: EnvState, action: Array) -> Rows:
    flags = ring.flags(env.terminated, env.truncated, env.unstable)
    return Rows(obs=env.obs, action=action, reward=env.reward, flags=flags)


def _returns(env: EnvState) -> list[str]:
    return [name for name in env.metrics if name.startswith("episode_return")]
