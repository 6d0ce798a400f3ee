"""TD3+BC: twin delayed deterministic policy gradients, with cloning added to the policy's loss.

Fujimoto and Gu, "A Minimalist Approach to Offline Reinforcement Learning", NeurIPS 2021 (arXiv
2106.06860); Fujimoto et al., "Addressing Function Approximation Error in Actor-Critic Methods",
ICML 2018 (arXiv 1802.09477).

Shapes: B batch, O observation size, A action dimensions, C critics.
"""

from __future__ import annotations

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxrl.agents import _common, _offline
from jaxrl.agents._common import static
from jaxrl.envs.core import EnvSpec
from jaxrl.nets.initializers import orthogonal
from jaxrl.nets.mlp import MLP
from jaxrl.nets.precision import dense
from jaxrl.replay.ring import Batch

Array = jax.Array


@struct.dataclass
class TD3BC(_offline.Critics):
    """Hyperparameters. Floats are pytree leaves: vmap sweeps them without recompiling."""

    actor_learning_rate: float = 3e-4
    """Adam step size of the policy (Table 3)."""
    critic_learning_rate: float = 3e-4
    """Adam step size of the critics (Table 3)."""
    alpha: float = 2.5
    """Weight of the critic in the policy's loss, in units of mean |Q| (eq. 5)."""
    discount: float = 0.99
    """gamma per environment step (Table 3)."""
    tau: float = 0.005
    """Share of the online networks in the targets' moving averages (Table 3)."""
    policy_noise: float = 0.2
    """Deviation of the noise on the target policy's actions (Table 3)."""
    noise_clip: float = 0.5
    """Bound of that noise (Table 3)."""
    policy_delay: int = static(2)
    """Updates of the critics for each of the policy and the targets (Table 3)."""
    normalise: bool = static(True)
    """Standardise observations by the dataset's mean and deviation (sec. 5)."""
    critics: int = static(2)
    """Critics, C; the target takes the least of them, the policy the first."""
    widths: tuple[int, ...] = static((256, 256))
    """Units of the hidden layers (Table 3)."""
    layer_norm: bool = static(False)
    """LayerNorm before each activation."""
    batch_size: int = static(256)
    """Transitions per update, B (Table 3)."""
    n_step: int = static(1)
    """Steps before the bootstrap."""
    precision: Literal["float32", "bfloat16"] = static("float32")
    """What networks compute in; parameters, losses and targets stay float32."""

    def __post_init__(self) -> None:
        _offline.check_sizes(self, "policy_delay", "critics", "batch_size", "n_step")

    def init(self, key: Array, spec: EnvSpec) -> State:
        """Fresh parameters; the targets start as copies."""
        actor_key, critic_key = jax.random.split(key)
        obs = jnp.zeros((1, spec.observation_size))
        actor = self._actor(spec.action_size).init(actor_key, obs)
        critic = self._critic().init(critic_key, obs, jnp.zeros((1, spec.action_size)))
        return State(
            actor=actor,
            critic=critic,
            target_actor=jax.tree.map(jnp.copy, actor),
            target_critic=jax.tree.map(jnp.copy, critic),
            actor_opt=optax.adam(self.actor_learning_rate).init(actor),
            critic_opt=optax.adam(self.critic_learning_rate).init(critic),
            statistics=_offline.Statistics.neutral(spec.observation_size),
            updates=jnp.zeros((), jnp.int32),
            action_size=spec.action_size,
        )

    def act(self, state: State, obs: Array, key: Array, explore: bool) -> Array:
        """Actions in [-1, 1], [B, A], for obs [B, O]; deterministic, exploring or not."""
        return self._act(state.actor, state, obs)

    def update(self, state: State, batch: Batch, key: Array) -> tuple[State, dict[str, Array]]:
        """One step of the critics, and every `policy_delay` times one of policy and targets."""
        grad, metrics = jax.grad(self.critic_loss, has_aux=True)(state.critic, state, batch, key)
        critic, critic_opt = _common.descend(
            self.critic_learning_rate, grad, state.critic_opt, state.critic
        )
        updates = state.updates + 1
        state = state.replace(critic=critic, critic_opt=critic_opt, updates=updates)
        due = updates % self.policy_delay == 0
        state, actor_metrics = jax.lax.cond(due, self._improve, self._look, state, batch)
        return state, {**metrics, **actor_metrics}

    def _improve(self, state: State, batch: Batch) -> tuple[State, dict[str, Array]]:
        """One step of the policy, and of the targets towards the online networks."""
        grad, metrics = jax.grad(self.actor_loss, has_aux=True)(state.actor, state, batch)
        actor, actor_opt = _common.descend(
            self.actor_learning_rate, grad, state.actor_opt, state.actor
        )
        new = state.replace(
            actor=actor,
            actor_opt=actor_opt,
            target_actor=optax.incremental_update(actor, state.target_actor, self.tau),
            target_critic=optax.incremental_update(state.critic, state.target_critic, self.tau),
        )
        return new, metrics

    def _look(self, state: State, batch: Batch) -> tuple[State, dict[str, Array]]:
        """The policy's losses, to log, and nothing learned."""
        return state, self.actor_loss(state.actor, state, batch)[1]

    def critic_loss(
        self, params: Any, state: State, batch: Batch, key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Squared error of all critics on the clipped double target with a smoothed action.

        loss = mean_B w sum_c (Q_c(s, a) - y)^2,  y = r + discount min_c Q'_c(s', a'),
        a' = clip(pi'(s') + clip(noise, -c, c), -1, 1)
        """
        noise = self.policy_noise * jax.random.normal(key, batch.action_tm1.shape)
        noise = jnp.clip(noise, -self.noise_clip, self.noise_clip)
        action_t = self._act(state.target_actor, state, batch.obs_t) + noise
        q_t = self._q(state.target_critic, state, batch.obs_t, jnp.clip(action_t, -1.0, 1.0))
        target = batch.reward_t + batch.discount_t * q_t.min(axis=0)
        q = self._q(params, state, batch.obs_tm1, batch.action_tm1)
        return _offline.td_loss(q, target, batch.weight)

    def actor_loss(self, params: Any, state: State, batch: Batch) -> tuple[Array, dict[str, Array]]:
        """The critic's value of the policy's action, and its distance to the dataset's (eq. 5).

        loss = mean_B w (-lambda Q_1(s, pi(s)) + mean_A (pi(s) - a)^2),
        lambda = alpha / mean_B w |Q_1(s, pi(s))|, a constant for the gradient
        """
        action = self._act(params, state, batch.obs_tm1)
        q = self._q(state.critic, state, batch.obs_tm1, action)[0]
        scale = self.alpha / _offline.magnitude(q, batch.weight)
        error = jnp.mean((action - batch.action_tm1) ** 2, axis=-1)
        loss = jnp.mean(batch.weight * (-scale * q + error))
        return loss, {"actor_loss": loss, "squared_error": jnp.mean(batch.weight * error)}

    def _act(self, params: Any, state: State, obs: Array) -> Array:
        action: Array = self._actor(state.action_size).apply(params, self._seen(state, obs))  # type: ignore[assignment]
        return action

    def _actor(self, action_size: int) -> Actor:
        return Actor(action_size, self.widths, self.layer_norm, _common.DTYPES[self.precision])


@struct.dataclass
class State:
    """Everything that learning changes, and what it was told of the dataset."""

    actor: Any
    critic: Any  # leading axis C
    target_actor: Any
    target_critic: Any  # leading axis C
    actor_opt: Any
    critic_opt: Any
    statistics: _offline.Statistics
    updates: Array  # [] int32
    action_size: int = struct.field(pytree_node=False)


class Actor(nn.Module):
    """[B, O] to deterministic actions in (-1, 1), [B, A] float32."""

    action_size: int
    widths: tuple[int, ...]
    layer_norm: bool
    dtype: Any

    @nn.compact
    def __call__(self, obs: Array) -> Array:
        x = MLP(self.widths, self.layer_norm, dtype=self.dtype)(obs)
        init = orthogonal(1e-2)  # starts near the middle of the action range
        action = dense(self.action_size, self.dtype, kernel_init=init)(x)
        return jnp.tanh(action.astype(jnp.float32))
