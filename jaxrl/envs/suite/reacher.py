"""Two-link planar reacher: easy and hard (dm_control suite/reacher.py).

The target, which dm_control moves by editing the model, is a mocap body here. Where it and the
finger are follows from the episode and the joints: a sensor would say no more and cost a second
physics step per control step, which has one.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.envs.suite.common import randomize_joints, suite_spec, tolerance
from jaxrl.envs.task import Sim, Task

TARGET_SIZES = {"easy": 0.05, "hard": 0.015}  # m
FINGER_SIZE = 0.01  # m
LINK = 0.12  # m, of arm and hand each
HEIGHT = 0.01  # m, of the target above the ground


def model(target_size: float) -> mujoco.MjSpec:
    """The suite's reacher with a movable target."""
    spec = suite_spec("reacher.xml")
    geom = spec.geom("target")
    material = geom.material
    spec.delete(geom)
    body = spec.worldbody.add_body(name="target", mocap=True, pos=[0.0, 0.0, HEIGHT])
    size = [target_size, 0.0, 0.0]
    body.add_geom(name="target", type=mujoco.mjtGeom.mjGEOM_SPHERE, size=size, material=material)
    return spec


def start(model, data, random):
    """Random pose, target on a ring of 5 to 20 cm."""
    randomize_joints(model, data, random)
    angle = random.uniform(0, 2 * np.pi)
    radius = random.uniform(0.05, 0.20)
    target = np.array([radius * np.sin(angle), radius * np.cos(angle)])
    data.mocap_pos[0, :2] = target
    return {"target": target}


def to_target(sim: Sim) -> jax.Array:
    """Vector from the finger to the target in the plane (m), [2]."""
    angles = jnp.cumsum(sim.qpos)  # of arm and hand
    return sim.task["target"] - LINK * jnp.stack([jnp.cos(angles).sum(), jnp.sin(angles).sum()])


def observe(sim: Sim) -> jax.Array:
    """Joint angles (2), vector to the target (2), joint velocities (2)."""
    return jnp.concatenate([sim.qpos, to_target(sim), sim.qvel])


def reward(sim: Sim, target_size: float) -> jax.Array:
    """Whether finger and target touch."""
    return tolerance(jnp.linalg.norm(to_target(sim)), (0.0, target_size + FINGER_SIZE))


TASKS = [
    Task(
        name=f"reacher-{name}",
        model=functools.partial(model, size),
        control_dt=0.02,
        time_limit=20.0,
        start=start,
        observe=observe,
        reward=functools.partial(reward, target_size=size),
    )
    for name, size in TARGET_SIZES.items()
]
