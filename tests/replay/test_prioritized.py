"""Which rows may be drawn, how often, and what they weigh; sums that do not drift."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrl.replay.prioritized import BLOCK, Prioritized, PrioritizedState, _draw
from tests.replay.episodes import Stream, filled, first_row, flat_index

GAMMA = 0.99

sample = jax.jit(Prioritized.sample)


def priorities(state: PrioritizedState) -> np.ndarray:
    """Of every row slot, [blocks * BLOCK]."""
    return np.asarray(state.priority).ravel()


def assert_sums(state: PrioritizedState) -> None:
    """Block sums equal those in float64."""
    exact = np.asarray(state.priority, np.float64).sum(axis=1)
    np.testing.assert_allclose(state.sums, exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("num_envs", "capacity", "n"),
    [(1, 301, 3), (3, 200, 5), (8, 333, 1), (300, 2200, 3)],
)
def test_a_row_has_a_priority_exactly_while_it_is_eligible(num_envs, capacity, n):
    """Row by row: entry at the new-item priority, no reset of what was updated, exit on time."""
    time_slots = capacity // num_envs
    replay = Prioritized(GAMMA, time_slots, num_envs, n_step=n, new_priority=3.0)
    stream = Stream(rows=int(2.4 * time_slots), num_envs=num_envs, seed=num_envs)
    twin, rows = stream.transitions(n, GAMMA), stream.all_rows()
    rng = np.random.RandomState(0)
    add, update = jax.jit(replay.add), jax.jit(replay.update_priorities)
    state = replay.init(first_row(rows))
    assert state.priority.size >= time_slots * num_envs and time_slots * num_envs % BLOCK
    expected = np.zeros((stream.rows, num_envs), np.float32)
    before = np.zeros_like(expected, bool)
    for t in range(1, stream.rows + 1):
        state = add(state, first_row(rows, t - 1), jnp.asarray(t - 1, jnp.int32))
        eligible = twin.eligible(t, time_slots)
        expected[eligible & ~before] = 3.0**0.6
        expected[~eligible] = 0
        before = eligible
        in_ring = np.zeros(state.priority.size, np.float32)
        in_ring[flat_index(eligible, time_slots)] = expected[eligible]
        np.testing.assert_allclose(priorities(state), in_ring, rtol=1e-6, atol=0)
        assert_sums(state)
        if t % 3 == 0 and eligible.any():  # as after an update of a batch of four
            row, instance = np.argwhere(eligible)[rng.randint(eligible.sum(), size=4)].T
            td_error = (1 + row * num_envs + instance) * np.float32(1e-3)
            index = row % time_slots * num_envs + instance
            sign = rng.choice([-1, 1], size=4)
            state = update(state, index.astype(np.int32), jnp.asarray(sign * td_error, jnp.float32))
            expected[row, instance] = td_error**0.6
    assert eligible.sum() > 0.3 * time_slots * num_envs


@pytest.fixture(scope="module")
def skewed():
    """A wrapped ring of 7 instances in 5000 rows, priorities from 0 and 1e-6 to 1e3."""
    num_envs, time_slots, t = 7, 5000 // 7, 1600
    replay = Prioritized(GAMMA, time_slots, num_envs, batch_size=8192)
    stream = Stream(rows=t, num_envs=num_envs, longest=30)
    state = filled(replay, stream.all_rows(), t)
    rng = np.random.RandomState(0)
    index = flat_index(stream.transitions(3, GAMMA).eligible(t, time_slots), time_slots)
    td_error = np.where(rng.rand(len(index)) < 0.2, 0.0, 10.0 ** rng.uniform(-6, 3, len(index)))
    td_error[(index >= 512) & (index < 768)] = 0.0  # a whole block
    state = replay.update_priorities(state, index, jnp.asarray(td_error, jnp.float32))
    mass = np.zeros(state.priority.size)
    mass[index] = td_error**0.6
    return replay, state, t, mass / mass.sum()


def test_frequencies_are_the_priorities(skewed):
    replay, state, t, probability = skewed

    @jax.jit
    def count(key):
        def draw(counts, key):
            batch = replay.sample(state, t, key)
            return counts.at[batch.index].add(1), None

        counts = jnp.zeros(probability.size, jnp.int32)
        return jax.lax.scan(draw, counts, jax.random.split(key, 130))[0]

    counts = np.asarray(count(jax.random.key(0)))
    draws = 130 * replay.batch_size
    assert counts.sum() == draws > 1e6
    assert counts[probability == 0].sum() == 0, "a row of priority 0 was returned"
    common = draws * probability >= 5
    rare = ~common & (probability > 0)
    assert common.sum() > 1000 and rare.sum() > 1000
    observed = [*counts[common], counts[rare].sum()]
    expected = draws * np.array([*probability[common], probability[rare].sum()])
    assert scipy.stats.chisquare(observed, expected).pvalue > 1e-3


def test_importance_weights(skewed):
    replay, state, t, probability = skewed
    batch = sample(replay, state, t, jax.random.key(1))
    drawn = probability[np.asarray(batch.index)]
    weight = (1 / drawn) ** 0.2
    np.testing.assert_allclose(batch.weight, weight / weight.max(), rtol=1e-4)
    assert drawn.max() > 1e3 * drawn.min()


def test_a_batch_is_the_rows_it_names(skewed):
    replay, state, t, _ = skewed
    batch = sample(replay, state, t, jax.random.key(2))
    row, instance = np.asarray(batch.obs_tm1[:, :2], int).T
    assert np.all(row >= t - replay.time_slots)
    index = row % replay.time_slots * replay.num_envs + instance
    np.testing.assert_array_equal(batch.index, index)


def test_a_row_without_error_stays_eligible(skewed):
    """If nothing is left to learn, every eligible row is as likely as any, and weights are 1."""
    replay, state, t, _ = skewed
    where = (
        Stream(rows=t, num_envs=7, longest=30).transitions(3, GAMMA).eligible(t, replay.time_slots)
    )
    index = flat_index(where, replay.time_slots)
    state = replay.update_priorities(state, index, jnp.zeros(len(index)))
    batch = sample(replay, state, t, jax.random.key(5))
    np.testing.assert_allclose(batch.weight, 1.0, rtol=1e-5)
    assert np.isin(batch.index, index).all()
    counts = np.bincount(np.searchsorted(index[np.argsort(index)], batch.index) // 16)
    sizes = np.bincount(np.arange(len(index)) // 16)
    expected = sizes / sizes.sum() * replay.batch_size
    assert scipy.stats.chisquare(counts, expected).pvalue > 1e-3


def test_one_key_one_batch(skewed):
    replay, state, t, _ = skewed
    first, again, other = (
        sample(replay, state, t, jax.random.key(seed)).index for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert np.mean(np.asarray(first) != np.asarray(other)) > 0.9


def test_zero_weights_are_never_drawn():
    """Where rounding lets a cumulative sum rise, or reach its end, at a weight of 0."""
    rng = np.random.RandomState(0)
    draw = jax.jit(jax.vmap(jax.vmap(_draw, in_axes=(None, 0)), in_axes=(0, None)))
    uniform = np.array([0.0, *rng.rand(500), 1 - 2.0**-23], np.float32)
    for length in (16, 20, 3907):
        weights = 10.0 ** rng.uniform(-6, 3, (40, length)) * (rng.rand(40, length) < 0.3)
        weights[:20, -2:] = 0
        weights[10:30, :2] = 0
        weights = weights.astype(np.float32)
        # Ask at every value the cumulative sum takes, too.
        steps = np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True)
        ask = np.concatenate([uniform, steps[:, :500].ravel()]).astype(np.float32)
        ask = ask[ask < 1]
        found = np.asarray(draw(weights, ask))
        assert np.all(np.take_along_axis(weights, found, axis=1) > 0)


def test_sums_do_not_drift():
    """1e5 rows and 1e5 updates with priorities of 1e3, then small ones: nothing of them is left."""
    num_envs, time_slots, start = 3, 200, 40
    replay = Prioritized(GAMMA, time_slots, num_envs, batch_size=8)
    stream = Stream(rows=start, num_envs=num_envs)
    rows = stream.all_rows()
    state = filled(replay, rows, start)

    def step(i, state):
        index_key, td_key = jax.random.split(jax.random.fold_in(jax.random.key(0), i))
        t = start + i
        state = replay.add(state, first_row(rows, t % start), t)
        index = jax.random.randint(index_key, (8,), 0, time_slots * num_envs)
        exponent = jax.random.uniform(td_key, (8,), minval=-6, maxval=3)
        return replay.update_priorities(state, index, 10.0**exponent)

    state = jax.jit(functools.partial(jax.lax.fori_loop, 0, 100_000, step))(state)
    assert np.asarray(state.priority).max() > 1e3**0.5
    assert_sums(state)
    small = np.arange(time_slots * num_envs, dtype=np.int32)
    state = jax.jit(replay.update_priorities)(state, small, jnp.full(small.shape, 1e-6))
    assert_sums(state)


def test_no_key_is_used_twice(skewed):
    replay, state, t, _ = skewed
    with jax.debug_key_reuse(True):
        jax.jit(lambda key: replay.sample(state, t, key)).lower(jax.random.key(0))
