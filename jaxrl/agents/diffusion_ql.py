"""Diffusion-QL: a diffusion policy that clones the dataset and raises Q through its own steps.

Wang et al., "Diffusion Policies as an Expressive Policy Class for Offline Reinforcement Learning",
ICLR 2023 (arXiv 2208.06193). With `actor="one_step"` Q judges an action that is denoised from the
dataset's in one step instead: the action approximation of EDP (Kang et al., NeurIPS 2023, arXiv
2305.20081). Defaults are those of the authors' code for locomotion.

Shapes: B batch, O observation size, A action dimensions, C critics, N samples.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxrl import diffusion
from jaxrl.agents import _common, _offline
from jaxrl.agents._common import static
from jaxrl.envs.core import EnvSpec
from jaxrl.nets.activations import mish
from jaxrl.nets.critic import CriticEnsemble
from jaxrl.nets.denoise import PlainMLP
from jaxrl.replay.ring import Batch

Array = jax.Array


@struct.dataclass
class DiffusionQL(_offline.Critics):
    """Hyperparameters. Floats are pytree leaves: vmap sweeps them without recompiling."""

    actor_learning_rate: float = 3e-4
    """Adam step size of the policy at the start; it falls to 0 by a cosine."""
    critic_learning_rate: float = 3e-4
    """Adam step size of the critics at the start; it falls as the policy's."""
    decay_updates: float = 0.0
    """Updates in which the step sizes fall to 0; 0: the run's length."""
    eta: float = 1.0
    """Weight of Q in the policy's loss, in units of mean |Q|; AntMaze 0.5 to 4.5, Kitchen 0.005."""
    discount: float = 0.99
    """gamma per environment step."""
    tau: float = 0.005
    """Share of the online critics in the target's moving average."""
    actor_tau: float = 0.005
    """Share of the online policy in its moving average, whose actions are the target's."""
    gradient_norm: float = 5.0
    """Longest gradient of the policy and of the critics; the authors tune it per task, 1 to 10."""
    actor: Literal["chain", "one_step"] = static("chain")
    """Which action Q judges: a sample, through all its steps, or one denoised in one step (EDP)."""
    average_start: int = static(1000)
    """Updates before the policy's moving average moves."""
    average_every: int = static(5)
    """Updates between two of its moves."""
    samples: int = static(50)
    """Actions that the critics choose from when acting, N."""
    backup_samples: int = static(1)
    """Next actions, the best of which counts: 10 is the max-Q backup that AntMaze is given."""
    train_steps: int = static(5)
    """Noise levels that the policy learns."""
    sampling_steps: int = static(5)
    """Denoising steps of an action, at most `train_steps`."""
    normalise: bool = static(False)
    """Standardise observations by the dataset's mean and deviation."""
    critics: int = static(2)
    """Critics, C; the least of them counts."""
    widths: tuple[int, ...] = static((256, 256, 256))
    """Units of the hidden layers, mish after each."""
    layer_norm: bool = static(False)
    """LayerNorm before each activation of the critics."""
    batch_size: int = static(256)
    """Transitions per update, B."""
    n_step: int = static(1)
    """Steps before the bootstrap."""
    precision: Literal["float32", "bfloat16"] = static("float32")
    """What networks compute in; parameters, losses and targets stay float32."""

    def __post_init__(self) -> None:
        _offline.check_sizes(
            self, "samples", "backup_samples", "average_every", "critics", "batch_size", "n_step"
        )
        self._sampler()

    def init(self, key: Array, spec: EnvSpec) -> State:
        """Fresh parameters; the targets start as copies."""
        actor_key, critic_key = jax.random.split(key)
        action, obs = jnp.zeros((1, spec.action_size)), jnp.zeros((1, spec.observation_size))
        actor = self._actor().init(actor_key, action, jnp.zeros(1), obs)
        critic = self._critic().init(critic_key, obs, action)
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
        """Actions in [-1, 1], [B, A], for obs [B, O]: one of N samples of the online policy.

        Exploring, with chance softmax of min_c Q'_c(s, a), as the authors also evaluate; else the
        best one, which theirs nearly is wherever Q is large.
        """

        def sample(key: Array) -> Array:
            return self._sample(state.actor, state, obs, key)

        def value(action: Array) -> Array:
            return self._q(state.target_critic, state, obs, action).min(axis=0)

        key = _offline.fresh_key(key, obs)
        return diffusion.best_of(key, sample, value, self.samples, 1.0 if explore else None)

    def update(self, state: State, batch: Batch, key: Array) -> tuple[State, dict[str, Array]]:
        """One step of the critics, then of the policy, then of the targets (alg. 1)."""
        critic_key, actor_key = jax.random.split(key)
        falling = _offline.cosine(1.0, state.updates, self.decay_updates)
        grad, metrics = jax.grad(self.critic_loss, has_aux=True)(
            state.critic, state, batch, critic_key
        )
        grad = _offline.clipped(grad, self.gradient_norm)
        rate = self.critic_learning_rate * falling
        critic, critic_opt = _common.descend(rate, grad, state.critic_opt, state.critic)
        state = state.replace(critic=critic, critic_opt=critic_opt)

        grad, actor_metrics = jax.grad(self.actor_loss, has_aux=True)(
            state.actor, state, batch, actor_key
        )
        grad = _offline.clipped(grad, self.gradient_norm)
        rate = self.actor_learning_rate * falling
        actor, actor_opt = _common.descend(rate, grad, state.actor_opt, state.actor)

        moves = (state.updates >= self.average_start) & (state.updates % self.average_every == 0)
        share = jnp.where(moves, self.actor_tau, 0.0)
        new = state.replace(
            actor=actor,
            actor_opt=actor_opt,
            target_actor=optax.incremental_update(actor, state.target_actor, share),
            target_critic=optax.incremental_update(critic, state.target_critic, self.tau),
            updates=state.updates + 1,
        )
        return new, {**metrics, **actor_metrics}

    def critic_loss(
        self, params: Any, state: State, batch: Batch, key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Squared error of all critics on the value of the averaged policy's next action (eq. 2).

        loss = mean_B w sum_c (Q_c(s, a) - y)^2,  y = r + discount min_c max_i Q'_c(s', a'_i),
        i over `backup_samples`
        """

        def value(key: Array) -> Array:
            action_t = self._sample(state.target_actor, state, batch.obs_t, key)
            return self._q(state.target_critic, state, batch.obs_t, action_t)

        q_t = jax.vmap(value)(jax.random.split(key, self.backup_samples))  # [backup_samples, C, B]
        target = batch.reward_t + batch.discount_t * q_t.max(axis=0).min(axis=0)
        q = self._q(params, state, batch.obs_tm1, batch.action_tm1)
        return _offline.td_loss(q, target, batch.weight)

    def actor_loss(
        self, params: Any, state: State, batch: Batch, key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Cloning, and the critics' value of the policy's action (eq. 3).

        loss = mean_B w (mean_A (eps(alpha_t a + sigma_t z, t, s) - z)^2 - eta Q_i(s, a0) / scale),
        scale = mean_B w |Q_j(s, a0)|, a constant for the gradient; i a random critic, j the next
        """
        time_key, noise_key, sample_key, critic_key = jax.random.split(key, 4)
        process, obs = self._sampler().process, batch.obs_tm1
        t = diffusion.uniform(time_key, batch.weight.shape, process)
        noise = jax.random.normal(noise_key, batch.action_tm1.shape)
        network = self._network(params, state, obs)
        error = diffusion.loss_at(process, "noise", network, batch.action_tm1, noise, t)
        clone = jnp.mean(batch.weight * error)

        if self.actor == "chain":
            action = self._sample(params, state, obs, sample_key)
        else:
            denoise = diffusion.denoiser(process, "noise", network)
            action = denoise(process.corrupt(batch.action_tm1, noise, t), t)
            action = jnp.clip(action, -1.0, 1.0)
        q = self._q(state.critic, state, obs, action)
        i = jax.random.randint(critic_key, (), 0, self.critics)
        scale = _offline.magnitude(q[(i + 1) % self.critics], batch.weight)
        raised = jnp.mean(batch.weight * q[i]) / scale
        loss = clone - self.eta * raised
        return loss, {"actor_loss": loss, "clone_loss": clone, "policy_q": raised * scale}

    def _sample(self, params: Any, state: State, obs: Array, key: Array) -> Array:
        """Actions of the policy with these parameters, [B, A]; differentiable."""
        sampler = self._sampler()
        network = self._network(params, state, obs)
        denoise = diffusion.denoiser(sampler.process, "noise", network)
        return sampler.sample(key, denoise, (obs.shape[0], state.action_size))

    def _network(self, params: Any, state: State, obs: Array) -> diffusion.Network:
        """(x [B, A], time [B]) to the noise in x at obs [B, O]."""
        seen = self._seen(state, obs)

        def network(x: Array, time: Array) -> Array:
            noise: Array = self._actor().apply(params, x, time, seen)  # type: ignore[assignment]
            return noise

        return network

    def _sampler(self) -> diffusion.Sampler:
        process = diffusion.VariancePreserving("vp", self.train_steps)
        bounds = (-1.0, 1.0)
        return diffusion.Sampler(process, "ddpm", self.sampling_steps, bounds, checkpoint=True)

    def _actor(self) -> PlainMLP:
        return PlainMLP(None, self.widths, dtype=_common.DTYPES[self.precision])

    def _critic(self) -> CriticEnsemble:
        dtype = _common.DTYPES[self.precision]
        return CriticEnsemble(self.critics, self.widths, self.layer_norm, dtype, mish)


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
