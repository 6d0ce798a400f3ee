"""Uniform replay: ineligible rows weigh nothing, the others the same."""

import jax
import numpy as np
import pytest
import scipy.stats

from jaxrl.replay.uniform import Uniform
from tests.replay.episodes import Stream, filled

GAMMA, NUM_ENVS, SLOTS = 0.95, 7, 150 // 7  # 150 is no multiple of 7

sample = jax.jit(Uniform.sample)


def replay_and_stream(n: int, batch_size: int = 512):
    """A replay of 147 rows and a stream that wraps it."""
    return Uniform(GAMMA, SLOTS, NUM_ENVS, batch_size, n), Stream(3 * SLOTS, NUM_ENVS, longest=4)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("t", [2, 5, SLOTS, 3 * SLOTS - 4])
def test_a_mean_over_the_batch_is_the_mean_over_its_eligible_rows(n, t):
    replay, stream = replay_and_stream(n)
    twin = stream.transitions(n, GAMMA)
    batch = sample(replay, filled(replay, stream.all_rows(), t), t, jax.random.key(0))
    row, instance = np.asarray(batch.obs_tm1[:, :2], int).T
    eligible = twin.eligible(t, SLOTS)[row, instance]
    np.testing.assert_array_equal(row % SLOTS * NUM_ENVS + instance, batch.index)
    np.testing.assert_array_equal(np.asarray(batch.weight) > 0, eligible)
    if n < t:
        assert 0 < eligible.sum() < len(row)
        reward = twin.reward[row, instance]
        np.testing.assert_allclose(
            np.mean(batch.weight * reward), reward[eligible].mean(), rtol=1e-5
        )
        np.testing.assert_allclose(
            np.asarray(batch.reward_t)[eligible], reward[eligible], rtol=1e-5, atol=1e-6
        )


def test_nothing_is_eligible_yet():
    replay, stream = replay_and_stream(3)
    state = filled(replay, stream.all_rows(), 1)
    batch = sample(replay, state, 1, jax.random.key(0))
    np.testing.assert_array_equal(batch.weight, 0.0)


def test_rows_are_drawn_uniformly():
    """Row and instance from one key would be correlated, and some pairs never come up."""
    t, replay, stream = 2 * SLOTS + 9, *replay_and_stream(1, batch_size=1 << 17)
    batch = sample(replay, filled(replay, stream.all_rows(), t), t, jax.random.key(0))
    counts = np.bincount(batch.index, minlength=SLOTS * NUM_ENVS)
    assert len(counts) == SLOTS * NUM_ENVS
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_one_key_one_batch():
    replay, stream = replay_and_stream(3)
    state = filled(replay, stream.all_rows(), SLOTS)
    first, again, other = (sample(replay, state, SLOTS, jax.random.key(s)).index for s in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert np.mean(np.asarray(first) != np.asarray(other)) > 0.9


def test_no_key_is_used_twice():
    replay, stream = replay_and_stream(3)
    state = filled(replay, stream.all_rows(), SLOTS)
    with jax.debug_key_reuse(True):
        jax.jit(lambda key: replay.sample(state, SLOTS, key)).lower(jax.random.key(0))
