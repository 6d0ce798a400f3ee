"""Planar walker: stand, walk, run (dm_control suite/walker.py)."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import mujoco

from jaxrl.envs.suite.common import BODY_FRAME, add_sensor, randomize_joints, suite_spec, tolerance
from jaxrl.envs.task import Sim, Task

STAND_HEIGHT = 1.2  # m
SPEEDS = {"stand": 0.0, "walk": 1.0, "run": 8.0}  # m/s
BODIES = ("torso", "right_thigh", "right_leg", "right_foot", "left_thigh", "left_leg", "left_foot")


def model() -> mujoco.MjSpec:
    """The suite's walker with the axes of every body and the height of the torso as sensors."""
    spec = suite_spec("walker.xml")
    for body in BODIES:
        add_sensor(spec, f"{body}_zaxis", "framezaxis", BODY_FRAME, body)
        add_sensor(spec, f"{body}_xaxis", "framexaxis", BODY_FRAME, body)
    add_sensor(spec, "torso_position", "framepos", BODY_FRAME, "torso")
    return spec


def start(model, data, random):
    """Random pose in mid-air."""
    randomize_joints(model, data, random)
    return {}


def observe(sim: Sim) -> jax.Array:
    """Planar orientation of each body (7 x 2), torso height, velocities (9)."""
    # xmat's row x holds the world's x component of the body's x, y and z axes.
    orientations = [
        jnp.stack([sim.sensor(f"{body}_xaxis")[0], sim.sensor(f"{body}_zaxis")[0]])
        for body in BODIES
    ]
    height = sim.sensor("torso_position")[2:3]
    return jnp.concatenate([*orientations, height, sim.qvel])


def reward(sim: Sim, speed: float) -> jax.Array:
    """Upright torso above 1.2 m, times horizontal speed of at least `speed` (m/s)."""
    height = sim.sensor("torso_position")[2]
    standing = tolerance(height, (STAND_HEIGHT, jnp.inf), margin=STAND_HEIGHT / 2)
    upright = (1 + sim.sensor("torso_zaxis")[2]) / 2
    stand = (3 * standing + upright) / 4
    if speed == 0:
        return stand
    velocity = sim.sensor("torso_subtreelinvel")[0]
    move = tolerance(
        velocity, (speed, jnp.inf), margin=speed / 2, value_at_margin=0.5, sigmoid="linear"
    )
    return stand * (5 * move + 1) / 6


TASKS = [
    Task(
        name=f"walker-{name}",
        model=model,
        control_dt=0.025,
        time_limit=25.0,
        start=start,
        observe=observe,
        reward=functools.partial(reward, speed=speed),
    )
    for name, speed in SPEEDS.items()
]
