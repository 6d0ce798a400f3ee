"""Uniform replay: every eligible transition equally likely, O(batch) per sample."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from jaxrl.replay import ring
from jaxrl.replay.drawing import draw
from jaxrl.replay.ring import Batch, Rows

Array = jax.Array


@struct.dataclass
class Uniform:
    """Pure functions over a ring of rows."""

    discount: Array | float
    """gamma, per step."""
    time_slots: int = struct.field(pytree_node=False)
    """T: rows kept per instance."""
    num_envs: int = struct.field(pytree_node=False)
    """N."""
    batch_size: int = struct.field(pytree_node=False, default=256)
    """B."""
    n_step: int = struct.field(pytree_node=False, default=1)
    """n: steps before the bootstrap."""

    def init(self, row: Rows) -> Rows:
        """An empty ring for rows like `row` [N, ...]."""
        return ring.empty(row, self.time_slots)

    def add(self, state: Rows, row: Rows, t: Array) -> Rows:
        """Writes absolute row t, [N, ...]."""
        return ring.write(state, row, t)

    def sample(self, state: Rows, t: Array, key: Array) -> Batch:
        """B transitions out of the newest T of `t` rows.

        Draws rows, not transitions: the few that are ineligible (an episode's last row, the
        newest n) get weight 0, and the others B / (number of eligible ones), so that a mean over
        the batch is the mean over its eligible rows.
        """
        return draw(self._sample, state, t, key)

    def _sample(self, state: Rows, t: Array, key: Array) -> Batch:
        oldest = jnp.maximum(t - self.time_slots, 0)
        row_key, instance_key = jax.random.split(key)
        row = jax.random.randint(row_key, (self.batch_size,), oldest, t)
        instance = jax.random.randint(instance_key, (self.batch_size,), 0, self.num_envs)
        index = row % self.time_slots * self.num_envs + instance
        batch, eligible = ring.n_step(state, index, t, self.n_step, self.discount)
        weight = eligible * self.batch_size / jnp.maximum(eligible.sum(), 1)
        return batch.replace(weight=weight.astype(jnp.float32))

    def update_priorities(self, state: Rows, index: Array, td_error: Array) -> Rows:
        """Nothing to update."""
        return state
