"""Counting the steps for which an engine had no room for all contacts."""

from __future__ import annotations

import copy
import dataclasses

import jax
import jax.numpy as jnp

from jaxrl.envs.core import EnvState
from jaxrl.envs.mujoco_env import MujocoEnv, check_action
from jaxrl.envs.task import Physics
from jaxrl.envs.wrappers import Wrapper

Array = jax.Array


@dataclasses.dataclass
class Stepped:
    """An engine whose step has been taken."""

    physics: Physics
    name: str = "stepped"

    def step(self, physics: Physics, ctrl: Array) -> Physics:
        return self.physics


class CountOverflow(Wrapper):
    """`metrics["overflow"]` counts the steps for which contacts or constraints had no room.

    Args:
      env: a task on an engine with `advance`, such as `Warp`, without other wrappers.
    """

    def __init__(self, env: MujocoEnv):
        super().__init__(env)
        assert hasattr(env.engine, "advance")
        self._inner, self._advance = env, env.engine.advance

    def reset(self, key: Array) -> EnvState:
        state = self.env.reset(key)
        return _counting(state, jnp.zeros((), jnp.int32))

    def step(self, state: EnvState, action: Array) -> EnvState:
        check_action(self.spec, action)
        physics, lost = self._advance(state.physics, action.astype(jnp.float32))
        taken = copy.copy(self._inner)
        taken.engine = Stepped(physics)
        count = state.metrics["overflow"] + (lost & ~state.last)
        return _counting(taken.step(state, action), count)


def _counting(state: EnvState, count: Array) -> EnvState:
    return state.replace(metrics={**state.metrics, "overflow": count})
