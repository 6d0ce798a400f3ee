"""Multilayer perceptrons of actors and critics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.nets.initializers import orthogonal
from jaxrl.nets.precision import dense

Array = jax.Array


class MLP(nn.Module):
    """Dense -> (LayerNorm) -> activation for each hidden width, [..., I] to [..., widths[-1]]."""

    widths: tuple[int, ...]
    layer_norm: bool = False
    activation: Callable[[Array], Array] = nn.relu
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for width in self.widths:
            x = dense(width, self.dtype, kernel_init=orthogonal(math.sqrt(2)))(x)
            if self.layer_norm:
                x = nn.LayerNorm(dtype=jnp.float32)(x)
            x = self.activation(x)
        return x
