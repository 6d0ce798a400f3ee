"""Turns of control steps: ours, raw mujoco.rollout, Playground's."""

from __future__ import annotations

import importlib.util
import warnings

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import rollout
from timing import Turn, repeated

import jaxrl
from jaxrl.envs.physics.native import available_cores

PLAYGROUND = {
    "walker-walk": "WalkerWalk",
    "humanoid-walk": "HumanoidWalk",
    "cheetah-run": "CheetahRun",
    "reacher-easy": "ReacherEasy",
    "cartpole-swingup": "CartpoleSwingup",
    "hopper-hop": "HopperHop",
    "finger-spin": "FingerSpin",
}
"""Our name to Playground's."""


def stepping(name: str, physics: str, n: int) -> Turn:
    """A turn of control steps of `n` instances under random actions."""
    env = jaxrl.make(name, physics, **({} if physics == "native" else {"num_instances": n}))
    low, high = jnp.array(env.spec.action_low), jnp.array(env.spec.action_high)
    states = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), n))

    def body(states, i):
        key = jax.random.fold_in(jax.random.key(1), i)
        actions = jax.random.uniform(key, (n, len(low)), minval=low, maxval=high)
        return jax.vmap(env.step)(states, actions)

    return repeated(body, states)


def rolling(name: str, n: int, at_once: int) -> Turn:
    """A turn of raw mujoco.rollout of dm_control's model: `at_once` control steps a call, as many
    threads and substeps as ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from dm_control import suite

        domain, task = name.split("-", 1)
        env = suite.load(domain, task.replace("-", "_"), task_kwargs={"random": 0})
    model = env.physics.model.ptr
    substeps = round(env.control_timestep() / model.opt.timestep)
    size = mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_FULLPHYSICS)
    state = np.zeros((n, size))
    for row in state:
        env.reset()
        mujoco.mj_getState(model, env.physics.data.ptr, row, mujoco.mjtState.mjSTATE_FULLPHYSICS)
    low, high = model.actuator_ctrlrange.T
    control = np.random.default_rng(0).uniform(low, high, (n, at_once, model.nu))
    control = np.repeat(control, substeps, axis=1)
    steps = at_once * substeps
    pool = rollout.Rollout(nthread=available_cores())
    data = [mujoco.MjData(model) for _ in range(available_cores())]
    states, sensors = np.empty((n, steps, size)), np.empty((n, steps, model.nsensordata))

    def turn(count: int) -> None:
        now = state
        for _ in range(count):
            pool.rollout(
                [model] * n,
                data,
                now,
                control,
                skip_checks=True,
                nstep=steps,
                state=states,
                sensordata=sensors,
            )
            now = np.ascontiguousarray(states[:, -1])

    return turn


def playground(name: str, n: int) -> Turn | None:
    """A turn of Playground's environment, where it is installed and has the task."""
    if name not in PLAYGROUND or importlib.util.find_spec("mujoco_playground") is None:
        return None
    from mujoco_playground import registry

    config = registry.get_default_config(PLAYGROUND[name])
    if hasattr(config, "impl"):
        config.impl = "jax"
    env = registry.load(PLAYGROUND[name], config=config)
    states = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), n))

    def body(states, i):
        key = jax.random.fold_in(jax.random.key(1), i)
        actions = jax.random.uniform(key, (n, env.action_size), minval=-1.0)
        return jax.vmap(env.step)(states, actions)

    return repeated(body, states)
