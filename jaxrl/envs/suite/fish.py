"""Fish: right itself, swim to a target (dm_control suite/fish.py).

The target, which dm_control moves by editing the model, is a mocap body here.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.envs.suite.common import BODY_FRAME, add_sensor, suite_spec, tolerance
from jaxrl.envs.task import Sim, Task

TARGET_SIZE = 0.04  # m
RADII = 0.005 + TARGET_SIZE  # m, of the mouth and the target


def model(target_moves: bool) -> mujoco.MjSpec:
    """The suite's fish with the direction of its back as a sensor, and a target or none shown."""
    spec = suite_spec("fish.xml")
    add_sensor(spec, "torso_zaxis", "framezaxis", BODY_FRAME, "torso")
    if target_moves:
        _make_target_movable(spec)
    else:
        spec.geom("target").rgba[3] = 0.0
    for geom in spec.geoms:  # constraints are disabled; MJX would still ask how to find contacts
        geom.contype = geom.conaffinity = 0
    return spec


def _make_target_movable(spec: mujoco.MjSpec) -> None:
    """Puts the target on a mocap body; adds sensors that place it in the mouth's frame."""
    geom = spec.geom("target")
    position, material = list(geom.pos), geom.material
    spec.delete(geom)
    body = spec.worldbody.add_body(name="target", mocap=True, pos=position)
    size = [TARGET_SIZE, 0.0, 0.0]
    body.add_geom(name="target", type=mujoco.mjtGeom.mjGEOM_SPHERE, size=size, material=material)
    for axis in "xyz":
        add_sensor(spec, f"mouth_{axis}axis", f"frame{axis}axis", mujoco.mjtObj.mjOBJ_GEOM, "mouth")
    for name in ("mouth", "target"):
        add_sensor(spec, f"{name}_position", "framepos", mujoco.mjtObj.mjOBJ_GEOM, name)


def upright_start(model, data, random):
    """Any orientation, tail and fins nearly straight."""
    quat = random.randn(4)
    data.qpos[3:7] = quat / np.linalg.norm(quat)
    data.qpos[7:] = random.uniform(-0.2, 0.2, model.nq - 7)
    return {}


def swim_start(model, data, random):
    """As for upright, and a target in a box around the fish."""
    upright_start(model, data, random)
    data.mocap_pos[0] = random.uniform((-0.4, -0.4, 0.1), (0.4, 0.4, 0.3))
    return {}


def upright(sim: Sim) -> jax.Array:
    """Cosine between the fish's back and the vertical, []."""
    return sim.sensor("torso_zaxis")[2]


def to_target(sim: Sim) -> jax.Array:
    """Vector from the mouth to the target in the mouth's frame (m), [3]."""
    axes = jnp.stack([sim.sensor(f"mouth_{axis}axis") for axis in "xyz"])
    return axes @ (sim.sensor("target_position") - sim.sensor("mouth_position"))


def observe_upright(sim: Sim) -> jax.Array:
    """Joint angles (7), uprightness (1), velocities (13)."""
    return jnp.concatenate([sim.qpos[7:], upright(sim)[None], sim.qvel])


def observe_swim(sim: Sim) -> jax.Array:
    """Joint angles (7), uprightness (1), vector to the target (3), velocities (13)."""
    return jnp.concatenate([sim.qpos[7:], upright(sim)[None], to_target(sim), sim.qvel])


def reward_upright(sim: Sim) -> jax.Array:
    """Uprightness, smoothed."""
    return tolerance(upright(sim), (1.0, 1.0), margin=1.0)


def reward_swim(sim: Sim) -> jax.Array:
    """Closeness of the mouth to the target, and a little uprightness."""
    distance = jnp.linalg.norm(to_target(sim))
    in_target = tolerance(distance, (0.0, RADII), margin=2 * RADII)
    return (7 * in_target + (1 + upright(sim)) / 2) / 8


TASKS = [
    Task(
        name="fish-upright",
        model=functools.partial(model, target_moves=False),
        control_dt=0.04,
        time_limit=40.0,
        start=upright_start,
        observe=observe_upright,
        reward=reward_upright,
    ),
    Task(
        name="fish-swim",
        model=functools.partial(model, target_moves=True),
        control_dt=0.04,
        time_limit=40.0,
        start=swim_start,
        observe=observe_swim,
        reward=reward_swim,
    ),
]
