"""Brax's humanoid that walks to a goal 1 to 5 m away, as in JaxGCRL (Bortkiewicz et al., 2025).

JaxGCRL's state has 268 entries, of which 28 say nothing: the goal's own joints and body, and the
root's actuation. The other 240 are here, computed from sensors. JaxGCRL simulates the same file
with brax's `spring` physics.

Shapes: L links.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.envs.goal.common import (
    add_camera,
    add_goal_mark,
    brax_spec,
    goal_task,
    plain_floor,
    set_brax_options,
)
from jaxrl.envs.suite.common import add_sensor
from jaxrl.envs.task import Sim

Array = jax.Array

CONTROL_DT = 0.015  # s
STEPS = 1000
RADIUS = 0.5  # m
GOAL_DISTANCE = (1.0, 5.0)  # m
GOAL_HEIGHT = 1.25  # m: about the torso's when standing
HEALTHY = (1.0, 2.0)  # m, height of the torso outside which the episode terminates
MARK = 0.25  # m
LINKS = (
    "torso",
    "lwaist",
    "pelvis",
    "right_thigh",
    "right_shin",
    "left_thigh",
    "left_shin",
    "right_upper_arm",
    "right_lower_arm",
    "left_upper_arm",
    "left_lower_arm",
)
STATE_SIZE = 24 + 23 + 16 * len(LINKS) + 17
SENSORS = ("framepos", "framequat", "framelinvel", "frameangvel")


def body() -> mujoco.MjSpec:
    """Brax's humanoid with the options of its `mjx` backend; feet are part of the shins."""
    spec = brax_spec("humanoid.xml")
    set_brax_options(spec)
    for side in ("right", "left"):
        foot, shin = spec.body(f"{side}_foot"), spec.body(f"{side}_shin")
        old = spec.geom(f"{side}_foot")
        size, pos = np.array(old.size), np.array(foot.pos) + old.pos
        look = {"material": old.material, "rgba": np.array(old.rgba)}
        spec.delete(foot)
        shin.add_geom(
            name=f"{side}_foot",
            type=mujoco.mjtGeom.mjGEOM_SPHERE,
            size=size,
            pos=pos,
            contype=1,
            conaffinity=0,
            **look,
        )
    return spec


def model() -> mujoco.MjSpec:
    """The humanoid, sensors of each link's inertial frame, the goal's mark."""
    spec = body()
    plain_floor(spec)
    for link in LINKS:
        for kind in SENSORS:
            add_sensor(spec, f"{link}_{kind}", kind, mujoco.mjtObj.mjOBJ_BODY, link)
    add_goal_mark(spec, MARK)
    add_camera(spec, (0.0, -10.5, 7.0), (0.0, 0.0, 0.3))
    return spec


def start(model, data, random):
    """Standing pose; goal at a uniform distance and angle."""
    distance, angle = random.uniform(*GOAL_DISTANCE), random.uniform(0, 2 * np.pi)
    return np.array([distance * np.cos(angle), distance * np.sin(angle), GOAL_HEIGHT])


class Constants(NamedTuple):
    """What the state needs of the model."""

    mass: np.ndarray  # [L] kg
    inertia: np.ndarray  # [L, 3] kg m^2, about the principal axes
    gear: np.ndarray  # [17] in the order of the joints
    limit: float  # of the control
    actuator: np.ndarray  # [17] which actuator drives each joint


@functools.cache
def constants() -> Constants:
    """Masses, inertias and gears of the compiled model."""
    compiled = body().compile()
    ids = [compiled.body(link).id for link in LINKS]
    order = np.argsort(compiled.actuator_trnid[:, 0])
    return Constants(
        mass=compiled.body_mass[ids],
        inertia=compiled.body_inertia[ids],
        gear=compiled.actuator_gear[order, 0],
        limit=float(compiled.actuator_ctrlrange[0, 1]),
        actuator=order,
    )


def state(sim: Sim) -> Array:
    """Positions (24), velocities (23), per link its inertia about the centre of mass (9) and its
    mass (1), per link its share of the momentum over the total mass (3) and its angular velocity
    (3), torques (17)."""
    model = constants()
    pos, quat, linear, angular = (
        jnp.stack([sim.sensor(f"{link}_{kind}") for link in LINKS]) for kind in SENSORS
    )
    share = (model.mass / model.mass.sum())[:, None]
    offset = pos - (share * pos).sum(0)
    inertia = jax.vmap(_inertia)(quat, jnp.asarray(model.inertia), offset, jnp.asarray(model.mass))
    per_link = jnp.concatenate([inertia.reshape(len(LINKS), 9), model.mass[:, None]], axis=1)
    velocity = jnp.concatenate([share * linear, angular], axis=1)
    torque = model.gear * jnp.clip(sim.ctrl, -model.limit, model.limit)[model.actuator]
    return jnp.concatenate([sim.qpos, sim.qvel, per_link.ravel(), velocity.ravel(), torque])


def _inertia(quat: Array, principal: Array, offset: Array, mass: Array) -> Array:
    """Inertia of a link about a point `offset` (m) away from its own centre, [3, 3]."""
    w, x, y, z = quat
    axes = jnp.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    steiner = jnp.dot(offset, offset) * jnp.eye(3) - jnp.outer(offset, offset)
    return (axes * principal) @ axes.T + mass * steiner


def fallen(sim: Sim) -> Array:
    """Whether the torso is too low or too high."""
    low, high = HEALTHY
    return (sim.qpos[2] < low) | (sim.qpos[2] > high)


TASKS = [
    goal_task(
        "humanoid-goal",
        model,
        state=state,
        state_size=STATE_SIZE,
        achieved=slice(0, 3),
        radius=RADIUS,
        start=start,
        control_dt=CONTROL_DT,
        steps=STEPS,
        terminated=fallen,
    )
]
