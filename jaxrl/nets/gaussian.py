"""A Gaussian policy whose mean lies in (-1, 1)^A and whose deviation does not depend on the state.

As in the reference code of IQL (Kostrikov et al., 2021, arXiv 2110.06169): nothing is squashed, so
that the density of an action at the bounds is finite.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.nets.initializers import orthogonal
from jaxrl.nets.precision import dense

Array = jax.Array

LOG_STD = (-5.0, 2.0)
"""Bounds of the logarithm of the standard deviation."""


class Gaussian(NamedTuple):
    """Normal(mean, std) in each dimension; samples are clipped to [-1, 1]."""

    mean: Array  # [..., A], in (-1, 1)
    log_std: Array  # [..., A]

    def mode(self) -> Array:
        """The deterministic action, [..., A]."""
        return self.mean

    def sample(self, key: Array) -> Array:
        """A clipped sample, [..., A]."""
        noise = jax.random.normal(key, self.mean.shape)
        return jnp.clip(self.mean + jnp.exp(self.log_std) * noise, -1.0, 1.0)

    def log_density(self, action: Array) -> Array:
        """log Normal(action), summed over dimensions, [...]."""
        noise = (action - self.mean) / jnp.exp(self.log_std)
        each = -0.5 * noise**2 - self.log_std - 0.5 * jnp.log(2 * jnp.pi)
        return jnp.sum(each, axis=-1)


class GaussianHead(nn.Module):
    """Features [..., H] to a `Gaussian` over A action dimensions, float32."""

    action_size: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Gaussian:
        init = orthogonal(1e-2)  # starts near the middle of the action range
        mean = dense(self.action_size, self.dtype, kernel_init=init)(x)
        log_std = self.param("log_std", nn.initializers.zeros, (self.action_size,))
        mean = jnp.tanh(mean.astype(jnp.float32))
        return Gaussian(mean, jnp.broadcast_to(jnp.clip(log_std, *LOG_STD), mean.shape))
