"""Energies of two representations, and losses that tell their true pairs from the others.

Eysenbach et al., "Contrastive Learning as Goal-Conditioned Reinforcement Learning", NeurIPS 2022
(arXiv 2206.07568); Bortkiewicz et al., JaxGCRL, ICLR 2025 (arXiv 2408.11052), section 3.

Shapes: B batch, R representation size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import chex
import jax
import jax.numpy as jnp

Array = jax.Array
Energy = Literal["l2", "squared_l2", "dot", "cosine"]

EPS = 1e-6
"""Under every root: it has no gradient at 0."""


def energy(kind: Energy, x: Array, y: Array) -> Array:
    """Energy of each row with its own partner: x, y [..., R] to [...].

    l2: -sqrt(|x - y|^2 + eps); squared_l2: -|x - y|^2; dot: x . y; cosine: x . y / (|x| |y|).
    """
    if kind in ("dot", "cosine"):
        product = jnp.sum(x * y, axis=-1)
        return product if kind == "dot" else product / (_length(x) * _length(y))
    square = jnp.sum((x - y) ** 2, axis=-1)
    return -square if kind == "squared_l2" else -jnp.sqrt(square + EPS)


def pairwise(kind: Energy, x: Array, y: Array) -> Array:
    """Energy of each row of x [B, R] with each of y [B, R]: [B, B].

    Distances in matrix form, |x - y|^2 = |x|^2 + |y|^2 - 2 x . y, clipped at 0, so that nothing of
    the shape [B, B, R] is made; with all digits, as the difference loses some.
    """
    chex.assert_rank([x, y], 2)
    product = jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
    if kind == "dot":
        return product
    if kind == "cosine":
        return product / (_length(x)[:, None] * _length(y)[None])
    square = jnp.sum(x**2, axis=-1)[:, None] + jnp.sum(y**2, axis=-1)[None] - 2 * product
    square = jnp.maximum(square, 0.0)
    return -square if kind == "squared_l2" else -jnp.sqrt(square + EPS)


def _length(x: Array) -> Array:
    return jnp.sqrt(jnp.sum(x**2, axis=-1) + EPS)


def forward(
    logits: Array, valid: Array, penalty: Array | float, alive: Array | None = None
) -> Array:
    """InfoNCE over goals: which of the batch's goals follows this state and action?

    loss = mean_i ( lse_j L_ij - L_ii + penalty (lse_j L_ij)^2 )

    Args:
      logits: L_ij, energy of state-action i and goal j, [B, B].
      valid: rows that are transitions, [B] bool; the others are neither positive nor negative.
      penalty: keeps the logsumexp near 0, as InfoNCE alone does not fix it.
      alive: how often each goal counts, positive or negative, [B] in (0, 1]: the share of its
        state's future before a termination. States and actions count once each, so that those
        that end an episode are seldom positive. None: 1.

    Returns:
      loss, [].
    """
    return _infonce(logits, valid, penalty, alive, alive)


def backward(
    logits: Array, valid: Array, penalty: Array | float, alive: Array | None = None
) -> Array:
    """InfoNCE over states and actions: which of them does this goal follow?

    loss = mean_j ( lse_i L_ij - L_jj + penalty (lse_i L_ij)^2 ); arguments as in `forward`.
    """
    return _infonce(logits.T, valid, penalty, None, alive)


def symmetric(
    logits: Array, valid: Array, penalty: Array | float, alive: Array | None = None
) -> Array:
    """`forward` + `backward`, each with its own penalty."""
    return forward(logits, valid, penalty, alive) + backward(logits, valid, penalty, alive)


def binary(
    logits: Array, valid: Array, penalty: Array | float, alive: Array | None = None
) -> Array:
    """Binary NCE: is this the goal that follows? The label is 1 on the diagonal, 0 beside it.

    loss = mean_ij ( softplus(-L_ii) if i = j else softplus(L_ij) )

    Arguments as in `forward`; there is no logsumexp to penalise.
    """
    chex.assert_rank([logits, valid], [2, 1])
    sign = 1.0 - 2.0 * jnp.eye(len(logits))
    return _mean(jax.nn.softplus(sign * logits), valid[:, None] & valid[None], alive)


def _infonce(
    logits: Array,
    valid: Array,
    penalty: Array | float,
    candidates: Array | None,
    positives: Array | None,
) -> Array:
    """Which column belongs to each row? Columns and rows count as often as the last two say."""
    chex.assert_rank([logits, valid], [2, 1])
    others = valid | ~jnp.any(valid)  # no row at all: any finite number, times 0
    among = jnp.where(others[None], logits, -jnp.inf)
    if candidates is not None:
        among += jnp.log(jnp.maximum(candidates, EPS))
    total = jax.nn.logsumexp(among, axis=1)
    return _mean(total - jnp.diagonal(logits) + penalty * total**2, valid, positives)


def _mean(x: Array, valid: Array, weight: Array | None) -> Array:
    """Mean of the valid entries, weighed along the last axis; 0 if there are none."""
    if weight is None:
        return jnp.sum(jnp.where(valid, x, 0.0)) / jnp.maximum(jnp.sum(valid), 1)
    weight = jnp.where(valid, weight, 0.0)
    return jnp.sum(weight * x) / jnp.maximum(jnp.sum(weight), EPS)


LOSSES: dict[str, Callable[[Array, Array, Array | float, Array | None], Array]] = {
    "forward": forward,
    "backward": backward,
    "symmetric": symmetric,
    "binary": binary,
}
