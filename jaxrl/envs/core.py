"""The environment interface: one instance, pure, unbatched; `jax.vmap` makes the batch.

    state = env.reset(key)                  the first row of the first episode
    state = env.step(state, action)         the next row
    state = env.refill(state)               between compiled chunks: redraw starts that were used

Auto-reset is next-step, as in dm_env, EnvPool and Gymnasium 1.x: stepping a state that is
`terminated | truncated` ignores the action and returns the first row of a new episode. Every
observation is therefore one row, the final one of an episode too.

Shapes: O observation size, A action size, K start slots.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

Array = jax.Array
PyTree = Any  # a nest of arrays whose structure the environment chooses


@dataclasses.dataclass(frozen=True)
class GoalSpec:
    """Where a goal task keeps its goals in the observation."""

    achieved: slice
    """Slice of the observation that holds the achieved goal."""
    commanded: slice
    """Slice of the observation that holds the commanded goal."""
    unit: str
    """Unit of the goal coordinates, such as "m"."""
    radius: float
    """Distance (in `unit`) under which the goal counts as reached."""


@dataclasses.dataclass(frozen=True)
class EnvSpec:
    """What an agent needs to know about an environment. Hashable, so it can be static in a jit."""

    name: str
    """`domain-task`, as `jaxrl.make` takes it."""
    observation_size: int
    """O."""
    action_size: int
    """A."""
    action_low: tuple[float, ...]
    """Lower bound of each action dimension, [A], in the environment's own units."""
    action_high: tuple[float, ...]
    """Upper bound of each action dimension, [A]."""
    episode_length: int
    """Steps after which an episode is truncated."""
    control_dt: float
    """Seconds between two actions."""
    goal: GoalSpec | None = None
    """For goal tasks."""


@struct.dataclass
class Starts:
    """Pre-drawn starts of the coming episodes. Slot s holds a start whose number is s modulo K.

    Start i of an instance is a function of (the instance's key, i), so neither the chunk length
    nor a resume changes it.
    """

    physics: PyTree  # [K, ...]
    task: PyTree  # [K, ...]
    number: Array  # [K] int32: which start each slot holds
    used: Array  # [] int32: how many starts this instance has begun an episode with


@struct.dataclass
class EnvState:
    """One row: what the agent sees, and all that the next row is a function of."""

    obs: Array  # [O] float32
    reward: Array  # [] float32, received with obs
    terminated: Array  # [] bool: the MDP ended here
    truncated: Array  # [] bool: the clock ran out here
    unstable: Array  # [] bool: physics blew up on the way here; never learn from the step into it
    episode_step: Array  # [] int32: steps since the episode began
    metrics: dict[str, Array]  # "episode_return" [] float32, counts of this instance [] int32
    physics: PyTree
    task: PyTree  # the episode's own arrays: target, goal, command
    start: Starts
    key: Array  # the instance's key; never changes

    @property
    def last(self) -> Array:
        """Whether the episode ended with this row, [] bool."""
        return self.terminated | self.truncated


class Env(Protocol):
    """One pure, unbatched environment."""

    @property
    def spec(self) -> EnvSpec:
        """Sizes, bounds and clock."""

    def reset(self, key: Array) -> EnvState:
        """First row of the first episode of the instance that `key` names."""

    def step(self, state: EnvState, action: Array) -> EnvState:
        """Next row; a new episode's first if `state.last`. `action` [A], in the spec's units."""

    def refill(self, state: EnvState) -> EnvState:
        """Redraws the start slots that were used. Call it between chunks."""

    def render(self, state: EnvState, width: int = 480, height: int = 360) -> np.ndarray:
        """Picture of an unbatched state, [height, width, 3] uint8."""


METRICS = ("unstable", "starts_reused")
"""Counts that every environment keeps in `EnvState.metrics`, over the instance's life."""


def first_metrics() -> dict[str, Array]:
    """Metrics of an instance that has not stepped yet."""
    counts = {name: jnp.zeros((), jnp.int32) for name in METRICS}
    return {"episode_return": jnp.zeros((), jnp.float32), **counts}


def select(predicate: Array, on_true: PyTree, on_false: PyTree) -> PyTree:
    """`where(predicate, on_true, on_false)` for every leaf; `predicate` is a scalar."""
    return jax.tree.map(lambda a, b: jnp.where(predicate, a, b), on_true, on_false)


def take_start(starts: Starts) -> tuple[PyTree, PyTree, Starts, Array]:
    """The next episode's (physics, task), the slots with that start marked used, and whether the
    slot had been used before (its number is not the one that was due)."""
    slots = starts.number.shape[0]
    slot = starts.used % slots
    stale = starts.number[slot] != starts.used
    physics, task = jax.tree.map(lambda x: x[slot], (starts.physics, starts.task))
    return physics, task, starts.replace(used=starts.used + 1), stale


def due_numbers(starts: Starts) -> Array:
    """For each slot the number of the start that it must hold next, [K] int32."""
    slots = starts.number.shape[0]
    slot = jnp.arange(slots, dtype=jnp.int32)
    return starts.used + (slot - starts.used) % slots
