"""Planar one-legged hopper: stand, hop (dm_control suite/hopper.py)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import mujoco

from jaxrl.envs.suite.common import add_sensor, randomize_joints, suite_spec, tolerance
from jaxrl.envs.task import Sim, Task

STAND_HEIGHT = 0.6  # m, of the torso above the foot
HEIGHT_LIMIT = 2.0  # m
HOP_SPEED = 2.0  # m/s


def model() -> mujoco.MjSpec:
    """The suite's hopper with the centres of mass of its torso and its foot as sensors."""
    spec = suite_spec("hopper.xml")
    for body in ("torso", "foot"):
        add_sensor(spec, f"{body}_com", "framepos", mujoco.mjtObj.mjOBJ_BODY, body)
    return spec


def start(model, data, random):
    """Random pose."""
    randomize_joints(model, data, random)
    return {}


def observe(sim: Sim) -> jax.Array:
    """Positions without the horizontal one (6), velocities (7), logarithm of 1 + touch (2)."""
    touch = [jnp.log1p(sim.sensor(name)) for name in ("touch_toe", "touch_heel")]
    return jnp.concatenate([sim.qpos[1:], sim.qvel, *touch])


def standing(sim: Sim) -> jax.Array:
    """Whether the torso is 0.6 m or more above the foot, []."""
    height = (sim.sensor("torso_com") - sim.sensor("foot_com"))[2]
    return tolerance(height, (STAND_HEIGHT, HEIGHT_LIMIT))


def reward_stand(sim: Sim) -> jax.Array:
    """Standing, with little control."""
    small_control = tolerance(sim.ctrl, margin=1, value_at_margin=0, sigmoid="quadratic").mean()
    return standing(sim) * (small_control + 4) / 5


def reward_hop(sim: Sim) -> jax.Array:
    """Standing, times horizontal speed of at least 2 m/s."""
    speed = sim.sensor("torso_subtreelinvel")[0]
    return standing(sim) * tolerance(
        speed, (HOP_SPEED, jnp.inf), margin=HOP_SPEED / 2, value_at_margin=0.5, sigmoid="linear"
    )


TASKS = [
    Task(
        name=f"hopper-{name}",
        model=model,
        control_dt=0.02,
        time_limit=20.0,
        start=start,
        observe=observe,
        reward=reward,
    )
    for name, reward in (("stand", reward_stand), ("hop", reward_hop))
]
