"""Aggregates against SciPy, closed forms and NumPy twins."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from scipy import stats as scipy_stats

from jaxrl import stats
from jaxrl.stats.samples import once
from tests.stats.samples import resampled, uneven

METRICS = [stats.mean, stats.median, stats.iqm, stats.optimality_gap]


def point(metric, runs):
    return metric(runs, once([len(x) for x in runs])).item()


@pytest.mark.parametrize("n", [1, 2, 3, 5, 10, 17])
@pytest.mark.parametrize("tasks", [1, 2, 7, 26])
def test_iqm_is_scipys_trimmed_mean(n, tasks):
    x = np.random.default_rng([n, tasks]).lognormal(size=(n, tasks))
    expected = scipy_stats.trim_mean(x, 0.25, axis=None)
    assert point(stats.iqm, list(x.T)) == pytest.approx(expected, abs=1e-12)


def test_iqm_with_ties_and_a_cut_outlier():
    x = [0.0, 1.0, 1.0, 1.0, 2.0, 2.0, 3.0, 1e300]
    assert point(stats.iqm, [np.array(x)]) == 1.5


def test_iqm_of_uneven_tasks_weighs_each_task_the_same():
    """Every run of the first task ten times over changes nothing: its weight is the task's."""
    few, many = np.array([1.0, 2.0, 3.0, 10.0]), np.array([4.0, 5.0, 6.0, 7.0])
    expected = scipy_stats.trim_mean(np.concatenate([few, many]), 0.25)
    assert point(stats.iqm, [np.repeat(few, 10), many]) == pytest.approx(expected, abs=1e-12)


def test_iqm_of_uneven_tasks_by_hand():
    """Weights 1/2, 1/2, 1/4 x 4: of total 2, the share 1/6... of 6 runs floor(6 / 4) = 1 is cut at
    either end, a sixth of the weight."""
    low, high = [np.array([0.0, 6.0]), np.array([1.0, 2.0, 3.0, 4.0])]
    kept = np.array([1 / 6, 1 / 4, 1 / 4, 1 / 4, 1 / 4, 1 / 6])  # 1/2 - 2/6 left of 0 and of 6
    expected = kept @ [0.0, 1, 2, 3, 4, 6] / kept.sum()
    assert point(stats.iqm, [low, high]) == pytest.approx(expected, abs=1e-14)


def test_mean_median_and_gap_of_uneven_tasks():
    runs = [np.array([0.0, 1.0]), np.array([2.0]), np.array([0.25, 0.5, 0.75])]
    assert point(stats.mean, runs) == pytest.approx((0.5 + 2.0 + 0.5) / 3)
    assert point(stats.median, runs) == 0.5
    assert point(stats.optimality_gap, runs) == pytest.approx((0.5 + 0.0 + 0.5) / 3)
    assert point(stats.median, [*runs, np.array([9.0])]) == pytest.approx((0.5 + 2.0) / 2)
    gap = functools.partial(stats.optimality_gap, gamma=2.0)
    assert point(gap, runs) == pytest.approx((1.5 + 0.0 + 1.5) / 3)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("make", [uneven, lambda rng: list(rng.normal(size=(26, 10)))])
def test_a_resample_by_counts_is_the_metric_of_the_drawn_runs(metric, make):
    """The twin draws the runs themselves, then calls the metric on what it drew."""
    rng = np.random.default_rng(3)
    runs = make(rng)
    drawn, counts = resampled(rng, runs, 20)
    expected = [point(metric, sample) for sample in drawn]
    np.testing.assert_allclose(metric(runs, counts), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_the_order_of_runs_and_tasks_does_not_matter(metric):
    rng = np.random.default_rng(5)
    runs = uneven(rng)
    shuffled = [rng.permutation(runs[t]) for t in rng.permutation(len(runs))]
    assert point(metric, shuffled) == pytest.approx(point(metric, runs), abs=1e-12)
