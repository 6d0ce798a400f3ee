"""A goal task without physics: a point on a square that moves as it is told."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.core import EnvSpec, EnvState, GoalSpec, Starts, first_metrics, select

Array = jax.Array

GOAL = GoalSpec(achieved=slice(1, 3), commanded=slice(3, 5), unit="m", radius=0.1)


@dataclasses.dataclass(frozen=True)
class Square:
    """A point in [-1, 1]^2; the observation is [0.5, position | goal]. Episodes take 20 steps of at
    most 0.2 m in each direction."""

    single_goal: bool = False
    length: int = 20

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(
            name="probe-square",
            observation_size=5,
            action_size=2,
            action_low=(-0.2, -0.2),
            action_high=(0.2, 0.2),
            episode_length=self.length,
            control_dt=0.1,
            goal=GOAL,
        )

    def reset(self, key: Array) -> EnvState:
        none = jnp.zeros((1,), jnp.int32)
        starts = Starts(physics={}, task={}, number=none, used=jnp.zeros((), jnp.int32))
        return self._first_row(starts, key, first_metrics())

    def step(self, state: EnvState, action: Array) -> EnvState:
        position = jnp.clip(state.obs[1:3] + action, -1.0, 1.0)
        obs = state.obs.at[1:3].set(position)
        reward = (jnp.linalg.norm(position - obs[3:]) < GOAL.radius).astype(jnp.float32)
        total = state.metrics["episode_return"] + reward
        stepped = state.replace(
            obs=obs,
            reward=reward,
            truncated=state.episode_step + 1 >= self.length,
            episode_step=state.episode_step + 1,
            metrics={**state.metrics, "episode_return": total},
        )
        return select(state.last, self._first_row(state.start, state.key, state.metrics), stepped)

    def refill(self, state: EnvState) -> EnvState:
        return state

    def render(self, state: EnvState, width: int = 480, height: int = 360) -> np.ndarray:
        return np.zeros((height, width, 3), np.uint8)

    def _first_row(self, starts: Starts, key: Array, metrics) -> EnvState:
        draw = jax.random.uniform(jax.random.fold_in(key, starts.used), (4,), minval=-1.0)
        if self.single_goal:
            draw = draw.at[2:].set(0.5)
        no = jnp.zeros((), bool)
        return EnvState(
            obs=jnp.concatenate([jnp.array([0.5]), draw]),
            reward=jnp.zeros((), jnp.float32),
            terminated=no,
            truncated=no,
            unstable=no,
            episode_step=jnp.zeros((), jnp.int32),
            metrics={**metrics, "episode_return": jnp.zeros((), jnp.float32)},
            physics={},
            task={"goal": draw[2:]},
            start=starts.replace(used=starts.used + 1),
            key=key,
        )
