"""EDA: a diffusion model of the behaviour whose density is known, aligned with Q by contrast.

Chen et al., "Aligning Diffusion Behaviors with Q-functions for Efficient Continuous Control",
NeurIPS 2024 (arXiv 2407.09024). A scalar network f is the behaviour's log-density up to a constant,
at every noise level, as its gradient learns the score. Then for each state K actions of the
behaviour are labelled by the critics, noised to one level t, and contrasted:

    loss = -sum_k softmax(alpha Q(a))_k log softmax(beta (f_policy(a_t) - f_behaviour(a_t)))_k

It is least where beta (f_policy - f_behaviour) = log E[exp(alpha Q(a)) | a_t] + constant (for many
actions). At t = 0 the policy is then behaviour * exp(alpha Q / beta). Samples follow that density
with beta = 1; with another beta the energies of noised actions are not those of noising it.
The networks' time features are IDQL's, learnt; the authors' are 32 fixed ones of scale 30. Their
batch is 2,048 for the behaviour, ours `batch_size`.

Shapes: B batch, O observation size, A action dimensions, C critics, K contrasted actions, S states
of an alignment, L levels.
"""

from __future__ import annotations

import dataclasses
import math
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
from jaxrl.nets.denoise import ScalarEnergy, gradient
from jaxrl.replay.ring import Batch

Array = jax.Array

PROCESS = diffusion.VariancePreserving("linear")
"""Betas from 0.1 to 20, in continuous time."""


