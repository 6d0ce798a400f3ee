"""Implicit diffusion Q-learning: a diffusion policy that clones, and the best of its samples.

Hansen-Estruch et al., "IDQL: Implicit Q-Learning as an Actor-Critic Method with Diffusion
Policies", 2023 (arXiv 2304.10573). The policy clones the dataset and sees no rewards; IQL's
critics, learnt beside it, choose among its samples. Defaults are the paper's, with the one number
of samples that it takes for all tasks (IDQL-1), and batches of 256 for the policy too, where it
takes 1,024.

Shapes: B batch, O observation size, A action dimensions, C critics, N samples.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxrl import diffusion
from jaxrl.agents import _common, _implicit, _offline
from jaxrl.agents._common import static
from jaxrl.envs.core import EnvSpec
from jaxrl.errors import UsageError
from jaxrl.nets.denoise import ResidualMLP
from jaxrl.replay.ring import Batch

Array = jax.Array


@struct.dataclass
class IDQL(_offline.Critics):
    """Hyperparameters. Floats are pytree leaves: vmap sweeps them without recompiling."""

    actor_learning_rate: float = 3e-4
    """Adam step size of the policy at the start; it falls to 0 by a cosine."""
    critic_learning_rate: float = 3e-4
    """Adam step size of critics and value."""
    decay_updates: float = 0.0
    """Updates in which the policy's step size falls to 0; 0: the run's length."""
    expectile: float = 0.7
    """tau of the value's expectile; the paper takes 0.9 for AntMaze."""
    discount: float = 0.99
    """gamma per environment step."""
    tau: float = 0.005
    """Share of the online critics in the target's moving average."""
    actor_tau: float = 0.001
    """Share of the online policy in the moving average that acts."""
    samples: int = static(64)
    """Actions that the critics choose from, N."""
    train_steps: int = static(5)
    """Noise levels that the policy learns."""
    sampling_steps: int = static(5)
    """Denoising steps of an action, at most `train_steps`."""
    width: int = static(256)
    """Features of the policy's residual blocks, whose hidden layers are four times as wide."""
    blocks: int = static(3)
    """Residual blocks of the policy."""
    dropout: float = static(0.1)
    """Share of features that the policy's blocks drop while it learns."""
    scale_rewards: bool = static(True)
    """Multiply rewards by 1000 / (greatest - least return of the dataset's episodes), as IQL."""
    normalise: bool = static(False)
    """Standardise observations by the dataset's mean and deviation."""
    critics: int = static(2)
    """Critics, C; the least of them counts."""
    widths: tuple[int, ...] = static((256, 256))
    """Units of the hidden layers of critics and value."""
    layer_norm: bool = static(False)
    """LayerNorm before each activation of critics and value."""
    batch_size: int = static(256)
    """Transitions per update, B."""
    n_step: int = static(1)
    """Steps before the bootstrap."""
    precision: Literal["float32", "bfloat16"] = static("float32")
    """What networks compute in; parameters, losses and targets stay float32."""

    def __post_init__(self) -> None:
        _offline.check_sizes(self, "samples", "width", "blocks", "critics", "batch_size", "n_step")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout must be at least 0 and below 1, got {self.dropout:g}")
        self._sampler()

    def init(self, key: Array, spec: EnvSpec) -> State:
        """Fresh parameters; the targets start as copies."""
        actor_key, critic_key = jax.random.split(key)
        action, obs = jnp.zeros((1, spec.action_size)), jnp.zeros((1, spec.observation_size))
        actor = self._actor().init(actor_key, action, jnp.zeros(1), obs)
        return State(
            actor=actor,
            target_actor=jax.tree.map(jnp.copy, actor),
            actor_opt=optax.adam(self.actor_learning_rate).init(actor),
            statistics=_offline.Statistics.neutral(spec.observation_size),
            updates=jnp.zeros((), jnp.int32),
            action_size=spec.action_size,
            **_implicit.init(self, critic_key, spec),
        )

    def act(self, state: State, obs: Array, key: Array, explore: bool) -> Array:
        """Actions in [-1, 1], [B, A], for obs [B, O]: one of N samples of the averaged policy.

        The one with the greatest min_c Q'_c(s, a), as the paper evaluates; exploring, each with
        chance in proportion to |tau - (Q' < V)|, which with infinitely many samples is the policy
        that the expectile implies.
        """
        denoise = diffusion.denoiser(
            self._sampler().process, "noise", self._network(state.target_actor, state, obs)
        )
        shape = (obs.shape[0], state.action_size)

        def sample(key: Array) -> Array:
            return self._sampler().sample(key, denoise, shape)

        def value(action: Array) -> Array:
            q = self._q(state.target_critic, state, obs, action).min(axis=0)
            if not explore:
                return q
            better = q >= _implicit.v(self, state.value, state, obs)
            return jnp.log(jnp.where(better, self.expectile, 1.0 - self.expectile))

        key = _offline.fresh_key(key, obs)
        return diffusion.best_of(key, sample, value, self.samples, 1.0 if explore else None)

    def update(self, state: State, batch: Batch, key: Array) -> tuple[State, dict[str, Array]]:
        """One step of value and critics as IQL's, and one of the policy and its average."""
        state, metrics = _implicit.learn(self, state, batch)
        grad, actor_metrics = jax.grad(self.actor_loss, has_aux=True)(
            state.actor, state, batch, key
        )
        rate = _offline.cosine(self.actor_learning_rate, state.updates, self.decay_updates)
        actor, actor_opt = _common.descend(rate, grad, state.actor_opt, state.actor)
        new = state.replace(
            actor=actor,
            target_actor=optax.incremental_update(actor, state.target_actor, self.actor_tau),
            actor_opt=actor_opt,
            updates=state.updates + 1,
        )
        return new, {**metrics, **actor_metrics}

    def actor_loss(
        self, params: Any, state: State, batch: Batch, key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Cloning, under dropout.

        loss = mean_B w mean_A (eps(alpha_t a + sigma_t z, t, s) - z)^2,  z ~ Normal(0, I)
        """
        loss_key, dropout_key = jax.random.split(key)
        network = self._network(params, state, batch.obs_tm1, dropout_key)
        process, action = self._sampler().process, batch.action_tm1
        loss = diffusion.loss(loss_key, process, "noise", network, action, batch.weight).mean()
        return loss, {"actor_loss": loss}

    def _network(
        self, params: Any, state: State, obs: Array, dropout_key: Array | None = None
    ) -> diffusion.Network:
        """(x [B, A], time [B]) to the noise in x at obs [B, O]; with a key, under dropout."""
        seen = self._seen(state, obs)
        rngs = {} if dropout_key is None else {"dropout": dropout_key}

        def network(x: Array, time: Array) -> Array:
            noise: Array = self._actor().apply(params, x, time, seen, train=bool(rngs), rngs=rngs)  # type: ignore[assignment]
            return noise

        return network

    def _sampler(self) -> diffusion.Sampler:
        process = diffusion.VariancePreserving("vp", self.train_steps)
        return diffusion.Sampler(process, "ddpm", self.sampling_steps, clip=(-1.0, 1.0))

    def _actor(self) -> ResidualMLP:
        dtype = _common.DTYPES[self.precision]
        return ResidualMLP(None, self.width, self.blocks, self.dropout, dtype=dtype)


@struct.dataclass
class State:
    """Everything that learning changes, and what it was told of the dataset."""

    actor: Any
    target_actor: Any
    critic: Any  # leading axis C
    target_critic: Any  # leading axis C
    value: Any
    actor_opt: Any
    critic_opt: Any
    value_opt: Any
    statistics: _offline.Statistics
    updates: Array  # [] int32
    action_size: int = struct.field(pytree_node=False)
