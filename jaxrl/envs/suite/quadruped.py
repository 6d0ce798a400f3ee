"""Four-legged robot whose legs are coupled tendons: walk, run (dm_control suite/quadruped.py)."""

from __future__ import annotations

import bisect
import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.envs.suite.common import BODY_FRAME, add_sensor, suite_spec, tolerance
from jaxrl.envs.task import Sim, Task

SPEEDS = {"walk": 0.5, "run": 5.0}  # m/s
TIME_LIMIT = 20.0  # s
STEP, STEPS = 0.01, 256  # m, between heights that a start may have; how many of them
TOES = ("front_left", "front_right", "back_right", "back_left")


def model(speed: float) -> mujoco.MjSpec:
    """The suite's quadruped on a plane as wide as it can run, without ball, walls, terrain and
    rangefinders, with the direction of its back as a sensor."""
    spec = suite_spec("quadruped.xml")
    spec.geom("floor").size[:2] = TIME_LIMIT * speed
    for name in ("wall_px", "wall_py", "wall_nx", "wall_ny", "terrain"):
        spec.delete(spec.geom(name))
    spec.delete(spec.body("ball"))
    spec.delete(spec.site("target"))
    for sensor in list(spec.sensors):
        if sensor.type == mujoco.mjtSensor.mjSENS_RANGEFINDER:
            spec.delete(sensor)
    add_sensor(spec, "torso_zaxis", "framezaxis", BODY_FRAME, "torso")
    return spec


def start(model, data, random):
    """Any orientation, as low as it can be without a contact, to a centimetre."""
    quat = random.randn(4)
    data.qpos[:2] = 0.0
    data.qpos[3:7] = quat / np.linalg.norm(quat)

    def is_clear(step: int) -> bool:
        data.qpos[2] = step * STEP
        mujoco.mj_kinematics(model, data)
        mujoco.mj_collision(model, data)
        return data.ncon == 0

    lowest = bisect.bisect_left(range(STEPS), True, key=is_clear)  # above it, all are clear
    if lowest == STEPS:
        raise RuntimeError(f"quadruped: contacts at every height below {STEPS * STEP} m")
    data.qpos[2] = lowest * STEP
    return {}


def upright(sim: Sim) -> jax.Array:
    """Cosine between the torso's axis and the vertical, []."""
    return sim.sensor("torso_zaxis")[2]


def observe(sim: Sim) -> jax.Array:
    """Joint angles (16) and velocities (16), activations (12), velocity in the torso's frame (3),
    uprightness (1), acceleration (3) and angular velocity (3) of the torso, inverse hyperbolic
    sines of force (12) and torque (12) at the toes."""
    loads = [sim.sensor(f"{kind}_toe_{toe}") for kind in ("force", "torque") for toe in TOES]
    return jnp.concatenate(
        [
            *(sim.qpos[7:], sim.qvel[6:], sim.act),
            *(sim.sensor("velocimeter"), upright(sim)[None]),
            *(sim.sensor("imu_accel"), sim.sensor("imu_gyro")),
            jnp.arcsinh(jnp.concatenate(loads)),
        ]
    )


def reward(sim: Sim, speed: float) -> jax.Array:
    """Uprightness, times forward speed of at least `speed` (m/s)."""
    forward = sim.sensor("velocimeter")[0]
    move = tolerance(forward, (speed, jnp.inf), margin=speed, value_at_margin=0.5, sigmoid="linear")
    return move * tolerance(
        upright(sim), (1.0, jnp.inf), margin=2, value_at_margin=0, sigmoid="linear"
    )


TASKS = [
    Task(
        name=f"quadruped-{name}",
        model=functools.partial(model, speed),
        control_dt=0.02,
        time_limit=TIME_LIMIT,
        start=start,
        observe=observe,
        reward=functools.partial(reward, speed=speed),
    )
    for name, speed in SPEEDS.items()
]
