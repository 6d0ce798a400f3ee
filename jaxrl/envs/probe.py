"""Probe environments: tiny MDPs whose values are known in closed form.

After Andy Jones, "Debugging RL, Without the Agonizing Pain" (2021). Train an agent on them in
seconds; a value that is off names the part that is broken. No physics, no host callback.

In all of them the observation is [signal, one-hot of the step in the episode] and the reward of a
step is a function of the signal (+-1, drawn per episode), the step and the action.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.core import EnvSpec, EnvState, Starts, first_metrics, select

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class Probe:
    """An episode of `length` steps that either terminates or times out."""

    name: str
    reward: Callable[[Array, Array, Array], Array | float]
    """(signal [], step [] counted from 0, action [A]) to reward []."""
    length: int = 1
    terminates: bool = True
    action_size: int = 1
    sees_signal: bool = True
    sees_step: bool = True

    @property
    def spec(self) -> EnvSpec:
        """Actions in [-1, 1]; a tenth of a second per step."""
        return EnvSpec(
            name=self.name,
            observation_size=1 + self.length,
            action_size=self.action_size,
            action_low=(-1.0,) * self.action_size,
            action_high=(1.0,) * self.action_size,
            episode_length=self.length,
            control_dt=0.1,
        )

    def reset(self, key: Array) -> EnvState:
        """First row of the first episode."""
        none = jnp.zeros((1,), jnp.int32)
        starts = Starts(physics={}, task={}, number=none, used=jnp.zeros((), jnp.int32))
        return self._first_row(starts, key, first_metrics())

    def step(self, state: EnvState, action: Array) -> EnvState:
        """Next row; see `Env.step`."""
        signal, before = state.task["signal"], state.episode_step
        reward = jnp.asarray(self.reward(signal, before, action), jnp.float32)
        step = before + 1
        end = step >= self.length
        metrics = {
            **state.metrics,
            "episode_return": state.metrics["episode_return"] + reward,
        }
        stepped = state.replace(
            obs=self._observe(signal, step),
            reward=reward,
            terminated=end & self.terminates,
            truncated=end & (not self.terminates),
            episode_step=step,
            metrics=metrics,
        )
        first = self._first_row(state.start, state.key, state.metrics)
        return select(state.last, first, stepped)

    def refill(self, state: EnvState) -> EnvState:
        """Nothing to redraw: starts are computed on the spot."""
        return state

    def render(self, state: EnvState, width: int = 480, height: int = 360) -> np.ndarray:
        """A bar that moves with the step, green for signal +1 and red for -1."""
        picture = np.full((height, width, 3), 32, np.uint8)
        right = int(width * (float(state.episode_step) + 1) / (self.length + 1))
        picture[:, :right, 1 if float(state.task["signal"]) > 0 else 0] = 200
        return picture

    def _first_row(self, starts: Starts, key: Array, metrics) -> EnvState:
        flips = jax.random.bernoulli(jax.random.fold_in(key, starts.used))
        signal = jnp.where(flips, 1.0, -1.0).astype(jnp.float32)
        no, zero = jnp.zeros((), bool), jnp.zeros((), jnp.int32)
        return EnvState(
            obs=self._observe(signal, zero),
            reward=jnp.zeros((), jnp.float32),
            terminated=no,
            truncated=no,
            unstable=no,
            episode_step=zero,
            metrics={**metrics, "episode_return": jnp.zeros((), jnp.float32)},
            physics={},
            task={"signal": signal},
            start=starts.replace(used=starts.used + 1),
            key=key,
        )

    def _observe(self, signal: Array, step: Array) -> Array:
        clock = jax.nn.one_hot(step, self.length) * self.sees_step
        return jnp.concatenate([(signal * self.sees_signal)[None], clock])


REWARDS = (1.0, 2.0, 4.0, 8.0)
"""Rewards of the four steps of "probe-nstep"."""

ALL = (
    # Value 1 everywhere: does the loss reach the target at all?
    Probe("probe-constant", lambda signal, step, action: 1.0, sees_signal=False),
    # Value = signal: does the observation reach the value?
    Probe("probe-observation", lambda signal, step, action: signal),
    # Values gamma and 1: is the reward discounted by one step?
    Probe("probe-discount", lambda signal, step, action: step * 1.0, length=2, sees_signal=False),
    # Q(a) = (a_0 - a_1) / 2: does the action reach the value, dimension by dimension?
    Probe(
        "probe-action",
        lambda signal, step, action: (action[0] - action[1]) / 2,
        action_size=2,
        sees_signal=False,
    ),
    # Q(s, a) = signal * a: both at once.
    Probe("probe-both", lambda signal, step, action: signal * action[0]),
    # Value 1 / (1 - gamma): the clock is not the end of the world.
    Probe(
        "probe-truncation",
        lambda signal, step, action: 1.0,
        length=5,
        terminates=False,
        sees_signal=False,
        sees_step=False,
    ),
    # Values sum_i gamma^i r_{t+i}: n-step returns stop where the episode ends.
    Probe(
        "probe-nstep",
        lambda signal, step, action: jnp.asarray(REWARDS)[step],
        length=len(REWARDS),
        sees_signal=False,
    ),
)

PROBES = {probe.name: functools.partial(lambda p: p, probe) for probe in ALL}
