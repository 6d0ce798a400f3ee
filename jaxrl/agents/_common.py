"""What agents share: hyperparameters as leaves, optimiser steps, observation statistics."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from jaxrl.envs.core import EnvSpec
from jaxrl.errors import UsageError

Array = jax.Array
T = TypeVar("T")

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
"""What an agent's `precision` names."""


def static(default: Any) -> Any:
    """A field that fixes the compiled program; the others are leaves that vmap can sweep."""
    return struct.field(pytree_node=False, default=default)


def canonical(agent: T) -> T:
    """The agent with every pytree leaf a strongly typed float32 array.

    A Python float is a weakly typed leaf; a program compiled for it recompiles when an array
    takes its place.
    """
    leaves = [f.name for f in dataclasses.fields(agent) if f.metadata.get("pytree_node", True)]  # type: ignore[arg-type]
    cast = {name: jnp.asarray(getattr(agent, name), jnp.float32) for name in leaves}
    return dataclasses.replace(agent, **cast)  # type: ignore[type-var]


def check_within(agent: Any, low: float, high: float, *names: str) -> None:
    """Raises `UsageError` for a hyperparameter outside [low, high]. One that is an array already,
    as in a sweep, is not looked at."""
    for name in names:
        value = getattr(agent, name)
        if isinstance(value, float | int) and not low <= value <= high:
            raise UsageError(f"{name} must be within {low:g} and {high:g}, got {value}")


def check_numbers(agent: Any) -> None:
    """Raises `UsageError` for a hyperparameter that is not finite, or a step size below 0. One
    that is an array already, as in a sweep, is not looked at."""
    for field in dataclasses.fields(agent):
        value = getattr(agent, field.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{field.name} must be finite, got {value}")
        if field.name.endswith("learning_rate") and isinstance(value, float | int) and value < 0:
            raise UsageError(f"{field.name} must be at least 0, got {value}")


def to_units(action: Array, spec: EnvSpec) -> Array:
    """Actions [..., A] in [-1, 1] in the environment's units."""
    low, high = np.array([spec.action_low, spec.action_high], np.float32)
    return low + (high - low) * (action + 1.0) / 2.0


def weak_leaves(tree: Any) -> list[str]:
    """Paths of the leaves of `tree` that are weakly typed or no jax arrays at all."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [
        jax.tree_util.keystr(path)
        for path, leaf in flat
        if getattr(leaf, "weak_type", not isinstance(leaf, jax.Array))
    ]


def descend(learning_rate: Any, grads: T, opt_state: Any, params: T) -> tuple[T, Any]:
    """One Adam step: the new parameters and the optimiser's new state."""
    updates, opt_state = optax.adam(learning_rate).update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


@struct.dataclass
class RunningStatistics:
    """Mean and variance of all the vectors seen, one pass (Chan et al., 1979). O: their size."""

    count: Array  # [] float32
    mean: Array  # [O]
    variance: Array  # [O]

    @classmethod
    def zeros(cls, size: int) -> RunningStatistics:
        """Of nothing seen yet: `normalise` changes nothing."""
        return cls(jnp.zeros(()), jnp.zeros(size), jnp.ones(size))

    def add(self, x: Array, valid: Array) -> RunningStatistics:
        """Adds the rows of x [B, O] where `valid` [B]."""
        mask = valid[:, None].astype(x.dtype)
        count = mask.sum()
        mean = jnp.sum(mask * x, axis=0) / jnp.maximum(count, 1)
        variance = jnp.sum(mask * (x - mean) ** 2, axis=0) / jnp.maximum(count, 1)
        total = jnp.maximum(self.count + count, 1)
        share = count / total
        gap = mean - self.mean
        old = jnp.where(self.count > 0, self.variance, 0.0)
        new = (1 - share) * old + share * variance + share * (1 - share) * gap**2
        return RunningStatistics(
            count=jnp.minimum(self.count + count, 1e7),  # float32 still counts there
            mean=self.mean + share * gap,
            variance=jnp.where(self.count + count > 0, new, self.variance),
        )

    def normalise(self, x: Array) -> Array:
        """(x - mean) / deviation, clipped to 10 deviations."""
        return jnp.clip((x - self.mean) / jnp.sqrt(self.variance + 1e-6), -10.0, 10.0)
