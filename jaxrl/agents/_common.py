"""What agents share: casting hyperparameters, checking that nothing recompiles silently."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

T = TypeVar("T")


def canonical(agent: T) -> T:
    """The agent with every pytree leaf a strongly typed float32 array.

    A Python float is a weakly typed leaf; a program compiled for it recompiles when an array
    takes its place.
    """
    leaves = [f.name for f in dataclasses.fields(agent) if f.metadata.get("pytree_node", True)]  # type: ignore[arg-type]
    cast = {name: jnp.asarray(getattr(agent, name), jnp.float32) for name in leaves}
    return dataclasses.replace(agent, **cast)  # type: ignore[type-var]


def weak_leaves(tree: Any) -> list[str]:
    """Paths of the leaves of `tree` that are weakly typed or no jax arrays at all."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [
        jax.tree_util.keystr(path)
        for path, leaf in flat
        if getattr(leaf, "weak_type", not isinstance(leaf, jax.Array))
    ]
