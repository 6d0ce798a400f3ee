"""Dense layers in float32 or bfloat16.

`precision="bfloat16"` multiplies bfloat16 inputs and weights into float32, as tensor cores and
matrix units do; parameters and everything between the products stay float32.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array


def dense(features: int, dtype: Any, **options: Any) -> nn.Dense:
    """A dense layer whose product is computed in `dtype`; more options are those of `nn.Dense`."""
    if dtype == jnp.float32:
        return nn.Dense(features, dtype=dtype, **options)
    return nn.Dense(features, dtype=jnp.float32, dot_general=_dot_general, **options)


@jax.custom_vjp
def product(x: Array, w: Array) -> Array:
    """x w for x [..., I] and w [I, O], rounded to bfloat16 and summed in float32.

    A processor multiplies so about twice as fast as in float32, but only from row-major arrays; on
    one, gradients are computed in float32, where the operands are transposed.
    """
    return _forward(x, w)[0]


def _forward(x: Array, w: Array) -> tuple[Array, tuple[Array, Array]]:
    rounded = x.astype(jnp.bfloat16), w.astype(jnp.bfloat16)
    return jnp.matmul(*rounded, preferred_element_type=jnp.float32), (x, w)


def _backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    def products(kind: Any) -> Any:
        def both(x: Array, w: Array, g: Array) -> tuple[Array, Array]:
            x, w, g = x.astype(kind), w.astype(kind), g.astype(kind)
            rows, inputs = g.reshape(-1, g.shape[-1]), x.reshape(-1, x.shape[-1])
            dx = jnp.matmul(g, w.T, preferred_element_type=jnp.float32)
            return dx, jnp.matmul(inputs.T, rows, preferred_element_type=jnp.float32)

        return both

    return lax.platform_dependent(
        *saved, g, cpu=products(jnp.float32), default=products(jnp.bfloat16)
    )


product.defvjp(_forward, _backward)


def _dot_general(x: Array, w: Array, dimensions: Any, precision: Any = None) -> Array:
    """`product` as `nn.Dense` calls for it: the last dimension of x with the first of w."""
    assert dimensions == (((x.ndim - 1,), (0,)), ((), ())), dimensions
    return product(x, w)
