"""IQL's critics and value, for agents that take another policy from them.

An agent that learns them has IQL's settings among its own, under the same names: `expectile`,
`critic_learning_rate`, `discount`, `tau`, `scale_rewards`, `normalise`, `critics`, `widths`,
`layer_norm`, `n_step`, `precision`. Its state has the fields that `init` gives, `statistics`, and
`updates`.

Shapes: B batch, O observation size, A action dimensions, C critics.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import optax

from jaxrl.agents import _common
from jaxrl.agents.iql import IQL
from jaxrl.envs.core import EnvSpec
from jaxrl.replay.ring import Batch

Array = jax.Array

FIELDS = ("critic", "target_critic", "value", "critic_opt", "value_opt")
"""Of a state."""


def iql(agent: Any) -> IQL:
    """IQL with the agent's settings; its losses read the agent's state as their own."""
    shared = {f.name for f in dataclasses.fields(IQL)}
    names = [f.name for f in dataclasses.fields(agent) if f.name in shared]
    return IQL(**{name: getattr(agent, name) for name in names})


def init(agent: Any, key: Array, spec: EnvSpec) -> dict[str, Any]:
    """Fresh parameters and optimisers by their fields; the target critics start as a copy."""
    fresh = iql(agent).init(key, spec)
    return {name: getattr(fresh, name) for name in FIELDS}


def learn(agent: Any, state: Any, batch: Batch) -> tuple[Any, dict[str, Array]]:
    """One step of the value, then of the critics (IQL, alg. 1, without its policy)."""
    critics, rate = iql(agent), agent.critic_learning_rate
    grad, value_metrics = jax.grad(critics.value_loss, has_aux=True)(state.value, state, batch)
    value, value_opt = _common.descend(rate, grad, state.value_opt, state.value)
    state = state.replace(value=value, value_opt=value_opt)
    grad, critic_metrics = jax.grad(critics.critic_loss, has_aux=True)(state.critic, state, batch)
    critic, critic_opt = _common.descend(rate, grad, state.critic_opt, state.critic)
    new = state.replace(
        critic=critic,
        critic_opt=critic_opt,
        target_critic=optax.incremental_update(critic, state.target_critic, agent.tau),
    )
    return new, {**value_metrics, **critic_metrics}


def losses(agent: Any, state: Any, batch: Batch) -> dict[str, Array]:
    """What `learn` reports, and nothing learned."""
    critics = iql(agent)
    value = critics.value_loss(state.value, state, batch)[1]
    return {**value, **critics.critic_loss(state.critic, state, batch)[1]}


def v(agent: Any, params: Any, state: Any, obs: Array) -> Array:
    """Values of a value network with these parameters, [...], for obs [..., O]."""
    return iql(agent)._v(params, state, obs)
