"""Cart-pole: balance and swing-up, reward smooth or sparse (dm_control suite/cartpole.py)."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxrl.envs.suite.common import suite_spec, tolerance
from jaxrl.envs.task import Sim, Task

CART_RANGE = (-0.25, 0.25)  # m
COSINE_RANGE = (0.995, 1.0)


def model() -> mujoco.MjSpec:
    """The suite's cart-pole. The pole's axes follow from its angle, so no sensor is needed."""
    spec = suite_spec("cartpole.xml")
    spec.option.enableflags &= ~int(mujoco.mjtEnableBit.mjENBL_ENERGY)
    return spec


def start(model, data, random, swing_up: bool):
    """Pole down (swing-up) or nearly upright, with a small random velocity."""
    if swing_up:
        data.qpos[0] = 0.01 * random.randn()
        data.qpos[1] = np.pi + 0.01 * random.randn()
    else:
        data.qpos[0] = random.uniform(-0.1, 0.1)
        data.qpos[1] = random.uniform(-0.034, 0.034)
    data.qvel[:] = 0.01 * random.randn(model.nv)
    return {}


def observe(sim: Sim) -> jax.Array:
    """Cart position (m), cosine and sine of the pole's angle, velocities (2)."""
    angle = sim.qpos[1]
    position = jnp.stack([sim.qpos[0], jnp.cos(angle), jnp.sin(angle)])
    return jnp.concatenate([position, sim.qvel])


def reward(sim: Sim, sparse: bool) -> jax.Array:
    """Upright, centred, calm and without effort; or the indicator of upright and centred."""
    cart, cosine = sim.qpos[0], jnp.cos(sim.qpos[1])
    if sparse:
        # The cosine's float32 rounding may exceed 1, which dm_control's upper bound excludes.
        return tolerance(cart, CART_RANGE) * tolerance(jnp.minimum(cosine, 1.0), COSINE_RANGE)
    upright = (cosine + 1) / 2
    centered = (1 + tolerance(cart, margin=2)) / 2
    effort = tolerance(sim.ctrl[0], margin=1, value_at_margin=0, sigmoid="quadratic")
    small_control = (4 + effort) / 5
    small_velocity = (1 + tolerance(sim.qvel[1], margin=5)) / 2
    return upright * small_control * small_velocity * centered


TASKS = [
    Task(
        name=f"cartpole-{name}{'-sparse' if sparse else ''}",
        model=model,
        control_dt=0.01,
        time_limit=10.0,
        start=functools.partial(start, swing_up=name == "swingup"),
        observe=observe,
        reward=functools.partial(reward, sparse=sparse),
    )
    for name in ("balance", "swingup")
    for sparse in (False, True)
]
