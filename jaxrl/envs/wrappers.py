"""Wrappers: action cost, action repeat, staggered first episodes. Each is an `Env` itself."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.core import Env, EnvSpec, EnvState, select
from jaxrl.errors import UsageError

Array = jax.Array


class Wrapper:
    """Hands everything on to the inner environment."""

    def __init__(self, env: Env):
        self.env = env

    @property
    def spec(self) -> EnvSpec:
        return self.env.spec

    def reset(self, key: Array) -> EnvState:
        return self.env.reset(key)

    def step(self, state: EnvState, action: Array) -> EnvState:
        return self.env.step(state, action)

    def refill(self, state: EnvState) -> EnvState:
        return self.env.refill(state)

    def render(self, state: EnvState, width: int = 480, height: int = 360) -> np.ndarray:
        return self.env.render(state, width, height)


class ActionCost(Wrapper):
    """r - c_a * sum_j a_j^2 / A (Seyde et al., "Growing Q-Networks", 2024).

    `metrics["episode_return"]` includes the cost; "episode_return_unpenalised" does not. The row
    that starts an episode, which ignores its action, and an unstable one cost nothing.
    """

    def __init__(self, env: Env, cost: float):
        super().__init__(env)
        if not cost >= 0:
            raise UsageError(f"action cost must be at least 0, got {cost}")
        self.cost = cost

    def reset(self, key: Array) -> EnvState:
        state = self.env.reset(key)
        return _with(state, episode_return_unpenalised=state.metrics["episode_return"])

    def step(self, state: EnvState, action: Array) -> EnvState:
        stepped = self.env.step(state, action)
        free = state.last | stepped.unstable
        cost = jnp.where(free, 0.0, self.cost * jnp.mean(jnp.square(action)))
        before = jnp.where(state.last, 0.0, state.metrics["episode_return_unpenalised"])
        penalised = _with(
            stepped,
            episode_return=stepped.metrics["episode_return"] - cost,
            episode_return_unpenalised=before + stepped.reward,
        )
        return penalised.replace(reward=stepped.reward - cost)


class ActionRepeat(Wrapper):
    """Applies an action for `repeat` control steps or until the episode ends; sums the rewards."""

    def __init__(self, env: Env, repeat: int):
        super().__init__(env)
        if repeat < 1:
            raise UsageError(f"action repeat must be at least 1, got {repeat}")
        self.repeat = repeat

    @property
    def spec(self) -> EnvSpec:
        inner = self.env.spec
        return dataclasses.replace(
            inner,
            episode_length=-(-inner.episode_length // self.repeat),
            control_dt=inner.control_dt * self.repeat,
        )

    def step(self, state: EnvState, action: Array) -> EnvState:
        def again(carry, _):
            current, total = carry
            following = self.env.step(current, action)
            following = select(current.last | (current.episode_step == 0), current, following)
            gained = jnp.where(current.last, 0.0, following.reward)
            return (following, total + gained), None

        first = self.env.step(state, action)
        (end, total), _ = jax.lax.scan(again, (first, first.reward), None, self.repeat - 1)
        return end.replace(reward=total)


class Stagger(Wrapper):
    """Starts each instance's first episode at a random step of the clock, so that instances do not
    all time out together. Only the first episode is shorter. Goes inside `ActionRepeat`, whose
    clock counts the steps of the environment within."""

    def reset(self, key: Array) -> EnvState:
        state = self.env.reset(key)
        length = self.env.spec.episode_length
        offset = jax.random.randint(jax.random.fold_in(key, 0), (), 0, length, jnp.int32)
        return state.replace(episode_step=offset)


def _with(state: EnvState, **metrics: Array) -> EnvState:
    return state.replace(metrics={**state.metrics, **metrics})
