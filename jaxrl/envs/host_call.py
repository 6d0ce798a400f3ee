"""A function of the host as an operation of a compiled program, called with NumPy arrays.

`jax.pure_callback` puts every argument on a device once more before it calls. For a small model
that takes as long as its physics, and on a processor a large argument is copied by a thread of the
pool that runs the programs: where all of its threads wait in a callback, they wait for ever. Here
the function sees the program's own memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

Array = jax.Array
Aval = jax.core.ShapedArray

_primitive = Primitive("host_call")
_primitive.multiple_results = True


def host_call(function: Callable[..., Any], result: Any, *arguments: Array) -> Any:
    """What `function` returns on the host. Under vmap, however nested, it is called once.

    Args:
      function: pure and batched: its arguments have the leading dimensions of every surrounding
        vmap (all of them, broadcast) and so have the arrays of its result. It may read them while
        it runs, and write none.
      result: an unbatched result, a pytree of `jax.ShapeDtypeStruct`.
      arguments: arrays, unbatched.

    Returns:
      a pytree like `result`. It has no derivative.
    """
    leaves, tree = jax.tree.flatten(result)
    avals = tuple(Aval(leaf.shape, leaf.dtype) for leaf in leaves)
    flat = _primitive.bind(*map(jnp.asarray, arguments), function=function, avals=avals, lead=())
    return jax.tree.unflatten(tree, flat)


@_primitive.def_abstract_eval
def _abstract(*arguments: Aval, function: Callable, avals: tuple[Aval, ...], lead: tuple):
    return [aval.update(shape=(*lead, *aval.shape)) for aval in avals]


def _bind(*arguments: Array, **params: Any) -> list[Array]:
    return _primitive.bind(*arguments, **params)


_primitive.def_impl(jax.jit(_bind, static_argnames=("function", "avals", "lead")))


def _batch(arguments, axes, *, function, avals, lead):
    pairs = list(zip(arguments, axes, strict=True))
    size = next(x.shape[axis] for x, axis in pairs if axis is not None)

    def broadcast(x, axis):
        if axis is None:
            return jnp.broadcast_to(x, (size, *x.shape))
        return jnp.moveaxis(x, axis, 0)

    rows = [broadcast(x, axis) for x, axis in pairs]
    out = _primitive.bind(*rows, function=function, avals=avals, lead=(size, *lead))
    return out, [0] * len(out)


def _lower(context, *operands, function, avals, lead):
    axes = context.module_context.axis_context
    if isinstance(axes, mlir.ShardingContext) and axes.num_devices > 1:
        # Arrays over several devices outside shard_map: jax's own gathers them for one call.
        callback = functools.partial(_through_jax, function=function, avals=context.avals_out)
        return mlir.lower_fun(callback, multiple_results=True)(context, *operands)
    results, _, _ = mlir.emit_python_callback(
        context,
        lambda *arguments: _leaves(function(*arguments)),
        None,
        operands,
        context.avals_in,
        context.avals_out,
        has_side_effect=False,
    )
    return results


def _through_jax(*arguments: Array, function: Callable, avals: Sequence[Aval]) -> Sequence[Array]:
    shapes = tuple(jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals)
    return jax.pure_callback(
        lambda *xs: _leaves(function(*map(np.asarray, xs))), shapes, *arguments
    )


def _leaves(result: Any) -> tuple[np.ndarray, ...]:
    return tuple(map(np.asarray, jax.tree.leaves(result)))


batching.primitive_batchers[_primitive] = _batch
mlir.register_lowering(_primitive, _lower, cacheable=False)
