"""Returns as histograms: probabilities over atoms, evenly spaced values.

Shapes: Z atoms, others as the caller's.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

Array = jax.Array

SPREAD = 0.75
"""Standard deviation of HL-Gauss's targets in spacings of the atoms (Farebrother et al. 2024)."""


def atoms(low: Array | float, high: Array | float, count: int) -> Array:
    """Values from `low` to `high`, [Z]."""
    return jnp.linspace(low, high, count)


def expectation(probabilities: Array, values: Array) -> Array:
    """Mean of histograms [..., Z] over values [Z], [...]."""
    return jnp.sum(probabilities * values, axis=-1)


def project(probabilities: Array, shifted: Array, values: Array) -> Array:
    """Moves probability from `shifted` values to the nearest atoms, in inverse ratio of the
    distances (Bellemare et al., 2017, arXiv 1707.06887, eq. 7). Values beyond the ends go to them.

    Args:
      probabilities: [..., Z].
      shifted: where they lie, such as r + discount * values, [..., Z].
      values: atoms, [Z].

    Returns:
      probabilities over `values`, [..., Z].
    """
    spacing = values[1] - values[0]
    inside = jnp.clip(shifted, values[0], values[-1])
    near = jnp.abs(inside[..., None, :] - values[:, None]) / spacing  # [..., Z, Z]
    return jnp.sum(jnp.clip(1.0 - near, 0.0) * probabilities[..., None, :], axis=-1)


def gaussian(mean: Array, values: Array) -> Array:
    """Histogram of a normal distribution around `mean` [...], cut off at the ends: [..., Z].

    p_z = (Phi((values_z + d/2 - mean) / s) - Phi((values_z - d/2 - mean) / s)) / total, with the
    spacing d and s = `SPREAD` d (HL-Gauss: Farebrother et al., 2024, arXiv 2403.03950, app. A).
    Means beyond the ends count as the ends.
    """
    spacing = values[1] - values[0]
    edges = jnp.append(values - spacing / 2, values[-1] + spacing / 2)
    inside = jnp.clip(mean, values[0], values[-1])[..., None]
    below = jax.scipy.stats.norm.cdf((edges - inside) / (SPREAD * spacing))
    mass = jnp.diff(below, axis=-1)
    return mass / mass.sum(axis=-1, keepdims=True)


def cross_entropy(target: Array, log_probabilities: Array) -> Array:
    """-sum_z target_z log p_z of histograms [..., Z], [...]."""
    return -jnp.sum(target * log_probabilities, axis=-1)
