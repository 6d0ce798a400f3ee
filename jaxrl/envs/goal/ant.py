"""Brax's ant that goes to goals on a circle of 10 m, as in JaxGCRL (Bortkiewicz et al., 2025).

The body, its time step and its solver options are those of brax's ant on the `mjx` backend
(Freeman et al., "Brax", 2021; brax 0.14). JaxGCRL simulates the same file with brax's older
`spring` physics.
"""

from __future__ import annotations

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
from jaxrl.envs.task import Sim

CONTROL_DT = 0.05  # s
STEPS = 1000
RADIUS = 0.5  # m
GOAL_DISTANCE = 10.0  # m
NOISE = 0.1  # of the start: half-width in m and rad, deviation in m/s and rad/s
FALLEN = 0.2  # m, height of the torso under which the episode terminates
MARK = 0.5  # m, radius of the goal's mark
STANDING = (0.0, 0.0, 0.55, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0, 0.0, -1.0, 0.0, 1.0)
"""qpos before noise: the file's `init_qpos`."""
STATE_SIZE = 29


def body() -> mujoco.MjSpec:
    """Brax's ant with the options of its `mjx` backend."""
    spec = brax_spec("ant.xml")
    set_brax_options(spec)
    plain_floor(spec)
    return spec


def model() -> mujoco.MjSpec:
    """The ant, the goal's mark, and a camera that sees the circle of goals."""
    spec = body()
    add_goal_mark(spec, MARK)
    add_camera(spec, (0.0, -20.0, 21.0), (0.0, -1.0, 0.0))
    return spec


def stand(data: mujoco.MjData, random: np.random.RandomState) -> None:
    """Writes the ant's noisy start to the first 15 entries of qpos and 14 of qvel."""
    data.qpos[:15] = STANDING
    data.qpos[:15] += random.uniform(-NOISE, NOISE, 15)
    data.qpos[3:7] /= np.linalg.norm(data.qpos[3:7])
    data.qvel[:14] = NOISE * random.randn(14)


def start(model, data, random):
    """Noisy standing pose; goal on the circle."""
    stand(data, random)
    angle = random.uniform(0, 2 * np.pi)
    return GOAL_DISTANCE * np.array([np.cos(angle), np.sin(angle)])


def state(sim: Sim) -> jax.Array:
    """Positions (15), velocities (14)."""
    return jnp.concatenate([sim.qpos[:15], sim.qvel[:14]])


def fallen(sim: Sim) -> jax.Array:
    """Whether the torso is too low. JaxGCRL's episodes terminate above 1 m too, which its `spring`
    physics hardly ever reaches, and a jump in MuJoCo's does."""
    return sim.qpos[2] < FALLEN


TASKS = [
    goal_task(
        "ant-goal",
        model,
        state=state,
        state_size=STATE_SIZE,
        achieved=slice(0, 2),
        radius=RADIUS,
        start=start,
        control_dt=CONTROL_DT,
        steps=STEPS,
        terminated=fallen,
    )
]
