"""Profiles at known thresholds, learning curves, areas."""

from __future__ import annotations

import numpy as np
import pytest

from jaxrl import stats
from jaxrl.errors import UsageError

TAUS = [0.0, 0.5, 1.0, 2.0]


def test_profiles_at_known_thresholds():
    scores = stats.Scores.of({"a": [0.5, 1.5], "b": [0.25, 0.5, 0.75, 1.5]})
    runs = stats.run_score_profile(scores, TAUS, reps=50)
    np.testing.assert_allclose(runs.point, [1.0, (1 / 2 + 2 / 4) / 2, (1 / 2 + 1 / 4) / 2, 0.0])
    tasks = stats.average_score_profile(scores, TAUS, reps=50)  # task means 1 and 0.75
    np.testing.assert_allclose(tasks.point, [1.0, 1.0, 0.0, 0.0])
    assert (runs.n, runs.x.tolist()) == (2, TAUS)


def test_the_band_of_a_profile_is_binomial():
    """Of n runs in one task, a resample has Binomial(n, share above) above the threshold."""
    scores = stats.Scores.of({"a": np.arange(20.0)})
    band = stats.run_score_profile(scores, [14.5], reps=50_000)  # 5 of 20 above
    from scipy.stats import binom

    expected = binom.ppf([0.025, 0.975], 20, 0.25) / 20
    assert (band.low[0], band.high[0]) == pytest.approx(tuple(expected))


def test_the_band_of_an_average_score_profile_counts_tasks():
    """Two tasks at two levels, the threshold between: always exactly one of two is above."""
    scores = stats.Scores.of({"a": [0.1, 0.2, 0.3], "b": [0.7, 0.8, 0.9]})
    band = stats.average_score_profile(scores, [0.5], reps=200)
    assert (band.low[0], band.point[0], band.high[0]) == (0.5, 0.5, 0.5)
    band = stats.run_score_profile(scores, [0.75], reps=5000)
    assert band.low[0] < band.point[0] < band.high[0]


@pytest.mark.parametrize("metric", [stats.iqm, stats.mean])
def test_a_curve_is_the_aggregate_at_each_step_with_the_same_draws(metric):
    rng = np.random.default_rng(0)
    curves = {"a": rng.normal(size=(4, 6)), "b": rng.normal(size=(7, 6))}
    steps = np.arange(6) * 1000
    band = stats.sample_efficiency(stats.Scores.of(curves), steps, metric, seed=3, reps=400)
    for i in range(6):
        at = stats.Scores.of({task: x[:, i] for task, x in curves.items()})
        one = stats.aggregate(at, metric, seed=3, reps=400)
        assert (band.point[i], band.low[i], band.high[i]) == (one.point, one.low, one.high)
    with pytest.raises(UsageError, match="5 steps need curves of as many points"):
        stats.sample_efficiency(stats.Scores.of(curves), steps[:5])


def test_one_run_has_a_line_and_no_band():
    curve = stats.Scores.of({"a": [[1.0, 2.0]]})
    flat = stats.Scores.of({"a": [1.0]})
    calls = [
        lambda **k: stats.sample_efficiency(curve, [0, 1], **k),
        lambda **k: stats.run_score_profile(flat, TAUS, **k),
        lambda **k: stats.average_score_profile(flat, TAUS, **k),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="a has one run"):
            call()
        band = call(interval=False)
        assert (band.low, band.high, band.n) == (None, None, 1)


def test_area_under_a_curve_is_its_mean_over_uneven_steps():
    steps = [0, 10, 40]
    assert stats.area_under_curve(steps, [0.0, 10.0, 10.0]) == pytest.approx((50 + 300) / 40)
    later = [step + 100 for step in steps]
    assert stats.area_under_curve(later, [0.0, 10.0, 10.0]) == pytest.approx((50 + 300) / 40)
    several = stats.area_under_curve(steps, [[1.0, 1.0, 1.0], [0.0, 1.0, 4.0]])
    assert several.tolist() == pytest.approx([1.0, (5 + 75) / 40])


def test_a_grid_is_met_by_straight_lines_and_not_beyond_the_curve():
    grid = stats.on_grid([10, 20, 40], [1.0, 2.0, 6.0], [0, 10, 15, 30, 40, 41])
    np.testing.assert_array_equal(grid, [np.nan, 1.0, 1.5, 4.0, 6.0, np.nan])
    with pytest.raises(UsageError, match="missing="):
        stats.Scores.of({"a": [grid]})


@pytest.mark.parametrize("steps", [[0, 0, 1], [2, 1, 3], [0, np.nan, 1]])
def test_steps_must_increase(steps):
    with pytest.raises(UsageError, match="must increase"):
        stats.area_under_curve(steps, [1.0, 2.0, 3.0])
    with pytest.raises(UsageError, match="two or more steps"):
        stats.area_under_curve([1], [1.0])
