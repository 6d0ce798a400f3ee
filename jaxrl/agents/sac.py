"""Soft actor-critic with automatic temperature and twin critics.

Haarnoja et al., "Soft Actor-Critic Algorithms and Applications", 2018 (arXiv 1812.05905). On goal
tasks with hindsight experience replay: Andrychowicz et al., NeurIPS 2017 (arXiv 1707.01495).

Actions live in (-1, 1)^A, where the policy draws them and replay stores them; `decode` scales them
to the environment's bounds.

Shapes: B batch, O observation size, A action dimensions, C critics.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxrl.agents import _common, _goals
from jaxrl.agents._common import static
from jaxrl.envs.core import EnvSpec
from jaxrl.errors import UsageError
from jaxrl.nets.critic import Critic
from jaxrl.nets.mlp import MLP
from jaxrl.nets.policy import PolicyHead, TanhGaussian
from jaxrl.replay.hindsight import Hindsight
from jaxrl.replay.ring import Batch
from jaxrl.replay.uniform import Uniform

Array = jax.Array


@struct.dataclass
class SAC:
    """Hyperparameters. Floats are pytree leaves: vmap sweeps them without recompiling."""

    actor_learning_rate: float = 3e-4
    """Adam step size of the policy (Table 1)."""
    critic_learning_rate: float = 3e-4
    """Adam step size of the critics (Table 1)."""
    temperature_learning_rate: float = 3e-4
    """Adam step size of log alpha (Table 1)."""
    discount: float = 0.99
    """gamma per environment step (Table 1)."""
    tau: float = 0.005
    """Share of the online critics in the target's moving average (Table 1)."""
    initial_temperature: float = 1.0
    """alpha at the start."""
    entropy_per_action: float = -0.5
    """Target entropy in nats per action dimension; the paper takes -1."""
    hindsight_share: float = 0.8
    """Share of the rows that get a new goal (HER: 4 of 5)."""
    hindsight: Literal["none", "future", "final", "random"] = static("none")
    """Where new goals come from: later in the episode, its newest row, any row of the replay."""
    hindsight_dense: bool = static(False)
    """Reward a new goal by minus the distance; goes with --dense-reward."""
    critics: int = static(2)
    """Critics, C; the target and the policy take the least of them."""
    widths: tuple[int, ...] = static((256, 256))
    """Units of the hidden layers (Table 1)."""
    layer_norm: bool = static(False)
    """LayerNorm before each activation of critics and policy."""
    normalise: bool = static(False)
    """Scale observations by running means and deviations of what replay gave."""
    batch_size: int = static(256)
    """Transitions per update, B (Table 1)."""
    n_step: int = static(1)
    """Steps before the bootstrap."""
    precision: Literal["float32", "bfloat16"] = static("float32")
    """What networks compute in; parameters, losses and targets stay float32."""
    achieved: _goals.Slice = static(_goals.UNBOUND)
    """Of the observation; see `bind`."""
    commanded: _goals.Slice = static(_goals.UNBOUND)
    """Of the observation; see `bind`."""
    radius: _goals.Radius = static(0.0)
    """Distance under which a goal counts as reached; see `bind`."""

    def __post_init__(self) -> None:
        for name in ("critics", "batch_size", "n_step"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        _common.check_within(self, 0.0, 1.0, "discount", "tau", "hindsight_share")
        if isinstance(self.initial_temperature, float | int) and not self.initial_temperature > 0:
            raise UsageError(f"initial_temperature must be above 0, got {self.initial_temperature}")
        if not self.widths or min(self.widths) < 1:
            raise UsageError(f"widths must be at least 1, one per hidden layer, got {self.widths}")
        if self.hindsight != "none" and self.n_step != 1:
            raise UsageError(
                f"hindsight rewards single steps: give --n-step 1, or --hindsight none; got "
                f"n_step {self.n_step}"
            )

    def canonical(self) -> SAC:
        """The same agent with strongly typed float32 leaves."""
        return _common.canonical(self)

    def bind(self, spec: EnvSpec) -> SAC:
        """The same agent; with hindsight, knowing where the task keeps its goals.

        Raises:
          UsageError: hindsight, and the task has no goal.
        """
        if self.hindsight == "none":
            return self
        radius = _goals.goal_of(spec, "sac with hindsight").radius
        return _goals.bind(dataclasses.replace(self, radius=radius), spec, "sac with hindsight")

    def replay(self, time_slots: int, num_envs: int) -> Uniform | Hindsight:
        """The replay that this agent learns from."""
        if self.hindsight != "none":
            return Hindsight(
                discount=self.discount,
                time_slots=time_slots,
                num_envs=num_envs,
                achieved=self.achieved,
                commanded=self.commanded,
                batch_size=self.batch_size,
                strategy=self.hindsight,
                law="uniform",
                share=self.hindsight_share,
                radius=self.radius,
                dense=self.hindsight_dense,
            )
        return Uniform(
            discount=self.discount,
            time_slots=time_slots,
            num_envs=num_envs,
            batch_size=self.batch_size,
            n_step=self.n_step,
        )

    def init(self, key: Array, spec: EnvSpec) -> State:
        """Fresh parameters; the target critics start as a copy."""
        actor_key, critic_key = jax.random.split(key)
        obs = jnp.zeros((1, spec.observation_size))
        action = jnp.zeros((1, spec.action_size))
        actor = self._actor(spec.action_size).init(actor_key, obs)
        critic_keys = jax.random.split(critic_key, self.critics)
        critic = jax.vmap(lambda k: self._critic().init(k, obs, action))(critic_keys)
        log_alpha = jnp.log(jnp.asarray(self.initial_temperature, jnp.float32))
        return State(
            actor=actor,
            critic=critic,
            target_critic=jax.tree.map(jnp.copy, critic),
            log_alpha=log_alpha,
            actor_opt=optax.adam(self.actor_learning_rate).init(actor),
            critic_opt=optax.adam(self.critic_learning_rate).init(critic),
            alpha_opt=optax.adam(self.temperature_learning_rate).init(log_alpha),
            statistics=_common.RunningStatistics.zeros(spec.observation_size),
            updates=jnp.zeros((), jnp.int32),
            action_size=spec.action_size,
        )

    def act(self, state: State, obs: Array, key: Array, explore: bool) -> Array:
        """Actions in [-1, 1], [B, A], for obs [B, O]: a sample if exploring, else tanh(mean).

        Before the first update exploration is uniform.
        """
        policy = self._policy(state.actor, state, obs)
        if not explore:
            return policy.mode()
        uniform_key, sample_key = jax.random.split(key)
        uniform = jax.random.uniform(uniform_key, policy.mean.shape, minval=-1.0)
        return jnp.where(state.updates == 0, uniform, policy.sample(sample_key)[0])

    def decode(self, action: Array, spec: EnvSpec) -> Array:
        """Actions [..., A] in [-1, 1] to the environment's units."""
        return _common.to_units(action, spec)

    def update(self, state: State, batch: Batch, key: Array) -> tuple[State, dict[str, Array]]:
        """One step of the critics, then of the policy and the temperature."""
        critic_key, actor_key = jax.random.split(key)
        if self.normalise:
            seen = state.statistics.add(batch.obs_tm1, batch.weight > 0)
            state = state.replace(statistics=seen)
        critic_grad, metrics = jax.grad(self.critic_loss, has_aux=True)(
            state.critic, state, batch, critic_key
        )
        critic, critic_opt = _common.descend(
            self.critic_learning_rate, critic_grad, state.critic_opt, state.critic
        )
        state = state.replace(critic=critic, critic_opt=critic_opt)
        actor_grad, actor_metrics = jax.grad(self.actor_loss, has_aux=True)(
            state.actor, state, batch, actor_key
        )
        actor, actor_opt = _common.descend(
            self.actor_learning_rate, actor_grad, state.actor_opt, state.actor
        )
        # d/d(log alpha) of alpha (entropy - target), the temperature's loss.
        target = self.entropy_per_action * state.action_size
        alpha_grad = jnp.exp(state.log_alpha) * (actor_metrics["entropy"] - target)
        log_alpha, alpha_opt = _common.descend(
            self.temperature_learning_rate, alpha_grad, state.alpha_opt, state.log_alpha
        )
        new = state.replace(
            actor=actor,
            target_critic=optax.incremental_update(critic, state.target_critic, self.tau),
            log_alpha=log_alpha,
            actor_opt=actor_opt,
            alpha_opt=alpha_opt,
            updates=state.updates + 1,
        )
        return new, {**metrics, **actor_metrics, "alpha": jnp.exp(log_alpha)}

    def critic_loss(
        self, params: Any, state: State, batch: Batch, key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Mean squared error of all critics on the soft target (eq. 5).

        loss = mean_B w sum_c 1/2 (Q_c(s, a) - y)^2
        """
        action_t, log_prob_t = self._policy(state.actor, state, batch.obs_t).sample(key)
        q_t = self._q(state.target_critic, state, batch.obs_t, action_t)
        target = soft_target(
            q_t, log_prob_t, jnp.exp(state.log_alpha), batch.reward_t, batch.discount_t
        )
        q_tm1 = self._q(params, state, batch.obs_tm1, batch.action_tm1)
        td_error = jax.lax.stop_gradient(target) - q_tm1  # [C, B]
        loss = jnp.mean(batch.weight * 0.5 * jnp.sum(td_error**2, axis=0))
        priority = jnp.abs(td_error).mean(axis=0)
        return loss, {"critic_loss": loss, "q_mean": q_tm1.mean(), "td_error": priority}

    def actor_loss(
        self, params: Any, state: State, batch: Batch, key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Soft value of the policy's own actions, negated (eq. 7).

        loss = mean_B w (alpha log pi(a|s) - min_c Q_c(s, a)),  a ~ pi(.|s)
        """
        action, log_prob = self._policy(params, state, batch.obs_tm1).sample(key)
        q = self._q(state.critic, state, batch.obs_tm1, action).min(axis=0)
        alpha = jnp.exp(state.log_alpha)
        loss = jnp.mean(batch.weight * (alpha * log_prob - q))
        return loss, {"actor_loss": loss, "entropy": -jnp.mean(batch.weight * log_prob)}

    def milestones(self) -> tuple[float, ...]:
        """Nothing depends on the share of training done."""
        return ()

    def on_progress(self, state: State, progress: Array) -> State:
        """Nothing depends on the share of training done."""
        return state

    def on_evaluation(self, state: State, returns: Array, progress: Array) -> State:
        """Nothing depends on evaluations."""
        return state

    def scalars(self, state: State) -> dict[str, Array]:
        """What a run logs of the state, beside the losses."""
        return {"alpha": jnp.exp(state.log_alpha)}

    def _policy(self, params: Any, state: State, obs: Array) -> TanhGaussian:
        policy: TanhGaussian = self._actor(state.action_size).apply(params, self._seen(state, obs))  # type: ignore[assignment]
        return policy

    def _q(self, params: Any, state: State, obs: Array, action: Array) -> Array:
        """[C, B] for obs [B, O] and actions [B, A]."""
        q: Array = jax.vmap(self._critic().apply, in_axes=(0, None, None))(  # type: ignore[assignment]
            params, self._seen(state, obs), action
        )
        return q

    def _seen(self, state: State, obs: Array) -> Array:
        return state.statistics.normalise(obs) if self.normalise else obs

    def _actor(self, action_size: int) -> Actor:
        return Actor(action_size, self.widths, self.layer_norm, _common.DTYPES[self.precision])

    def _critic(self) -> Critic:
        return Critic(self.widths, self.layer_norm, _common.DTYPES[self.precision])


@struct.dataclass
class State:
    """Everything that learning changes."""

    actor: Any
    critic: Any  # leading axis C
    target_critic: Any  # leading axis C
    log_alpha: Array  # []
    actor_opt: Any
    critic_opt: Any
    alpha_opt: Any
    statistics: _common.RunningStatistics
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


def soft_target(
    q_t: Array, log_prob_t: Array, alpha: Array, r_t: Array, discount_t: Array
) -> Array:
    """Soft Bellman target (eq. 2 and 5): y = r + discount (min_c q_t[c] - alpha log pi(a'|s')).

    Args:
      q_t: target critics at the policy's action, [C, B].
      log_prob_t: log-density of that action, [B].
      alpha: temperature, [].
      r_t: rewards, [B].
      discount_t: gamma (1 - terminated), [B].

    Returns:
      targets, [B].
    """
    chex.assert_rank([q_t, log_prob_t, alpha, r_t, discount_t], [2, 1, 0, 1, 1])
    return r_t + discount_t * (q_t.min(axis=0) - alpha * log_prob_t)
