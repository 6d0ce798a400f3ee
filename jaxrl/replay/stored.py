"""Batches from stored rows in two steps: which rows, and what they hold.

A dataset is a ring of T rows of one instance that is never written. `Uniform.sample` draws from it
as it is; `Stored` draws the same batches, but parted, so that the rows may stay on the host:

    index = replay.index(key)              [B], on the device
    windows = gather(rows, index, span)    [span, B, ...], where the rows are
    batch = replay.batch(windows, index)   the n-step transitions, on the device

The newest row must be a last one, as `jaxrl.data` sees to.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxrl.replay import ring
from jaxrl.replay.ring import Batch, Rows

Array = jax.Array


@struct.dataclass
class Stored:
    """Every transition of T stored rows equally likely."""

    discount: Array | float
    """gamma, per step."""
    rows: int = struct.field(pytree_node=False)
    """T."""
    batch_size: int = struct.field(pytree_node=False, default=256)
    """B."""
    n_step: int = struct.field(pytree_node=False, default=1)
    """n: steps before the bootstrap."""

    @property
    def span(self) -> int:
        """Rows that a batch needs of each index."""
        return self.n_step + 1

    def index(self, key: Array) -> Array:
        """B rows, [B] int32. Last rows are among them and get weight 0, as in `Uniform`."""
        row_key, _ = jax.random.split(key)
        return jax.random.randint(row_key, (self.batch_size,), 0, self.rows)

    def batch(self, windows: Rows, index: Array) -> Batch:
        """The n-step transitions from the rows `index`.

        Args:
          windows: rows index, index + 1, ..., [span, B, ...]: a ring of its own, of B instances.
          index: [B] int32.
        """
        own = jnp.arange(self.batch_size, dtype=jnp.int32)
        span = jnp.asarray(self.span, jnp.int32)
        batch, eligible = ring.n_step(windows, own, span, self.n_step, self.discount)
        weight = eligible * self.batch_size / jnp.maximum(eligible.sum(), 1)
        return batch.replace(weight=weight.astype(jnp.float32), index=index)


def gather(rows: Any, index: Any, span: int) -> Any:
    """Rows index, index + 1, ... of stored rows, around the end: [T, ...] to [..., span, B, ...].

    Args:
      rows: a tree of arrays [T, ...], of NumPy or of jax.
      index: [..., B], of the same kind.
    """

    def take(x: Any) -> Any:
        slots = index[..., None, :] + np.arange(span, dtype=np.int32)[:, None]
        return x[slots % len(x)]

    return jax.tree.map(take, rows)
