"""MuJoCo's C engine over the whole batch, called from inside the compiled program.

A control step of n substeps rolls n + 1 rows with `mujoco.rollout`. Row n holds the new state and
the acceleration sensors of the last substep; row n + 1 evaluates position and velocity sensors
*at* the new state, which is the moment that dm_control's observations describe. A model without
such sensors needs no extra row.

The solver's warm start is zero at each control step, so that a step is a function of the state
(and batches, chunks and resumes cannot change it).
"""

from __future__ import annotations

import copy
import logging
import os
import threading

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import rollout

from jaxrl.envs.host_call import host_call
from jaxrl.envs.task import Physics
from jaxrl.errors import UsageError

Array = jax.Array

CONTROL = mujoco.mjtState.mjSTATE_CTRL.value
MOCAP = mujoco.mjtState.mjSTATE_MOCAP_POS.value | mujoco.mjtState.mjSTATE_MOCAP_QUAT.value
FULL = mujoco.mjtState.mjSTATE_FULLPHYSICS


def available_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quiet_warnings() -> None:
    """Sends MuJoCo's warnings to `logging` at level debug, unless the program handles them itself.

    They tell of unstable physics, which environments count; MuJoCo's own handler prints each and
    appends it to MUJOCO_LOG.TXT in the working folder.
    """
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(logging.getLogger(__name__).debug)


def refuse_on_several_devices() -> None:
    """Raises UsageError where a host callback inside `shard_map` would deadlock: on jax 0.10."""
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty and mesh.size > 1 and jax.__version_info__ < (0, 11):
        raise UsageError(
            f"native physics on {mesh.size} devices needs jax 0.11 or newer, and this is jax "
            f"{jax.__version__}; upgrade jax (Python 3.12), or use one device or physics 'mjx'"
        )


class Native:
    """Steps batches of one model. Safe to call from several threads; calls take turns.

    Args:
      model: the model, which is copied: drawing a start switches actuation off in the
        environment's for a moment, which another thread's or device's step must not see. Autoreset
        gets switched off in the copy, so that a diverged row shows as such.
      substeps: physics steps per control step, n.
    """

    name = "native"

    def __init__(self, model: mujoco.MjModel, substeps: int):
        quiet_warnings()
        model = copy.copy(model)
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        size = 1 + model.nq + model.nv + model.na
        if mujoco.mj_stateSize(model, FULL) != size:
            raise ValueError(
                "the model has plugin or history state, which the native engine does not carry; "
                "remove plugins and delayed actuators or sensors from it"
            )
        self.model = model
        self.substeps = substeps
        self._sizes = np.cumsum([1, model.nq, model.nv, model.na])
        late = np.asarray(model.sensor_needstage) == mujoco.mjtStage.mjSTAGE_ACC
        self._acceleration = np.repeat(late, model.sensor_dim)
        self._rows = substeps + (0 if self._acceleration.all() else 1)
        self._control_spec = CONTROL | (MOCAP if model.nmocap else 0)
        self._threads = available_cores()
        self._lock = threading.Lock()
        self._pool: rollout.Rollout | None = None  # made at the first call
        self._data: list[mujoco.MjData] = []

    def step(self, physics: Physics, ctrl: Array) -> Physics:
        """Physics after one control step under `ctrl` [nu]. Unbatched; one call of the host
        under vmap, however nested.

        A diverged row comes back with non-finite or huge entries, never as an exception.
        """
        refuse_on_several_devices()
        inputs = jnp.concatenate(
            [physics.time[None], physics.qpos, physics.qvel, physics.act, ctrl]
            + [physics.mocap_pos.ravel(), physics.mocap_quat.ravel()]
        )
        size = self._sizes[-1] + self.model.nsensordata
        out = host_call(self._roll, jax.ShapeDtypeStruct((size,), jnp.float32), inputs)
        time, qpos, qvel, act, sensordata = jnp.split(out, self._sizes)
        return physics.replace(
            time=time[0], qpos=qpos, qvel=qvel, act=act, ctrl=ctrl, sensordata=sensordata
        )

    def _roll(self, rows: np.ndarray) -> np.ndarray:
        """Rows [..., state + control] to [..., state + sensordata]."""
        flat = rows.reshape(-1, rows.shape[-1]).astype(np.float64)
        with self._lock:
            state, control = np.split(flat, [self._sizes[-1]], axis=1)
            out = self._rollout(np.ascontiguousarray(state), control)
        return out.reshape(*rows.shape[:-1], -1)

    def _rollout(self, state: np.ndarray, control: np.ndarray) -> np.ndarray:
        """state [N, nstate], control [N, ncontrol] to [N, nstate + nsensordata], float32."""
        if self._pool is None:
            self._pool = rollout.Rollout(nthread=self._threads)
            self._data = [mujoco.MjData(self.model) for _ in range(self._threads)]
        n = len(state)
        states = np.empty((n, self._rows, state.shape[1]))
        sensors = np.empty((n, self._rows, self.model.nsensordata))
        self._pool.rollout(
            [self.model] * n,
            self._data,
            state,
            np.ascontiguousarray(np.repeat(control[:, None], self._rows, axis=1)),
            control_spec=self._control_spec,
            skip_checks=True,
            nstep=self._rows,
            state=states,
            sensordata=sensors,
        )
        end = np.concatenate([states[:, self.substeps - 1], self._reading(sensors)], axis=1)
        with np.errstate(over="ignore", invalid="ignore"):  # a diverged row may exceed float32
            return end.astype(np.float32)

    def _reading(self, sensors: np.ndarray) -> np.ndarray:
        """Each sensor at its moment, [N, nsensordata], from the rows [N, rows, nsensordata]."""
        return np.where(self._acceleration, sensors[:, self.substeps - 1], sensors[:, -1])
