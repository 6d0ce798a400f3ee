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
from jaxrl.nets.precision import dense

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
            condition = condition + dense(self.width, self.dtype, name="cond")(cond)
        condition = nn.swish(condition)
        normal = nn.initializers.normal(0.02)
        position = self.param("position", normal, (x.shape[1], self.width))
        tokens = dense(self.width, self.dtype, name="token")(x)
        tokens = tokens + position
        blocks = nn.scan(
            Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=self.blocks,
        )(self.width, self.heads, self.dtype, name="blocks")
        tokens, _ = blocks(tokens, condition)
        shift, scale = Modulation(2, self.width, self.dtype, name="last")(condition)
        tokens = modulated(tokens, shift, scale)
        zeros = nn.initializers.zeros
        return dense(x.shape[-1], self.dtype, kernel_init=zeros, name="out")(tokens)


class Block(nn.Module):
    """Attention, then a layer of 4x width, modulated and gated by the condition; a scan's body."""

    width: int
    heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Array, condition: Array) -> tuple[Array, None]:
        """x [B, H, width] and condition [B, width] to x."""
        shift, scale, gate, shift2, scale2, gate2 = Modulation(6, self.width, self.dtype)(condition)
        inner = dense(3 * self.width, self.dtype, name="qkv")(modulated(x, shift, scale))
        split = (*x.shape[:-1], self.heads, self.width // self.heads)
        queries, keys, values = (part.reshape(split) for part in jnp.split(inner, 3, axis=-1))
        mixed = nn.dot_product_attention(queries, keys, values).reshape(x.shape)
        x = x + gate * dense(self.width, self.dtype, name="mixed")(mixed)
        hidden = dense(4 * self.width, self.dtype, name="wide")(modulated(x, shift2, scale2))
        hidden = dense(self.width, self.dtype, name="narrow")(nn.gelu(hidden))
        return x + gate2 * hidden, None


class Modulation(nn.Module):
    """`count` vectors [B, 1, width] from the condition [B, width], 0 at the start."""

    count: int
    width: int
    dtype: Any

    @nn.compact
    def __call__(self, condition: Array) -> list[Array]:
        zeros = nn.initializers.zeros
        out = dense(self.count * self.width, self.dtype, kernel_init=zeros)(condition)
        return jnp.split(out[:, None], self.count, axis=-1)


def modulated(x: Array, shift: Array, scale: Array) -> Array:
    """LayerNorm(x) (1 + scale) + shift; called inside a module's `__call__`."""
    norm = nn.LayerNorm(use_scale=False, use_bias=False, dtype=jnp.float32)
    return norm(x) * (1 + scale) + shift
