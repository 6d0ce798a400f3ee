"""A small diffusion transformer over action chunks, its condition by adaptive layer norm.

Peebles and Xie, "Scalable Diffusion Models with Transformers", ICCV 2023 (arXiv 2212.09748),
section 3.2, adaLN-Zero: each block starts as the identity. Blocks are scanned, so depth costs no
compile time.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.errors import UsageError
from jaxrl.nets.denoise import TimeEmbedding

Array = jax.Array


class DiffusionTransformer(nn.Module):
    """Chunks x [B, H, A], time [B] and cond [B, C] to a prediction [B, H, A] float32.

    A token per action, with a learnt position; every token attends to every other.
    """

    width: int = 128
    heads: int = 4
    blocks: int = 4
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Array, time: Array, cond: Array | None = None, train: bool = False
    ) -> Array:
        if self.width % self.heads:
            raise UsageError(f"width {self.width} is not a multiple of its {self.heads} heads")
        if x.ndim != 3:
            raise UsageError(f"a transformer takes chunks [B, H, A], got x of shape {x.shape}")
        condition = TimeEmbedding(self.width, self.dtype)(time)
        if cond is not None:
            condition = condition + nn.Dense(self.width, dtype=self.dtype, name="cond")(cond)
        condition = nn.swish(condition)
        normal = nn.initializers.normal(0.02)
        position = self.param("position", normal, (x.shape[1], self.width))
        tokens = nn.Dense(self.width, dtype=self.dtype, name="token")(x)
        tokens = tokens + position.astype(tokens.dtype)
        blocks = nn.scan(
            Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=self.blocks,
        )(self.width, self.heads, self.dtype, name="blocks")
        tokens, _ = blocks(tokens, condition)
        shift, scale = Modulation(2, self.width, self.dtype, name="last")(condition)
        tokens = modulated(tokens, shift, scale, self.dtype)
        zeros = nn.initializers.zeros
        out = nn.Dense(x.shape[-1], dtype=self.dtype, kernel_init=zeros, name="out")(tokens)
        return out.astype(jnp.float32)


class Block(nn.Module):
    """Attention, then a layer of 4x width, modulated and gated by the condition; a scan's body."""

    width: int
    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, condition: Array) -> tuple[Array, None]:
        """x [B, H, width] and condition [B, width] to x."""
        shift, scale, gate, shift2, scale2, gate2 = Modulation(6, self.width, self.dtype)(condition)
        attention = nn.MultiHeadDotProductAttention(self.heads, dtype=self.dtype)
        x = x + gate * attention(modulated(x, shift, scale, self.dtype))
        hidden = nn.Dense(4 * self.width, dtype=self.dtype)(
            modulated(x, shift2, scale2, self.dtype)
        )
        hidden = nn.Dense(self.width, dtype=self.dtype)(nn.gelu(hidden))
        return x + gate2 * hidden, None


class Modulation(nn.Module):
    """`count` vectors [B, 1, width] from the condition [B, width], 0 at the start."""

    count: int
    width: int
    dtype: Any

    @nn.compact
    def __call__(self, condition: Array) -> list[Array]:
        zeros = nn.initializers.zeros
        out = nn.Dense(self.count * self.width, dtype=self.dtype, kernel_init=zeros)(condition)
        return jnp.split(out[:, None], self.count, axis=-1)


def modulated(x: Array, shift: Array, scale: Array, dtype: Any) -> Array:
    """LayerNorm(x) (1 + scale) + shift; called inside a module's `__call__`."""
    norm = nn.LayerNorm(use_scale=False, use_bias=False, dtype=dtype)
    return norm(x) * (1 + scale) + shift
