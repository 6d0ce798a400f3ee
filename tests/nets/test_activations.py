"""Activations and their derivatives equal closed forms in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit

from jaxrl.nets.activations import LARGE, mish

X = np.float32([*np.linspace(-30, 30, 4001), 0, LARGE, -LARGE, -100, 100, -1e30, 1e30])


def closed_form(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x t and its first two derivatives, t = tanh(log(1 + exp(x)))."""
    x = x.astype(np.float64)
    t, s = np.tanh(np.logaddexp(0, x)), expit(x)
    t1 = (1 - t**2) * s
    t2 = -2 * t * t1 * s + (1 - t**2) * s * (1 - s)
    return x * t, t + x * t1, 2 * t1 + x * t2


def test_mish_and_two_derivatives():
    value, first, second = closed_form(X)
    d = jax.grad(mish)
    np.testing.assert_allclose(mish(jnp.asarray(X)), value, rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(jax.vmap(d)(X), first, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(d))(X), second, atol=2e-6)
