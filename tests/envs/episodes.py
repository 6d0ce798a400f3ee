"""Short episodes, and all their rows at once."""

import dataclasses

import jax
import numpy as np

from jaxrl.envs import registry
from jaxrl.envs.mujoco_env import MujocoEnv


def short(name: str, steps: int, start_slots: int = 1) -> MujocoEnv:
    """The task with episodes of `steps` control steps."""
    task = registry.tasks()[name]
    return MujocoEnv(dataclasses.replace(task, time_limit=steps * task.control_dt), start_slots)


def keys(count: int, seed: int = 0):
    """Keys of `count` instances."""
    return jax.random.split(jax.random.key(seed), count)


def random_actions(env, *lead: int, seed: int = 0) -> np.ndarray:
    """Uniform actions, [*lead, A]."""
    low, high = env.spec.action_low, env.spec.action_high
    size = (*lead, env.spec.action_size)
    return np.random.RandomState(seed).uniform(low, high, size).astype(np.float32)


def rows(env, states, actions):
    """All rows [T + 1, N, ...] of instances that take `actions` [T, N, A] from `states` [N]."""

    @jax.jit
    def run(states, actions):
        def step(states, action):
            following = jax.vmap(env.step)(states, action)
            return following, following

        return jax.lax.scan(step, states, actions)[1]

    return jax.tree.map(
        lambda first, rest: np.concatenate([first[None], rest]),
        plain(states),
        plain(run(states, actions)),
    )


def plain(state):
    """The state in NumPy, keys as their data."""
    return jax.tree.map(np.asarray, state.replace(key=jax.random.key_data(state.key)))


def assert_equal(left, right) -> None:
    """Every array of two states is the same, bit for bit."""
    left, right = plain(left), plain(right)
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for (path, a), b in zip(jax.tree.leaves_with_path(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path), strict=True)
