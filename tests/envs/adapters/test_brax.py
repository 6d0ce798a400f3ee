"""JaxGCRL's ants on brax's `spring` physics, beside brax's own environment."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.envs.task import Sim
from jaxrl.errors import UsageError

INSTANCES, STEPS = 4, 20


@pytest.fixture(scope="module")
def env():
    return jaxrl.make("brax/ant-goal", start_slots=2)


@pytest.fixture(scope="module")
def step(env):
    return jax.jit(jax.vmap(env.step))


@pytest.fixture(scope="module")
def starts(env):
    return jax.vmap(env.reset)(jax.random.split(jax.random.key(0), INSTANCES))


@pytest.mark.filterwarnings("ignore:Brax System")
def test_it_moves_as_brax_s_own_ant(step, starts):
    """Brax's ant from our starts, its state carried on by brax itself."""
    from brax.envs.ant import Ant

    theirs = Ant(backend="spring")
    theirs_step = jax.jit(jax.vmap(theirs.pipeline_step))
    ours, expected = (
        starts,
        jax.jit(jax.vmap(theirs.pipeline_init))(starts.physics.qpos, starts.physics.qvel),
    )
    random = np.random.default_rng(0)
    for _ in range(STEPS):
        actions = jnp.asarray(random.uniform(-1, 1, (INSTANCES, 8)), jnp.float32)
        ours, expected = step(ours, actions), theirs_step(expected, actions)
    assert not ours.last.any()
    np.testing.assert_allclose(ours.physics.qpos, expected.q, atol=1e-4)
    np.testing.assert_allclose(ours.physics.qvel, expected.qd, atol=2e-3)
    observed = np.concatenate([expected.q, expected.qd, starts.task["goal"]], axis=1)
    np.testing.assert_allclose(ours.obs, observed, atol=2e-3)
    np.testing.assert_allclose(ours.physics.time, STEPS * theirs.dt, rtol=1e-5)


def test_a_new_episode_forgets_the_bodies_of_the_old_one(env, step, starts):
    """Its first steps are those of an instance that starts there. Start 1 is in slot 1 of 2."""
    actions = jnp.full((INSTANCES, 8), 0.5)
    fresh = dataclasses.replace(
        starts, physics=jax.tree.map(lambda x: x[:, 1], starts.start.physics)
    )
    ended = step(step(starts, actions), actions).replace(truncated=jnp.ones(INSTANCES, bool))
    again = step(ended, actions)
    np.testing.assert_array_equal(again.physics.qpos, fresh.physics.qpos)
    assert again.physics.at_start.all()
    np.testing.assert_array_equal(
        step(again, actions).physics.bodies, step(fresh, actions).physics.bodies
    )


@pytest.mark.parametrize("height, ends", [(0.19, True), (0.21, False), (0.99, False), (1.01, True)])
def test_its_episodes_end_as_jaxgcrl_s(env, starts, height, ends):
    physics = jax.tree.map(lambda x: x[0], starts.physics)
    sim = Sim(physics.replace(qpos=physics.qpos.at[2].set(height)), {}, {})
    assert bool(env.task.terminated(sim)) is ends


def test_it_takes_the_options_of_goal_tasks():
    keys = jax.random.split(jax.random.key(1), 2)
    frozen = jaxrl.make("brax/ant-goal", start_slots=3, frozen_starts=True, goal=[6, 8])
    start = jax.vmap(frozen.reset)(keys)
    np.testing.assert_array_equal(start.task["goal"], [[6, 8]] * 2)
    for slot in range(3):
        np.testing.assert_array_equal(start.start.physics.qpos[:, slot], start.physics.qpos)


def test_a_maze_has_its_walls():
    """An ant that is thrown at 8 m/s at a wall 1 m away; without it, it would be 4 m away."""
    env = jaxrl.make("brax/ant-umaze")
    state = jax.jit(env.reset)(jax.random.key(0))
    start, step = state.physics.qpos[0], jax.jit(env.step)
    qpos = state.physics.qpos.at[0].add(-1.0)
    qvel = state.physics.qvel.at[:3].set(jnp.array([-8.0, 0.0, 0.0]))
    state = state.replace(physics=state.physics.replace(qpos=qpos, qvel=qvel))
    for _ in range(15):
        state = step(state, jnp.zeros(8))
    assert -2.0 < state.physics.qpos[0] - start < -1.2


def test_other_engines_are_refused():
    with pytest.raises(UsageError, match="brax/ant-goal runs on brax's spring physics"):
        jaxrl.make("brax/ant-goal", "mjx")
