"""What agents that learn from a dataset share: hooks that do nothing, pieces of their losses."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, TypeVar

import chex
import jax
import jax.numpy as jnp
from flax import struct

from jaxrl.agents import _common
from jaxrl.envs.core import EnvSpec
from jaxrl.errors import UsageError
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


def check_sizes(agent: Any, *names: str) -> None:
    """Raises `UsageError` if a setting of these names is below 1, or `widths` is empty."""
    for name in names:
        if getattr(agent, name) < 1:
            raise UsageError(f"{name} must be at least 1, got {getattr(agent, name)}")
    if not agent.widths or min(agent.widths) < 1:
        raise UsageError(f"widths must be at least 1, one per hidden layer, got {agent.widths}")


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
