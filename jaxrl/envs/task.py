"""A task: a model, a start distribution, an observation and a reward, written once for all engines.

A task reads the simulation through `qpos, qvel, act, ctrl, time` and named sensors, and nothing
else. What another code base reads as `xpos`, `xmat` or `subtree_com` becomes a sensor that the
task adds to its model; every engine fills `sensordata`, so the same task runs on all of them and
its state is a handful of plain arrays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import struct

from jaxrl.envs.core import GoalSpec

Array = jax.Array


@struct.dataclass
class Physics:
    """The state of one simulation, and what its sensors read in it. All float32."""

    time: Array  # [] s
    qpos: Array  # [nq] m or rad
    qvel: Array  # [nv] m/s or rad/s
    act: Array  # [na] actuator activations
    ctrl: Array  # [nu] the control that led here; zero at a start
    mocap_pos: Array  # [nmocap, 3] m: targets that move between episodes
    mocap_quat: Array  # [nmocap, 4]
    sensordata: Array  # [nsensordata]


class Sim:
    """What a task may read: the physics, its sensors by name, and the episode's own arrays."""

    def __init__(self, physics: Physics, task: Mapping[str, Array], sensors: Mapping[str, slice]):
        self._physics = physics
        self._sensors = sensors
        self.task = task
        """The arrays that `Task.start` returned for this episode."""

    @property
    def time(self) -> Array:
        """Seconds since the episode began, []."""
        return self._physics.time

    @property
    def qpos(self) -> Array:
        """Generalised positions, [nq], m or rad."""
        return self._physics.qpos

    @property
    def qvel(self) -> Array:
        """Generalised velocities, [nv], m/s or rad/s."""
        return self._physics.qvel

    @property
    def act(self) -> Array:
        """Actuator activations, [na]."""
        return self._physics.act

    @property
    def ctrl(self) -> Array:
        """Last control, [nu]; zero in an episode's first row."""
        return self._physics.ctrl

    def sensor(self, name: str) -> Array:
        """Reading of the named sensor, [its dimension]."""
        return self._physics.sensordata[self._sensors[name]]


def never(sim: Sim) -> Array:
    """An episode that only the clock ends."""
    return jnp.zeros((), bool)


@dataclasses.dataclass(frozen=True)
class Task:
    """One task. The functions are pure, unbatched and see only a `Sim`."""

    name: str
    """`domain-task`."""
    model: Callable[[], mujoco.MjSpec]
    """Builds the model with every sensor that the task reads."""
    control_dt: float
    """Seconds between two actions; a multiple of the model's time step."""
    time_limit: float
    """Seconds after which an episode is truncated."""
    start: Callable[[mujoco.MjModel, mujoco.MjData, np.random.RandomState], dict[str, np.ndarray]]
    """Draws a start on the host: writes qpos, qvel, mocap_pos ... of a freshly reset MjData and
    returns the episode's own arrays."""
    observe: Callable[[Sim], Array]
    """Observation, [O]."""
    reward: Callable[[Sim], Array]
    """Reward, []."""
    terminated: Callable[[Sim], Array] = never
    """Whether the MDP ends here, []."""
    goal: GoalSpec | None = None
    """For goal tasks."""


def sensor_slices(model: mujoco.MjModel) -> dict[str, slice]:
    """Where each named sensor lies in `sensordata`."""
    return {
        model.sensor(i).name: slice(int(adr), int(adr + dim))
        for i, (adr, dim) in enumerate(zip(model.sensor_adr, model.sensor_dim, strict=True))
    }


def forward_passive(model: mujoco.MjModel, data: mujoco.MjData) -> None:
    """`mj_forward` with actuation disabled, as dm_control does at a reset."""
    flags = model.opt.disableflags
    model.opt.disableflags = flags | mujoco.mjtDisableBit.mjDSBL_ACTUATION
    try:
        mujoco.mj_forward(model, data)
    finally:
        model.opt.disableflags = flags
