"""MuJoCo XLA: the physics as a program of jax arrays, for TPUs and GPUs (`impl="jax"`).

A control step is n times `mjx.step`, from a zero warm start. Acceleration sensors keep the values
of the last substep; position and velocity sensors are then evaluated at the new state. Nothing but
the state goes from substep to substep: all else in `mjx.Data` is a function of it.
"""

from __future__ import annotations

import contextlib
import copy
import io
import types
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.envs.task import Physics

Array = jax.Array

SENSOR, STAGE = mujoco.mjtSensor, mujoco.mjtStage

OF_ACTUATORS_OR_TENDONS = {
    *(SENSOR.mjSENS_TENDONPOS, SENSOR.mjSENS_TENDONVEL),
    *(SENSOR.mjSENS_ACTUATORPOS, SENSOR.mjSENS_ACTUATORVEL),
}
"""Position and velocity sensors that need the tendons and the actuators' lengths."""


def load_mjx() -> types.ModuleType:
    """`mujoco.mjx`, which takes seconds to import and prints when warp-lang is not there."""
    with contextlib.redirect_stdout(io.StringIO()):
        from mujoco import mjx
    return mjx


def adapted(model: mujoco.MjModel, solver: tuple[int, int] | None = None) -> mujoco.MjModel:
    """A copy without the flags that mjx knows nothing of and that change no trajectory.

    Args:
      solver: (iterations, line search iterations) instead of the model's own.
    """
    model = copy.copy(model)
    model.opt.enableflags &= ~int(mujoco.mjtEnableBit.mjENBL_ENERGY)
    for bit in ("AUTORESET", "MIDPHASE"):  # mjx never resets; the midphase is a matter of speed
        model.opt.disableflags &= ~int(getattr(mujoco.mjtDisableBit, f"mjDSBL_{bit}"))
    if solver is not None:
        model.opt.iterations, model.opt.ls_iterations = solver
    return model


def named(model: mujoco.MjModel, geom: int) -> str:
    """A geom's name, or its body's where it has none."""
    own = model.geom(geom).name
    return repr(own) if own else f"of {model.body(model.geom_bodyid[geom]).name!r}"


def unsupported(model: mujoco.MjModel) -> list[str]:
    """What mjx lacks to simulate `model` as MuJoCo does, in words that name it; [] if nothing."""
    mjx, model = load_mjx(), adapted(model)
    from mujoco.mjx._src import collision_driver
    from mujoco.mjx._src.types import SensorType

    missing = []
    for i in np.flatnonzero(~np.isin(model.sensor_type, list(SensorType))):
        kind = SENSOR(model.sensor_type[i]).name.removeprefix("mjSENS_").lower()
        missing.append(f"sensor {model.sensor(i).name!r} ({kind})")
    pairs: dict[tuple[int, int], list[str]] = {}
    for a, b, _ in collision_driver.geom_pairs(model):
        kinds = (int(model.geom_type[a]), int(model.geom_type[b]))
        if not collision_driver.has_collision_fn(*kinds):
            pairs.setdefault(kinds, []).append(f"{named(model, a)} and {named(model, b)}")
    for kinds, found in sorted(pairs.items()):
        a, b = (mujoco.mjtGeom(k).name.removeprefix("mjGEOM_").lower() for k in kinds)
        missing.append(f"collision of {a} with {b} (geoms {found[0]}; {len(found)} in all)")
    if (model.sensor_type == SENSOR.mjSENS_RANGEFINDER).any() and not model.nmat:
        missing.append("rangefinders in a model without a material (give a geom one)")
    if model.opt.density or model.opt.viscosity or model.opt.wind.any():
        for geom in np.flatnonzero(model.geom_fluid[:, 0])[:1]:
            missing.append(f"ellipsoidal fluid forces (geom {named(model, geom)})")
    if model.opt.noslip_iterations:
        missing.append(f"the noslip solver ({model.opt.noslip_iterations} iterations)")
    if not missing:
        try:
            data = mjx.make_data(mjx.put_model(model, impl="jax"), impl="jax")
            if (model.sensor_type == SENSOR.mjSENS_TOUCH).any() and not data._impl.ncon:
                missing.append("touch sensors in a model without contacts")
        except (NotImplementedError, ValueError) as reason:
            missing.append(str(reason).rstrip("."))
    return missing


