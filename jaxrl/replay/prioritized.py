"""Prioritised replay with sums on two levels: rows, and blocks of 256 rows.

Schaul et al., "Prioritized Experience Replay", ICLR 2016 (arXiv 1511.05952), with the settings of
Reverb and Acme: new items at a fixed priority, importance weights divided by the batch maximum.

A block that is touched is summed again, never incremented, so sums cannot drift. An ineligible
row has priority 0 and a row of priority 0 is never returned.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from jaxrl.replay import ring
from jaxrl.replay.ring import LAST, UNSTABLE, Batch, Rows

Array = jax.Array

BLOCK = 256
GROUPS = 16
"""A block is searched in two steps of 16: sixteen times fewer cumulative sums."""

LEAST = 1e-30
"""Of an eligible row's priority^exponent. Were it 0, a value function that has become exact could
leave nothing to draw, and weights of 0 / 0."""


@struct.dataclass
class PrioritizedState:
    """Rows and what they weigh."""

    rows: Rows  # [T, N, ...]
    priority: Array  # [blocks, BLOCK] float32: priority^exponent of row slot * N + instance
    sums: Array  # [blocks] float32


@struct.dataclass
class Prioritized:
    """Pure functions over a `PrioritizedState`. P(row) = p^exponent / sum of p^exponent."""

    discount: Array | float
    """gamma, per step."""
    time_slots: int = struct.field(pytree_node=False)
    """T: rows kept per instance."""
    num_envs: int = struct.field(pytree_node=False)
    """N."""
    batch_size: int = struct.field(pytree_node=False, default=256)
    """B."""
    n_step: int = struct.field(pytree_node=False, default=3)
    """n: steps before the bootstrap."""
    exponent: Array | float = 0.6
    """Of the priority, in the sampling probability."""
    importance_exponent: Array | float = 0.2
    """Of 1 / P, in the loss weight."""
    new_priority: Array | float = 1.0
    """Of a row when it becomes eligible."""

    def init(self, row: Rows) -> PrioritizedState:
        """An empty ring for rows like `row` [N, ...]."""
        blocks = -(-self.time_slots * self.num_envs // BLOCK)
        return PrioritizedState(
            rows=ring.empty(row, self.time_slots),
            priority=jnp.zeros((blocks, BLOCK), jnp.float32),
            sums=jnp.zeros((blocks,), jnp.float32),
        )

    def add(self, state: PrioritizedState, row: Rows, t: Array) -> PrioritizedState:
        """Writes absolute row t, [N, ...], and lets rows in whose window it completes."""
        n, num_envs = self.n_step, self.num_envs
        rows = ring.write(state.rows, row, t)
        bits = ring.newest_flags(rows, t, n + 1)  # [n + 1, N]: rows t, t-1, ..., t-n
        last = bits & LAST > 0
        # Row t-j becomes eligible now iff no episode ended since (else it was eligible before, or
        # never will be), and row t is its n-th successor or the episode's last row.
        ended_since = jnp.cumsum(last[1:], axis=0)  # [n, N]: in rows t-1 .. t-j
        nth = (jnp.arange(1, n + 1) == n)[:, None]
        written = (t - jnp.arange(1, n + 1) >= 0)[:, None]
        complete = (last[0] | nth) & (bits[0] & UNSTABLE == 0)
        eligible = (ended_since == 0) & complete & written
        slots = (t - jnp.arange(n + 1)) % self.time_slots
        index = slots[:, None] * num_envs + jnp.arange(num_envs)  # [n + 1, N]
        old = state.priority[index // BLOCK, index % BLOCK]
        entry = jnp.asarray(self.new_priority, jnp.float32) ** self.exponent
        values = jnp.where(eligible, entry, old[1:])
        values = jnp.concatenate([jnp.zeros_like(values[:1]), values])
        priority = state.priority.at[index // BLOCK, index % BLOCK].set(values)
        touched = index[:, :1] // BLOCK + jnp.arange((num_envs - 1) // BLOCK + 2)
        touched = jnp.minimum(touched, len(state.sums) - 1).ravel()
        return _resum(state.replace(rows=rows, priority=priority), touched)

    def sample(self, state: PrioritizedState, t: Array, key: Array) -> Batch:
        """B transitions, drawn independently. At least one row must be eligible."""
        uniform = jax.random.uniform(key, (3, self.batch_size))
        block = _draw(state.sums, uniform[0])
        groups = state.priority[block].reshape(self.batch_size, GROUPS, BLOCK // GROUPS)
        group = jax.vmap(_draw)(groups.sum(axis=2), uniform[1])
        lanes = jnp.take_along_axis(groups, group[:, None, None], axis=1)[:, 0]
        lane = jax.vmap(_draw)(lanes, uniform[2])
        index = block * BLOCK + group * (BLOCK // GROUPS) + lane
        batch, _ = ring.n_step(state.rows, index, t, self.n_step, self.discount)
        # Not read from `state.priority`: nothing orders such a read before the coming update of
        # priorities, and XLA would keep a copy of all of them for it.
        mass = jnp.take_along_axis(lanes, lane[:, None], axis=1)[:, 0]
        weight = mass**-self.importance_exponent
        return batch.replace(weight=weight / weight.max())

    def update_priorities(
        self, state: PrioritizedState, index: Array, td_error: Array
    ) -> PrioritizedState:
        """Gives the rows `index` [B] the priority |td_error| [B]; nothing is added to it, but for a
        floor that keeps a row without error eligible."""
        block, lane = index // BLOCK, index % BLOCK
        value = jnp.maximum(jnp.abs(td_error).astype(jnp.float32) ** self.exponent, LEAST)
        return _resum(state.replace(priority=state.priority.at[block, lane].set(value)), block)


def _draw(weights: Array, uniform: Array) -> Array:
    """Index i with probability weights[i] / sum, for uniform in [0, 1); never one of weight 0.

    A parallel cumulative sum may rise by rounding where the weight is 0. The running maximum over
    positive weights rises only at positive ones, and the first entry above a value is such a rise.
    """
    total = jax.lax.cummax(jnp.where(weights > 0, jnp.cumsum(weights), 0.0))
    found = jnp.searchsorted(total, uniform * total[-1], side="right")
    return jnp.minimum(found, len(weights) - 1).astype(jnp.int32)


def _resum(state: PrioritizedState, blocks: Array) -> PrioritizedState:
    sums = state.priority[blocks].sum(axis=1)
    return state.replace(sums=state.sums.at[blocks].set(sums))
