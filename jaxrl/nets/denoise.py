"""Networks of diffusion policies: (x, time, cond) to a prediction of the shape of x.

x are actions [B, A] or chunks of them [B, H, A]; time [B] is what a process tells a network of its
time; cond [B, C], optional, are observations or features of them. What they predict is the loss's
affair. `dtype` is what the products are computed in; everything else is float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.nets.activations import mish
from jaxrl.nets.initializers import orthogonal
from jaxrl.nets.mlp import MLP
from jaxrl.nets.precision import dense

Array = jax.Array
Activation = Callable[[Array], Array]

xavier = nn.initializers.xavier_uniform()
he = nn.initializers.he_normal()


class FourierFeatures(nn.Module):
    """cos and sin of 2 pi w_i time, w learnt from Normal(0, scale^2): [B] to [B, size] float32.

    With scale 1 these are IDQL's features for its T = 5, whose time counts steps, w ~ 0.2.
    """

    size: int = 64
    scale: float = 1.0

    @nn.compact
    def __call__(self, time: Array) -> Array:
        frequency = self.param("frequency", nn.initializers.normal(self.scale), (self.size // 2,))
        angle = 2 * math.pi * time.astype(jnp.float32)[..., None] * frequency
        return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


class TimeEmbedding(nn.Module):
    """Fourier features -> Dense -> mish -> Dense, [B] to [B, width] (IDQL, with 64 features)."""

    width: int = 128
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, time: Array) -> Array:
        hidden = dense(self.width, self.dtype)(FourierFeatures()(time))
        return dense(self.width, self.dtype)(mish(hidden))


class PlainMLP(nn.Module):
    """Dense -> activation for each hidden width -> Dense.

    Diffusion-QL's denoiser with mish (Wang et al., 2022, arXiv 2208.06193), which embeds its time
    otherwise; FQL's with gelu and the bare time (Park et al., 2025, arXiv 2502.02538). With
    no time at all it is a one-step student.
    """

    size: int | None = None
    """As in `ResidualMLP`."""
    widths: tuple[int, ...] = (256, 256, 256)
    activation: Activation = mish
    embed: bool = True
    """`TimeEmbedding`, or the time as it is."""
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Array, time: Array | None, cond: Array | None = None, train: bool = False
    ) -> Array:
        if time is not None:
            time = TimeEmbedding(dtype=self.dtype)(time) if self.embed else time[:, None]
        joined = _joined(x, time, cond)
        hidden = MLP(self.widths, activation=self.activation, dtype=self.dtype)(joined)
        return _out(hidden, x, self.size, xavier, self.dtype)


class ResidualBlock(nn.Module):
    """x + Dense(activation(Dense_4x(LayerNorm(dropout(x))))), [..., width] to the same."""

    width: int
    activation: Activation
    dropout: float = 0.0
    init: Any = nn.initializers.lecun_normal()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        hidden = nn.Dropout(self.dropout)(x, deterministic=not train) if self.dropout else x
        hidden = nn.LayerNorm(dtype=jnp.float32)(hidden)
        hidden = dense(4 * self.width, self.dtype, kernel_init=self.init)(hidden)
        hidden = self.activation(hidden)
        return x + dense(self.width, self.dtype, kernel_init=self.init)(hidden)


class ResidualMLP(nn.Module):
    """IDQL's denoiser: Dense -> residual blocks -> activation -> Dense.

    Hansen-Estruch et al., 2023 (arXiv 2304.10573), app. C. The activation before the last layer is
    part of it: an implementation without it was found to score less on AntMaze.

    With `dropout`, and train=True, it needs a key named "dropout".
    """

    size: int | None = None
    """Entries per row that come out, [B, size]; None: as many as x has, in its shape."""
    width: int = 256
    blocks: int = 3
    dropout: float = 0.0
    activation: Activation = mish
    dtype: Any = jnp.float32
    bias: bool = True
    """Of the last layer."""

    @nn.compact
    def __call__(
        self, x: Array, time: Array, cond: Array | None = None, train: bool = False
    ) -> Array:
        hidden = _joined(x, TimeEmbedding(dtype=self.dtype)(time), cond)
        hidden = dense(self.width, self.dtype, kernel_init=xavier)(hidden)
        for _ in range(self.blocks):
            block = ResidualBlock(self.width, self.activation, self.dropout, dtype=self.dtype)
            hidden = block(hidden, train)
        return _out(self.activation(hidden), x, self.size, xavier, self.dtype, self.bias)


class SimbaMLP(nn.Module):
    """SimBa: Dense -> residual blocks with relu -> LayerNorm -> Dense.

    Lee et al., 2024 (arXiv 2410.09754), section 4. Normalising observations is the caller's part.
    """

    size: int | None = None
    """As in `ResidualMLP`."""
    width: int = 256
    blocks: int = 2
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Array, time: Array, cond: Array | None = None, train: bool = False
    ) -> Array:
        init = orthogonal(1.0)
        hidden = _joined(x, TimeEmbedding(dtype=self.dtype)(time), cond)
        hidden = dense(self.width, self.dtype, kernel_init=init)(hidden)
        for _ in range(self.blocks):
            hidden = ResidualBlock(self.width, nn.relu, init=he, dtype=self.dtype)(hidden)
        hidden = nn.LayerNorm(dtype=jnp.float32)(hidden)
        return _out(hidden, x, self.size, init, self.dtype)


class ScalarEnergy(nn.Module):
    """Unnormalised log-density of noised actions, [B] float32: its gradient by x is the score.

    Chen et al., "Aligning Diffusion Behaviors with Q-functions", NeurIPS 2024 (arXiv 2407.09024),
    section 3.1. The activation must be smooth, since only derivatives are learnt. There is no
    constant: its gradient would be rounding, on which Adam walks.
    """

    width: int = 256
    blocks: int = 3
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Array, time: Array, cond: Array | None = None, train: bool = False
    ) -> Array:
        trunk = ResidualMLP(
            1, self.width, self.blocks, self.dropout, nn.swish, self.dtype, bias=False
        )
        energy: Array = trunk(x, time, cond, train)
        return energy[:, 0]


def gradient(energy: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """An energy (x [B, ...], time [B]) to [B] as the network that predicts its gradient by x.

    Differentiable in the energy's parameters, which is how they learn: a loss of "score".
    """
    return jax.grad(lambda x, time: jnp.sum(energy(x, time)))


def _joined(x: Array, time: Array | None, cond: Array | None) -> Array:
    """All inputs of a row side by side."""
    flat = x.reshape(x.shape[0], math.prod(x.shape[1:]))
    return jnp.concatenate([part for part in (flat, time, cond) if part is not None], axis=-1)


def _out(
    hidden: Array, x: Array, size: int | None, init: Any, dtype: Any, bias: bool = True
) -> Array:
    """The last layer; called inside a module's `__call__`."""
    entries = size or math.prod(x.shape[1:])
    out = dense(entries, dtype, kernel_init=init, use_bias=bias, name="out")(hidden)
    return out if size else out.reshape(x.shape)
