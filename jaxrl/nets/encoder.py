"""Encoders that grow deep: residual blocks of four layers, scanned, so depth costs no compile time.

Wang et al., "1000 Layer Networks for Self-Supervised RL", NeurIPS 2025 (arXiv 2503.14858); below
four layers the plain network of JaxGCRL (Bortkiewicz et al., 2025, arXiv 2408.11052).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Initializer

from jaxrl.errors import UsageError
from jaxrl.nets.precision import dense

Array = jax.Array

BLOCK = 4
"""Layers per residual block."""

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"swish": nn.swish, "relu": nn.relu}

fan_in_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""Initial weights within +-1/sqrt(I), as torch's and JaxGCRL's."""


def check_depth(depth: int) -> None:
    """Raises `UsageError` for a number of hidden layers that no encoder has."""
    if depth < 1 or (depth >= BLOCK and depth % BLOCK):
        low = depth // BLOCK * BLOCK
        near = f"{low} or {low + BLOCK}" if depth > 0 else "1 to 3"
        raise UsageError(
            f"depth must be 1 to {BLOCK - 1}, or a multiple of {BLOCK} (residual blocks of {BLOCK} "
            f"layers), got {depth}; the nearest are {near}"
        )


class Layer(nn.Module):
    """Dense -> (LayerNorm) -> activation, [..., I] to [..., width]."""

    width: int
    layer_norm: bool
    activation: str
    dtype: Any
    kernel_init: Initializer = fan_in_uniform

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = dense(self.width, self.dtype, kernel_init=self.kernel_init)(x)
        if self.layer_norm:
            x = nn.LayerNorm(dtype=jnp.float32)(x)
        return ACTIVATIONS[self.activation](x)


class Block(nn.Module):
    """x + four layers of x, [..., width] to the same; a scan's carry."""

    width: int
    layer_norm: bool
    activation: str
    dtype: Any
    kernel_init: Initializer = fan_in_uniform

    @nn.compact
    def __call__(self, x: Array, carried: None) -> tuple[Array, None]:
        options = (self.width, self.layer_norm, self.activation, self.dtype, self.kernel_init)
        hidden = x
        for _ in range(BLOCK):
            hidden = Layer(*options)(hidden)
        return x + hidden, None


class Encoder(nn.Module):
    """Features [..., I] to [..., width].

    Depth 1 to 3: that many layers. Depth 4, 8, ...: a layer as the stem, then depth / 4 residual
    blocks with one set of equations, whatever their number.
    """

    width: int
    depth: int
    layer_norm: bool = False
    activation: str = "swish"
    dtype: Any = jnp.float32
    kernel_init: Initializer = fan_in_uniform

    @nn.compact
    def __call__(self, x: Array) -> Array:
        options = (self.width, self.layer_norm, self.activation, self.dtype, self.kernel_init)
        if self.depth < BLOCK:
            for _ in range(self.depth):
                x = Layer(*options)(x)
            return x
        blocks = nn.scan(
            Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.depth // BLOCK,
        )
        return blocks(*options, name="blocks")(Layer(*options, name="stem")(x), None)[0]
