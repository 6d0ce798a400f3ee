"""The matrix products of a function and nothing else: a floor for its time."""

from __future__ import annotations

import collections
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr
from timing import Turn, repeated

Product = tuple[Any, ...]
"""Shapes and types of both sides, dimension numbers, type of the result."""
ALIASES = {"gpu": ("cuda", "rocm")}
"""Platforms for which a backend's programs are lowered, where they are called otherwise."""


def products_of(function: Callable, *arguments: Any) -> collections.Counter[Product]:
    """How often `function` multiplies matrices of which shapes, a scan's body by its length. Of
    what depends on the platform, this one's counts; of other branches all.

    Raises:
      ValueError: there is a product in a loop whose length is not known beforehand.
    """
    found: collections.Counter[Product] = collections.Counter()
    _collect(jax.make_jaxpr(function)(*arguments).jaxpr, 1, found)
    return found


def gflop(products: collections.Counter[Product]) -> float:
    """Of all products together."""
    return sum(times * _flop(product) for product, times in products.items()) / 1e9


def bare(products: collections.Counter[Product]) -> Turn:
    """A turn of the products alone, one after another, on operands of noise."""
    keys = jax.random.split(jax.random.key(0), 2 * len(products))
    operands = [
        (jax.random.normal(a, left).astype(ltype), jax.random.normal(b, right).astype(rtype))
        for (left, ltype, right, rtype, _, _), a, b in zip(
            products, keys[::2], keys[1::2], strict=True
        )
    ]

    def body(carry: Any, i: jax.Array) -> Any:
        del i
        operands, total = carry
        for (product, times), sides in zip(products.items(), operands, strict=True):
            total = total + _multiply(product, times, sides)
        return jax.lax.optimization_barrier((operands, total))

    return repeated(body, (operands, jnp.zeros(())))


def _multiply(product: Product, times: int, sides: tuple[jax.Array, jax.Array]) -> jax.Array:
    """An entry of each of `times` results; the barrier keeps them from being hoisted or shrunk."""
    *_, numbers, out_type = product

    def once(_, carry):
        sides, total = carry
        out = jax.lax.dot_general(*sides, numbers, preferred_element_type=out_type)
        sides, out = jax.lax.optimization_barrier((sides, out))
        return sides, total + out.ravel()[0].astype(jnp.float32)

    return jax.lax.fori_loop(0, times, once, (sides, jnp.zeros(())))[1]


def _collect(jaxpr: Jaxpr, times: int, found: collections.Counter[Product]) -> None:
    for equation in jaxpr.eqns:
        name, values = equation.primitive.name, equation.params
        if name == "dot_general":
            left, right = (v.aval for v in equation.invars)
            out = equation.outvars[0].aval.dtype
            key = (left.shape, left.dtype, right.shape, right.dtype)
            found[(*key, values["dimension_numbers"], out)] += times
            continue
        if values.get("branches_platforms"):
            values = {"branch": _of_this_platform(values)}
        inner = [j for value in values.values() for j in _jaxprs(value)]
        if name == "while" and any(_multiplies(j) for j in inner):
            raise ValueError("a product lies in a loop of unknown length")
        for j in inner:
            _collect(j, times * (values["length"] if name == "scan" else 1), found)


def _of_this_platform(values: dict[str, Any]) -> ClosedJaxpr:
    """The branch of a `jax.lax.platform_dependent` that is compiled here."""
    here = jax.default_backend()
    names = {here, *ALIASES.get(here, ())}
    for branch, platforms in zip(values["branches"], values["branches_platforms"], strict=True):
        if platforms is None or names & set(platforms):
            return branch
    raise ValueError(f"nothing to compute on {here}")


def _jaxprs(value: Any) -> list[Jaxpr]:
    if isinstance(value, ClosedJaxpr):
        return [value.jaxpr]
    if isinstance(value, Jaxpr):
        return [value]
    return [j for v in value for j in _jaxprs(v)] if isinstance(value, tuple | list) else []


def _multiplies(jaxpr: Jaxpr) -> bool:
    found: collections.Counter[Product] = collections.Counter()
    _collect(jaxpr, 1, found)
    return bool(found)


def _flop(product: Product) -> float:
    """2 x batch x contracted x free of both sides."""
    left, _, right, _, ((contracted, _), (batch, _)), _ = product
    shared = math.prod(left[axis] for axis in (*contracted, *batch))
    return 2.0 * math.prod(left) * math.prod(right) / shared
