"""Planar cheetah: run (dm_control suite/cheetah.py)."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.envs.suite.common import suite_spec, tolerance
from jaxrl.envs.task import Sim, Task

RUN_SPEED = 10.0  # m/s
SETTLING_STEPS = 200


def model() -> mujoco.MjSpec:
    """The suite's cheetah without its sensor, whose reading follows from the joints (`speed`)."""
    spec = suite_spec("cheetah.xml")
    spec.delete(spec.sensor("torso_subtreelinvel"))
    return spec


def start(model, data, random):
    """Random joint angles, settled on the ground for two seconds."""
    limited = model.jnt_limited == 1
    low, high = model.jnt_range[limited].T
    data.qpos[limited] = random.uniform(low, high)
    # dm_control's step: second half of a step, whole steps, first half of the next.
    mujoco.mj_step2(model, data)
    mujoco.mj_step(model, data, SETTLING_STEPS - 1)
    mujoco.mj_step1(model, data)
    data.time = 0.0
    return {}


def observe(sim: Sim) -> jax.Array:
    """Positions without the horizontal one (8), velocities (9)."""
    return jnp.concatenate([sim.qpos[1:], sim.qvel])


@functools.cache
def arms() -> tuple[np.ndarray, np.ndarray]:
    """Of the tree of seven bodies, each turned by a hinge about y at its frame's origin:

    which hinges turn each body [7, 7], and its arm [7, 2] in m along its own x and z: the share
    of the total mass that it carries, times where this lies.
    """
    spec = model()
    spec.compiler.settotalmass = -1  # shares stay, and a warning of MuJoCo's goes
    compiled = spec.compile()
    parents = compiled.body_parentid[1:] - 1  # -1: the world
    turned = np.eye(len(parents))
    arm = compiled.body_mass[1:, None] * compiled.body_ipos[1:]
    for body, parent in enumerate(parents):
        if parent >= 0:
            turned[body] += turned[parent]
            arm[parent] += compiled.body_subtreemass[1 + body] * compiled.body_pos[1 + body]
    return turned, arm[:, [0, 2]] / compiled.body_subtreemass[1]


def speed(sim: Sim) -> jax.Array:
    """Horizontal speed of the centre of mass, m/s, []: what a subtreelinvel sensor reads.

    Position x + sum_b (x_b cos a_b + z_b sin a_b), with each body's arm (x_b, z_b) and angle a_b,
    by time. The sensor itself would cost a second physics step per control step, which has one.
    """
    turned, arm = arms()
    angle, rate = turned @ sim.qpos[2:], turned @ sim.qvel[2:]
    swing = arm[:, 1] * jnp.cos(angle) - arm[:, 0] * jnp.sin(angle)
    return sim.qvel[0] + jnp.dot(rate, swing)


def reward(sim: Sim) -> jax.Array:
    """Horizontal speed of the centre of mass, linear up to 10 m/s."""
    return tolerance(
        speed(sim), (RUN_SPEED, jnp.inf), margin=RUN_SPEED, value_at_margin=0, sigmoid="linear"
    )


TASKS = [
    Task(
        name="cheetah-run",
        model=model,
        control_dt=0.01,
        time_limit=10.0,
        start=start,
        observe=observe,
        reward=reward,
    )
]
