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


def rows(env, actions):
    """All rows [T + 1, N, ...] of N fresh instances that take `actions` [T, N, A]."""

    @jax.jit
    def run(keys, actions):
        def step(states, action):
            following = jax.vmap(env.step)(states, action)
            return following, following

        first = jax.vmap(env.reset)(keys)
        return first, jax.lax.scan(step, first, actions)[1]

    first, rest = run(keys(actions.shape[1]), actions)
    return jax.tree.map(lambda x, y: np.concatenate([x[None], y]), plain(first), plain(rest))


def plain(state):
    """The state in NumPy, keys as their data."""
    return jax.tree.map(np.asarray, state.replace(key=jax.random.key_data(state.key)))


def assert_equal(left, right, rounded: tuple[str, ...] = ()) -> None:
    """Every array of two states is the same, bit for bit; the fields `rounded` only to 1e-6."""
    left, right = plain(left), plain(right)
    for name in rounded:
        a, b = (jax.tree.leaves(getattr(x, name)) for x in (left, right))
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6, err_msg=name)
    left, right = (x.replace(**dict.fromkeys(rounded, ())) for x in (left, right))
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for (path, a), b in zip(jax.tree.leaves_with_path(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path), strict=True)
