"""Resamples and the intervals made of them: seeds, strata, closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats as scipy_stats

from jaxrl import stats
from jaxrl.errors import UsageError
from jaxrl.stats import bootstrap, student
from jaxrl.stats.samples import Drawn, Weighted, once
from tests.stats.samples import uneven

METRICS = [stats.mean, stats.median, stats.iqm, stats.optimality_gap]


def scores(rng, sizes=(3, 8, 5, 5, 2)):
    runs = uneven(rng, sizes)
    return stats.Scores.of({f"task {t}": x for t, x in enumerate(runs)})


@pytest.mark.parametrize("left_out", [0, 1])
def test_each_task_is_resampled_within_itself(left_out):
    sizes = (3, 1, 6)
    (samples,) = bootstrap.resamples(sizes, 500, left_out=left_out, block=500)
    for n, s in zip(sizes, samples, strict=True):
        assert s.counts().shape == (n, 500)
        assert (s.counts().sum(0) == n - left_out).all()
        assert s.draws == n - left_out


@pytest.mark.parametrize("n", [2, 3, 5, 10, 11, 24, 25, 26, 127, 128, 300])
@pytest.mark.parametrize("left_out", [0, 1])
def test_sums_and_counts_tell_of_the_same_draws(n, left_out):
    """Numbers of one, several and not quite several draws each."""
    rng = np.random.default_rng(n)
    sample = Drawn.by(rng, n, n - left_out, 40)
    x = rng.normal(size=n)
    np.testing.assert_allclose(sample.sum(x), x @ sample.counts(), rtol=0, atol=1e-11)
    assert (sample.counts().sum(0) == n - left_out).all()


def test_every_resample_is_as_likely_as_it_should_be():
    """All 27 ordered draws of three runs are equally likely: 10 multisets, by chi-square."""
    (counts,) = bootstrap.resamples((3,), 54_000, seed=1, block=54_000)
    kinds, observed = np.unique(counts[0].counts().T, axis=0, return_counts=True)
    assert len(kinds) == 10
    expected = [54_000 * scipy_stats.multinomial.pmf(k, 3, [1 / 3] * 3) for k in kinds]
    assert scipy_stats.chisquare(observed, expected).pvalue > 1e-4


def test_tasks_and_runs_are_drawn_independently():
    (counts,) = bootstrap.resamples((4, 4), 20_000, seed=2, block=20_000)
    drawn = np.concatenate([s.counts() for s in counts])
    within, between = np.corrcoef(drawn)[:4, :4], np.corrcoef(drawn)[:4, 4:]
    np.testing.assert_allclose(within[~np.eye(4, dtype=bool)], -1 / 3, atol=0.03)  # multinomial
    np.testing.assert_allclose(between, 0, atol=0.03)


@pytest.mark.parametrize("block", [1, 7, 256, 1000, 5000])
def test_blocks_do_not_change_the_draws(block):
    sizes = (3, 8, 5)  # odd numbers of draws in a block
    whole = next(bootstrap.resamples(sizes, 1000, seed=3, block=1000))
    parts = list(bootstrap.resamples(sizes, 1000, seed=3, block=block))
    for t in range(len(sizes)):
        drawn = np.concatenate([p[t].counts() for p in parts], axis=1)
        np.testing.assert_array_equal(drawn, whole[t].counts())


def test_memory_does_not_change_an_interval(monkeypatch):
    sample = scores(np.random.default_rng(0))
    before = stats.aggregate(sample, reps=3000)
    monkeypatch.setattr(bootstrap, "BLOCK_BYTES", 1)
    assert stats.aggregate(sample, reps=3000) == before


def test_the_seed_and_nothing_else_decides():
    sample = scores(np.random.default_rng(0))
    np.random.seed(1)
    first = stats.aggregate(sample, reps=500, seed=7)
    np.random.seed(2)
    state = np.random.get_state()[1].copy()
    assert stats.aggregate(sample, reps=500, seed=7) == first
    assert (np.random.get_state()[1] == state).all()
    assert stats.aggregate(sample, reps=500, seed=8) != first
    sequence = np.random.SeedSequence(7)
    assert stats.aggregate(sample, reps=500, seed=sequence) == first
    assert stats.aggregate(sample, reps=500, seed=sequence) == first  # spawning did not use it up


def test_the_mean_scatters_as_its_analytic_standard_error():
    """Var of a stratified resample's mean: sum_t s_t^2 / n_t / T^2, with s_t^2 of divisor n_t."""
    sample = scores(np.random.default_rng(4))
    drawn = [stats.mean(sample.runs, c) for c in bootstrap.resamples(sample.sizes, 100_000)]
    variance = sum(x.var() / len(x) for x in sample.runs) / len(sample.runs) ** 2
    assert np.concatenate(drawn).std() == pytest.approx(np.sqrt(variance), rel=0.01)
    left_out = bootstrap.resamples(sample.sizes, 100_000, left_out=1)
    unbiased = sum(x.var(ddof=1) / len(x) for x in sample.runs) / len(sample.runs) ** 2
    drawn = [stats.mean(sample.runs, c) for c in left_out]
    assert np.concatenate(drawn).std() == pytest.approx(np.sqrt(unbiased), rel=0.01)


