"""Physics that blows up costs its own row, and no other."""

import functools
import logging

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxrl.envs import registry
from jaxrl.envs.mujoco_env import HUGE
from jaxrl.envs.physics import native
from tests.envs.episodes import assert_equal, keys, plain, random_actions

COUNT, VICTIM, STEPS = 5, 2, 20
TASKS = ("walker-walk", "cheetah-run")


@functools.cache
def played(name: str):
    """The environment, its compiled step, states in mid-episode and the actions to go on with."""
    env = registry.make(name)
    step = jax.jit(jax.vmap(env.step))
    state = jax.jit(jax.vmap(env.reset))(keys(COUNT))
    actions = random_actions(env, STEPS + 10, COUNT)
    for action in actions[:STEPS]:
        state = step(state, action)
    return env, step, state, actions[STEPS:]


def others(state):
    keep = np.arange(COUNT) != VICTIM
    state = jax.tree.map(lambda x: x[keep], plain(state))
    return state.replace(key=jax.random.wrap_key_data(state.key))


def assert_guarded(env, step, before, hurt, actions, hurt_actions=None):
    """Steps `before` and `hurt`, which differ in the victim, and on; returns the guarded row."""
    first, *rest = actions
    fine = step(before, first)
    bad = step(hurt, first if hurt_actions is None else hurt_actions)
    np.testing.assert_array_equal(bad.unstable, np.arange(COUNT) == VICTIM)
    np.testing.assert_array_equal(bad.terminated, np.arange(COUNT) == VICTIM)
    assert not bad.truncated.any()
    assert bad.reward[VICTIM] == 0
    np.testing.assert_array_equal(bad.metrics["unstable"], np.arange(COUNT) == VICTIM)
    np.testing.assert_array_equal(bad.obs[VICTIM], before.obs[VICTIM])
    returns = (x.metrics["episode_return"][VICTIM] for x in (before, bad))
    assert next(returns) == next(returns)
    start = jax.tree.map(lambda x: x[VICTIM, 0], before.start.physics)
    state, untouched = bad, fine
    for action in rest:
        assert_equal(others(state), others(untouched))
        state, untouched = step(state, action), step(untouched, action)
        if state.episode_step[VICTIM] == 0:
            for name in ("qpos", "qvel", "sensordata"):
                ours = getattr(state.physics, name)[VICTIM]
                np.testing.assert_array_equal(ours, getattr(start, name))
    assert state.episode_step[VICTIM] == len(rest) - 1  # one row to begin anew, then steps
    assert state.metrics["unstable"][VICTIM] == 1  # counted once
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(plain(state)))
    return bad


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e12])
@pytest.mark.parametrize("field", ["qvel", "qpos"])
@pytest.mark.parametrize("name", TASKS)
def test_in_the_state(name, field, value):
    env, step, state, actions = played(name)
    array = getattr(state.physics, field)
    for joint in (0, array.shape[1] - 1):  # the root, and a damped joint
        hurt = array.at[VICTIM, joint].set(value)
        physics = state.physics.replace(**{field: hurt})
        assert_guarded(env, step, state, state.replace(physics=physics), actions)


@pytest.mark.parametrize("value", [np.nan, 1e12])
@pytest.mark.parametrize("name", TASKS)
def test_in_the_engine(name, value, monkeypatch):
    env, step, state, actions = played(name)
    rollout = env.engine._rollout

    def hurting(start, control):
        start = start.copy()
        start[VICTIM, 1 + env.model.nq] = value  # a velocity, on its way into MuJoCo
        return rollout(start, control)

    fine = jax.block_until_ready(step(state, actions[0]))
    monkeypatch.setattr(env.engine, "_rollout", hurting)
    bad = jax.block_until_ready(step(state, actions[0]))
    np.testing.assert_array_equal(bad.unstable, np.arange(COUNT) == VICTIM)
    assert_equal(others(bad), others(fine))
    for kept, last in zip(
        jax.tree.leaves(bad.physics), jax.tree.leaves(state.physics), strict=True
    ):
        np.testing.assert_array_equal(kept[VICTIM], last[VICTIM])  # the last finite physics


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", [*TASKS, "cartpole-balance", "reacher-easy", "finger-spin"])
def test_in_the_action(name, value):
    env, step, state, actions = played(name)
    hurt = actions[0].copy()
    hurt[VICTIM, 0] = value  # MuJoCo takes the whole control for zero, and goes on
    bad = assert_guarded(env, step, state, state, actions, hurt)
    for kept, last in zip(
        jax.tree.leaves(bad.physics), jax.tree.leaves(state.physics), strict=True
    ):
        np.testing.assert_array_equal(kept[VICTIM], last[VICTIM])


def test_a_large_but_stable_velocity_is_let_be():
    _, step, state, actions = played("cheetah-run")
    qvel = state.physics.qvel.at[VICTIM, 0].set(20.0)
    stepped = step(state.replace(physics=state.physics.replace(qvel=qvel)), actions[0])
    assert not stepped.unstable.any() and HUGE > 1e9


def test_no_log_file(tmp_path, monkeypatch):
    """MuJoCo's own handler would write MUJOCO_LOG.TXT into the working folder."""
    handler = mujoco.get_mju_user_warning()
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(logging.getLogger(native.__name__), "debug", seen.append)
    try:
        mujoco.set_mju_user_warning(None)
        env = registry.make("reacher-easy")
        state = jax.jit(env.step)(env.reset(keys(1)[0]), jnp.full(2, jnp.nan))
        assert state.unstable
    finally:
        mujoco.set_mju_user_warning(handler)
    assert any("CTRL" in str(message) for message in seen)
    assert not list(tmp_path.iterdir())
