"""What agents that learn from a dataset share: hooks that do nothing, pieces of their losses."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, TypeVar

import chex
import jax
import jax.numpy as jnp
from flax import struct

from jaxrl.agents import _common
from jaxrl.envs.core import EnvSpec
from jaxrl.errors import UsageError
from jaxrl.nets.critic import CriticEnsemble
from jaxrl.nets.policy import TanhGaussian
from jaxrl.replay.stored import Stored

Array = jax.Array
T = TypeVar("T")
S = TypeVar("S")


@struct.dataclass
class Statistics:
    """What an agent may take from the whole dataset before its first update; part of its state."""

    mean: Array  # [O], of the observations that were acted on
    std: Array  # [O]
    returns: Array  # [2]: least and greatest sum of rewards of a trajectory

    @classmethod
    def neutral(cls, size: int) -> Statistics:
        """Of no dataset: `standardise` changes next to nothing."""
        return cls(jnp.zeros(size), jnp.ones(size), jnp.asarray([0.0, 1.0]))

    def standardise(self, obs: Array) -> Array:
        """(obs - mean) / (std + 1e-3), as in TD3+BC (Fujimoto and Gu, 2021, sec. 5)."""
        return (obs - self.mean) / (self.std + 1e-3)


class Offline:
    """Of every agent that learns from a dataset. Actions are in [-1, 1], as the loop gives them.

    Fields that it needs: `batch_size`; `discount` and `n_step` where the agent learns from rewards.
    """

    offline: ClassVar[bool] = True
    learns_from_rewards: ClassVar[bool] = True
    batch_size: int

    def canonical(self: T) -> T:
        """The same agent with strongly typed float32 leaves."""
        return _common.canonical(self)

    def for_run(self: T, updates: int) -> T:
        """The agent, knowing how many updates are planned."""
        if getattr(self, "decay_updates", None) != 0:
            return self
        return dataclasses.replace(self, decay_updates=float(updates))  # type: ignore[type-var]

    def replay(self, rows: int) -> Stored:
        """How batches are drawn from the dataset's rows."""
        discount = getattr(self, "discount", jnp.ones(()))
        return Stored(discount, rows, self.batch_size, getattr(self, "n_step", 1))

    def begin(self, state: S, statistics: Statistics) -> S:
        """The state, knowing what the whole dataset tells; called once, before the first update."""
        return state.replace(statistics=statistics)  # type: ignore[attr-defined]

    def decode(self, action: Array, spec: EnvSpec) -> Array:
        """Actions [..., A] in [-1, 1] to the environment's units."""
        return _common.to_units(action, spec)

    def milestones(self) -> tuple[float, ...]:
        """Nothing depends on the share of training done."""
        return ()

    def on_progress(self, state: S, progress: Array) -> S:
        """Nothing depends on the share of training done."""
        return state

    def on_evaluation(self, state: S, returns: Array, progress: Array) -> S:
        """Nothing depends on evaluations: a dataset is all that these agents learn from."""
        return state

    def scalars(self, state: Any) -> dict[str, Array]:
        """Nothing to log of the state, beside the losses."""
        return {}


class Critics(Offline):
    """Of agents with an ensemble of critics. Fields that it needs are below."""

    critics: int
    widths: tuple[int, ...]
    layer_norm: bool
    normalise: bool
    precision: Literal["float32", "bfloat16"]

    def _q(self, params: Any, state: Any, obs: Array, action: Array) -> Array:
        """[C, B] for obs [B, O] and actions [B, A]."""
        q: Array = self._critic().apply(params, self._seen(state, obs), action)  # type: ignore[assignment]
        return q

    def _seen(self, state: Any, obs: Array) -> Array:
        return state.statistics.standardise(obs) if self.normalise else obs

    def _critic(self) -> CriticEnsemble:
        dtype = _common.DTYPES[self.precision]
        return CriticEnsemble(self.critics, self.widths, self.layer_norm, dtype)


def check_sizes(agent: Any, *names: str) -> None:
    """Raises `UsageError` if a setting of these names is below 1, `widths` is empty, or a share
    that the agent has is not within 0 and 1."""
    for name in names:
        if getattr(agent, name) < 1:
            raise UsageError(f"{name} must be at least 1, got {getattr(agent, name)}")
    if not agent.widths or min(agent.widths) < 1:
        raise UsageError(f"widths must be at least 1, one per hidden layer, got {agent.widths}")
    shares = ("discount", "tau", "actor_tau", "expectile")
    _common.check_within(agent, 0.0, 1.0, *(name for name in shares if hasattr(agent, name)))


def fresh_key(key: Array, obs: Array) -> Array:
    """The key for noise of actions, folded with what obs [B, O] are.

    Greedy actions get the same key at every step; a policy's noise must not be the same at each.
    """
    bits = jax.lax.bitcast_convert_type(obs.astype(jnp.float32), jnp.uint32)
    return jax.random.fold_in(key, jnp.sum(bits, dtype=jnp.uint32))


def td_loss(q: Array, target: Array, weight: Array) -> tuple[Array, dict[str, Array]]:
    """Squared error of all critics: mean_B w sum_c (Q_c(s, a) - y)^2, y a constant.

    Args:
      q: values of the dataset's actions, [C, B].
      target: y, [B].
      weight: of each transition, w, [B].
    """
    chex.assert_rank([q, target, weight], [2, 1, 1])
    error = q - jax.lax.stop_gradient(target)
    loss = jnp.mean(weight * jnp.sum(error**2, axis=0))
    return loss, {"critic_loss": loss, "q_mean": jnp.mean(weight * q.mean(axis=0))}


def magnitude(q: Array, weight: Array) -> Array:
    """mean_B w |Q|, [], a constant for the gradient: the unit of Q in a policy's loss."""
    return jax.lax.stop_gradient(jnp.mean(weight * jnp.abs(q)))


def clipped(grads: T, most: Array | float) -> T:
    """Gradients whose norm over all entries is at most `most`; longer ones are scaled."""
    norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(grads)))
    scale = jnp.minimum(1.0, most / (norm + 1e-6))
    return jax.tree.map(lambda g: scale * g, grads)


def expectile_loss(error: Array, expectile: Array | float) -> Array:
    """L(u) = |expectile - (u < 0)| u^2, elementwise (Kostrikov et al., 2021, eq. 5)."""
    weight = jnp.where(error < 0, 1.0 - expectile, expectile)
    return weight * error**2


def advantage_weight(advantage: Array, temperature: Array | float, most: float = 100.0) -> Array:
    """min(exp(temperature * advantage), most), elementwise (AWR; Peng et al., 2019, sec. 5)."""
    return jnp.minimum(jnp.exp(temperature * advantage), most)


def log_density(policy: TanhGaussian, action: Array) -> Array:
    """log pi(a|s) of given actions, [B]; actions at the bounds count as just inside of them."""
    chex.assert_equal_shape([policy.mean, action])
    before = jnp.arctanh(jnp.clip(action, -1.0 + 1e-6, 1.0 - 1e-6))
    return policy._log_density(before, (before - policy.mean) / jnp.exp(policy.log_std))


def cosine(rate: Array | float, updates: Array, total: Array | float) -> Array:
    """A step size that falls from `rate` to 0 within `total` updates by half a cosine.

    It is `rate` itself where `total` is 0.
    """
    share = jnp.clip(updates / jnp.maximum(total, 1.0), 0.0, 1.0)
    return rate * jnp.where(total > 0, 0.5 * (1.0 + jnp.cos(jnp.pi * share)), 1.0)
