"""Decoupled values: grids of bins that nest, and the target of a mean over action dimensions.

Shapes: B batch, A action dimensions, K bins, C critics, L levels of the ladder.
"""

from __future__ import annotations

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.errors import UsageError

Array = jax.Array


def td_target(q_t: Array, q_select_t: Array, mask: Array, r_t: Array, discount_t: Array) -> Array:
    """Decoupled double-Q target (DecQN eq. 4; released code, learning.py:162-179).

    y_c = r + discount * mean_j mean_c' q_t[c', j, argmax_{k active} q_select_t[c, j, k]]

    Each critic chooses bins with its own online network; the value is the mean of all target
    networks at these bins.

    Args:
      q_t: target values, [C, B, A, K].
      q_select_t: online values that choose the bins, [C, B, A, K].
      mask: active bins, [K] bool.
      r_t: n-step reward sums, [B].
      discount_t: gamma^k (1 - terminated), [B].

    Returns:
      targets, [C, B].
    """
    chex.assert_rank([q_t, q_select_t, mask, r_t, discount_t], [4, 4, 1, 1, 1])
    chosen = jnp.argmax(jnp.where(mask, q_select_t, -jnp.inf), axis=-1, keepdims=True)
    value = jnp.take_along_axis(q_t.mean(axis=0)[None], chosen, axis=-1)[..., 0].mean(axis=-1)
    return r_t + discount_t * value


def levels(bins: tuple[int, ...]) -> np.ndarray:
    """Masks of a ladder on its finest grid, [L, K] bool.

    A level of k bins uses every (K-1)/(k-1)-th bin of the K, ends included.

    Raises:
      UsageError: a level has under 2 or over 2^16 bins, does not grow, or does not fit the finest.
    """
    full = bins[-1] if bins else 0
    if not bins or min(bins) < 2:
        raise UsageError(f"bins must be at least 2 on every level, got {bins}")
    if full > 2**16:
        raise UsageError(f"bins must be at most {2**16:_}, stored in 16 bits, got {bins}")
    if any(a >= b for a, b in itertools.pairwise(bins)):
        raise UsageError(f"bins must grow from level to level, got {bins}")
    for coarse, fine in itertools.pairwise(bins):
        if (fine - 1) % (coarse - 1) != 0:
            raise UsageError(
                f"the grid of {coarse} bins is no part of the grid of {fine}: {fine} - 1 must be a "
                f"multiple of {coarse} - 1, as in 2 3 5 9 or 9 17 33 65; got {bins}"
            )
    masks = np.zeros((len(bins), full), bool)
    for level, count in enumerate(bins):
        masks[level, :: (full - 1) // (count - 1)] = True
    return masks
