"""Drawing from a ring that was just written, without a copy of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

from jaxrl.replay.ring import Batch

Array = jax.Array
S = TypeVar("S")


def draw(sample: Callable[[S, Array, Array], Batch], state: S, t: Array, key: Array) -> Batch:
    """`sample(state, t, key)`, or zeros (of weight 0) from a replay of t = 0 rows.

    The `cond` is a wall between the ring's write and the gathers. Where both stand in one
    computation (one iteration and one update per block), XLA merges the write into each gather,
    so that the old ring must outlive it and is copied, twice a block. Barriers do not help: they
    are gone before XLA merges. The clock is shared by vmapped seeds, so this stays a `cond`.
    """

    def nothing(state: S, t: Array, key: Array) -> Batch:
        shape = jax.eval_shape(sample, state, t, key)
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape)

    return jax.lax.cond(t > 0, sample, nothing, state, t, key)
