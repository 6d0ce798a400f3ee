"""Histograms of returns against SciPy, and against what they must keep."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from scipy import stats

from jaxrl.nets import returns

VALUES = np.linspace(-2.0, 6.0, 9)  # a spacing of 1
rng = np.random.default_rng(0)


def test_the_projection_of_c51_row_by_row():
    """The loop of the paper's algorithm 1."""
    p = rng.dirichlet(np.ones(9), size=5)
    shifted = rng.normal(size=(5, 1)) * 3 + 0.9 * VALUES
    expected = np.zeros_like(p)
    for i in range(5):
        for j in range(9):
            at = np.clip(shifted[i, j], -2, 6) + 2
            low, high = int(np.floor(at)), int(np.ceil(at))
            expected[i, low] += p[i, j] * (high - at if high > low else 1)
            expected[i, high] += p[i, j] * (at - low)
    found = returns.project(jnp.asarray(p), jnp.asarray(shifted), jnp.asarray(VALUES))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_normal_histogram_has_its_masses_and_its_mean():
    for mean in (1.3, 0.0, 5.9, 40.0):
        found = np.asarray(returns.gaussian(jnp.asarray([mean]), jnp.asarray(VALUES)))[0]
        inside = min(mean, 6.0)
        edges = np.append(VALUES - 0.5, 6.5)
        mass = np.diff(stats.norm(inside, 0.75).cdf(edges))
        np.testing.assert_allclose(found, mass / mass.sum(), atol=1e-6)
    middle = returns.gaussian(jnp.asarray([1.3]), jnp.asarray(VALUES))
    np.testing.assert_allclose(returns.expectation(middle, jnp.asarray(VALUES)), 1.3, atol=1e-3)


def test_cross_entropy_is_scipys():
    p, q = rng.dirichlet(np.ones(9)), rng.dirichlet(np.ones(9))
    expected = stats.entropy(p, q) + stats.entropy(p)
    np.testing.assert_allclose(returns.cross_entropy(p, np.log(q)), expected, rtol=1e-6)
