"""Action cost, action repeat, staggered first episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import registry
from jaxrl.envs.wrappers import ActionCost, ActionRepeat, Stagger
from tests.envs.episodes import assert_equal, keys, random_actions, rows, short

LENGTH = 10
COST = 0.1


def reset(env, count: int = 3):
    return jax.jit(jax.vmap(env.reset))(keys(count))


def bang_bang(env, steps: int, count: int):
    return np.sign(random_actions(env, steps, count))


def test_bang_bang_actions_cost_the_whole_of_it():
    plain = registry.make("cartpole-balance")
    costly = registry.make("cartpole-balance", action_cost=COST)
    actions = bang_bang(plain, 1001, 3)
    free, paid = rows(plain, actions), rows(costly, actions)
    np.testing.assert_array_equal(paid.obs, free.obs)
    np.testing.assert_allclose(free.reward[1:1001] - paid.reward[1:1001], COST, atol=1e-6)
    returns, full = paid.metrics["episode_return"][1000], free.metrics["episode_return"][1000]
    np.testing.assert_allclose(full - returns, 1000 * COST, rtol=1e-4)
    unpenalised = paid.metrics["episode_return_unpenalised"]
    np.testing.assert_allclose(unpenalised, free.metrics["episode_return"], rtol=1e-5)
    assert not paid.reward[1001].any()  # a first row costs nothing, whatever the action


def test_the_cost_is_a_mean_over_action_dimensions():
    plain = short("finger-spin", LENGTH)
    costly = ActionCost(plain, COST)
    actions = 0.5 * bang_bang(plain, LENGTH, 3)
    actions[..., 0] = 0.0  # one of two dimensions acts
    free, paid = rows(plain, actions), rows(costly, actions)
    np.testing.assert_allclose(free.reward[1:] - paid.reward[1:], COST * 0.25 / 2, atol=1e-6)


def test_an_unstable_row_costs_nothing():
    env = ActionCost(short("finger-spin", LENGTH), COST)
    state = jax.jit(env.step)(env.reset(keys(1)[0]), jnp.full(2, jnp.nan))
    assert state.unstable and state.reward == 0
    assert state.metrics["episode_return"] == 0 == state.metrics["episode_return_unpenalised"]


def test_both_returns_start_anew_with_each_episode():
    env = ActionCost(short("cartpole-balance", LENGTH, 3), COST)
    seen = rows(env, random_actions(env, 3 * (LENGTH + 1), 3))
    for start in range(0, 3 * (LENGTH + 1), LENGTH + 1):
        episode = slice(start, start + LENGTH + 1)
        total = np.cumsum(seen.reward[episode], axis=0)
        np.testing.assert_allclose(seen.metrics["episode_return"][episode], total, atol=1e-5)
        assert not seen.metrics["episode_return_unpenalised"][start].any()


def test_repeat_equals_single_steps():
    single, repeat = short("cartpole-swingup", LENGTH), 4
    env = ActionRepeat(single, repeat)
    assert env.spec.episode_length == 3  # 4 + 4 + 2 steps
    assert env.spec.control_dt == pytest.approx(4 * single.spec.control_dt)
    actions = random_actions(env, 4, 3)
    seen = rows(env, actions)
    step, state = jax.jit(jax.vmap(single.step)), reset(single)
    for row, count in enumerate([4, 4, 2, 1], start=1):  # the last is the next first row
        rewards = jnp.zeros(3)
        for _ in range(count):
            state = step(state, actions[row - 1])
            rewards += state.reward
        np.testing.assert_allclose(seen.reward[row], rewards, rtol=1e-6)
        ours = jax.tree.map(lambda x, row=row: x[row], seen)
        ours = ours.replace(key=state.key, reward=state.reward)
        assert_equal(ours, state)
    np.testing.assert_array_equal(seen.truncated[:, 0], [False, False, False, True, False])
    assert not seen.episode_step[4].any() and not seen.reward[4].any()


def test_a_repeated_action_costs_once():
    env, costly = (
        registry.make("cartpole-balance", action_repeat=5, action_cost=c) for c in (0, COST)
    )
    actions = bang_bang(env, 3, 3)
    free, paid = rows(env, actions), rows(costly, actions)
    np.testing.assert_allclose(free.reward[1:] - paid.reward[1:], COST, atol=1e-5)
    assert free.reward[1:].min() > 3  # five rewards in one


def test_stagger_shortens_only_first_episodes():
    env = Stagger(short("reacher-easy", LENGTH, 3))
    seen = rows(env, random_actions(env, 4 * LENGTH, 32))
    ends = [np.flatnonzero(column) for column in seen.truncated.T]
    firsts = np.array([end[0] for end in ends])
    assert set(firsts) == set(range(1, LENGTH + 1))
    for end in ends:
        np.testing.assert_array_equal(np.diff(end), LENGTH + 1)


@pytest.mark.parametrize("repeat", [1, 4])
def test_stagger_spreads_over_the_whole_clock(repeat):
    env = registry.make("cartpole-balance", action_repeat=repeat, action_cost=COST, stagger=True)
    clock = np.asarray(reset(env, 64).episode_step)
    assert 0 <= clock.min() < 200 and 800 < clock.max() < 1000


def test_a_staggered_episode_ends_within_a_repeat():
    env = ActionRepeat(Stagger(short("reacher-easy", LENGTH)), 4)
    clock = np.asarray(reset(env, 16).episode_step)
    seen = rows(env, random_actions(env, 3, 16))
    np.testing.assert_array_equal(seen.truncated.argmax(axis=0), -(-(LENGTH - clock) // 4))
