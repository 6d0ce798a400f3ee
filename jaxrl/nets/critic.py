"""Values of states and of actions: scalar heads on multilayer perceptrons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.nets.initializers import orthogonal
from jaxrl.nets.mlp import MLP
from jaxrl.nets.precision import dense

Array = jax.Array
Activation = Callable[[Array], Array]


class Critic(nn.Module):
    """Observations [..., O], and actions [..., A] if any, to one value each, [...] float32."""

    widths: tuple[int, ...]
    layer_norm: bool = False
    dtype: Any = jnp.float32
    activation: Activation = nn.relu

    @nn.compact
    def __call__(self, obs: Array, action: Array | None = None) -> Array:
        x = obs if action is None else jnp.concatenate([obs, action], axis=-1)
        x = MLP(self.widths, self.layer_norm, self.activation, self.dtype)(x)
        value = dense(1, self.dtype, kernel_init=orthogonal(1.0))(x)
        return value[..., 0].astype(jnp.float32)


class CriticEnsemble(nn.Module):
    """C critics with parameters of their own: [..., O] and [..., A] to [C, ...]."""

    critics: int
    widths: tuple[int, ...]
    layer_norm: bool = False
    dtype: Any = jnp.float32
    activation: Activation = nn.relu

    @nn.compact
    def __call__(self, obs: Array, action: Array | None = None) -> Array:
        ensemble = nn.vmap(
            Critic,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            axis_size=self.critics,
        )
        q: Array = ensemble(self.widths, self.layer_norm, self.dtype, self.activation)(obs, action)
        return q