@struct.dataclass
class EDA(_offline.Critics):
    """Hyperparameters. Floats are pytree leaves: vmap sweeps them without recompiling."""

    actor_learning_rate: float = 3e-4
    """Adam step size of the behaviour."""
    alignment_learning_rate: float = 5e-5
    """Adam step size of the policy, which starts as the behaviour."""
    critic_learning_rate: float = 3e-4
    """Adam step size of critics and value."""
    pretrain: float = 0.8
    """Share of the run whose updates train behaviour and critics; the others align the policy."""
    run_updates: float = 0.0
    """What `pretrain` is a share of; 0: the run's length."""
    alpha: float = 3.0
    """Inverse temperature of the labels, softmax(alpha Q)."""
    beta: float = 1.0
    """What log-ratios are multiplied by; the paper takes 0.1 to 5, by the task."""
    expectile: float = 0.7
    """tau of the value's expectile; 0.9 for AntMaze."""
    discount: float = 0.99
    """gamma per environment step."""
    tau: float = 0.005
    """Share of the online critics in the target's moving average."""
    contrasted: int = static(16)
    """Actions of the behaviour for each state, K."""
    levels: int = static(1)
    """Noise levels at which the actions of a state are contrasted; a batch has fewer states by so
    much, and drawing their actions, most of an update's time, costs less."""
    samples: int = static(4)
    """Actions of the policy that the critics choose from when it acts."""
    sampling_steps: int = static(15)
    """Steps of DPM-Solver++ 2M for an action."""
    width: int = static(256)
    """Features of the behaviour's residual blocks, whose hidden layers are four times as wide."""
    blocks: int = static(3)
    """Residual blocks of the behaviour."""
    dropout: float = static(0.1)
    """Share of features that the blocks drop while the behaviour learns; none in alignment."""
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
        _offline.check_sizes(
            self, "levels", "samples", "width", "blocks", "critics", "batch_size", "n_step"
        )
        if self.contrasted < 2:
            raise UsageError(
                f"contrasted must be at least 2, to contrast one with another, got "
                f"{self.contrasted}"
            )
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout must be at least 0 and below 1, got {self.dropout:g}")
        if isinstance(self.pretrain, float | int) and not 0 < self.pretrain <= 1:
            raise UsageError(f"pretrain must be above 0 and at most 1, got {self.pretrain:g}")
        if isinstance(self.beta, float | int) and self.beta <= 0:
            raise UsageError(f"beta must be above 0, got {self.beta:g}")
        if self.batch_size % self.levels:
            raise UsageError(
                f"batch_size must be a multiple of levels, got {self.batch_size} and {self.levels}"
            )
        self._sampler()

    def for_run(self, updates: int) -> EDA:
        """The agent, knowing how many updates `pretrain` is a share of."""
        known = self.run_updates != 0
        return self if known else dataclasses.replace(self, run_updates=float(updates))

    def init(self, key: Array, spec: EnvSpec) -> State:
        """Fresh parameters; the policy starts as a copy of the behaviour, targets of critics."""
        actor_key, critic_key = jax.random.split(key)
        action, obs = jnp.zeros((1, spec.action_size)), jnp.zeros((1, spec.observation_size))
        behaviour = self._network().init(actor_key, action, jnp.zeros(1), obs)
        return State(
            behaviour=behaviour,
            policy=jax.tree.map(jnp.copy, behaviour),
            behaviour_opt=optax.adam(self.actor_learning_rate).init(behaviour),
            policy_opt=optax.adam(self.alignment_learning_rate).init(behaviour),
            statistics=_offline.Statistics.neutral(spec.observation_size),
            updates=jnp.zeros((), jnp.int32),
            action_size=spec.action_size,
            **_implicit.init(self, critic_key, spec),
        )

    def act(self, state: State, obs: Array, key: Array, explore: bool) -> Array:
        """Actions in [-1, 1], [B, A], for obs [B, O]: the best of some samples of the policy.

        By min_c Q'_c(s, a). Exploring, one sample.
        """

        def value(action: Array) -> Array:
            return self._q(state.target_critic, state, obs, action).min(axis=0)

        def sample(key: Array) -> Array:
            return self._sample(state.policy, state, obs, key)

        key = _offline.fresh_key(key, obs)
        return diffusion.best_of(key, sample, value, 1 if explore else self.samples)

    def update(self, state: State, batch: Batch, key: Array) -> tuple[State, dict[str, Array]]:
        """One step of behaviour and critics, or, later in the run, one of the policy."""
        first = jnp.round(self.pretrain * self.run_updates)
        pretraining = (state.updates < first) | (self.run_updates == 0)
        state, metrics = jax.lax.cond(pretraining, self._pretrain, self._align, state, batch, key)
        return state.replace(updates=state.updates + 1), metrics

    def _pretrain(self, state: State, batch: Batch, key: Array) -> tuple[State, dict[str, Array]]:
        """One step of value and critics as IQL's, and one of the behaviour, which is the policy."""
        state, metrics = _implicit.learn(self, state, batch)
        grad, behaviour_metrics = jax.grad(self.behaviour_loss, has_aux=True)(
            state.behaviour, state, batch, key
        )
        behaviour, behaviour_opt = _common.descend(
            self.actor_learning_rate, grad, state.behaviour_opt, state.behaviour
        )
        new = state.replace(behaviour=behaviour, policy=behaviour, behaviour_opt=behaviour_opt)
        alike = {"alignment_loss": jnp.mean(batch.weight) * math.log(self.contrasted)}
        return new, {**metrics, **behaviour_metrics, **alike}

    def _align(self, state: State, batch: Batch, key: Array) -> tuple[State, dict[str, Array]]:
        """One step of the policy; the others' losses are only looked at."""
        metrics = {
            **_implicit.losses(self, state, batch),
            **self.behaviour_loss(state.behaviour, state, batch, key)[1],
        }
        grad, policy_metrics = jax.grad(self.alignment_loss, has_aux=True)(
            state.policy, state, batch, key
        )
        policy, policy_opt = _common.descend(
            self.alignment_learning_rate, grad, state.policy_opt, state.policy
        )
        return state.replace(policy=policy, policy_opt=policy_opt), {**metrics, **policy_metrics}

    def behaviour_loss(
        self, params: Any, state: State, batch: Batch, key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Denoising: mean_B w mean_A (sigma grad f(a_t) + noise)^2, at a random t."""
        loss_key, dropout_key = jax.random.split(key)
        energy = self._energy(params, state, batch.obs_tm1, dropout_key)
        each = diffusion.loss(
            loss_key,
            PROCESS,
            "score",
            gradient(energy),
            batch.action_tm1,
            batch.weight,
            time_weight=diffusion.in_space(PROCESS, "score", "noise"),
        )
        loss = jnp.mean(each)
        return loss, {"behaviour_loss": loss}

    def alignment_loss(
        self, params: Any, state: State, batch: Batch, key: Array
    ) -> tuple[Array, dict[str, Array]]:
        """mean_B w times `contrast` of the policy `params` with the behaviour.

        The gradient is that by the policy's energies; actions, labels and the behaviour's energies
        are constants.
        """
        sample_key, time_key, noise_key = jax.random.split(key, 3)
        states, levels, copies = self.batch_size // self.levels, self.levels, self.contrasted
        obs = jnp.tile(batch.obs_tm1[:states], (copies, 1))  # [K S, O]
        action = self._sample(state.behaviour, state, obs, sample_key)
        q = self._q(state.target_critic, state, obs, action).min(axis=0)

        def spread(x: Array) -> Array:
            """[K S, ...] to [K L S, ...], the same at each of L levels."""
            x = x.reshape(copies, 1, states, -1)
            return jnp.broadcast_to(x, (copies, levels, *x.shape[2:])).reshape(-1, x.shape[-1])

        t = jnp.tile(diffusion.uniform(time_key, (levels * states,), PROCESS), copies)
        obs, action = spread(obs), spread(action)
        noised = PROCESS.corrupt(action, jax.random.normal(noise_key, action.shape), t)
        seen = PROCESS.inputs("score", noised, t)
        old = jax.lax.stop_gradient(self._energy(state.behaviour, state, obs)(*seen))
        log_ratio = self._energy(params, state, obs)(*seen) - old
        label = self.alpha * q.reshape(copies, 1, states)
        each = contrast(label, self.beta * log_ratio.reshape(copies, levels, states))
        loss = jnp.mean(batch.weight[:states] * each)
        return loss, {"alignment_loss": loss}

    def _sample(self, params: Any, state: State, obs: Array, key: Array) -> Array:
        """One action for each obs [B, O], [B, A]."""
        network = gradient(self._energy(params, state, obs))
        denoise = diffusion.denoiser(PROCESS, "score", network)
        return self._sampler().sample(key, denoise, (obs.shape[0], state.action_size))

    def _energy(
        self, params: Any, state: State, obs: Array, dropout_key: Array | None = None
    ) -> Any:
        """f of these parameters: (noised actions [B, A], time [B]) to [B]."""
        seen, train = self._seen(state, obs), dropout_key is not None
        rngs = None if dropout_key is None else {"dropout": dropout_key}

        def energy(x: Array, time: Array) -> Array:
            f: Array = self._network().apply(params, x, time, seen, train, rngs=rngs)  # type: ignore[assignment]
            return f

        return energy

    def _network(self) -> ScalarEnergy:
        dtype = _common.DTYPES[self.precision]
        return ScalarEnergy(self.width, self.blocks, self.dropout, dtype)

    def _sampler(self) -> diffusion.Sampler:
        return diffusion.Sampler(PROCESS, "dpmpp_2m", self.sampling_steps, clip=(-1.0, 1.0))


@struct.dataclass
class State:
    """Everything that learning changes, and what it was told of the dataset."""

    behaviour: Any
    policy: Any
    behaviour_opt: Any
    policy_opt: Any
    critic: Any  # leading axis C
    target_critic: Any  # leading axis C
    value: Any
    critic_opt: Any
    value_opt: Any
    statistics: _offline.Statistics
    updates: Array  # [] int32
    action_size: int = struct.field(pytree_node=False)


def contrast(label: Array, logit: Array) -> Array:
    """-sum_k softmax(label)_k log softmax(logit)_k, for label and logit [K, ...], [...]."""
    return -jnp.sum(jax.nn.softmax(label, axis=0) * jax.nn.log_softmax(logit, axis=0), axis=0)
