"""CFPI: cloning by a mixture of Gaussians, then one step of policy improvement in closed form.

Li et al., "Offline Reinforcement Learning with Closed-Form Policy Improvement Operators", ICML 2023
(arXiv 2211.15956). Learning clones the behaviour mu and values it; the improvement takes no
training. An action solves

    maximise Q(a), linearised    subject to    log mu(a|s) >= max_k log(w_k peak_k) - delta

or stricter problems, where mu is a mixture of weights w_k (`trust_regions`). All of it happens in
u = arctanh(a), before the tanh: there mu is Gaussian and every u an action within the bounds, so
nothing is clipped. The share of a Gaussian behaviour that its region holds is the same in u and in
a. The gradient is that of Q(tanh(u)), at the centre of each region.

Shapes: B batch, O observation size, A action dimensions, K components, R regions, C critics.
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxrl import diffusion
from jaxrl.agents import _common, _implicit, _offline
from jaxrl.agents._common import static
from jaxrl.envs.core import EnvSpec
from jaxrl.errors import UsageError
from jaxrl.nets.initializers import orthogonal
from jaxrl.nets.mlp import MLP
from jaxrl.nets.policy import LOG_STD, TanhGaussian
from jaxrl.nets.precision import dense
from jaxrl.replay.ring import Batch

Array = jax.Array


@struct.dataclass
class CFPI(_offline.Critics):
    """Hyperparameters. Floats are pytree leaves: vmap sweeps them without recompiling."""

    actor_learning_rate: float = 3e-4
    """Adam step size of the cloned behaviour."""
    critic_learning_rate: float = 3e-4
    """Adam step size of critics and value."""
    delta: float = 0.5
    """Nats by which an action may be less likely, before the tanh, than the behaviour's mode; the
    paper takes 0.5 with mixtures, up to 2 with one Gaussian."""
    proposals: int = static(10)
    """Steps in which delta is tried, from 0; the action with the best value is taken."""
    components: int = static(4)
    """Gaussians of the behaviour, K."""
    pessimism: float = 1.0
    """Deviations of the critics that are taken off their mean; with two, 1 gives the lesser."""
    expectile: float = 0.5
    """tau of the value's expectile. 0.5 values the behaviour itself, which SARSA does too; more is
    IQL."""
    discount: float = 0.99
    """gamma per environment step."""
    tau: float = 0.005
    """Share of the online critics in the target's moving average."""
    scale_rewards: bool = static(True)
    """Multiply rewards by 1000 / (greatest - least return of the dataset's episodes)."""
    normalise: bool = static(True)
    """Standardise observations by the dataset's mean and deviation."""
    critics: int = static(2)
    """Critics, C."""
    widths: tuple[int, ...] = static((256, 256))
    """Units of the hidden layers."""
    layer_norm: bool = static(False)
    """LayerNorm before each activation."""
    batch_size: int = static(256)
    """Transitions per update, B."""
    n_step: int = static(1)
    """Steps before the bootstrap."""
    precision: Literal["float32", "bfloat16"] = static("float32")
    """What networks compute in; parameters, losses and targets stay float32."""

    def __post_init__(self) -> None:
        _offline.check_sizes(self, "components", "proposals", "critics", "batch_size", "n_step")
        if isinstance(self.delta, float | int) and self.delta < 0:
            raise UsageError(f"delta must be at least 0, got {self.delta:g}")

    def init(self, key: Array, spec: EnvSpec) -> State:
        """Fresh parameters; the target critics start as a copy."""
        actor_key, critic_key = jax.random.split(key)
        actor = self._actor(spec.action_size).init(actor_key, jnp.zeros((1, spec.observation_size)))
        return State(
            actor=actor,
            actor_opt=optax.adam(self.actor_learning_rate).init(actor),
            **_implicit.init(self, critic_key, spec),
            statistics=_offline.Statistics.neutral(spec.observation_size),
            updates=jnp.zeros((), jnp.int32),
            action_size=spec.action_size,
        )

    def act(self, state: State, obs: Array, key: Array, explore: bool) -> Array:
        """The improved actions in [-1, 1], [B, A], for obs [B, O]; exploring or not.

        The best, by the critics' lower bound, of the furthest actions of each region for each
        delta * i / proposals, i = 0 to `proposals`.
        """
        regions = trust_regions(self._behaviour(state.actor, state, obs))

        def value(before: Array) -> Array:
            return self.lower_bound(state, obs[:, None], jnp.tanh(before))

        gradient = jax.grad(lambda before: jnp.sum(value(before)))(regions.centre)
        share = jnp.arange(self.proposals + 1) / self.proposals

        def propose(delta: Array) -> tuple[Array, Array]:
            before = furthest(regions, gradient, delta)
            admitted = regions.slack + delta >= 0
            return jnp.tanh(before), jnp.where(admitted, value(before), -jnp.inf)

        action, q = jax.vmap(propose)(self.delta * share)  # [N, B, R, A], [N, B, R]
        flat = (jnp.moveaxis(x, 2, 1).reshape(-1, *x.shape[1:2], *x.shape[3:]) for x in (action, q))
        return diffusion.choose(key, *flat)

    def update(self, state: State, batch: Batch, key: Array) -> tuple[State, dict[str, Array]]:
        """One step of the value and the critics, and one of the behaviour."""
        state, metrics = _implicit.learn(self, state, batch)
        grad, actor_metrics = jax.grad(self.actor_loss, has_aux=True)(state.actor, state, batch)
        actor, actor_opt = _common.descend(
            self.actor_learning_rate, grad, state.actor_opt, state.actor
        )
        new = state.replace(actor=actor, actor_opt=actor_opt, updates=state.updates + 1)
        return new, {**metrics, **actor_metrics}

    def actor_loss(self, params: Any, state: State, batch: Batch) -> tuple[Array, dict[str, Array]]:
        """Cloning by likelihood: mean_B w (-log mu(a|s))."""
        log_density = self._behaviour(params, state, batch.obs_tm1).log_density(batch.action_tm1)
        loss = -jnp.mean(batch.weight * log_density)
        return loss, {"actor_loss": loss}

    def lower_bound(self, state: State, obs: Array, action: Array) -> Array:
        """mean_C Q' - pessimism * std_C Q' of the target critics, [...].

        Args:
          obs: [..., O].
          action: [..., A]; their leading axes are broadcast against each other.
        """
        lead = jnp.broadcast_shapes(obs.shape[:-1], action.shape[:-1])
        obs, action = (jnp.broadcast_to(x, lead + x.shape[-1:]) for x in (obs, action))
        q = self._q(state.target_critic, state, obs, action)
        variance = q.var(axis=0)
        differ = variance > 0  # the square root has no gradient at 0
        std = jnp.where(differ, jnp.sqrt(jnp.where(differ, variance, 1.0)), 0.0)
        return q.mean(axis=0) - self.pessimism * std

    def _behaviour(self, params: Any, state: State, obs: Array) -> Mixture:
        seen = self._seen(state, obs)
        mixture: Mixture = self._actor(state.action_size).apply(params, seen)  # type: ignore[assignment]
        return mixture

    def _actor(self, action_size: int) -> Actor:
        dtype = _common.DTYPES[self.precision]
        return Actor(action_size, self.components, self.widths, self.layer_norm, dtype)


