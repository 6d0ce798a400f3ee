"""Behaviour cloning: the policy that does what the dataset does.

By likelihood under a tanh-Gaussian, or by the squared error of its deterministic action (Pomerleau,
"ALVINN", NeurIPS 1988). Rewards are not used.

Shapes: B batch, O observation size, A action dimensions.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxrl.agents import _common, _offline
from jaxrl.agents._common import static
from jaxrl.envs.core import EnvSpec
from jaxrl.nets.mlp import MLP
from jaxrl.nets.policy import PolicyHead, TanhGaussian
from jaxrl.replay.ring import Batch

Array = jax.Array


@struct.dataclass
class BC(_offline.Offline):
    """Hyperparameters. Floats are pytree leaves: vmap sweeps them without recompiling."""

    learning_rate: float = 3e-4
    """Adam step size."""
    loss: Literal["nll", "mse"] = static("nll")
    """Negative log-likelihood, or squared error of the deterministic action."""
    widths: tuple[int, ...] = static((256, 256))
    """Units of the hidden layers."""
    layer_norm: bool = static(False)
    """LayerNorm before each activation."""
    normalise: bool = static(True)
    """Standardise observations by the dataset's mean and deviation."""
    batch_size: int = static(256)
    """Transitions per update, B."""
    precision: Literal["float32", "bfloat16"] = static("float32")
    """What networks compute in; parameters and losses stay float32."""

    learns_from_rewards: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _offline.check_sizes(self, "batch_size")

    def init(self, key: Array, spec: EnvSpec) -> State:
        """Fresh parameters."""
        actor = self._actor(spec.action_size).init(key, jnp.zeros((1, spec.observation_size)))
        return State(
            actor=actor,
            actor_opt=optax.adam(self.learning_rate).init(actor),
            statistics=_offline.Statistics.neutral(spec.observation_size),
            updates=jnp.zeros((), jnp.int32),
            action_size=spec.action_size,
        )

    def act(self, state: State, obs: Array, key: Array, explore: bool) -> Array:
        """Actions in [-1, 1], [B, A], for obs [B, O]: a sample if exploring, else tanh(mean)."""
        policy = self._policy(state.actor, state, obs)
        return policy.sample(key)[0] if explore else policy.mode()

    def update(self, state: State, batch: Batch, key: Array) -> tuple[State, dict[str, Array]]:
        """One step of the policy."""
        grad, metrics = jax.grad(self.actor_loss, has_aux=True)(state.actor, state, batch)
        actor, actor_opt = _common.descend(self.learning_rate, grad, state.actor_opt, state.actor)
        new = state.replace(actor=actor, actor_opt=actor_opt, updates=state.updates + 1)
        return new, metrics

    def actor_loss(self, params: Any, state: State, batch: Batch) -> tuple[Array, dict[str, Array]]:
        """nll: mean_B w (-log pi(a|s)); mse: mean_B w |tanh(mean(s)) - a|^2."""
        policy = self._policy(params, state, batch.obs_tm1)
        error = jnp.sum((policy.mode() - batch.action_tm1) ** 2, axis=-1)
        each = error if self.loss == "mse" else -_offline.log_density(policy, batch.action_tm1)
        loss = jnp.mean(batch.weight * each)
        return loss, {"actor_loss": loss, "squared_error": jnp.mean(batch.weight * error)}

    def _policy(self, params: Any, state: State, obs: Array) -> TanhGaussian:
        seen = state.statistics.standardise(obs) if self.normalise else obs
        policy: TanhGaussian = self._actor(state.action_size).apply(params, seen)  # type: ignore[assignment]
        return policy

    def _actor(self, action_size: int) -> Actor:
        return Actor(action_size, self.widths, self.layer_norm, _common.DTYPES[self.precision])


@struct.dataclass
class State:
    """Everything that learning changes, and what it was told of the dataset."""

    actor: Any
    actor_opt: Any
    statistics: _offline.Statistics
    updates: Array  # [] int32
    action_size: int = struct.field(pytree_node=False)


class Actor(nn.Module):
    """[B, O] to a `TanhGaussian` over A dimensions."""

    action_size: int
    widths: tuple[int, ...]
    layer_norm: bool
    dtype: Any

    @nn.compact
    def __call__(self, obs: Array) -> TanhGaussian:
        x = MLP(self.widths, self.layer_norm, dtype=self.dtype)(obs)
        return PolicyHead(self.action_size, self.dtype)(x)
