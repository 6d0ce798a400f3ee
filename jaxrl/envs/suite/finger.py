"""Finger that spins or turns a free body: spin, turn-easy, turn-hard (dm_control suite/finger.py).

The target, which dm_control moves by editing the model, is a site of a mocap body here.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.envs.suite.common import randomize_joints, suite_spec
from jaxrl.envs.task import Sim, Task, forward_passive

TARGET_SIZES = {"turn-easy": 0.07, "turn-hard": 0.03}  # m
SPIN_VELOCITY = 15.0  # rad/s
ATTEMPTS = 1000


def spin_model() -> mujoco.MjSpec:
    """The suite's finger with a spinner that turns freely, and no target shown."""
    spec = suite_spec("finger.xml")
    spec.joint("hinge").damping[0] = 0.03
    for name in ("target", "tip"):
        spec.site(name).rgba[3] = 0.0
    return spec


def turn_model(target_size: float) -> mujoco.MjSpec:
    """The suite's finger with a movable target."""
    spec = suite_spec("finger.xml")
    site = spec.site("target")
    position, material = np.array(site.pos), site.material
    spec.delete(site)
    body = spec.worldbody.add_body(name="target", mocap=True, pos=position)
    size = [target_size, 0.0, 0.0]
    body.add_site(name="target", type=mujoco.mjtGeom.mjGEOM_SPHERE, size=size, material=material)
    return spec


def spin_start(model, data, random):
    """Random pose without a collision."""
    for _ in range(ATTEMPTS):
        randomize_joints(model, data, random)
        forward_passive(model, data)
        if data.ncon == 0:
            return {}
    raise RuntimeError(f"finger: no collision-free pose in {ATTEMPTS} attempts")


def turn_start(model, data, random):
    """Target anywhere on the circle that the spinner's tip describes; random pose."""
    angle = random.uniform(-np.pi, np.pi)
    anchor = data.joint("hinge").xanchor
    radius = model.geom("cap1").size.sum()
    data.mocap_pos[0, [0, 2]] = anchor[[0, 2]] + radius * np.array([np.sin(angle), np.cos(angle)])
    return spin_start(model, data, random)


def planar(sim: Sim, name: str) -> jax.Array:
    """Position of `name` relative to the spinner in the plane (m), [2]."""
    return (sim.sensor(name) - sim.sensor("spinner"))[::2]


def distance(sim: Sim, target_size: float) -> jax.Array:
    """Signed distance from the tip to the target's surface (m), negative inside."""
    return jnp.linalg.norm(planar(sim, "target") - planar(sim, "tip")) - target_size


def observe_spin(sim: Sim) -> jax.Array:
    """Joint angles (2), tip (2), velocities (3), logarithm of 1 + touch (2)."""
    angles = [sim.sensor("proximal"), sim.sensor("distal")]
    names = ("proximal_velocity", "distal_velocity", "hinge_velocity")
    velocities = [sim.sensor(name) for name in names]
    touch = [jnp.log1p(sim.sensor(name)) for name in ("touchtop", "touchbottom")]
    return jnp.concatenate([*angles, planar(sim, "tip"), *velocities, *touch])


def observe_turn(sim: Sim, target_size: float) -> jax.Array:
    """As for spin, and the target (2) and the distance to it (1)."""
    target = planar(sim, "target")
    return jnp.concatenate([observe_spin(sim), target, distance(sim, target_size)[None]])


def reward_spin(sim: Sim) -> jax.Array:
    """Whether the body spins at 15 rad/s or more in the right direction."""
    return (sim.sensor("hinge_velocity")[0] <= -SPIN_VELOCITY).astype(jnp.float32)


def reward_turn(sim: Sim, target_size: float) -> jax.Array:
    """Whether the tip is inside the target."""
    return (distance(sim, target_size) <= 0).astype(jnp.float32)


TASKS = [
    Task(
        name="finger-spin",
        model=spin_model,
        control_dt=0.02,
        time_limit=20.0,
        start=spin_start,
        observe=observe_spin,
        reward=reward_spin,
    )
] + [
    Task(
        name=f"finger-{name}",
        model=functools.partial(turn_model, size),
        control_dt=0.02,
        time_limit=20.0,
        start=turn_start,
        observe=functools.partial(observe_turn, target_size=size),
        reward=functools.partial(reward_turn, target_size=size),
    )
    for name, size in TARGET_SIZES.items()
]
