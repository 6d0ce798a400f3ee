"""Flow Q-learning: a flow clones the dataset, a one-step policy takes after it and raises Q.

Park et al., "Flow Q-Learning", ICML 2025 (arXiv 2502.02538). Nothing is differentiated through the
flow's steps, and acting is one pass of the one-step policy. Defaults are the paper's; for new tasks
it advises to normalise Q, which is on here, and to try `alpha` from 0.03 to 10. The flow's every
step is kept within the actions' bounds; in the authors' code the last one alone.

Shapes: B batch, O observation size, A action dimensions, C critics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxrl import diffusion
from jaxrl.agents import _common, _offline
from jaxrl.agents._common import static
from jaxrl.envs.core import EnvSpec
from jaxrl.nets.critic import CriticEnsemble
from jaxrl.nets.denoise import PlainMLP
from jaxrl.replay.ring import Batch

Array = jax.Array


@struct.dataclass
class FQL(_offline.Critics):
    """Hyperparameters. Floats are pytree leaves: vmap sweeps them without recompiling."""

    actor_learning_rate: float = 3e-4
    """Adam step size of the flow and of the one-step policy."""
    critic_learning_rate: float = 3e-4
    """Adam step size of the critics."""
    alpha: float = 1.0
    """Weight of the distance to the flow's actions in the one-step policy's loss."""
    discount: float = 0.99
    """gamma per environment step."""
    tau: float = 0.005
    """Share of the online critics in the target's moving average."""
    normalise_q: bool = static(True)
    """Divide Q by its mean absolute value in the policy's loss, so that `alpha` has no unit."""
    target: Literal["mean", "min"] = static("mean")
    """Which of the critics' values of the next action is learnt from."""
    sampling_steps: int = static(10)
    """Euler steps of the flow."""
    normalise: bool = static(False)
    """Standardise observations by the dataset's mean and deviation."""
    critics: int = static(2)
    """Critics, C; the policy raises their mean."""
    widths: tuple[int, ...] = static((512, 512, 512, 512))
    """Units of the hidden layers, gelu after each."""
    layer_norm: bool = static(True)
    """LayerNorm before each activation of the critics."""
    batch_size: int = static(256)
    """Transitions per update, B."""
    n_step: int = static(1)
    """Steps before the bootstrap."""
    precision: Literal["float32", "bfloat16"] = static("float32")
    """What networks compute in; parameters, losses and targets stay float32."""

    def __post_init__(self) -> None:
        _offline.check_sizes(self, "critics", "batch_size", "n_step")
        self._sampler()

    def init(self, key: Array, spec: EnvSpec) -> State:
        """Fresh parameters; the target critics start as a copy."""
        flow_key, student_key, critic_key = jax.random.split(key, 3)
        action, obs = jnp.zeros((1, spec.action_size)), jnp.zeros((1, spec.observation_size))
        actor = {
            "flow": self._actor().init(flow_key, action, jnp.zeros(1), obs),
            "student": self._actor().init(student_key, action, None, obs),
        }
        critic = self._critic().init(critic_key, obs, action)
        return State(
            actor=actor,
            critic=critic,
            target_critic=jax.tree.map(jnp.copy, critic),
            actor_opt=optax.adam(self.actor_learning_rate).init(actor),
            critic_opt=optax.adam(self.critic_learning_rate).init(critic),
            statistics=_offline.Statistics.neutral(spec.observation_size),
            updates=jnp.zeros((), jnp.int32),
            action_size=spec.action_size,
        )

    def act(self, state: State, obs: Array, key: Array, explore: bool) -> Array:
        """Actions in [-1, 1], [B, A], for obs [B, O]: a sample, exploring or not."""
        return self._sample(state, obs, _offline.fresh_key(key, obs))

    def update(self, state: State, batch: Batch, key: Array) -> tuple[State, dict[str, Array]]:
        """One step of the critics and one of flow and one-step policy, from the same critics."""
        critic_key, actor_key = jax.random.split(key)
        grad, metrics = jax.grad(self.critic_loss, has_aux=True)(
            state.critic, state, batch, critic_key
        )
        critic, critic_opt = _common.descend(
            self.critic_learning_rate, grad, state.critic_opt, state.critic
        )
        grad, actor_metrics = jax.grad(self.actor_loss, has_aux=True)(
            state.actor, state, batch, actor_key
        )
        actor, actor_opt = _common.descend(
            self.actor_learning_rate, grad, state.actor_opt, state.actor
        )
        new = state.replace(
            actor=actor,
            critic=critic,
            target_critic=optax.incremental_update(critic, state.target_critic, self.tau),
            actor_opt=actor_opt,
            critic_opt=critic_opt,
            updates=state.updates + 1,
        )
        return new, {**metrics, **actor_metrics}

    def critic_loss(
        self, params: Any, state: State, batch: Batch, key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Squared error of all critics on the value of the one-step policy's next action.

        loss = mean_B w sum_c (Q_c(s, a) - y)^2,  y = r + discount mean_c Q'_c(s', a')
        """
        action_t = self._sample(state, batch.obs_t, key)
        q_t = self._q(state.target_critic, state, batch.obs_t, action_t)
        q_t = q_t.mean(axis=0) if self.target == "mean" else q_t.min(axis=0)
        target = batch.reward_t + batch.discount_t * q_t
        q = self._q(params, state, batch.obs_tm1, batch.action_tm1)
        return _offline.td_loss(q, target, batch.weight)

    def actor_loss(
        self, params: Any, state: State, batch: Batch, key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """The flow clones the dataset; mu takes after the flow, and raises Q (alg. 1).

        loss = mean_B w (mean_A (v(x_t, t, s) - (z - a))^2
                         + alpha mean_A (mu(s, z') - flow(s, z'))^2 - Q(s, mu(s, z')) / scale),
        x_t = (1 - t) a + t z, z and z' ~ Normal(0, I), Q the critics' mean,
        scale = mean_B w |Q(s, mu(s, z'))| or 1, a constant for the gradient
        """
        clone_key, distill_key = jax.random.split(key)
        obs, action, weight = batch.obs_tm1, batch.action_tm1, batch.weight
        sampler = self._sampler()
        process = sampler.process
        flow = self._flow(params["flow"], state, obs)
        clone = diffusion.loss(clone_key, process, "velocity", flow, action, weight).mean()

        teacher = self._flow(jax.lax.stop_gradient(params["flow"]), state, obs)
        denoise = diffusion.denoiser(process, "velocity", teacher)
        student = self._student(params["student"], state, obs)
        distance, chosen = diffusion.distill(
            distill_key, sampler, denoise, student, action.shape, weight
        )
        q = self._q(state.critic, state, obs, jnp.clip(chosen, -1.0, 1.0)).mean(axis=0)
        scale = _offline.magnitude(q, weight) if self.normalise_q else 1.0
        distilled, raised = self.alpha * distance.mean(), jnp.mean(weight * q) / scale
        loss = clone + distilled - raised
        return loss, {"actor_loss": loss, "clone_loss": clone, "distill_loss": distance.mean()}

    def _sample(self, state: State, obs: Array, key: Array) -> Array:
        """Actions of the one-step policy, [B, A]."""
        z = jax.random.normal(key, (obs.shape[0], state.action_size))
        return jnp.clip(self._student(state.actor["student"], state, obs)(z), -1.0, 1.0)

    def _student(self, params: Any, state: State, obs: Array) -> Callable[[Array], Array]:
        """Noise z [B, A] to actions [B, A] at obs [B, O]."""
        seen = self._seen(state, obs)

        def student(z: Array) -> Array:
            action: Array = self._actor().apply(params, z, None, seen)  # type: ignore[assignment]
            return action

        return student

    def _flow(self, params: Any, state: State, obs: Array) -> diffusion.Network:
        """(x [B, A], time [B]) to the velocity at obs [B, O]."""
        seen = self._seen(state, obs)

        def flow(x: Array, time: Array) -> Array:
            velocity: Array = self._actor().apply(params, x, time, seen)  # type: ignore[assignment]
            return velocity

        return flow

    def _sampler(self) -> diffusion.Sampler:
        return diffusion.Sampler(diffusion.Flow(), "euler", self.sampling_steps, clip=(-1.0, 1.0))

    def _actor(self) -> PlainMLP:
        dtype = _common.DTYPES[self.precision]
        return PlainMLP(None, self.widths, jax.nn.gelu, embed=False, dtype=dtype)

    def _critic(self) -> CriticEnsemble:
        dtype = _common.DTYPES[self.precision]
        return CriticEnsemble(self.critics, self.widths, self.layer_norm, dtype, jax.nn.gelu)


@struct.dataclass
class State:
    """Everything that learning changes, and what it was told of the dataset."""

    actor: Any  # of "flow" and "student"
    critic: Any  # leading axis C
    target_critic: Any  # leading axis C
    actor_opt: Any
    critic_opt: Any
    statistics: _offline.Statistics
    updates: Array  # [] int32
    action_size: int = struct.field(pytree_node=False)