@struct.dataclass
class State:
    """Everything that learning changes, and what it was told of the dataset."""

    actor: Any
    actor_opt: Any
    critic: Any  # leading axis C
    target_critic: Any  # leading axis C
    value: Any
    critic_opt: Any
    value_opt: Any
    statistics: _offline.Statistics
    updates: Array  # [] int32
    action_size: int = struct.field(pytree_node=False)


class Mixture(NamedTuple):
    """K tanh-Gaussians: a = tanh(u), u ~ sum_k w_k Normal(mean_k, std_k)."""

    log_weight: Array  # [..., K]
    mean: Array  # [..., K, A], before the tanh
    log_std: Array  # [..., K, A]

    def log_density(self, action: Array) -> Array:
        """log mu(a) of actions [..., A]; those at the bounds count as just inside of them."""
        each = jnp.broadcast_to(action[..., None, :], self.mean.shape)
        density = _offline.log_density(TanhGaussian(self.mean, self.log_std), each)
        return jax.nn.logsumexp(self.log_weight + density, axis=-1)

    def peaks(self) -> Array:
        """log Normal(mean_k; mean_k, std_k), [..., K]."""
        size = self.mean.shape[-1]
        return -jnp.sum(self.log_std, axis=-1) - 0.5 * size * math.log(2 * math.pi)


