"""A task on a physics engine: fresh starts, next-step auto-reset, unstable physics guarded."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.envs.core import (
    EnvSpec,
    EnvState,
    Starts,
    due_numbers,
    first_metrics,
    select,
    take_start,
)
from jaxrl.envs.host_call import host_call
from jaxrl.envs.physics.native import Native, refuse_on_several_devices
from jaxrl.envs.task import Physics, Sim, Task, forward_passive, sensor_slices
from jaxrl.errors import UsageError

Array = jax.Array

HUGE = 1e10
"""Physics with an entry of this size is unstable (MuJoCo's own mjMAXVAL)."""


class Engine(Protocol):
    """What an environment asks of a physics engine."""

    name: str

    def step(self, physics: Physics, ctrl: Array) -> Physics:
        """Physics after one control step under `ctrl` [nu]; unbatched."""


def check_action(spec: EnvSpec, action: Array) -> None:
    """Raises UsageError unless `action` has the shape [A]: one number would drive all actuators."""
    if action.shape != (spec.action_size,):
        raise UsageError(
            f"{spec.name} takes an action of shape ({spec.action_size},), got {action.shape}; "
            "batches go through jax.vmap"
        )


class MujocoEnv:
    """One instance of `task`, pure and unbatched (see `jaxrl.envs.core`).

    Args:
      task: what to simulate, observe and reward.
      start_slots: starts drawn ahead for each instance, K: as many as episodes can end between
        two calls of `refill`. A start that must be used twice is counted in the metrics.
      engine: makes the physics engine from (model, physics steps per control step).
    """

    def __init__(
        self,
        task: Task,
        start_slots: int = 1,
        engine: Callable[[mujoco.MjModel, int], Engine] = Native,
    ):
        self.task = task
        self.start_slots = start_slots
        with warnings.catch_warnings():  # dm_control's cheetah sets its total mass that way
            warnings.filterwarnings("ignore", message=".*settotalmass.*deprecated")
            self.model = task.model().compile()
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        substeps = round(task.control_dt / self.model.opt.timestep)
        if abs(substeps * self.model.opt.timestep - task.control_dt) > 1e-8:
            raise ValueError(
                f"{task.name}: control_dt {task.control_dt} s is not a multiple of the model's "
                f"time step {self.model.opt.timestep} s"
            )
        self.engine = engine(self.model, substeps)
        self._sensors = sensor_slices(self.model)
        self._draw_lock = threading.Lock()
        self._draw_data = mujoco.MjData(self.model)
        example_physics, example_task = self._draw(np.zeros(2, np.uint32), 0)
        self._start_shape = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (example_physics, example_task)
        )
        obs = jax.eval_shape(
            lambda p, t: task.observe(Sim(p, t, self._sensors)), *self._start_shape
        )
        low, high = self.model.actuator_ctrlrange.T
        self.spec = EnvSpec(
            name=task.name,
            observation_size=obs.shape[0],
            action_size=self.model.nu,
            action_low=tuple(float(x) for x in low),
            action_high=tuple(float(x) for x in high),
            episode_length=int(
                np.ceil(task.time_limit / (substeps * self.model.opt.timestep) - 1e-9)
            ),
            control_dt=task.control_dt,
            goal=task.goal,
        )

    def reset(self, key: Array) -> EnvState:
        """First row of episode 0; the slots hold the starts of episodes 1 to K."""
        empty = jnp.full((self.start_slots,), -1, jnp.int32)
        ahead = due_numbers(Starts(None, None, empty, jnp.ones((), jnp.int32)))
        physics, task = self._draw_many(key, jnp.concatenate([jnp.zeros(1, jnp.int32), ahead]))
        later_physics, later_task = jax.tree.map(lambda x: x[1:], (physics, task))
        starts = Starts(later_physics, later_task, ahead, used=jnp.ones((), jnp.int32))
        physics, task = jax.tree.map(lambda x: x[0], (physics, task))
        return self._first_row(physics, task, starts, key, first_metrics())

    def step(self, state: EnvState, action: Array) -> EnvState:
        """Next row under `action` [A], in the spec's units; see `Env.step`.

        Raises:
          UsageError: an action of another shape.
        """
        check_action(self.spec, action)
        physics, task, starts, stale = take_start(state.start)
        reused = state.metrics["starts_reused"] + stale
        first = self._first_row(
            physics, task, starts, state.key, {**state.metrics, "starts_reused": reused}
        )
        return select(state.last, first, self._next_row(state, action))

    def refill(self, state: EnvState) -> EnvState:
        """Redraws the slots whose start was used."""
        starts = state.start
        due = due_numbers(starts)
        used = due != starts.number
        drawn = self._draw_many(state.key, jnp.where(used, due, -1))
        physics, task = jax.tree.map(
            lambda new, old: jnp.where(used.reshape(-1, *[1] * (old.ndim - 1)), new, old),
            drawn,
            (starts.physics, starts.task),
        )
        return state.replace(start=starts.replace(physics=physics, task=task, number=due))

    def _first_row(self, physics: Physics, task, starts: Starts, key: Array, metrics) -> EnvState:
        no = jnp.zeros((), bool)
        return EnvState(
            obs=self.task.observe(Sim(physics, task, self._sensors)),
            reward=jnp.zeros((), jnp.float32),
            terminated=no,
            truncated=no,
            unstable=no,
            episode_step=jnp.zeros((), jnp.int32),
            metrics={**metrics, "episode_return": jnp.zeros((), jnp.float32)},
            physics=physics,
            task=task,
            start=starts,
            key=key,
        )

    def _next_row(self, state: EnvState, action: Array) -> EnvState:
        stepped = self.engine.step(state.physics, action.astype(jnp.float32))
        sim = Sim(stepped, state.task, self._sensors)
        obs, reward = self.task.observe(sim), self.task.reward(sim)
        terminated = self.task.terminated(sim)
        # The control too: MuJoCo takes a non-finite one for zero, and the row looks normal.
        state_now = (stepped.qpos, stepped.qvel, stepped.act, stepped.ctrl, stepped.sensordata)
        fine = jnp.stack([jnp.all(jnp.abs(x) < HUGE) for x in (*state_now, obs, reward)]).all()
        reward = jnp.where(fine, reward, 0.0)
        step = state.episode_step + 1
        metrics = {
            **state.metrics,
            "episode_return": state.metrics["episode_return"] + reward,
            "unstable": state.metrics["unstable"] + ~fine,
        }
        return state.replace(
            obs=jnp.where(fine, obs, state.obs),
            reward=reward,
            terminated=terminated | ~fine,
            truncated=step >= self.spec.episode_length,
            unstable=~fine,
            episode_step=step,
            metrics=metrics,
            physics=select(fine, stepped, state.physics),
        )

    def _draw_many(self, key: Array, numbers: Array):
        """(physics, task) of the starts `numbers` [M] of the instance `key`; -1 draws nothing."""
        refuse_on_several_devices()
        shape = jax.tree.map(
            lambda s: jax.ShapeDtypeStruct((*numbers.shape, *s.shape), s.dtype), self._start_shape
        )
        return host_call(self._draw_batch, shape, jax.random.key_data(key), numbers)

    def _draw_batch(self, keys: np.ndarray, numbers: np.ndarray):
        """Host side of `_draw_many`, with any leading dimensions."""
        lead = np.broadcast_shapes(keys.shape[:-1], numbers.shape[:-1])
        keys = np.broadcast_to(keys, (*lead, keys.shape[-1]))
        numbers = np.broadcast_to(numbers, (*lead, numbers.shape[-1]))
        out = jax.tree.map(
            lambda s: np.zeros((*numbers.shape, *s.shape), s.dtype), self._start_shape
        )
        with self._draw_lock:
            for where in np.argwhere(numbers >= 0):
                index = tuple(where)
                drawn = self._draw(keys[index[:-1]], int(numbers[index]))
                jax.tree.map(lambda o, x, index=index: o.__setitem__(index, x), out, drawn)
        return out

    def _draw(self, key: np.ndarray, number: int) -> tuple[Physics, dict[str, np.ndarray]]:
        """Start `number` of the instance with key data `key`, by MuJoCo's C engine."""
        model, data = self.model, self._draw_data
        seed = np.random.SeedSequence([*(int(word) for word in key), number])
        random = np.random.RandomState(np.random.MT19937(seed))
        mujoco.mj_resetData(model, data)
        forward_passive(model, data)
        task = self.task.start(model, data, random)
        data.ctrl[:] = 0.0
        forward_passive(model, data)

        def copy(x):
            return np.array(x, np.float32)

        physics = Physics(
            time=copy(data.time),
            qpos=copy(data.qpos),
            qvel=copy(data.qvel),
            act=copy(data.act),
            ctrl=copy(data.ctrl),
            mocap_pos=copy(data.mocap_pos),
            mocap_quat=copy(data.mocap_quat),
            sensordata=copy(data.sensordata),
        )
        return physics, {name: copy(value) for name, value in task.items()}

    def render(self, state: EnvState, width: int = 480, height: int = 360) -> np.ndarray:
        """Picture of an unbatched state by the model's first camera, [height, width, 3] uint8.

        Raises:
          RenderingUnavailable: no OpenGL library could be loaded; the message names the package.
        """
        from jaxrl.envs.rendering import render

        return render(self.model, state.physics, width, height)
