"""What the dm_control tasks share: model files, sensors, reward shaping, random poses.

Tassa et al., "dm_control: Software and Tasks for Continuous Control", 2020 (arXiv 2006.12983).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.errors import UsageError

Array = jax.Array

BODY_FRAME = mujoco.mjtObj.mjOBJ_XBODY
"""The frame that dm_control's xpos and xmat describe (mjOBJ_BODY is the inertial one)."""


def suite_spec(file: str) -> mujoco.MjSpec:
    """The MjSpec of a model file of the installed dm_control (without importing dm_control)."""
    package = importlib.util.find_spec("dm_control")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError(
            "the suite's model files come from dm_control: pip install dm-control"
        )
    return mujoco.MjSpec.from_file(str(Path(package.submodule_search_locations[0], "suite", file)))


def add_sensor(
    spec: mujoco.MjSpec, name: str, kind: str, object_type: mujoco.mjtObj, object_name: str
) -> None:
    """Adds a sensor; `kind` is the MJCF element, such as "framepos"."""
    spec.add_sensor(
        name=name,
        type=getattr(mujoco.mjtSensor, f"mjSENS_{kind.upper()}"),
        objtype=object_type,
        objname=object_name,
    )


def tolerance(
    x: Array,
    bounds: tuple[float, float] = (0.0, 0.0),
    margin: float = 0.0,
    sigmoid: str = "gaussian",
    value_at_margin: float = 0.1,
) -> Array:
    """1 inside `bounds`, falling to `value_at_margin` at distance `margin` (dm_control rewards.py).

    Args:
      x: any shape.
      bounds: inclusive interval, in the unit of x.
      margin: distance from the interval, in the unit of x; 0 gives the indicator.
      sigmoid: "gaussian", "linear", "quadratic", "hyperbolic", "long_tail", "cosine",
        "reciprocal" or "tanh_squared".
      value_at_margin: value at distance `margin`.

    Raises:
      UsageError: an interval that ends before it begins, a negative margin, or a value at the
        margin that the sigmoid cannot have.
    """
    lower, upper = bounds
    if lower > upper or margin < 0:
        raise UsageError(f"tolerance takes lower <= upper and margin >= 0, got {bounds}, {margin}")
    zero = sigmoid in ("cosine", "linear", "quadratic")  # they can end at 0
    if not (0 < value_at_margin < 1 or (zero and value_at_margin == 0)):
        raise UsageError(
            f"tolerance takes a value_at_margin {'from' if zero else 'above'} 0 and below 1 for "
            f"{sigmoid!r}, got {value_at_margin}"
        )
    inside = (lower <= x) & (x <= upper)
    if margin == 0:
        return jnp.where(inside, 1.0, 0.0)
    distance = jnp.where(x < lower, lower - x, x - upper) / margin
    return jnp.where(inside, 1.0, _falling(distance, value_at_margin, sigmoid))


def _falling(d: Array, value: float, sigmoid: str) -> Array:
    """1 at d = 0, `value` at d = 1."""
    if sigmoid == "gaussian":
        return jnp.exp(-0.5 * (d * np.sqrt(-2 * np.log(value))) ** 2)
    if sigmoid == "hyperbolic":
        return 1 / jnp.cosh(d * np.arccosh(1 / value))
    if sigmoid == "long_tail":
        return 1 / ((d * np.sqrt(1 / value - 1)) ** 2 + 1)
    if sigmoid == "reciprocal":
        return 1 / (jnp.abs(d) * (1 / value - 1) + 1)
    if sigmoid == "cosine":
        scaled = d * np.arccos(2 * value - 1) / np.pi
        return jnp.where(jnp.abs(scaled) < 1, (1 + jnp.cos(jnp.pi * scaled)) / 2, 0.0)
    if sigmoid == "linear":
        scaled = d * (1 - value)
        return jnp.where(jnp.abs(scaled) < 1, 1 - scaled, 0.0)
    if sigmoid == "quadratic":
        scaled = d * np.sqrt(1 - value)
        return jnp.where(jnp.abs(scaled) < 1, 1 - scaled**2, 0.0)
    if sigmoid == "tanh_squared":
        return 1 - jnp.tanh(d * np.arctanh(np.sqrt(1 - value))) ** 2
    raise ValueError(f"unknown sigmoid {sigmoid!r}")


def randomize_joints(model: mujoco.MjModel, data: mujoco.MjData, random: np.random.RandomState):
    """Uniform pose: limited joints in their range, free angles in [-pi, pi], quaternions on the
    sphere (dm_control randomizers.py, whose free joints draw from the positive orthant)."""
    kinds = mujoco.mjtJoint
    for i in range(model.njnt):
        joint = model.joint(i)
        kind = kinds(model.jnt_type[i])  # `in` finds no enum equal to NumPy's integer
        qpos = data.qpos[joint.qposadr[0] :]
        low, high = joint.range
        if kind in (kinds.mjJNT_HINGE, kinds.mjJNT_SLIDE) and joint.limited[0]:
            qpos[0] = random.uniform(low, high)
        elif kind == kinds.mjJNT_HINGE:
            qpos[0] = random.uniform(-np.pi, np.pi)
        elif kind == kinds.mjJNT_BALL and joint.limited[0]:
            axis = random.randn(3)
            angle = random.rand() * high
            mujoco.mju_axisAngle2Quat(qpos[:4], axis / np.linalg.norm(axis), angle)
        elif kind == kinds.mjJNT_BALL:
            quat = random.randn(4)
            qpos[:4] = quat / np.linalg.norm(quat)
        elif kind == kinds.mjJNT_FREE:
            quat = random.rand(4)
            qpos[3:7] = quat / np.linalg.norm(quat)
