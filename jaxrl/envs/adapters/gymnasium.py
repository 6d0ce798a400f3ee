"""Our environments for libraries that take Gymnasium's: one instance, simulated on the host.

Goal tasks take Gymnasium-Robotics' form (Plappert et al., 2018, arXiv 1802.09464): observations are
a dict of `observation`, `achieved_goal` and `desired_goal`, and `compute_reward` tells what another
goal would have given, for any number of rows. All others observe a plain vector.

    env = to_gymnasium("ant-umaze")
    obs, info = env.reset(seed=0)
    obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
"""

from __future__ import annotations

from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

from jaxrl.envs.core import Env, EnvState, GoalSpec
from jaxrl.envs.goal.common import GoalReward
from jaxrl.envs.registry import make
from jaxrl.envs.wrappers import ActionCost, ActionRepeat
from jaxrl.errors import UsageError


def to_gymnasium(env: str | Env, *, render_mode: str | None = None, **options: Any) -> Adapter:
    """The environment, or the one of that name made with `options` (see `make`), for Gymnasium.

    Args:
      env: a name such as "ant-umaze", or an environment.
      render_mode: "rgb_array" for pictures.
      options: of `jaxrl.make`, where `env` is a name.
    """
    made = make(env, **options) if isinstance(env, str) else env
    if made.spec.goal is None:
        return Adapter(made, render_mode)
    return GoalAdapter(made, render_mode)


class Adapter(gymnasium.Env):
    """An environment whose observation is a vector [O] float32."""

    def __init__(self, env: Env, render_mode: str | None = None):
        spec = env.spec
        self.env = env
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / spec.control_dt)}
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"unknown render mode {render_mode!r}; there is 'rgb_array'")
        self.render_mode = render_mode
        low, high = (np.array(x, np.float32) for x in (spec.action_low, spec.action_high))
        self.action_space = spaces.Box(low, high, dtype=np.float32)
        self.observation_space: spaces.Space = _box(spec.observation_size)
        self._reset, self._step = jax.jit(env.reset), jax.jit(env.step)
        self._state: EnvState | None = None

    def reset(
        self, *, seed: int | None = None, options: dict | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """First row of a new episode, a function of the seeds given so far."""
        super().reset(seed=seed)
        key = jax.random.key(int(self.np_random.integers(2**31)))
        self._state = self._reset(key)
        return self._observe(self._state), self._info(self._state)

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Next row under `action` [A]."""
        if self._state is None or bool(self._state.last):
            raise gymnasium.error.ResetNeeded("the episode is over: call reset")
        state = self._state = self._step(self._state, np.asarray(action, np.float32))
        ends = bool(state.terminated), bool(state.truncated)
        return self._observe(state), float(state.reward), *ends, self._info(state)

    def render(self) -> np.ndarray | None:
        """Picture of the current row, [height, width, 3] uint8, in the mode "rgb_array"."""
        if self.render_mode is None or self._state is None:
            return None
        return self.env.render(self._state)

    def _observe(self, state: EnvState) -> Any:
        return np.asarray(state.obs)

    def _info(self, state: EnvState) -> dict[str, Any]:
        return {"unstable": bool(state.unstable)}


class GoalAdapter(Adapter):
    """A goal task in Gymnasium-Robotics' form."""

    def __init__(self, env: Env, render_mode: str | None = None):
        super().__init__(env, render_mode)
        goal = env.spec.goal
        assert goal is not None
        self.goal: GoalSpec = goal
        self._state_columns = np.delete(np.arange(env.spec.observation_size), goal.commanded)
        size = goal.commanded.stop - goal.commanded.start
        self.observation_space = spaces.Dict(
            observation=_box(len(self._state_columns)),
            achieved_goal=_box(size),
            desired_goal=_box(size),
        )

    def compute_reward(
        self, achieved_goal: np.ndarray, desired_goal: np.ndarray, info: Any
    ) -> np.ndarray | float:
        """Reward of goals [..., G], [...]; a float for one row. `info` says nothing about it.

        Raises:
          UsageError: the environment's rewards have action costs, or are of several steps.
        """
        reward = np.asarray(
            _reward(self.env).between(jnp.asarray(achieved_goal), jnp.asarray(desired_goal))
        )
        return reward if reward.ndim else float(reward)

    def _observe(self, state: EnvState) -> dict[str, np.ndarray]:
        obs = np.asarray(state.obs)
        return {
            "observation": obs[self._state_columns],
            "achieved_goal": obs[self.goal.achieved],
            "desired_goal": obs[self.goal.commanded],
        }

    def _info(self, state: EnvState) -> dict[str, Any]:
        obs = np.asarray(state.obs)
        away = np.linalg.norm(obs[self.goal.achieved] - obs[self.goal.commanded])
        return super()._info(state) | {"is_success": bool(away < self.goal.radius)}


def _reward(env: Any) -> GoalReward:
    """The reward of the goal task inside `env`."""
    while hasattr(env, "env"):
        if isinstance(env, ActionCost | ActionRepeat):
            raise UsageError(
                "compute_reward is of goals alone: leave action_cost and action_repeat at their "
                "defaults to relabel goals"
            )
        env = env.env
    return env.task.reward


def _box(size: int) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, (size,), np.float32)
