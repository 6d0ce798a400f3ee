"""The tanh-Gaussian policy head: a = tanh(u), u ~ Normal(mean, std), in (-1, 1)^A.

Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", 2018 (arXiv 1812.05905), app. C.
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
"""Bounds of the logarithm of the standard deviation before the tanh, reached smoothly."""

lecun_uniform = nn.initializers.lecun_uniform()


class TanhGaussian(NamedTuple):
    """Distribution over actions in (-1, 1)^A."""

    mean: Array  # [..., A], before the tanh
    log_std: Array  # [..., A], before the tanh

    def mode(self) -> Array:
        """The deterministic action tanh(mean), [..., A]."""
        return jnp.tanh(self.mean)

    def sample(self, key: Array) -> tuple[Array, Array]:
        """A reparametrised action [..., A] and its log-density [...]."""
        noise = jax.random.normal(key, self.mean.shape)
        before = self.mean + jnp.exp(self.log_std) * noise
        return jnp.tanh(before), self._log_density(before, noise)

    def _log_density(self, before: Array, noise: Array) -> Array:
        """log p(tanh(before)) = sum_j log Normal(before_j) - log(1 - tanh(before_j)^2), where
        log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u)) does not lose digits at large u."""
        normal = -0.5 * noise**2 - self.log_std - 0.5 * jnp.log(2 * jnp.pi)
        slope = 2.0 * (jnp.log(2.0) - before - jax.nn.softplus(-2.0 * before))
        return jnp.sum(normal - slope, axis=-1)


class PolicyHead(nn.Module):
    """Features [..., H] to a `TanhGaussian` over A action dimensions, float32."""

    action_size: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> TanhGaussian:
        init = orthogonal(1e-2)  # starts near the middle of the action range
        out = dense(2 * self.action_size, self.dtype, kernel_init=init)(x)
        mean, raw = jnp.split(out.astype(jnp.float32), 2, axis=-1)
        low, high = LOG_STD
        return TanhGaussian(mean, low + 0.5 * (high - low) * (jnp.tanh(raw) + 1.0))


class SoftplusHead(nn.Module):
    """Features [..., H] to a `TanhGaussian` over A action dimensions, float32, as SGCRL's head:
    mean = 10 tanh(x / 10), std = softplus(y) + 1e-6, without an upper bound."""

    action_size: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> TanhGaussian:
        out = dense(2 * self.action_size, self.dtype, kernel_init=lecun_uniform)(x)
        mean, raw = jnp.split(out.astype(jnp.float32), 2, axis=-1)
        return TanhGaussian(10.0 * jnp.tanh(mean / 10.0), jnp.log(jax.nn.softplus(raw) + 1e-6))
