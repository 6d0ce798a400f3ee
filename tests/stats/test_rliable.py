"""Against rliable: points to 1e-12, interval ends within Monte-Carlo error.

rliable needs old versions of its dependencies: tools/check_rliable.sh makes an environment of its
own and runs this file there. Elsewhere it is skipped.
"""

from __future__ import annotations

import numpy as np
import pytest

from jaxrl import stats

library = pytest.importorskip("rliable.library")
metrics = pytest.importorskip("rliable.metrics")

REPS = 4000
"""Of rliable, which is slow and cannot be seeded."""
OURS = 200_000

PAIRS = {
    "mean": (stats.mean, metrics.aggregate_mean),
    "median": (stats.median, metrics.aggregate_median),
    "iqm": (stats.iqm, metrics.aggregate_iqm),
    "optimality gap": (stats.optimality_gap, metrics.aggregate_optimality_gap),
}
SHAPES = [(3, 1), (5, 8), (10, 26), (7, 3)]


def sample(n, tasks, seed=0):
    rng = np.random.default_rng([n, tasks, seed])
    return rng.gamma(2.0, rng.uniform(0.1, 0.8, tasks), size=(n, tasks))


def agrees(theirs, ours):
    """Whether rliable's ends are quantiles of ours between 2.5 % -+ five standard errors.

    Args:
      theirs: ends, [2].
      ours: a function from the level to an object with `low` and `high`.
    """
    tail = 0.025
    error = np.sqrt(tail * (1 - tail) * (1 / REPS + 1 / OURS))
    outer, inner = ours(1 - 2 * (tail - 5 * error)), ours(1 - 2 * (tail + 5 * error))
    slack = 1e-9
    assert np.all(outer.low - slack <= theirs[0]), (outer, theirs)
    assert np.all(theirs[0] <= inner.low + slack), (inner, theirs)
    assert np.all(inner.high - slack <= theirs[1]), (inner, theirs)
    assert np.all(theirs[1] <= outer.high + slack), (outer, theirs)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("shape", SHAPES)
def test_aggregates(name, shape):
    ours, theirs = PAIRS[name]
    x = sample(*shape)
    scores = stats.Scores.from_matrix(x)
    points, intervals = library.get_interval_estimates(
        {"x": x}, lambda s: np.array([theirs(s)]), reps=REPS
    )
    assert stats.aggregate(scores, ours, interval=False).point == pytest.approx(
        points["x"][0], rel=0, abs=1e-12
    )
    agrees(
        intervals["x"][:, 0], lambda level: stats.aggregate(scores, ours, reps=OURS, level=level)
    )


@pytest.mark.parametrize(("n", "m"), [(5, 5), (3, 8), (10, 4)])
def test_probability_of_improvement_with_uneven_runs(n, m):
    x, y = sample(n, 4, seed=1), sample(m, 4, seed=2)
    x[0, 0] = y[0, 0]  # a tie
    a, b = stats.Scores.from_matrix(x), stats.Scores.from_matrix(y)
    points, intervals = library.get_interval_estimates(
        {"x": (x, y)}, lambda *s: np.array([metrics.probability_of_improvement(*s)]), reps=REPS
    )
    assert stats.improvement(a, b, interval=False).point == pytest.approx(
        points["x"][0], rel=0, abs=1e-12
    )
    agrees(intervals["x"][:, 0], lambda level: stats.improvement(a, b, reps=OURS, level=level))


@pytest.mark.parametrize("runs", [True, False])
def test_profiles(runs):
    x, taus = sample(5, 8), np.linspace(0, 2, 9)
    scores = stats.Scores.from_matrix(x)
    profile = stats.run_score_profile if runs else stats.average_score_profile
    points, intervals = library.create_performance_profile(
        {"x": x}, taus, use_score_distribution=runs, reps=REPS
    )
    ours = profile(scores, taus, interval=False)
    np.testing.assert_allclose(ours.point, points["x"], rtol=0, atol=1e-12)
    agrees(intervals["x"], lambda level: profile(scores, taus, reps=OURS, level=level))


def test_sample_efficiency_curves():
    rng = np.random.default_rng(9)
    x = rng.normal(size=(5, 6, 4)).cumsum(-1)  # runs, tasks, points
    steps = np.arange(4)
    scores = stats.Scores.from_matrix(x)
    points, intervals = library.get_interval_estimates(
        {"x": x},
        lambda s: np.array([metrics.aggregate_iqm(s[..., i]) for i in range(4)]),
        reps=REPS,
    )
    ours = stats.sample_efficiency(scores, steps, interval=False)
    np.testing.assert_allclose(ours.point, points["x"], rtol=0, atol=1e-12)
    agrees(
        intervals["x"],
        lambda level: stats.sample_efficiency(scores, steps, reps=OURS, level=level),
    )
