"""Probability of improvement: the Mann-Whitney U, ties, uneven runs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from jaxrl import stats
from jaxrl.errors import UsageError
from tests.stats.samples import resampled


def of(*runs, names="abcdefgh"):
    return stats.Scores.of(dict(zip(names, runs, strict=False)))


def test_it_is_u_over_nm_averaged_over_tasks_with_ties():
    rng = np.random.default_rng(0)
    x = [rng.integers(0, 4, size=n) for n in (5, 3, 7)]
    y = [rng.integers(0, 4, size=n) for n in (4, 6, 2)]
    expected = [
        scipy_stats.mannwhitneyu(a, b).statistic / (len(a) * len(b))
        for a, b in zip(x, y, strict=True)
    ]
    estimate = stats.improvement(of(*x), of(*y), reps=100)
    assert estimate.point == pytest.approx(np.mean(expected), abs=1e-12)
    assert estimate.n == 2


def test_a_swap_gives_the_complement_and_the_same_agent_one_half():
    rng = np.random.default_rng(1)
    x, y = of(rng.normal(size=5)), of(rng.normal(size=4))
    forth, back = stats.improvement(x, y, interval=False), stats.improvement(y, x, interval=False)
    assert forth.point + back.point == pytest.approx(1.0, abs=1e-14)
    assert stats.improvement(x, x, interval=False).point == 0.5


def test_tasks_are_matched_by_name():
    x = of([1.0, 2.0], [10.0, 20.0], names=("a", "b"))
    y = of([5.0, 6.0], [0.0, 0.5], names=("b", "a"))
    assert stats.improvement(x, y, interval=False).point == 1.0
    with pytest.raises(UsageError, match="only one of the two agents has scores of c"):
        stats.improvement(x, of([1.0], [1.0], [1.0], names=("a", "b", "c")))


def test_its_interval_is_the_one_of_resamples_drawn_one_by_one():
    rng = np.random.default_rng(2)
    x = [rng.normal(0.5, size=n) for n in (5, 8)]
    y = [rng.normal(0.0, size=n) for n in (7, 4)]
    estimate = stats.improvement(of(*x), of(*y))
    twin = [
        np.mean([(a[:, None] > b).mean() for a, b in zip(p, q, strict=True)])
        for p, q in zip(resampled(rng, x, 20_000)[0], resampled(rng, y, 20_000)[0], strict=True)
    ]
    expected = np.quantile(twin, [0.025, 0.975])
    assert (estimate.low, estimate.high) == pytest.approx(tuple(expected), abs=0.01)


def test_the_seed_decides():
    rng = np.random.default_rng(3)
    x, y = of(rng.normal(size=5)), of(rng.normal(size=5))
    first = stats.improvement(x, y, reps=100, seed=1)
    assert stats.improvement(x, y, reps=100, seed=1) == first
    assert stats.improvement(x, y, reps=100, seed=2) != first


def test_equal_agents_do_not_share_their_resamples():
    """With shared draws P would stay at one half; apart, it scatters."""
    x = of(np.arange(6.0))
    estimate = stats.improvement(x, x, reps=2000)
    assert estimate.high - estimate.low > 0.3


@pytest.mark.parametrize("sizes", [(1, 3), (3, 1)])
def test_one_run_on_either_side_has_no_interval(sizes):
    x, y = (of(np.arange(float(n))) for n in sizes)
    with pytest.raises(UsageError, match="a has one run"):
        stats.improvement(x, y)
    assert str(stats.improvement(x, y, interval=False)).endswith("(n = 1)")
