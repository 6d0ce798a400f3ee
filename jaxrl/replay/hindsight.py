"""Hindsight replay: transitions whose commanded goal is one that was achieved.

Andrychowicz et al., "Hindsight Experience Replay", NeurIPS 2017 (arXiv 1707.01495); the geometric
law of future goals: Eysenbach et al., "Contrastive Learning as Goal-Conditioned Reinforcement
Learning", NeurIPS 2022 (arXiv 2206.07568).

Each row knows the number of its episode, and `end` the newest row of each episode, so that the
steps left in an episode are one gather, for an unfinished episode too. A future goal is then one
draw: nothing is as long as an episode, or searches one.

Shapes: T time slots, N instances, B batch, O observation size, G goal size.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from flax import struct

from jaxrl.replay import ring
from jaxrl.replay.drawing import draw
from jaxrl.replay.ring import Batch, Rows

Array = jax.Array


@struct.dataclass
class HindsightState:
    """A ring of rows, and where their episodes end."""

    rows: Rows  # [T, N, ...]
    episode: Array  # [T, N] int32: how many episodes of the instance ended before the row
    end: Array  # [T, N] int32: newest absolute row of episode number `episode`, in slot number % T
    running: Array  # [N] int32: number of the episode that the next row belongs to


@struct.dataclass
class Hindsight:
    """Pure functions over a ring of rows whose observations hold an achieved and a commanded goal.

    A batch's `obs_tm1` and `obs_t` carry the same, new goal. `reward_t` says whether the *next*
    observation achieves it; a row that keeps its commanded goal keeps the environment's reward.
    """

    discount: Array | float
    """gamma, per step."""
    time_slots: int = struct.field(pytree_node=False)
    """T: rows kept per instance."""
    num_envs: int = struct.field(pytree_node=False)
    """N."""
    achieved: tuple[int, int] = struct.field(pytree_node=False)
    """Start and stop of the achieved goal in the observation."""
    commanded: tuple[int, int] = struct.field(pytree_node=False)
    """Start and stop of the commanded goal in the observation."""
    batch_size: int = struct.field(pytree_node=False, default=256)
    """B."""
    strategy: Literal["future", "final", "random"] = struct.field(
        pytree_node=False, default="future"
    )
    """Goals from later in the episode, from its newest row, or from any row of the replay."""
    law: Literal["geometric", "uniform"] = struct.field(pytree_node=False, default="geometric")
    """Of the steps to a future goal: proportional to gamma^d, or uniform (HER)."""
    share: Array | float = 1.0
    """Probability that a row gets a new goal."""
    radius: Array | float = 0.0
    """Distance, in the goal's unit, under which a new goal counts as reached."""
    mortal: bool = struct.field(pytree_node=False, default=False)
    """Report how much of each row's future there is: `alive` of a batch."""
    tell: bool = struct.field(pytree_node=False, default=False)
    """Report the goals that were commanded: `commanded` of a batch."""
    dense: bool = struct.field(pytree_node=False, default=False)
    """Reward a new goal by minus the distance, as a task with a dense reward does."""

    def init(self, row: Rows) -> HindsightState:
        """An empty ring for rows like `row` [N, ...]."""
        shape = (self.time_slots, self.num_envs)
        return HindsightState(
            rows=ring.empty(row, self.time_slots),
            episode=jnp.zeros(shape, jnp.int32),
            end=jnp.zeros(shape, jnp.int32),
            running=jnp.zeros(shape[1:], jnp.int32),
        )

    def add(self, state: HindsightState, row: Rows, t: Array) -> HindsightState:
        """Writes absolute row t, [N, ...].

        A row that came out of unstable physics ends its episode one row earlier, so it is neither
        a goal nor the end of a transition.
        """
        slot, number = t % self.time_slots, state.running % self.time_slots
        newest = t - ((row.flags & ring.UNSTABLE) > 0)
        return HindsightState(
            rows=ring.write(state.rows, row, t),
            episode=jax.lax.dynamic_update_index_in_dim(state.episode, state.running, slot, 0),
            end=state.end.at[number, jnp.arange(self.num_envs)].set(newest, unique_indices=True),
            running=state.running + ((row.flags & ring.LAST) > 0),
        )

    def sample(self, state: HindsightState, t: Array, key: Array) -> Batch:
        """B transitions out of the newest T of `t` rows, with new goals.

        Draws rows, not transitions, as `Uniform` does: those without a successor (an episode's
        last row, the newest row, the row before unstable physics) get weight 0.
        """
        return draw(self._sample, state, t, key)

    def _sample(self, state: HindsightState, t: Array, key: Array) -> Batch:
        row_key, goal_key, share_key = jax.random.split(key, 3)
        row, instance = self._draw(t, row_key)
        slot, after = row % self.time_slots, (row + 1) % self.time_slots
        number = state.episode[slot, instance] % self.time_slots
        end = state.end[number, instance]
        eligible = end > row
        rows = state.rows
        obs_tm1, obs_t = rows.obs[slot, instance], rows.obs[after, instance]
        goal = self._goals(state, row, end, instance, t, goal_key)
        relabelled = jax.random.bernoulli(share_key, self.share, (self.batch_size,))
        goal = jnp.where(relabelled[:, None], goal, obs_tm1[:, slice(*self.commanded)])
        terminated = (rows.flags[after, instance] & ring.TERMINATED) > 0
        weight = eligible * self.batch_size / jnp.maximum(eligible.sum(), 1)
        reward = self._reward(obs_t, goal)
        return Batch(
            obs_tm1=self._command(obs_tm1, goal),
            action_tm1=rows.action[slot, instance],
            reward_t=jnp.where(relabelled, reward, rows.reward[after, instance]),
            discount_t=self.discount * (1.0 - terminated),
            obs_t=self._command(obs_t, goal),
            weight=weight.astype(jnp.float32),
            index=slot * self.num_envs + instance,
            alive=self._alive(state, row, end, instance) if self.mortal else None,
            commanded=obs_tm1[:, slice(*self.commanded)] if self.tell else None,
        )

    def update_priorities(
        self, state: HindsightState, index: Array, td_error: Array
    ) -> HindsightState:
        """Nothing to update."""
        return state

    def _draw(self, t: Array, key: Array) -> tuple[Array, Array]:
        """B absolute rows out of the newest T of `t`, and an instance for each."""
        row_key, instance_key = jax.random.split(key)
        oldest = jnp.maximum(t - self.time_slots, 0)
        row = jax.random.randint(row_key, (self.batch_size,), oldest, t)
        return row, jax.random.randint(instance_key, (self.batch_size,), 0, self.num_envs)

    def _goals(
        self, state: HindsightState, row: Array, end: Array, instance: Array, t: Array, key: Array
    ) -> Array:
        """The achieved goal of a row that the strategy chooses, [B, G]."""
        if self.strategy == "random":
            row, instance = self._draw(t, key)
        elif self.strategy == "final":
            row = end
        else:
            uniform = jax.random.uniform(key, (self.batch_size,))
            ahead = steps_ahead(uniform, end - row, self.discount, self.law)
            row = row + jnp.minimum(ahead, jnp.maximum(end - row, 1))
        return state.rows.obs[row % self.time_slots, instance, slice(*self.achieved)]

    def _alive(self, state: HindsightState, row: Array, end: Array, instance: Array) -> Array:
        """Mass of the untruncated geometric law on the K steps up to a termination, 1 - gamma^K,
        [B]; 1 where the clock or the newest row ends the episode, which would have gone on."""
        terminated = (state.rows.flags[end % self.time_slots, instance] & ring.TERMINATED) > 0
        left = jnp.maximum(end - row, 0)
        return jnp.where(terminated, 1.0 - self.discount**left, 1.0)

    def _reward(self, obs: Array, goal: Array) -> Array:
        """Whether obs [B, O] achieves the goal [B, G]; or minus the distance."""
        distance = jnp.linalg.norm(obs[:, slice(*self.achieved)] - goal, axis=-1)
        return -distance if self.dense else (distance < self.radius).astype(jnp.float32)

    def _command(self, obs: Array, goal: Array) -> Array:
        return obs.at[:, slice(*self.commanded)].set(goal)


def steps_ahead(
    uniform: Array, left: Array, discount: Array | float, law: Literal["geometric", "uniform"]
) -> Array:
    """How far ahead the goal lies: d in 1..K, from one uniform number.

    Geometric: P(d) = gamma^d / sum_{k=1..K} gamma^k, inverted in closed form,

        d = 1 + floor( log(1 - u (1 - gamma^K)) / log gamma );

    uniform: P(d) = 1 / K.

    Args:
      uniform: u in [0, 1), [B].
      left: K, steps left in the episode, [B] int32; under 1 gives 1.
      discount: gamma in [0, 1], [].

    Returns:
      d, [B] int32.
    """
    length = jnp.maximum(left, 1)
    if law == "uniform":
        steps = uniform * length
    else:
        log_gamma = jnp.minimum(jnp.log(discount), -1e-8)  # gamma = 1: uniform
        # expm1 and log1p keep the digits that 1 - gamma^K loses when gamma is near 1.
        steps = jnp.log1p(uniform * jnp.expm1(length * log_gamma)) / log_gamma
    return jnp.clip(1 + jnp.floor(steps).astype(jnp.int32), 1, length)
