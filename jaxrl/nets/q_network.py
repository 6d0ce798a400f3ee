"""Q-networks with a head of several values, or of several histograms of returns."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.nets.torso import TORSOS, linear

Array = jax.Array


class QNetwork(nn.Module):
    """[B, O] to one value per bin of each action dimension, [B, A, K] float32; with several
    `atoms` to logits of returns, [B, A, K, Z]."""

    action_size: int
    bins: int
    torso: str
    width: int
    dtype: Any
    atoms: int = 1

    @nn.compact
    def __call__(self, obs: Array) -> Array:
        x = TORSOS[self.torso](self.width, self.dtype, name="torso")(obs)
        q = linear(self.action_size * self.bins * self.atoms, self.dtype, "head")(x)
        shape = (self.action_size, self.bins, *((self.atoms,) if self.atoms > 1 else ()))
        return q.astype(jnp.float32).reshape(*q.shape[:-1], *shape)
