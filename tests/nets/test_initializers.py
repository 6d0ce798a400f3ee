"""Orthogonal initial weights: orthonormal, flax's, uniform, and without LAPACK."""

import jax
import numpy as np
import pytest
from flax.linen import initializers

from jaxrl import agents
from jaxrl.nets.initializers import orthogonal
from tests.agents.values import spec


@pytest.mark.parametrize("shape", [(24, 64), (64, 6), (2, 64, 64), (1, 3)])
def test_rows_or_columns_are_orthonormal(shape):
    weights = np.asarray(jax.jit(lambda key: orthogonal(2.0)(key, shape))(jax.random.key(0)))
    assert weights.shape == shape
    across = weights if shape[-2] < shape[-1] else np.swapaxes(weights, -1, -2)
    product = across @ np.swapaxes(across, -1, -2) / 4
    np.testing.assert_allclose(
        product, np.broadcast_to(np.eye(min(shape[-2:])), product.shape), atol=2e-6
    )


@pytest.mark.parametrize("shape", [(24, 64), (64, 6), (40, 40)])
def test_equals_flax(shape):
    theirs = initializers.orthogonal(1.5)(jax.random.key(3), shape)
    ours = orthogonal(1.5)(jax.random.key(3), shape)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)  # square ones are badly conditioned


def test_draws_are_uniform():
    """All rotations and reflections of the plane alike: the angle of the first row is uniform and
    independent of the determinant, which is +-1 with equal chance."""
    keys = jax.random.split(jax.random.key(0), 4000)
    draws = np.asarray(jax.jit(jax.vmap(lambda key: orthogonal(1.0)(key, (2, 2))))(keys))
    angle = np.arctan2(draws[:, 0, 1], draws[:, 0, 0])
    for harmonic in (1, 2, 3, 4):
        assert abs(np.exp(1j * harmonic * angle).mean()) < 0.06
    sign = np.sign(np.linalg.det(draws))
    assert abs(sign.mean()) < 0.06
    assert abs((sign * np.exp(1j * angle)).mean()) < 0.06


@pytest.mark.parametrize("name", sorted(set(agents.defaults()) - {"crl", "sgcrl"}))
def test_no_agent_calls_lapack_to_start(name):
    """Two such calls at once on two cores wait for each other for ever (jax 0.10)."""
    agent = agents.bound(agents.default(name), spec(2))
    text = jax.jit(lambda: agent.init(jax.random.key(0), spec(2))).lower().as_text()
    assert "lapack" not in text
