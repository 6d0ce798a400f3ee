"""What is written: the page's data, tables, pictures, differences, published curves."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest

from jaxrl.errors import UsageError
from jaxrl.report import differences, page, plots, published, tables
from jaxrl.report.runs import METRIC, collect
from jaxrl.report.summary import Summary
from tests.report import samples

ROOT = Path(__file__).parents[2]
LIMIT = 20e6
"""Bytes of a page without media."""


@pytest.fixture
def summary(tmp_path):
    root = samples.runs(tmp_path / "runs")
    samples.folder(
        root / "alone", samples.config("walker-walk", "crl", 7, 1000), samples.lines([5.0] * 11)
    )
    return Summary(tuple(collect([root])))


def block(path):
    """The data in a page."""
    return json.loads(re.search('id="data">(.*?)</script>', path.read_text(), re.DOTALL)[1])


# ---- the page


def test_the_page_holds_all_and_asks_for_nothing(summary, tmp_path):
    path = tmp_path / "page.html"
    page.write(path, summary, "A <b>title</b> & more", METRIC)
    text = path.read_text()
    assert "<!--" not in text
    assert not re.search(r"(src|href)=[\"'](?!#|data:)", text)
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|import\(", text)
    assert "THREE" not in text.split('id="data"')[1]  # no media, no player
    data = block(path)
    assert data["title"] == "A <b>title</b> & more"
    assert len(data["runs"]) == 13
    for row, run in zip(data["runs"], summary.runs, strict=True):
        assert data["steps"][row["steps"]] == run.steps.tolist()
        assert row["values"] == pytest.approx(run.values.tolist(), rel=1e-6)
        assert row["command"] == run.config["command"]
        assert row["commit"] == run.config["git_commit"]
    alone = next(c for c in data["cells"] if data["agents"][c["agent"]] == "crl")
    assert alone["low"] is None and alone["high"] is None and alone["n"] == 1


def test_nothing_in_a_run_can_end_the_data_block(tmp_path):
    described = samples.config("walker-walk", "gqn", 0, 100)
    described["command"] = "x </script><!-- <script>"
    samples.folder(tmp_path / "runs" / "a", described, samples.lines([1.0, 2.0]))
    page.write(tmp_path / "p.html", Summary(tuple(collect([tmp_path / "runs"]))), "T", METRIC)
    assert block(tmp_path / "p.html")["runs"][0]["command"] == described["command"]


def test_a_hundred_runs_of_a_thousand_points_stay_small(tmp_path):
    root = samples.runs(
        tmp_path / "runs",
        tasks=("walker-walk", "walker-run", "finger-spin", "cheetah-run", "fish-swim"),
        agents=("a", "b", "c", "d"),
        seeds=5,
        points=1000,
    )
    page.write(tmp_path / "p.html", Summary(tuple(collect([root]))), "T", METRIC)
    assert (tmp_path / "p.html").stat().st_size < LIMIT
    assert len(block(tmp_path / "p.html")["runs"]) == 100


def test_the_best_run_of_each_agent_and_task_is_watched(summary):
    best = page.best(summary)
    assert len(best) == 5
    for run in best:
        same = [r for r in summary.runs if (r.agent, r.task) == (run.agent, run.task)]
        assert run.score == max(r.score for r in same)


@pytest.mark.parametrize(
    ("metric", "values", "winner"),
    [(METRIC, [0.0, -50.0], 0), ("eval/final_distance", [0.3, 0.1], 1)],
)
def test_no_score_and_a_small_distance_can_be_the_best(tmp_path, metric, values, winner):
    for seed, value in enumerate(values):
        line = {"global_step": 100, "wall_time": 1.0, METRIC: 0.0, metric: value}
        described = samples.config("walker-walk", "gqn", seed, 100)
        samples.folder(tmp_path / "runs" / str(seed), described, [line])
    (best,) = page.best(Summary(tuple(collect([tmp_path / "runs"], metric)), metric=metric))
    assert best.seed == winner


def test_a_recording_is_kept_as_it_was_and_a_damaged_one_refused(tmp_path):
    path = tmp_path / page.PLAYBACK
    page.write_recording(path, samples.recording())
    assert page.read_recording(path) == samples.recording()
    path.write_text(path.read_text()[:100])
    with pytest.raises(UsageError, match="is no playback"):
        page.read_recording(path)
    path.write_text('{"format": 99}')
    with pytest.raises(UsageError, match="format 99"):
        page.read_recording(path)


def test_the_report_needs_no_jax(summary, tmp_path):
    code = (
        "import sys; from pathlib import Path; from jaxrl.report import "
        "documents, page, plots, published, runs, summary, tables; "
        "s = summary.Summary(tuple(runs.collect([Path(sys.argv[1])]))); "
        "page.write(Path(sys.argv[2]), s, 'T', runs.METRIC); "
        "assert 'jax' not in sys.modules and 'mujoco' not in sys.modules"
    )
    arguments = [str(tmp_path / "runs"), str(tmp_path / "p.html")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)


def test_the_wheel_has_what_the_page_is_made_of():
    """Every asset is package data, and every one is used."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["jaxrl"]
    files = {path.name for path in (ROOT / "jaxrl" / "report" / "assets").iterdir()}
    assert all(any(fnmatch(f"report/assets/{f}", p) for p in patterns) for f in files)
    used = {*page.SCRIPTS, *page.PLAYER, "player.js", "report.css", "report.html", "player.html"}
    assert files == used


