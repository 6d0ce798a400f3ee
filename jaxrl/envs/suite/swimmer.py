"""Planar swimmers of 6 and 15 links: reach the target (dm_control suite/swimmer.py).

Coulom, "Reinforcement learning using neural networks, with applications to motor control", 2002.
The target, which dm_control moves by editing the model, is a mocap body here.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import mujoco

from jaxrl.envs.suite.common import add_sensor, randomize_joints, suite_spec, tolerance
from jaxrl.envs.task import Sim, Task

LINKS = (6, 15)
TARGET_SIZE = 0.1  # m
LENGTH = 0.1  # m, of a link
CAMERA_LINKS = 6  # links of the swimmer that the model file's cameras are placed for
NEAR_SHARE, NEAR, FAR = 0.2, 0.3, 2.0  # m, half the side of the square that holds the target


def model(links: int) -> mujoco.MjSpec:
    """The suite's head with a movable target and `links` - 1 links behind it, each with a motor at
    its joint and sensors of its own velocity."""
    spec = suite_spec("swimmer.xml")
    parent = spec.body("head")
    for i in range(links - 1):
        parent = parent.add_body(name=f"segment_{i}", pos=[0.0, LENGTH, 0.0])
        parent.add_geom(spec.find_default("visual"), name=f"visual_{i}")
        parent.add_geom(spec.find_default("inertial"), name=f"inertial_{i}")
        parent.add_site(name=f"site_{i}")
        parent.add_joint(name=f"joint_{i}", range=[-360 / links, 360 / links])
        joint = mujoco.mjtTrn.mjTRN_JOINT
        spec.add_actuator(name=f"motor_{i}", trntype=joint, target=f"joint_{i}")
        for kind in ("velocimeter", "gyro"):
            add_sensor(spec, f"{kind}_{i}", kind, mujoco.mjtObj.mjOBJ_SITE, f"site_{i}")
    for camera in spec.cameras:
        if camera.mode == mujoco.mjtCamLight.mjCAMLIGHT_TRACKCOM:
            camera.pos *= links / CAMERA_LINKS
    _make_target_movable(spec)
    for geom in spec.geoms:  # contacts are disabled; MJX would still ask how to compute them
        geom.contype = geom.conaffinity = 0
    return spec


def _make_target_movable(spec: mujoco.MjSpec) -> None:
    """Puts the target and the light above it on a mocap body."""
    geom, light = spec.geom("target"), spec.light("target_light")
    position, material, above = list(geom.pos), geom.material, light.pos - geom.pos
    spec.delete(geom)
    spec.delete(light)
    body = spec.worldbody.add_body(name="target", mocap=True, pos=position)
    size = [TARGET_SIZE, 0.0, 0.0]
    body.add_geom(name="target", type=mujoco.mjtGeom.mjGEOM_SPHERE, size=size, material=material)
    body.add_light(name="target_light", pos=above, diffuse=[1.0, 1.0, 1.0])


def start(model, data, random):
    """Random pose; one target in five is near."""
    randomize_joints(model, data, random)
    half = NEAR if random.rand() < NEAR_SHARE else FAR
    data.mocap_pos[0, :2] = random.uniform(-half, half, 2)
    return {}


def to_target(sim: Sim) -> jax.Array:
    """Vector from the nose to the target in the head's plane (m), [2]."""
    vector = sim.sensor("target_pos") - sim.sensor("nose_pos")
    return jnp.stack([vector @ sim.sensor("head_xaxis"), vector @ sim.sensor("head_yaxis")])


def observe(sim: Sim, links: int) -> jax.Array:
    """Joint angles (links - 1), vector to the target (2), each link's velocity in its own frame:
    linear (2) and angular (1)."""
    linear = ["head_vel", *(f"velocimeter_{i}" for i in range(links - 1))]
    angular = ["head_gyro", *(f"gyro_{i}" for i in range(links - 1))]
    velocities = [
        part
        for v, w in zip(linear, angular, strict=True)
        for part in (sim.sensor(v)[:2], sim.sensor(w)[2:])
    ]
    return jnp.concatenate([sim.qpos[3:], to_target(sim), *velocities])


def reward(sim: Sim) -> jax.Array:
    """Closeness of the nose to the target."""
    distance = jnp.linalg.norm(to_target(sim))
    return tolerance(distance, (0.0, TARGET_SIZE), margin=5 * TARGET_SIZE, sigmoid="long_tail")


TASKS = [
    Task(
        name=f"swimmer-swimmer{links}",
        model=functools.partial(model, links),
        control_dt=0.03,
        time_limit=30.0,
        start=start,
        observe=functools.partial(observe, links=links),
        reward=reward,
    )
    for links in LINKS
]
