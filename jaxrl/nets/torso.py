"""Torsos of the released DecQN code (github tseyde/decqn, acme `continuous.py`).

Every linear layer starts from VarianceScaling(0.333, fan_out, uniform) and zero bias.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.nets.precision import dense

Array = jax.Array

kernel_init = nn.initializers.variance_scaling(0.333, "fan_out", "uniform")


def linear(features: int, dtype: Any, name: str) -> nn.Dense:
    """A dense layer that computes in `dtype` with float32 parameters."""
    return dense(features, dtype, kernel_init=kernel_init, name=name)


class ResidualTorso(nn.Module):
    """Linear -> LN(x + MLP(x)) -> ELU, where MLP is Linear -> ReLU -> Linear."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., O] to [..., width]."""
        x = linear(self.width, self.dtype, "input")(x)
        hidden = nn.relu(linear(self.width, self.dtype, "block_1")(x))
        x = x + linear(self.width, self.dtype, "block_2")(hidden)
        return nn.elu(nn.LayerNorm(epsilon=1e-5, dtype=jnp.float32)(x))


class PlainTorso(nn.Module):
    """Linear -> LN -> tanh -> Linear -> ELU."""

    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[..., O] to [..., width]."""
        x = linear(self.width, self.dtype, "input")(x)
        x = nn.tanh(nn.LayerNorm(epsilon=1e-5, dtype=jnp.float32)(x))
        return nn.elu(linear(self.width, self.dtype, "hidden")(x))


TORSOS = {"residual": ResidualTorso, "plain": PlainTorso}
