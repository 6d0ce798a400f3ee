"""Acting: masks, exploration rates, ties; with Q-values that a test chooses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrl.agents._decoupled import levels
from jaxrl.agents.gqn import GQN
from tests.agents.values import act, fresh, with_values

SIZE = 6
OBS = jnp.zeros((16_667, 3))
"""For 1e5 draws in six dimensions."""


def tempting(level: int, action_size: int = SIZE, seed: int = 0) -> np.ndarray:
    """Values [2, A, 9] that are far higher on the bins that the level does not have."""
    mask = levels((2, 3, 5, 9))[level]
    q = np.random.RandomState(seed).normal(size=(2, action_size, 9))
    return np.where(mask, q, 100.0 + q)


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_greedy_actions_are_active_and_best(level):
    """The best active bin by the larger critic, in every dimension by itself."""
    q = tempting(level)
    agent = GQN(width=4, epsilon=0.0)
    state = with_values(fresh(agent, SIZE, level), q)
    mask = levels((2, 3, 5, 9))[level]
    best = np.where(mask, q.max(axis=0), -np.inf).argmax(axis=-1)
    for explore in (False, True):
        action = act(agent, state, OBS, jax.random.key(0), explore)
        np.testing.assert_array_equal(action, np.tile(best, (len(OBS), 1)))


def test_the_larger_critic_decides():
    """Not the mean of both critics, and not the first one."""
    agent = GQN(width=4, epsilon=0.0)
    q = np.zeros((2, SIZE, 9))
    q[:, :, 2] = np.array([[3.0], [-9.0]])  # the largest single value
    q[:, :, 5] = np.array([[2.0], [2.0]])  # the largest mean
    q[:, :, 7] = np.array([[-9.0], [2.5]])  # the second critic's favourite
    for values in (q, q[::-1]):
        state = with_values(fresh(agent, SIZE, level=3), values)
        for explore in (False, True):
            action = act(agent, state, OBS, jax.random.key(0), explore)
            np.testing.assert_array_equal(action, 2)


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_random_actions_are_active_and_uniform(level):
    """Over pairs of dimensions: each is uniform, and neither knows of the other."""
    agent = GQN(width=4, epsilon=1.0)
    state = with_values(fresh(agent, SIZE, level), tempting(level))
    action = np.asarray(act(agent, state, OBS, jax.random.key(level), explore=True))
    mask = levels((2, 3, 5, 9))[level]
    assert mask[action].all(), "an inactive bin was drawn"
    for pair in ([0, 1], [2, 5], [4, 3]):
        counts = np.zeros((9, 9), int)
        np.add.at(counts, tuple(action[:, pair].T), 1)
        assert scipy.stats.chisquare(counts[np.ix_(mask, mask)].ravel()).pvalue > 1e-3


@pytest.mark.parametrize(
    ("mode", "action_size", "rate"),
    [("plain", 6, 0.1), ("diluted", 6, (0.1 / 6) / (0.9 + 0.1 / 6)), ("diluted", 1, 0.1)],
)
def test_how_often_a_dimension_is_random(mode, action_size, rate):
    agent = GQN(width=4, epsilon=0.1, epsilon_mode=mode)
    np.testing.assert_allclose(agent.random_rate(action_size), rate, rtol=1e-6)
    for level in (0, 2):
        q = tempting(level, action_size)
        q[:, :, 0] = 50.0  # the greedy bin, under the inactive ones
        state = with_values(fresh(agent, action_size, level), q)
        rows = jnp.zeros((100_000 // action_size, 3))
        action = np.asarray(act(agent, state, rows, jax.random.key(1), explore=True))
        mask = levels((2, 3, 5, 9))[level]
        assert mask[action].all(), "an inactive bin was drawn"
        others = rate * (1 - 1 / mask.sum())  # a random draw may hit the greedy bin
        assert scipy.stats.binomtest(np.count_nonzero(action), action.size, others).pvalue > 1e-3


def test_published_rates():
    """Quirk 1 of the released code: M = 1, 6, 21, 38 explore at 10, 1.8, .53, .29 %."""
    rates = [float(GQN().random_rate(size)) for size in (1, 6, 21, 38)]
    np.testing.assert_allclose(rates, [0.10, 0.018, 0.0053, 0.0029], rtol=0.02)


@pytest.mark.parametrize(("level", "tied"), [(3, [1, 4, 6]), (1, [0, 4, 8])])
def test_ties_are_broken_uniformly_when_exploring(level, tied):
    """At the start of training all bins may be equal; the first must not win."""
    agent = GQN(width=4, epsilon=0.0)
    q = tempting(level)
    q[:, :, levels((2, 3, 5, 9))[level]] = -1.0
    q[1][:, tied] = 2.0
    state = with_values(fresh(agent, SIZE, level), q)
    action = act(agent, state, OBS, jax.random.key(0), explore=True)
    counts = np.bincount(np.asarray(action).ravel(), minlength=9)
    assert counts[tied].sum() == counts.sum()
    assert scipy.stats.chisquare(counts[tied]).pvalue > 1e-3


def test_greedy_actions_need_no_key():
    agent, obs = GQN(width=4), jax.random.normal(jax.random.key(9), OBS.shape)
    flat = with_values(fresh(agent, SIZE, level=3), np.zeros((2, SIZE, 9)))
    for state in (flat, fresh(agent, SIZE, level=3)):
        first, second = (act(agent, state, obs, jax.random.key(k), explore=False) for k in (0, 1))
        np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(act(agent, flat, obs, jax.random.key(0), explore=False), 0)


def test_one_key_one_exploration():
    agent = GQN(width=4, epsilon=1.0)
    state = fresh(agent, SIZE, level=3)
    first, again, other = (
        np.asarray(act(agent, state, OBS, jax.random.key(k), explore=True)) for k in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert 0.88 < np.mean(first != other) < 0.90  # 8 of 9 draws differ


def test_no_key_is_used_twice():
    agent = GQN(width=4)
    with jax.debug_key_reuse(True):
        explore = jax.jit(lambda state, key: agent.act(state, OBS, key, explore=True))
        explore.lower(fresh(agent, SIZE), jax.random.key(0))
