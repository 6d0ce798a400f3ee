"""What a missing score becomes, and how scores are normalised."""

from __future__ import annotations

import numpy as np
import pytest

from jaxrl import stats
from jaxrl.errors import UsageError

BAD = [None, float("nan"), float("inf"), float("-inf")]


@pytest.mark.parametrize("bad", BAD)
def test_a_missing_score_is_refused_unless_a_policy_is_named(bad):
    with pytest.raises(UsageError, match=r"walker-walk: run 1 of 3 has the score (nan|-?inf)"):
        stats.Scores.of({"walker-walk": [1.0, bad, 3.0]})


@pytest.mark.parametrize("bad", BAD)
def test_worst_counts_a_missing_score_as_the_given_one(bad):
    scores = stats.Scores.of({"a": [1.0, bad, 3.0], "b": [2.0]}, missing="worst", worst=-5.0)
    assert scores.runs[0].tolist() == [1.0, -5.0, 3.0]
    assert (scores.replaced, scores.omitted, scores.sizes) == (1, 0, (3, 1))


@pytest.mark.parametrize("bad", BAD)
def test_omit_leaves_the_run_out_and_counts_it(bad):
    scores = stats.Scores.of({"a": [1.0, bad, 3.0], "b": [2.0]}, missing="omit")
    assert scores.runs[0].tolist() == [1.0, 3.0]
    assert (scores.replaced, scores.omitted, scores.n) == (0, 1, 1)


def test_omit_leaves_out_a_curve_with_one_missing_point():
    curves = [[1.0, 2.0], [np.nan, 3.0], [4.0, 5.0]]
    assert stats.Scores.of({"a": curves}, missing="omit").runs[0].tolist() == [curves[0], curves[2]]
    worst = stats.Scores.of({"a": curves}, missing="worst", worst=0.0)
    assert worst.runs[0].tolist() == [[1.0, 2.0], [0.0, 3.0], [4.0, 5.0]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (({},), "no scores"),
        (({"a": []},), "a has no runs"),
        (({"a": [np.nan]}, "omit"), "a has no runs"),
        (({"a": [1.0]}, "drop"), "'raise', 'worst' or 'omit', got 'drop'"),
        (({"a": [1.0]}, "worst"), "needs the score"),
        (({"a": [1.0]}, "omit", 0.0), "missing='omit' with worst=0.0"),
        (({"a": [1.0]}, "worst", float("nan")), "worst must be finite"),
        (({"a": 1.0},), "1 or 2 axes, got 0"),
        (({"a": ["x"]},), "a: scores must be numbers"),
        (({"a": [[1.0], [1.0, 2.0]]},), "a: scores must be numbers, in runs of equal length"),
        (({"a": [[1.0, 2.0]], "b": [[1.0]]},), "curves differ in length"),
    ],
)
def test_bad_scores_are_named(arguments, said):
    with pytest.raises(UsageError, match=said):
        stats.Scores.of(*arguments)


def test_a_matrix_has_runs_in_rows_and_tasks_in_columns():
    scores = stats.Scores.from_matrix([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]], ["a", "b"])
    assert scores.tasks == ("a", "b")
    assert [x.tolist() for x in scores.runs] == [[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]]
    with pytest.raises(UsageError, match="2 columns"):
        stats.Scores.from_matrix([[1.0, 10.0]], ["a", "a"])


def test_scores_are_copied():
    raw = np.array([1.0, 2.0])
    scores = stats.Scores.of({"a": raw})
    raw[0] = 100.0
    assert scores.runs[0].tolist() == [1.0, 2.0]


def test_normalised_scores_of_the_suite_and_of_a_given_reference():
    scores = stats.Scores.of({"walker-walk": [0.0, 250.0], "mine": [-10.0, 30.0]})
    ours = stats.Reference(-10.0, 10.0, "measured")
    runs = stats.normalise(scores, {"mine": ours}).runs
    assert [x.tolist() for x in runs] == [[0.0, 0.25], [0.0, 2.0]]
    with pytest.raises(UsageError, match="mine has no reference score"):
        stats.normalise(scores)
    with pytest.raises(UsageError, match="low < high"):
        stats.Reference(1.0, 1.0, "flat")


def test_every_task_of_the_suite_has_a_reference_and_no_other_has_one():
    suite = pytest.importorskip("dm_control.suite")
    names = {f"{domain}-{task.replace('_', '-')}" for domain, task in suite.ALL_TASKS}
    bounded = {name for name in names if not name.startswith("lqr-")}
    assert set(stats.references.REFERENCES) == bounded
    with pytest.raises(UsageError, match="reacher-goal has no reference"):
        stats.reference("reacher-goal")
