"""Humanoid of 21 joints: stand, walk, run (dm_control suite/humanoid.py).

Tassa, Erez, Todorov, "Synthesis and stabilization of complex behaviors through online trajectory
optimization", 2012.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import mujoco

from jaxrl.envs.suite.common import BODY_FRAME, add_sensor, randomize_joints, suite_spec, tolerance
from jaxrl.envs.task import Sim, Task

STAND_HEIGHT = 1.4  # m, of the head
SPEEDS = {"stand": 0.0, "walk": 1.0, "run": 10.0}  # m/s
EXTREMITIES = ("left_hand", "left_foot", "right_hand", "right_foot")
ATTEMPTS = 1000


def model() -> mujoco.MjSpec:
    """The suite's humanoid with the torso's frame and the places of head, hands and feet as
    sensors, without those of touch, force and acceleration, which no task reads."""
    spec = suite_spec("humanoid.xml")
    for sensor in list(spec.sensors):
        if sensor.name != "torso_subtreelinvel":
            spec.delete(sensor)
    for axis in "xyz":
        add_sensor(spec, f"torso_{axis}axis", f"frame{axis}axis", BODY_FRAME, "torso")
    for body in ("torso", "head", *EXTREMITIES):
        add_sensor(spec, f"{body}_position", "framepos", BODY_FRAME, body)
    return spec


def start(model, data, random):
    """Random pose without a collision, dropped from mid-air."""
    for _ in range(ATTEMPTS):
        randomize_joints(model, data, random)
        mujoco.mj_kinematics(model, data)
        mujoco.mj_collision(model, data)
        if data.ncon == 0:
            return {}
    raise RuntimeError(f"humanoid: no collision-free pose in {ATTEMPTS} attempts")


def torso_axes(sim: Sim) -> jax.Array:
    """The torso's x, y and z axes in the world, one a row, [3, 3]."""
    return jnp.stack([sim.sensor(f"torso_{axis}axis") for axis in "xyz"])


def head_height(sim: Sim) -> jax.Array:
    """Height of the head above the ground (m), []."""
    return sim.sensor("head_position")[2]


def observe(sim: Sim) -> jax.Array:
    """Joint angles (21), height of the head (1), hands and feet in the torso's frame (4 x 3), the
    vertical in the torso's frame (3), velocity of the centre of mass (3), velocities (27)."""
    axes, torso = torso_axes(sim), sim.sensor("torso_position")
    extremities = [axes @ (sim.sensor(f"{body}_position") - torso) for body in EXTREMITIES]
    return jnp.concatenate(
        [
            *(sim.qpos[7:], head_height(sim)[None], *extremities, axes[:, 2]),
            *(sim.sensor("torso_subtreelinvel"), sim.qvel),
        ]
    )


def reward(sim: Sim, speed: float) -> jax.Array:
    """Upright with the head above 1.4 m and little control, times horizontal speed of at least
    `speed` (m/s), or for 0, times little of it."""
    standing = tolerance(head_height(sim), (STAND_HEIGHT, jnp.inf), margin=STAND_HEIGHT / 4)
    upright = tolerance(
        torso_axes(sim)[2, 2], (0.9, jnp.inf), margin=1.9, value_at_margin=0, sigmoid="linear"
    )
    small_control = tolerance(sim.ctrl, margin=1, value_at_margin=0, sigmoid="quadratic").mean()
    stand = (4 + small_control) / 5 * standing * upright
    velocity = sim.sensor("torso_subtreelinvel")[:2]
    if speed == 0:
        return stand * tolerance(velocity, margin=2).mean()
    move = tolerance(
        jnp.linalg.norm(velocity),
        (speed, jnp.inf),
        margin=speed,
        value_at_margin=0,
        sigmoid="linear",
    )
    return stand * (5 * move + 1) / 6


TASKS = [
    Task(
        name=f"humanoid-{name}",
        model=model,
        control_dt=0.025,
        time_limit=25.0,
        start=start,
        observe=observe,
        reward=functools.partial(reward, speed=speed),
    )
    for name, speed in SPEEDS.items()
]