class Regions(NamedTuple):
    """Ellipsoids {u: sum_A (u - centre)^2 / variance <= 2 (slack + delta)}, for any delta.

    Those whose slack + delta is below 0 are empty.
    """

    centre: Array  # [..., R, A]
    variance: Array  # [..., R, A]
    slack: Array  # [..., R]


def trust_regions(mixture: Mixture) -> Regions:
    """Ellipsoids in which log mu(u) >= max_k log(w_k peak_k) - delta, K of them and one more.

    Inside the kth, log(w_k Normal_k(u)) alone is enough, as log mu is more. Inside
    the last, sum_k w_k log Normal_k(u) is enough, as log mu is more by Jensen's inequality: its
    centre is the mean of the means, weighted by precision, and it is empty where components lie
    far apart. One Gaussian has one region, which is exactly where the constraint holds.
    """
    peak, weight = mixture.peaks(), jnp.exp(mixture.log_weight)
    mode = jnp.max(mixture.log_weight + peak, axis=-1, keepdims=True)
    variance = jnp.exp(2 * mixture.log_std)
    each = Regions(mixture.mean, variance, mixture.log_weight + peak - mode)
    if mixture.mean.shape[-2] == 1:
        return each
    precision = weight[..., None] / variance
    total = jnp.sum(precision, axis=-2, keepdims=True)
    centre = jnp.sum(precision * mixture.mean, axis=-2, keepdims=True) / total
    spread = jnp.sum(precision * (mixture.mean - centre) ** 2, axis=(-2, -1))[..., None]
    slack = jnp.sum(weight * peak, axis=-1, keepdims=True) - 0.5 * spread - mode
    jensen = Regions(centre, 1 / total, slack)
    pairs = zip(each, jensen, strict=True)
    axes = (-2, -2, -1)
    return Regions(*(jnp.concatenate(p, axis=a) for p, a in zip(pairs, axes, strict=True)))


def furthest(regions: Regions, gradient: Array, delta: Array | float) -> Array:
    """The point of each region with the greatest gradient . u, [..., R, A].

    u = centre + sqrt(2 (slack + delta)) V g / sqrt(g . V g), V = diag(variance); the centre where
    the gradient is 0, or the region empty.

    Args:
      regions: R of them.
      gradient: g, [..., R, A]; its length does not matter.
      delta: added to the slack; a number.
    """
    longest = jnp.max(jnp.abs(gradient), axis=-1, keepdims=True)
    g = gradient / jnp.where(longest > 0, longest, 1.0)  # squares of small ones are 0
    step = regions.variance * g
    square = jnp.sum(g * step, axis=-1)
    length = jnp.sqrt(jnp.where(square > 0, square, 1.0))
    radius = jnp.sqrt(2 * jnp.maximum(regions.slack + delta, 0.0))
    return regions.centre + (radius / length)[..., None] * step


class Actor(nn.Module):
    """[B, O] to a `Mixture` of K over A dimensions; more than one start apart."""

    action_size: int
    components: int
    widths: tuple[int, ...]
    layer_norm: bool
    dtype: Any

    @nn.compact
    def __call__(self, obs: Array) -> Mixture:
        x = MLP(self.widths, self.layer_norm, dtype=self.dtype)(obs)
        init = orthogonal(1e-2)  # starts near the middle of the action range
        alike, apart = nn.initializers.zeros, nn.initializers.normal(1.0)
        size, shape = self.components * self.action_size, (self.components, self.action_size)

        def head(features: int, name: str, bias: Any = alike) -> Array:
            layer = dense(features, self.dtype, kernel_init=init, bias_init=bias, name=name)
            return layer(x).astype(jnp.float32)

        mean = head(size, "mean", alike if self.components == 1 else apart)
        low, high = LOG_STD
        log_std = low + 0.5 * (high - low) * (jnp.tanh(head(size, "std")) + 1.0)
        return Mixture(
            log_weight=jax.nn.log_softmax(head(self.components, "weight")),
            mean=mean.reshape(*obs.shape[:-1], *shape),
            log_std=log_std.reshape(*obs.shape[:-1], *shape),
        )
