"""Dog of 73 joints and 38 actuators: stand, walk, trot, run (dm_control suite/dog.py)."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.envs.suite.common import BODY_FRAME, add_sensor, suite_spec, tolerance
from jaxrl.envs.task import Sim, Task

SPEEDS = {"stand": 0.0, "walk": 1.0, "trot": 3.0, "run": 9.0}  # m/s
TIME_LIMIT = 15.0  # s
UPRIGHT_COSINE = np.cos(np.deg2rad(30))
STAND_HEIGHT_FRACTION = 0.9  # of the height in the model's own pose
BODIES = ("skull", "torso", "pelvis")
FEET = ("foot_L", "foot_R", "hand_L", "hand_R")
SOLES = ("palm_L", "palm_R", "sole_L", "sole_R")


def model(speed: float) -> mujoco.MjSpec:
    """The suite's dog on a plane as wide as it can run, without ball, target and walls, with the
    frames of head, torso and pelvis as sensors."""
    spec = suite_spec("dog.xml")
    spec.geom("floor").size[:2] = TIME_LIMIT * max(speed, SPEEDS["walk"])
    for name in ("target", "wall_px", "wall_py", "wall_nx", "wall_ny"):
        spec.delete(spec.geom(name))
    spec.delete(spec.body("ball"))
    for name in ("ball", "head"):
        spec.delete(spec.camera(name))
    for body in BODIES:
        for axis in "xyz":
            add_sensor(spec, f"{body}_{axis}axis", f"frame{axis}axis", BODY_FRAME, body)
    for body in ("torso", "pelvis"):
        add_sensor(spec, f"{body}_position", "framepos", BODY_FRAME, body)
    return spec


def start(model, data, random):
    """Standing, in any direction, with random velocities in the plane and random activations.

    Returns:
      stand_heights: 0.9 of the height of torso and pelvis in the model's own pose (m), [2].
      weight: weight of the dog (N), [].
    """
    heights = [data.body(name).xpos[2] for name in ("torso", "pelvis")]
    azimuth = random.uniform(0, 2 * np.pi)
    data.qpos[3:7] = np.cos(azimuth / 2), 0.0, 0.0, np.sin(azimuth / 2)
    data.qvel[[0, 1, 5]] = 2 * random.randn(3)
    data.act[:] = random.uniform(*model.actuator_ctrlrange.T)
    return {
        "stand_heights": STAND_HEIGHT_FRACTION * np.array(heights),
        "weight": -model.opt.gravity[2] * model.body("torso").subtreemass[0],
    }


def axes(sim: Sim, body: str) -> jax.Array:
    """The body's x, y and z axes in the world, one a row, [3, 3]."""
    return jnp.stack([sim.sensor(f"{body}_{axis}axis") for axis in "xyz"])


def heights(sim: Sim) -> jax.Array:
    """Heights of torso and pelvis (m), [2]."""
    return jnp.stack([sim.sensor(f"{body}_position")[2] for body in ("torso", "pelvis")])


def velocity(sim: Sim) -> jax.Array:
    """Velocity of the centre of mass in the torso's frame (m/s), [3]."""
    return axes(sim, "torso") @ sim.sensor("torso_linvel")


def touches(sim: Sim) -> jax.Array:
    """Contact forces under the paws (N), [4]."""
    return jnp.concatenate([sim.sensor(name) for name in SOLES])


def observe(sim: Sim) -> jax.Array:
    """Joint angles (73) and velocities (73), heights of torso and pelvis (2), the vertical in the
    frames of head, torso and pelvis (9), velocity of the centre of mass (3), the head's
    accelerometer, velocimeter and gyroscope (9), forces at the paws (12) and under them (4),
    activations (38)."""
    return jnp.concatenate(
        [
            *(sim.qpos[7:], sim.qvel[6:], heights(sim)),
            *(axes(sim, body)[:, 2] for body in BODIES),
            velocity(sim),
            *(sim.sensor(name) for name in ("accelerometer", "velocimeter", "gyro")),
            *(sim.sensor(name) for name in FEET),
            *(touches(sim), sim.act),
        ]
    )


def reward_stand(sim: Sim) -> jax.Array:
    """Torso and pelvis high, head, torso and pelvis upright, paws bearing the weight."""
    high = tolerance(heights(sim) / sim.task["stand_heights"], (1.0, jnp.inf), margin=1)
    upright = tolerance(
        jnp.stack([axes(sim, body)[2, 2] for body in BODIES]),
        (UPRIGHT_COSINE, jnp.inf),
        margin=UPRIGHT_COSINE + 1,
        value_at_margin=0,
        sigmoid="linear",
    )
    borne = touches(sim).sum() / sim.task["weight"]
    bearing = tolerance(borne, (1.0, jnp.inf), margin=1, value_at_margin=0.9, sigmoid="linear")
    return high.prod() * upright.prod() * bearing


def reward_move(sim: Sim, speed: float) -> jax.Array:
    """As for stand, times forward speed of `speed` to 2 `speed` (m/s)."""
    forward = tolerance(
        velocity(sim)[0],
        (speed, 2 * speed),
        margin=max(1.0, speed),
        value_at_margin=0,
        sigmoid="linear",
    )
    return reward_stand(sim) * (4 * forward + 1) / 5


TASKS = [
    Task(
        name=f"dog-{name}",
        model=functools.partial(model, speed),
        control_dt=0.015,
        time_limit=TIME_LIMIT,
        start=start,
        observe=observe,
        reward=functools.partial(reward_move, speed=speed) if speed else reward_stand,
    )
    for name, speed in SPEEDS.items()
]
