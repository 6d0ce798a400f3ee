"""Implicit Q-learning: values by expectile regression, the policy by weighted cloning.

Kostrikov et al., "Offline Reinforcement Learning with Implicit Q-Learning", ICLR 2022 (arXiv
2110.06169). No action outside of the dataset is ever valued. Defaults are those of the paper's
locomotion tasks.

Shapes: B batch, O observation size, A action dimensions, C critics.
"""

from __future__ import annotations

from typing import Any, Literal

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxrl.agents import _common, _offline
from jaxrl.agents._common import static
from jaxrl.envs.core import EnvSpec
from jaxrl.nets.critic import Critic
from jaxrl.nets.gaussian import Gaussian, GaussianHead
from jaxrl.nets.mlp import MLP
from jaxrl.replay.ring import Batch

Array = jax.Array


@struct.dataclass
class IQL(_offline.Critics):
    """Hyperparameters. Floats are pytree leaves: vmap sweeps them without recompiling."""

    actor_learning_rate: float = 3e-4
    """Adam step size of the policy at the start; it falls to 0 by a cosine (app. B)."""
    critic_learning_rate: float = 3e-4
    """Adam step size of critics and value (app. B)."""
    decay_updates: float = 0.0
    """Updates in which the policy's step size falls to 0; 0: the run's length (app. B)."""
    expectile: float = 0.7
    """tau of the value's expectile (app. B)."""
    temperature: float = 3.0
    """beta, inverse temperature of the policy's weights (app. B)."""
    discount: float = 0.99
    """gamma per environment step."""
    tau: float = 0.005
    """Share of the online critics in the target's moving average."""
    scale_rewards: bool = static(True)
    """Multiply rewards by 1000 / (greatest - least return of the dataset's episodes) (app. B)."""
    normalise: bool = static(False)
    """Standardise observations by the dataset's mean and deviation."""
    critics: int = static(2)
    """Critics, C; the least of them counts."""
    widths: tuple[int, ...] = static((256, 256))
    """Units of the hidden layers (app. B)."""
    layer_norm: bool = static(False)
    """LayerNorm before each activation."""
    batch_size: int = static(256)
    """Transitions per update, B (app. B)."""
    n_step: int = static(1)
    """Steps before the bootstrap."""
    precision: Literal["float32", "bfloat16"] = static("float32")
    """What networks compute in; parameters, losses and targets stay float32."""

    def __post_init__(self) -> None:
        _offline.check_sizes(self, "critics", "batch_size", "n_step")

    def init(self, key: Array, spec: EnvSpec) -> State:
        """Fresh parameters; the target critics start as a copy."""
        actor_key, critic_key, value_key = jax.random.split(key, 3)
        obs = jnp.zeros((1, spec.observation_size))
        actor = self._actor(spec.action_size).init(actor_key, obs)
        critic = self._critic().init(critic_key, obs, jnp.zeros((1, spec.action_size)))
        value = self._value().init(value_key, obs)
        return State(
            actor=actor,
            critic=critic,
            target_critic=jax.tree.map(jnp.copy, critic),
            value=value,
            actor_opt=optax.adam(self.actor_learning_rate).init(actor),
            critic_opt=optax.adam(self.critic_learning_rate).init(critic),
            value_opt=optax.adam(self.critic_learning_rate).init(value),
            statistics=_offline.Statistics.neutral(spec.observation_size),
            updates=jnp.zeros((), jnp.int32),
            action_size=spec.action_size,
        )

    def act(self, state: State, obs: Array, key: Array, explore: bool) -> Array:
        """Actions in [-1, 1], [B, A], for obs [B, O]: a sample if exploring, else the mean."""
        policy = self._policy(state.actor, state, obs)
        return policy.sample(key) if explore else policy.mode()

    def update(self, state: State, batch: Batch, key: Array) -> tuple[State, dict[str, Array]]:
        """One step of the value, then of the policy, then of the critics (alg. 1)."""
        grad, value_metrics = jax.grad(self.value_loss, has_aux=True)(state.value, state, batch)
        rate = self.critic_learning_rate
        value, value_opt = _common.descend(rate, grad, state.value_opt, state.value)
        state = state.replace(value=value, value_opt=value_opt)

        grad, actor_metrics = jax.grad(self.actor_loss, has_aux=True)(state.actor, state, batch)
        falling = _offline.cosine(self.actor_learning_rate, state.updates, self.decay_updates)
        actor, actor_opt = _common.descend(falling, grad, state.actor_opt, state.actor)

        grad, critic_metrics = jax.grad(self.critic_loss, has_aux=True)(state.critic, state, batch)
        critic, critic_opt = _common.descend(rate, grad, state.critic_opt, state.critic)
        new = state.replace(
            actor=actor,
            critic=critic,
            target_critic=optax.incremental_update(critic, state.target_critic, self.tau),
            actor_opt=actor_opt,
            critic_opt=critic_opt,
            updates=state.updates + 1,
        )
        return new, {**value_metrics, **actor_metrics, **critic_metrics}

    def value_loss(self, params: Any, state: State, batch: Batch) -> tuple[Array, dict[str, Array]]:
        """Expectile of the target critics' values (eq. 5).

        loss = mean_B w |tau - (u < 0)| u^2,  u = min_c Q'_c(s, a) - V(s)
        """
        v = self._v(params, state, batch.obs_tm1)
        error = self._least_q(state, batch) - v
        loss = jnp.mean(batch.weight * _offline.expectile_loss(error, self.expectile))
        return loss, {"value_loss": loss, "v_mean": jnp.mean(batch.weight * v)}

    def actor_loss(self, params: Any, state: State, batch: Batch) -> tuple[Array, dict[str, Array]]:
        """Cloning, weighted by the advantage (eq. 7).

        loss = -mean_B w min(exp(beta (min_c Q'_c(s, a) - V(s))), 100) log pi(a|s)
        """
        advantage = self._least_q(state, batch) - self._v(state.value, state, batch.obs_tm1)
        weight = batch.weight * _offline.advantage_weight(advantage, self.temperature)
        log_density = self._policy(params, state, batch.obs_tm1).log_density(batch.action_tm1)
        loss = -jnp.mean(weight * log_density)
        return loss, {"actor_loss": loss, "advantage_weight": jnp.mean(weight)}

    def critic_loss(
        self, params: Any, state: State, batch: Batch
    ) -> tuple[Array, dict[str, Array]]:
        """Squared error of all critics on the value of the next state (eq. 6).

        loss = mean_B w sum_c (Q_c(s, a) - y)^2,  y = r + discount V(s')
        """
        v_t = self._v(state.value, state, batch.obs_t)
        target = batch.reward_t * self.reward_scale(state) + batch.discount_t * v_t
        q = self._q(params, state, batch.obs_tm1, batch.action_tm1)
        return _offline.td_loss(q, target, batch.weight)

    def reward_scale(self, state: State) -> Array:
        """What rewards are multiplied by, []."""
        least, greatest = state.statistics.returns
        apart = greatest > least
        scale = 1000.0 / jnp.where(apart, greatest - least, 1000.0)
        return scale if self.scale_rewards else jnp.ones(())

    def _least_q(self, state: State, batch: Batch) -> Array:
        """min_c Q'_c(s, a), [B]."""
        q = self._q(state.target_critic, state, batch.obs_tm1, batch.action_tm1)
        chex.assert_rank(q, 2)
        return q.min(axis=0)

    def _policy(self, params: Any, state: State, obs: Array) -> Gaussian:
        policy: Gaussian = self._actor(state.action_size).apply(params, self._seen(state, obs))  # type: ignore[assignment]
        return policy

    def _v(self, params: Any, state: State, obs: Array) -> Array:
        """[B] for obs [B, O]."""
        v: Array = self._value().apply(params, self._seen(state, obs))  # type: ignore[assignment]
        return v

    def _actor(self, action_size: int) -> Actor:
        return Actor(action_size, self.widths, self.layer_norm, _common.DTYPES[self.precision])

    def _value(self) -> Critic:
        return Critic(self.widths, self.layer_norm, _common.DTYPES[self.precision])


@struct.dataclass
class State:
    """Everything that learning changes, and what it was told of the dataset."""

    actor: Any
    critic: Any  # leading axis C
    target_critic: Any  # leading axis C
    value: Any
    actor_opt: Any
    critic_opt: Any
    value_opt: Any
    statistics: _offline.Statistics
    updates: Array  # [] int32
    action_size: int = struct.field(pytree_node=False)


class Actor(nn.Module):
    """[B, O] to a `Gaussian` over A dimensions."""

    action_size: int
    widths: tuple[int, ...]
    layer_norm: bool
    dtype: Any

    @nn.compact
    def __call__(self, obs: Array) -> Gaussian:
        x = MLP(self.widths, self.layer_norm, dtype=self.dtype)(obs)
        return GaussianHead(self.action_size, self.dtype)(x)