# ---- tables


def test_csv_holds_every_cell_with_its_commands(summary):
    rows = list(csv.DictReader(io.StringIO(tables.as_csv(tables.results(summary)))))
    assert len(rows) == len(summary.cells) == 5
    for row, cell in zip(rows, summary.cells, strict=True):
        assert float(row["mean"]) == cell.mean and int(row["n"]) == cell.n
        assert (row["low"] == "") == (cell.n == 1)
        assert row["commands"].count("jaxrl train") == cell.n
        assert row["commits"] == samples.config("", "", 0, 1)["git_commit"]
    rows = list(csv.DictReader(io.StringIO(tables.as_csv(tables.runs(summary)))))
    assert [row["seed"] for row in rows] == [str(run.seed) for run in summary.runs]
    rows = list(csv.DictReader(io.StringIO(tables.as_csv(tables.aggregates(summary)))))
    assert {r["remark"] for r in rows if r["agent"] == "crl"} == {
        "no finished run of cartpole-swingup"
    }


def test_latex_is_escaped_and_balanced(summary):
    assert tables.latex(r"a_b & 50 % \x") == r"a\_b \& 50 \% \textbackslash x"
    text = tables.as_latex(summary)
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert all(line.count("&") in (3, 5, 2) for line in rows), rows
    assert "5.0 (one seed) & 1" in text


def test_markdown_names_commands_once_and_marks_one_seed(summary):
    text = tables.as_markdown(summary)
    assert "| walker-walk | crl | 5.0 (one seed) | 1 | 1,000 | 012345678 |" in text
    assert text.count("- `jaxrl train") == 13


# ---- pictures


def test_a_picture_has_a_panel_per_task_and_a_band_per_agent_with_seeds(summary):
    figure = plots.curves(summary, METRIC)
    panels = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in panels] == summary.tasks
    assert [len(axes.lines) for axes in panels] == [2, 3]
    assert [len(axes.collections) for axes in panels] == [2, 2]  # none for the single seed
    names = [t.get_text() for t in figure.legends[0].get_texts()]
    assert sorted(names) == ["crl (n = 1)", "gqn", "sac"]
    line = next(x for x in panels[0].lines)
    np.testing.assert_allclose(line.get_ydata(), summary.curve("gqn", "cartpole-swingup").mean)


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_pictures_are_the_same_every_time(summary, tmp_path, kind):
    for name in ("a", "b"):
        plots.save(plots.profile(summary), tmp_path / f"{name}.{kind}")
    a, b = ((tmp_path / f"{name}.{kind}").read_bytes() for name in ("a", "b"))
    assert a == b and a.startswith((b"\x89PNG", b"<?xml"))