def acceleration_columns(model: mujoco.MjModel) -> np.ndarray:
    """Which entries of `sensordata` describe the last substep, [nsensordata] bool."""
    late = np.asarray(model.sensor_needstage) == STAGE.mjSTAGE_ACC
    return np.repeat(late, model.sensor_dim)


class Mjx:
    """Steps one instance of a model; batch it with `jax.vmap`.

    Args:
      model: the model.
      substeps: physics steps per control step, n.
      solver: (iterations, line search iterations); the model's own by default.
    """

    name = "mjx"

    def __init__(self, model: mujoco.MjModel, substeps: int, solver: tuple[int, int] | None = None):
        self.substeps = substeps
        self._mjx = load_mjx()
        model = adapted(model, solver)
        self._model = self._mjx.put_model(model, impl="jax")
        self._template = self._mjx.make_data(model, impl="jax")
        self._late = acceleration_columns(model)
        kinds = {SENSOR(kind) for kind in model.sensor_type}
        self._of_actuators = bool(kinds & OF_ACTUATORS_OR_TENDONS)
        contact = model.sensor_type == SENSOR.mjSENS_CONTACT
        self._of_contacts = bool((contact & (model.sensor_needstage != STAGE.mjSTAGE_ACC)).any())
        # There, `mjx.step` leaves other values in acceleration sensors: those of the last
        # Runge-Kutta stage, or none at all.
        runge_kutta = model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4
        unconstrained = self._template._impl.nefc == 0
        self._sense_before = bool(self._late.any()) and (runge_kutta or unconstrained)
        self._step = jax.jit(self._advance)  # traced once, however many programs use it

    def step(self, physics: Physics, ctrl: Array) -> Physics:
        """Physics after one control step under `ctrl` [nu]; unbatched.

        A diverged row comes back with non-finite or huge entries.
        """
        return self._step(physics, ctrl)

    def _advance(self, physics: Physics, ctrl: Array) -> Physics:
        base = self._template.replace(
            ctrl=ctrl, mocap_pos=physics.mocap_pos, mocap_quat=physics.mocap_quat
        )
        late = np.flatnonzero(self._late)
        mjx, model = self._mjx, self._model

        def substep(state: dict[str, Array], _: None) -> tuple[dict[str, Array], None]:
            data = base.replace(**{k: v for k, v in state.items() if k != "late"})
            sensed = None
            if self._sense_before:
                sensed = mjx.sensor_acc(model, mjx.forward(model, data))
            data = mjx.step(model, data)
            new = {name: getattr(data, name) for name in state if name != "late"}
            return new | {"late": (sensed or data).sensordata[late]}, None

        state = {name: getattr(physics, name) for name in ("time", "qpos", "qvel", "act")}
        state["qacc_warmstart"] = jnp.zeros_like(physics.qvel)
        state["late"] = jnp.zeros(len(late), jnp.float32)
        state, _ = jax.lax.scan(substep, state, None, length=self.substeps)
        data = base.replace(qpos=state["qpos"], qvel=state["qvel"], act=state["act"])
        data = data.replace(time=state["time"])
        sensordata = physics.sensordata.at[late].set(state["late"])
        if not self._late.all():
            sensordata = jnp.where(self._late, sensordata, self._read(data).sensordata)
        return physics.replace(
            time=state["time"],
            qpos=state["qpos"],
            qvel=state["qvel"],
            act=state["act"],
            ctrl=ctrl,
            sensordata=sensordata,
        )

    def _read(self, data: Any) -> Any:
        """Position and velocity sensors at the state of `data`, without dynamics."""
        mjx, model = self._mjx, self._model
        data = mjx.com_pos(model, mjx.kinematics(model, data))
        if model.ncam:
            data = mjx.camlight(model, data)
        if self._of_actuators:
            data = mjx.transmission(model, mjx.tendon(model, data))
        if self._of_contacts:
            data = mjx.collision(model, data)
        data = mjx.sensor_pos(model, data)
        if self._of_actuators:
            data = mjx.fwd_velocity(model, data)
        else:
            data = mjx.com_vel(model, data)
        return mjx.sensor_vel(model, data)  # subtree velocities too, where a sensor needs them
