"""Loaded rows are a ring: the sampler, its n-step returns and windows work on them unchanged."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats as scipy_stats

from jaxrl.data import measures, streams
from jaxrl.data.rows import CUT, TERMINATED, TRUNCATED, UNSTABLE, HostRows
from jaxrl.replay.ring import Rows
from jaxrl.replay.stored import Stored, gather
from jaxrl.replay.uniform import Uniform
from jaxrl.stats.references import Reference
from tests.data import samples
from tests.replay.episodes import Stream

GAMMA = 0.9
ROWS = samples.rows()
T = len(ROWS)


def ring(rows: HostRows) -> Rows:
    """The dataset as the state of a replay of one instance, [T, 1, ...]."""
    columns = (rows.obs, rows.action, rows.reward, rows.flags)
    return Rows(*(jnp.asarray(x)[:, None] for x in columns))


@pytest.mark.parametrize("n", [1, 3])
def test_n_step_transitions_stop_at_episode_ends(n):
    """By walking through the dataset: nothing of one episode reaches into another, and every
    truncated one bootstraps from its own final observation."""
    replay = Stored(GAMMA, T, batch_size=T, n_step=n)
    index = jnp.arange(T, dtype=jnp.int32)
    windows = gather(Rows(ROWS.obs, ROWS.action, ROWS.reward, ROWS.flags), np.arange(T), n + 1)
    batch = jax.jit(Stored.batch)(replay, windows, index)
    np.testing.assert_array_equal(batch.weight > 0, ~ROWS.last)
    np.testing.assert_allclose(batch.weight.sum(), T)
    for t in np.flatnonzero(~ROWS.last):
        end = t + 1 + int(np.argmax(ROWS.last[t + 1 :]))
        k = min(n, end - t)
        reward = sum(GAMMA**j * ROWS.reward[t + 1 + j] for j in range(k))
        terminated = t + k == end and ROWS.flags[end] & TERMINATED
        np.testing.assert_allclose(batch.reward_t[t], reward, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(batch.discount_t[t], 0.0 if terminated else GAMMA**k, rtol=1e-6)
        np.testing.assert_array_equal(batch.obs_t[t], ROWS.obs[t + k])
        np.testing.assert_array_equal(batch.action_tm1[t], ROWS.action[t])


@pytest.mark.parametrize("n", [1, 3])
def test_stored_draws_what_uniform_draws(n):
    """Bit for bit, with the rows on the device or on the host."""
    key, sizes = jax.random.key(3), {"batch_size": 64, "n_step": n}
    expected = jax.jit(Uniform(GAMMA, T, 1, **sizes)._sample)(ring(ROWS), T, key)
    replay = Stored(GAMMA, T, **sizes)
    index = jax.jit(replay.index)(key)
    host = Rows(ROWS.obs, ROWS.action, ROWS.reward, ROWS.flags)
    device = jax.tree.map(jnp.asarray, host)
    for windows in (gather(host, np.asarray(index), n + 1), gather(device, index, n + 1)):
        found = jax.jit(replay.batch)(windows, index)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(a, b, strict=True)


def test_every_row_is_drawn_alike():
    replay = Stored(GAMMA, T, batch_size=T * 200)
    counts = np.bincount(jax.jit(replay.index)(jax.random.key(0)), minlength=T)
    assert scipy_stats.chisquare(counts).pvalue > 1e-3


def test_streams_of_an_environment_become_episodes():
    """Each instance's rows in order; an episode that the stream's end or unstable physics cuts
    short is truncated at the observation before."""
    stream = Stream(40, 3, seed=2)
    terminated, truncated, unstable = stream.ends
    flags = 1 * terminated + 2 * truncated + 4 * unstable
    action = stream.action.astype(np.float32)
    found = streams.join(stream.obs, action, stream.reward, flags)
    expected = []
    for i, episodes in enumerate(stream.episodes):
        for e in episodes:
            length = min(e.length, stream.rows - 1 - e.first)
            whole = e.first + e.length < stream.rows
            length -= whole and e.unstable
            for step in range(length):
                t, ends = e.first + step, step == length - 1
                really = ends and whole and not e.unstable
                expected.append(
                    (
                        *(stream.obs[t, i], action[t, i], stream.reward[t + 1, i]),
                        *(stream.obs[t + 1, i], bool(really and e.terminated), ends),
                    )
                )
                if ends:
                    row = len(expected) - 1
                    assert (found.flags[found.ends][_episode(found, row)] & CUT == 0) == really
    samples.assert_same_transitions(found, expected)
    assert not (found.flags & UNSTABLE).any()
    assert not found.reward[found.starts].any() and not found.action[found.last].any()


def _episode(rows: HostRows, transition: int) -> int:
    """The episode that a transition is of."""
    return int(np.cumsum(rows.last)[np.flatnonzero(~rows.last)[transition]])


def test_taking_and_thinning():
    whole = samples.transitions(ROWS)
    for n in (1, 4, 5, len(whole)):
        taken = streams.take(ROWS, n)
        cut = not whole[n - 1][5]
        samples.assert_same_transitions(taken, [*whole[: n - 1], (*whole[n - 1][:5], True)])
        assert bool(taken.flags[-1] & CUT) == cut
        thinned = streams.thin(ROWS, n, seed=n)
        assert thinned.transitions == n
        # Whole episodes in their order, but for the last one.
        starts = [tuple(x) for x in ROWS.obs[ROWS.starts]]
        places = [starts.index(tuple(x)) for x in thinned.obs[thinned.starts]]
        assert places == sorted(set(places))
    assert len({streams.thin(ROWS, 5, seed).obs.tobytes() for seed in range(5)}) > 1
    both = streams.concatenate([ROWS, ROWS])
    samples.assert_same_transitions(both, [*whole, *whole])


def test_trajectory_quality_is_the_normalised_mean_of_whole_episodes():
    reference = Reference(-1.0, 3.0, "here")
    totals = [ROWS.reward[s : e + 1].sum() for s, e in zip(ROWS.starts, ROWS.ends, strict=True)]
    np.testing.assert_allclose(measures.returns(ROWS), totals, rtol=1e-6)
    found = measures.trajectory_quality(ROWS, reference)
    np.testing.assert_allclose(found, (np.mean(totals) + 1) / 4, rtol=1e-6)
    cut = streams.take(ROWS, 6)  # the second episode is cut
    np.testing.assert_allclose(
        measures.trajectory_quality(cut, reference), (totals[0] + 1) / 4, rtol=1e-6
    )
    assert np.isnan(measures.trajectory_quality(streams.take(ROWS, 2), reference))


def points(obs: np.ndarray, action: np.ndarray) -> HostRows:
    """One episode through these pairs."""
    n = len(obs)
    flags = np.append(np.zeros(n, np.uint8), np.uint8(TRUNCATED))
    pad = [np.append(x, x[-1:], axis=0).astype(np.float32) for x in (obs, action)]
    return HostRows(*pad, np.zeros(n + 1, np.float32), flags)


def test_saco_counts_unique_pairs_beside_as_many_of_the_reference():
    """On a lattice the count is known: 8 x 8 observations, of which a dataset visits a quarter."""
    rng = np.random.default_rng(0)
    lattice = np.arange(8) / 8
    obs = rng.choice(lattice, (6000, 2))
    obs[:2] = [[0, 0], [1, 1]]  # the extremes
    action = np.zeros((6000, 1))
    grid = measures.Grid.of(points(obs, action))
    assert grid.parts == 100  # the finest will do: at most 66 pairs are unique
    assert grid.count(np.concatenate([obs, action], axis=1)) == 65
    quarter = points(obs[2:3002] / 2 // 0.125 * 0.125, action[:3000])
    assert grid.coverage(quarter) == pytest.approx(16 / 65, rel=0.03)
    assert grid.coverage(points(obs, action)) == 1
    diagonal = np.repeat(np.linspace(0, 1, 9)[:, None], 2, axis=1)[np.arange(40) % 9]
    few = measures.Grid.of(points(diagonal, action[:40]))
    every = np.concatenate([obs, action], axis=1)  # more than the reference: as many are drawn
    drawn = every[np.random.default_rng(0).choice(len(every), 40, replace=False)]
    expected = few.count(drawn) / few.count(few.pairs)
    assert few.coverage(points(obs, action)) == expected < few.count(every) / few.count(few.pairs)
    outside = points(10 + rng.normal(size=(3000, 2)), action[:3000])
    assert grid.coverage(outside) == pytest.approx(1 / 65, rel=0.03)


def test_the_grid_is_coarser_where_all_pairs_would_be_unique():
    rng = np.random.default_rng(0)
    reference = points(rng.normal(size=(3000, 3)), rng.uniform(-1, 1, (3000, 1)))
    grid = measures.Grid.of(reference)
    assert grid.parts in measures.PARTS[3:] and grid.unique <= 0.5
    finer = measures.PARTS[measures.PARTS.index(grid.parts) - 1]
    pairs = np.concatenate([reference.obs[:-1], reference.action[:-1]], axis=1)
    cells = np.floor((pairs - pairs.min(0)) / np.ptp(pairs, axis=0) * finer).clip(0, finer - 1)
    assert len({tuple(x) for x in cells}) > 1500
