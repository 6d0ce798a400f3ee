"""Next-step auto-reset, and steps that are functions of the state and nothing else."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import registry
from tests.envs.episodes import assert_equal, keys, plain, random_actions, rows, short

LENGTH = 5


@pytest.mark.parametrize("name", ["cartpole-swingup", "finger-spin"])
def test_an_episode_is_as_long_as_the_spec_says(name):
    env = registry.make(name, start_slots=2)
    length = env.spec.episode_length
    assert length == 1000
    seen = rows(env, random_actions(env, 2 * length + 1, 2))
    ends = np.isin(np.arange(2 * length + 2), [length, 2 * length + 1])
    np.testing.assert_array_equal(seen.truncated, np.tile(ends[:, None], 2))
    assert not seen.terminated.any()
    clock = np.concatenate([np.arange(length + 1)] * 2)
    np.testing.assert_array_equal(seen.episode_step, np.tile(clock[:, None], 2))


def test_the_final_observation_is_its_own_row():
    ends, goes_on = (short("cartpole-swingup", steps) for steps in (LENGTH, 2 * LENGTH))
    actions = random_actions(ends, LENGTH + 1, 3)
    seen, longer = rows(ends, actions), rows(goes_on, actions)
    np.testing.assert_array_equal(seen.obs[: LENGTH + 1], longer.obs[: LENGTH + 1])
    np.testing.assert_array_equal(seen.reward[: LENGTH + 1], longer.reward[: LENGTH + 1])
    first, start = seen.obs[LENGTH + 1], seen.start.physics
    assert (np.abs(first - longer.obs[LENGTH + 1]).max(axis=-1) > 1e-3).all()
    np.testing.assert_array_equal(seen.physics.qpos[LENGTH + 1], start.qpos[0, :, 0])


def test_a_first_row_ignores_the_action():
    env = short("walker-walk", LENGTH)
    step = jax.jit(jax.vmap(env.step))
    states = jax.jit(jax.vmap(env.reset))(keys(3))
    total = 0.0
    for action in random_actions(env, LENGTH, 3):
        states = step(states, action)
        total += states.reward
    assert states.truncated.all() and (states.reward != 0).all()
    np.testing.assert_allclose(states.metrics["episode_return"], total, rtol=1e-6)
    first, other = step(states, -action), step(states, jnp.full_like(action, jnp.nan))
    assert_equal(first, other)
    for name in ("reward", "terminated", "truncated", "unstable", "episode_step"):
        assert not np.asarray(getattr(first, name)).any(), name
    assert not first.metrics["episode_return"].any()
    assert not first.metrics["unstable"].any()
    for name in ("qvel", "ctrl", "time"):
        assert not np.asarray(getattr(first.physics, name)).any(), name


SHAPED = ("obs", "reward", "metrics")
"""What XLA computes: its exp, log and cos round by an ulp more or less with the batch's layout."""


@pytest.mark.parametrize("name", ["walker-walk", "finger-turn-hard", "cartpole-balance"])
def test_batches_equal_single_instances(name):
    env = short(name, LENGTH)
    actions = random_actions(env, LENGTH + 2, 6)
    seen = rows(env, actions)
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    for instance in (0, 5):
        state = reset(keys(6)[instance])
        for t in range(LENGTH + 2):
            assert_equal(state, instance_of(seen, t, instance), rounded=SHAPED)
            state = step(state, actions[t, instance])
    nested = jax.jit(jax.vmap(jax.vmap(env.step)))
    grid = jax.jit(jax.vmap(jax.vmap(env.reset)))(keys(6).reshape(2, 3))
    for t in range(LENGTH + 2):
        flat = jax.tree.map(lambda x: x.reshape(6, *x.shape[2:]), plain(grid))
        assert_equal(wrapped(flat), instance_of(seen, t), rounded=SHAPED)
        grid = nested(grid, actions[t].reshape(2, 3, -1))


def instance_of(seen, *index):
    return wrapped(jax.tree.map(lambda x: x[index], seen))


def wrapped(state):
    return state.replace(key=jax.random.wrap_key_data(state.key))


@pytest.mark.parametrize("name", ["walker-walk", "finger-spin", "cheetah-run"])
def test_a_step_is_a_function_of_the_state(name):
    env = registry.make(name)
    env.engine.model.opt.iterations = (
        1  # a solver that stops early ends where its warm start put it
    )
    step = jax.jit(jax.vmap(env.step))
    states = jax.jit(jax.vmap(env.reset))(keys(4))
    actions = random_actions(env, 60, 4)
    for action in actions:  # walkers land, so that there are contacts to solve
        states = step(states, action)
    once = step(states, actions[0])
    elsewhere = jax.jit(jax.vmap(env.reset))(keys(4, seed=1))
    for action in actions[:5]:
        elsewhere = step(elsewhere, action)
    assert_equal(step(states, actions[0]), once)
    turned = jax.tree.map(lambda x: x[::-1], states)
    assert_equal(jax.tree.map(lambda x: x[::-1], step(turned, actions[0][::-1])), once)


def test_two_threads_step_at_once():
    env = registry.make("walker-walk")
    step = jax.jit(jax.vmap(env.step))
    actions = random_actions(env, 150, 16)
    starts = [jax.jit(jax.vmap(env.reset))(keys(16, seed)) for seed in range(2)]

    def play(state):
        for action in actions:
            state = step(state, action)
        return jax.block_until_ready(state)

    alone = [play(state) for state in starts]
    together: list = [None, None]
    barrier = threading.Barrier(2)

    def work(i):
        barrier.wait()
        together[i] = play(starts[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(alone, together, strict=True):
        assert_equal(a, b)
