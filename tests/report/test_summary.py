"""Cells, aggregates, curves: against scipy and by hand; and never an interval of one seed."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from jaxrl import stats
from jaxrl.report.runs import collect
from jaxrl.report.summary import Summary, aligned
from tests.report import samples


def summary(root, **options):
    return Summary(tuple(collect([root], **options)))


def test_a_cell_has_the_t_interval_of_its_last_evaluations(tmp_path):
    found = summary(samples.runs(tmp_path / "runs", seeds=4))
    assert len(found.cells) == 4
    for cell in found.cells:
        scores = [r.values[-1] for r in found.runs if (r.agent, r.task) == (cell.agent, cell.task)]
        error = scipy.stats.sem(scores)
        wanted = scipy.stats.t.interval(0.95, len(scores) - 1, np.mean(scores), error)
        assert cell.n == 4 and cell.mean == pytest.approx(np.mean(scores))
        assert cell.interval == pytest.approx(wanted)


def test_one_seed_has_no_interval_anywhere(tmp_path):
    found = summary(samples.runs(tmp_path / "runs", seeds=1))
    for cell in found.cells:
        assert cell.n == 1 and cell.interval is None
        assert found.curve(cell.agent, cell.task).half is None
    for row in found.aggregates:
        assert row.mark == "n = 1"
        assert all(e.low is None and e.high is None for e in row.estimates.values())
        assert found.profile(row.agent).low is None


def test_left_out_runs_do_not_count(tmp_path):
    samples.runs(tmp_path / "runs", tasks=("walker-walk",), agents=("gqn",))
    unfinished = samples.config("walker-walk", "gqn", 9, 1000)
    samples.folder(tmp_path / "runs" / "x", unfinished, samples.lines([0.0, 900.0]))
    (cell,) = summary(tmp_path / "runs").cells
    assert cell.n == 3 and len(cell.left_out) == 1 and 900 not in cell.scores
    curve = summary(tmp_path / "runs").curve("gqn", "walker-walk")
    assert curve.n == 3 and curve.x[-1] == 1000  # the short run does not cut the others' curve


def test_aggregates_are_those_of_stats(tmp_path):
    found = summary(samples.runs(tmp_path / "runs"))
    scores = {
        task: [r.score / 1000 for r in found.runs if (r.agent, r.task) == ("sac", task)]
        for task in found.tasks
    }
    row = next(a for a in found.aggregates if a.agent == "sac")
    wanted = stats.aggregate(stats.Scores.of(scores), stats.iqm, method="student", reps=10_000)
    assert row.estimates["IQM"] == wanted
    assert row.n == 3 and row.mark is None


def test_an_agent_that_lacks_a_task_has_no_aggregate(tmp_path):
    samples.runs(tmp_path / "runs")
    alone = samples.config("walker-walk", "crl", 0, 1000)
    samples.folder(tmp_path / "runs" / "x", alone, samples.lines([0.0] * 11))
    row = next(a for a in summary(tmp_path / "runs").aggregates if a.agent == "crl")
    assert row.estimates == {} and row.mark == "no finished run of cartpole-swingup"
    assert summary(tmp_path / "runs").profile("crl") is None


def test_tasks_without_reference_are_not_mixed(tmp_path):
    root = samples.runs(tmp_path / "runs", tasks=("walker-walk", "mine"))
    found = summary(root)
    assert found.aggregates == [] and found.profile("gqn") is None
    assert "mine has no reference score" in found.refusal
    given = Summary(found.runs, {"mine": stats.Reference(100, 600, "test")})
    assert given.refusal is None
    one = next(c for c in given.cells if (c.agent, c.task) == ("gqn", "mine"))
    scores = given.normalised("gqn")
    np.testing.assert_allclose(scores.runs[scores.tasks.index("mine")], (one.scores - 100) / 500)


def test_references_of_returns_normalise_returns_only(tmp_path):
    found = summary(samples.runs(tmp_path / "runs"))
    assert found.reference("walker-walk").high == 1000
    assert Summary(found.runs, metric="eval/final_distance").refusal is not None
    rate = Summary(found.runs, metric="eval/success")
    assert rate.refusal is None and rate.reference("walker-walk").high == 1


def test_curves_meet_on_the_range_that_all_cover():
    lines = [
        (np.array([0.0, 10.0, 20.0]), np.array([0.0, 10.0, 0.0])),
        (np.array([5.0, 15.0]), np.array([1.0, 3.0])),
    ]
    x, y = aligned(lines)
    assert x[0] == 5 and x[-1] == 15
    np.testing.assert_allclose(y[0], 10 - np.abs(x - 10))
    np.testing.assert_allclose(y[1], 1 + (x - 5) / 5)
    x, y = aligned([lines[0], (np.array([30.0, 40.0]), np.array([1.0, 1.0]))])
    assert len(x) == 0 and y.shape == (2, 0)


def test_a_curve_against_the_clock(tmp_path):
    root = tmp_path / "runs"
    for seed, clock in ((0, 36.0), (1, 72.0)):
        described = samples.config("walker-walk", "gqn", seed, 300)
        samples.folder(root / str(seed), described, samples.lines([0.0, 1, 2, 3], clock=clock))
    curve = summary(root).curve("gqn", "walker-walk", clock=True)
    assert curve.x[0] == pytest.approx(1 / 3600)
    assert curve.x[-1] == pytest.approx((1 + 3 * 36) / 3600)  # the faster one ends first
    assert curve.mean[-1] == pytest.approx((3 + 1.5) / 2)
    assert curve.n == 2 and curve.half is not None