@pytest.mark.parametrize("metric", METRICS)
def test_the_interval_of_a_small_sample_equals_the_one_of_all_its_resamples(metric):
    """3 and 2 runs have 27 x 4 resamples; their exact quantiles, at a level between two steps."""
    runs = [np.array([0.1, 0.5, 0.7]), np.array([0.2, 1.4])]
    columns = []
    for i in itertools.product(range(3), repeat=3):
        for j in itertools.product(range(2), repeat=2):
            columns.append([np.bincount(i, minlength=3), np.bincount(j, minlength=2)])
    counts = [np.stack([c[t] for c in columns], axis=1).astype(float) for t in (0, 1)]
    exact = np.sort(metric(runs, [Weighted(len(c), c) for c in counts]))
    values = np.unique(exact.round(12))
    shares = np.array([(exact <= v + 1e-9).mean() for v in values])
    tail = 0.02  # resamples of 50,000 put the quantile at the same value unless a step is this near
    while abs(shares - tail).min() < 0.005 or abs(shares - (1 - tail)).min() < 0.005:
        tail += 0.002
    sample = stats.Scores.of({"a": runs[0], "b": runs[1]})
    estimate = stats.aggregate(sample, metric, level=1 - 2 * tail)
    assert estimate.low == pytest.approx(values[np.searchsorted(shares, tail)], abs=1e-9)
    assert estimate.high == pytest.approx(values[np.searchsorted(shares, 1 - tail)], abs=1e-9)


def test_student_is_the_t_interval_of_the_mean_of_one_task():
    x = np.random.default_rng(5).normal(size=6)
    estimate = stats.aggregate(
        stats.Scores.of({"a": x}), stats.mean, method="student", reps=200_000
    )
    low, high = scipy_stats.t.interval(0.95, 5, x.mean(), x.std(ddof=1) / np.sqrt(6))
    assert (estimate.low, estimate.high) == pytest.approx((low, high), rel=0.01)


def test_an_interval_of_students_is_cut_to_the_range_of_a_score():
    sample = stats.Scores.of({"a": [0.83, 0.93]})
    free = stats.aggregate(sample, stats.mean, method="student")
    share = stats.aggregate(sample, stats.mean, method="student", bounds=(0, 1))
    assert free.low > 0 and free.high > 1
    assert (share.point, share.low, share.high) == (free.point, free.low, 1)


def test_degrees_of_freedom_are_welchs():
    """The mean over two tasks has the variance of Welch's test."""
    rng = np.random.default_rng(6)
    for sizes in [(5, 9), (2, 40), (3, 20), (30, 4)]:
        a, b = (rng.normal(scale=n**0.5, size=n) for n in sizes)
        welch = scipy_stats.ttest_ind(a, b, equal_var=False).df
        assert student.degrees_of_freedom([a, b], stats.mean) == int(welch)
    a = rng.normal(size=5)
    assert student.degrees_of_freedom([a, a + 1.0], stats.mean) == 8
    assert student.degrees_of_freedom([np.ones(5)], stats.mean) == 1


def test_degrees_of_freedom_come_from_leaving_each_run_out():
    runs = uneven(np.random.default_rng(8), (4, 9, 6))
    shares = []
    for t, x in enumerate(runs):
        left = [[*runs[:t], np.delete(x, i), *runs[t + 1 :]] for i in range(len(x))]
        values = [stats.iqm(r, once([len(y) for y in r])).item() for r in left]
        shares.append((len(x) - 1) / len(x) * sum((values - np.mean(values)) ** 2))
    squares = sum(v**2 / (len(x) - 1) for v, x in zip(shares, runs, strict=True))
    # One run fewer cuts another share of the weight; that moves the values by little.
    found = student.degrees_of_freedom(runs, stats.iqm)
    assert found == pytest.approx(sum(shares) ** 2 / squares, abs=1.5)


@pytest.mark.parametrize("df", [1, 2, 3, 4, 5, 8, 51, 200])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_quantiles_of_students_t(df, level):
    expected = scipy_stats.t.ppf((1 + level) / 2, df)
    assert student.t_quantile(level, df) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("method", ["percentile", "student"])
def test_equal_runs_have_an_interval_of_no_width(method):
    sample = stats.Scores.of({"a": [2.0, 2.0, 2.0]})
    estimate = stats.aggregate(sample, stats.mean, method=method, reps=100)
    assert (estimate.low, estimate.high) == pytest.approx((2.0, 2.0), abs=1e-12)


def test_one_run_has_no_interval_and_its_estimate_says_so():
    sample = stats.Scores.of({"a": [1.0, 2.0], "walker-walk": [0.5]})
    with pytest.raises(UsageError, match=r"walker-walk has one run.*more seeds.*interval=False"):
        stats.aggregate(sample)
    with pytest.raises(UsageError, match="one run"):
        stats.aggregate(sample, method="student")
    estimate = stats.aggregate(sample, stats.mean, interval=False)
    assert (estimate.low, estimate.high, str(estimate)) == (None, None, "1.000 (n = 1)")


def test_an_estimate_prints_its_interval_and_the_number_of_runs():
    assert str(stats.Estimate(0.61249, 0.5, 0.75, 5)) == "0.612 [0.500, 0.750] (n = 5)"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"level": 1.0}, "level must be between 0 and 1, got 1.0"),
        ({"level": 95, "method": "student"}, "level must be between 0 and 1, got 95"),
        ({"reps": 1}, "reps must be at least 2, got 1"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"method": "bca"}, "'percentile' or 'student', got 'bca'"),
        ({"bounds": (0, 0.5)}, "a score of [0-9.]+ is out of the bounds 0 to 0.5"),
    ],
)
def test_bad_arguments_are_named(arguments, said):
    with pytest.raises(UsageError, match=said):
        stats.aggregate(stats.Scores.of({"a": [1.0, 2.0]}), **{"reps": 10, **arguments})


def test_curves_are_no_scores():
    with pytest.raises(UsageError, match="a curve where one score is needed"):
        stats.aggregate(stats.Scores.of({"a": [[1.0, 2.0], [3.0, 4.0]]}))