def test_a_wide_band_does_not_flatten_the_lines(tmp_path):
    for seed, end in ((0, 100.0), (1, 110.0)):
        described = samples.config("walker-walk", "gqn", seed, 200)
        samples.folder(tmp_path / "r" / str(seed), described, samples.lines([0, end / 2, end]))
    (axes,) = plots.curves(Summary(tuple(collect([tmp_path / "r"]))), METRIC).axes
    low, high = axes.get_ylim()
    assert low >= -53 and high <= 158  # the lines span 105; the band of two seeds is far wider


# ---- published curves


def panel(tmp_path, **changes):
    content = {
        "source": "A paper, Figure 1",
        "panels": {
            "p": {"env_id": "walker-walk", "run": {"action_cost": 0.5}, "uncertainty": 10},
        },
        "curves": {"p": {"Theirs": [[0, 1], [500, 200], [5000, 900]]}, "unused": {}},
        **changes,
    }
    path = tmp_path / "published.json"
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return path


def test_published_curves_go_to_the_task_with_their_settings(summary, tmp_path):
    (curve,) = published.read(panel(tmp_path))
    assert (curve.name, curve.uncertainty, curve.source) == ("Theirs", 10.0, "A paper, Figure 1")
    assert published.matching([curve], summary.runs) == {}  # the runs have no action cost
    costly = samples.config("walker-walk", "gqn", 0, 1000, run={"action_cost": 0.5})
    samples.folder(tmp_path / "c" / "a", costly, samples.lines([1.0] * 11))
    found = collect([tmp_path / "c"])
    theirs = published.matching([curve], found)
    assert theirs == {"walker-walk": [curve]}
    figure = plots.curves(Summary(tuple(found)), METRIC, theirs)
    dashed = [x for x in figure.axes[0].lines if x.is_dashed()]
    assert len(dashed) == 1 and max(dashed[0].get_xdata()) == 500  # no further than ours
    assert "published Theirs" in [t.get_text() for t in figure.legends[0].get_texts()]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": None}, "lacks 'source'"),
        ({"source": " "}, "need their source"),
        ({"panels": {"p": {"env_id": "x"}}}, "lacks 'uncertainty'"),
        ({"curves": {"p": {"Theirs": [1, 2]}}}, "is no file of published curves"),
    ],
)
def test_published_curves_need_source_and_uncertainty(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        published.read(panel(tmp_path, **changes))


# ---- differences


def test_differences_name_what_differs_and_nothing_else(tmp_path):
    for agent, width, jax in (("gqn", 64, "0.10"), ("sac", 128, "0.12")):
        described = samples.config(
            "walker-walk", agent, 0, 100, agent={"width": width}, versions={"jax": jax, "np": "2"}
        )
        samples.folder(tmp_path / agent, described, samples.lines([0.0, 1.0]))
    more = samples.config("walker-walk", "sac", 1, 100, agent={"width": 128, "tau": 0.5})
    samples.folder(tmp_path / "more", {**more, "versions": {"jax": "0.12"}}, samples.lines([0, 1]))
    found = collect([tmp_path])
    agents = sorted({r.agent for r in found})
    rows = {d.name: d.values for d in differences.hyperparameters(found, agents)}
    assert rows == {"agent.width": (("64",), ("128",)), "agent.tau": ((), ("0.5",))}
    assert [d.name for d in differences.versions(found, agents)] == ["jax"]
    hardware = {d.name: d.values for d in differences.hardware(found, agents)}
    assert hardware["device"] == (("Test processor, 2 cores",),) * 2
