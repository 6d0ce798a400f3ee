"""Initial weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax.typing import Initializer

Array = jax.Array


def orthogonal(scale: float) -> Initializer:
    """Weights [..., I, O], `scale` times an orthogonal matrix drawn uniformly (Saxe et al., 2014,
    arXiv 1312.6120): rows are orthonormal, or columns, whichever there are fewer of.

    It is `flax.linen.initializers.orthogonal` to rounding, without its QR factorisation: on a
    processor that is a call of LAPACK which hands its work to the pool of threads that it runs on,
    and two at once on two cores wait for each other for ever (jax 0.10).
    """

    def init(key: Array, shape: Sequence[int], dtype: Any = jnp.float32, _: Any = None) -> Array:
        *lead, rows, columns = shape
        tall = jax.random.normal(key, (*lead, max(rows, columns), min(rows, columns)))
        flat = jnp.swapaxes(tall, -1, -2).reshape(-1, *tall.shape[:-3:-1])
        wide = jax.vmap(_orthonormal)(flat).reshape(*lead, *tall.shape[:-3:-1])
        weights = wide if rows < columns else jnp.swapaxes(wide, -1, -2)
        return (scale * weights).astype(dtype)

    return init


def _orthonormal(x: Array) -> Array:
    """Rows [n, m], n <= m, made orthonormal in order by Gram and Schmidt, each twice for rounding.

    Of a Gaussian matrix that is a uniform draw, and what QR gives if R's diagonal is positive.
    """

    def add(i: Array, done: Array) -> Array:
        row = x[i]
        for _ in range(2):
            row = row - (done @ row) @ done
        return done.at[i].set(row / jnp.linalg.norm(row))

    return jax.lax.fori_loop(0, len(x), add, jnp.zeros_like(x))
