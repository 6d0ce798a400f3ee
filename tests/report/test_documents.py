"""Figures and tables of documents from tracked runs; and that this repository's are up to date."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jaxrl.errors import UsageError
from jaxrl.report import tracked
from jaxrl.report.documents import documents, update
from tests.report import samples

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path):
    """A project with two tracked runs, a benchmark, a README and a manifest."""
    results = tmp_path / "results"
    for seed in (0, 1):
        config = samples.config("walker-walk", "gqn", seed, 200)
        lines = samples.lines([0.0, 100.0, 200.0 + 10 * seed])
        tracked.write(results / f"s{seed}.jsonl", config, lines, code="c")
    benchmark = {
        "command": "python b.py",
        "commit": "abcdef0123456+",
        "rows": [{"x": 1, "s": 0.25}],
    }
    (results / "speed.json").write_text(json.dumps(benchmark))
    readme = "# P\n\n<!-- table: runs -->\nold\n<!-- end -->\nafter\n"
    readme += "<!-- table: speed -->\n<!-- end -->\n"
    (tmp_path / "README.md").write_text(readme)
    manifest = {
        "root": "..",
        "figures": [{"file": "docs/curve.png", "draw": "curves", "runs": ["s*.jsonl"]}],
        "tables": [
            {"file": "README.md", "name": "runs", "runs": ["s0.jsonl", "s1.jsonl"]},
            {
                **{"file": "README.md", "name": "speed", "json": "speed.json", "rows": "rows"},
                "columns": {"size": "x", "seconds": "s:.3f"},
            },
        ],
    }
    (results / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def test_makes_every_figure_and_table_and_then_leaves_them(project):
    found = documents([project / "results"])
    assert [update(d, check=True) for d in found] == [True] * 3
    assert not (project / "docs").exists()
    assert [update(d) for d in found] == [True] * 3
    text = (project / "README.md").read_text()
    assert text.startswith("# P\n") and "\nafter\n" in text and "old" not in text
    assert "| walker-walk | gqn | 205.0 [141.5, 268.5] | 2 | 200 | 012345678 |" in text
    assert "| 1 | 0.250 |\n\nMade by `python b.py` at commit abcdef012+." in text
    assert (project / "docs" / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert [update(d) for d in found] == [False] * 3


def test_a_changed_run_makes_its_documents_again_and_no_other(project):
    for document in documents([project / "results"]):
        update(document)
    config = samples.config("walker-walk", "gqn", 1, 200)
    tracked.write(
        project / "results" / "s1.jsonl", config, samples.lines([0.0, 1.0, 2.0]), code="c"
    )
    changed = [d.entry for d in documents([project / "results"]) if update(d)]
    assert [entry.get("name", "figure") for entry in changed] == ["figure", "runs"]


def test_only_what_is_made_from_the_given_runs(project):
    (found,) = documents([project / "results" / "speed.json"])
    assert found.entry["name"] == "speed"
    with pytest.raises(UsageError, match="no figure or table"):
        documents([project / "docs"])


@pytest.mark.parametrize("key", ["command", "git_commit"])
def test_a_cell_without_command_or_commit_is_refused(project, key):
    path = project / "results" / "s0.jsonl"
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(first), key: "unknown"}), *rest]) + "\n")
    before = (project / "README.md").read_text()
    for document in documents([path]):
        with pytest.raises(UsageError, match=f"needs its {key}"):
            update(document)
    assert (project / "README.md").read_text() == before


def test_rows_that_agree_are_spread_over_one_line(project):
    results = project / "results"
    benchmark = json.loads((results / "speed.json").read_text())
    benchmark["rows"] = [
        {"x": x, "seeds": seeds, "s": x + seeds / 10}
        for x, seeds in ((1, 3), (1, 5), (2, 3))  # nothing at x = 2 for 5 seeds
    ]
    (results / "speed.json").write_text(json.dumps(benchmark))
    manifest = json.loads((results / "manifest.json").read_text())
    manifest["tables"][1] |= {"columns": {"size": "x"}, "spread": {"{seeds} seeds": "s:.1f"}}
    (results / "manifest.json").write_text(json.dumps(manifest))
    for document in documents([results]):
        update(document)
    table = "| size | 3 seeds | 5 seeds |\n|---|---|---|\n| 1 | 1.3 | 1.5 |\n| 2 | 2.3 |  |\n"
    assert table in (project / "README.md").read_text()


@pytest.mark.parametrize("key", ["command", "commit"])
def test_a_benchmark_without_command_or_commit_is_refused(project, key):
    path = project / "results" / "speed.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: ""}))
    (document,) = documents([path])
    with pytest.raises(UsageError, match=f"a row without its {key}"):
        update(document)


def test_parts_that_are_rows_and_entries_of_entries(project):
    """A line for each task, a column for each engine; many commands are counted."""
    parts = {
        f"{task} {engine}": {
            "command": f"python b.py {engine} {task}",
            **{"commit": "abcdef0123456", "task": task, "engine": engine, "step": {"99 %": 1e-6}},
        }
        for task in ("a", "b", "c")
        for engine in ("x", "y")
        if task + engine != "cy"
    }
    (project / "results" / "speed.json").write_text(json.dumps(parts))
    path = project / "results" / "manifest.json"
    manifest = json.loads(path.read_text())
    speed = manifest["tables"][1]
    del speed["rows"]
    speed |= {"parts": "*", "columns": {"task": "task"}, "spread": {"{engine}": "step.99 %:.0e"}}
    path.write_text(json.dumps(manifest))
    (table,) = documents([project / "results" / "speed.json"])
    assert update(table)
    text = (project / "README.md").read_text()
    assert "| task | x | y |\n|---|---|---|\n| a | 1e-06 | 1e-06 |\n" in text
    assert "| c | 1e-06 |  |\n\nMade by `python b.py x a` and 4 more commands at commits" in text


def test_rows_of_every_part_whose_name_matches(project):
    """Each part has a command and a commit of its own; what a row lacks stays empty."""
    about = {"command": "python b.py a", "commit": "abcdef0123456"}
    parts = {
        "a, x": {**about, "rows": [{"x": 1, "s": 2.0}]},
        "a, y": {**about, "commit": "123456789", "rows": [{"x": 2}]},
        "b": {**about, "rows": [{"x": 3}]},
    }
    (project / "results" / "speed.json").write_text(json.dumps(parts))
    path = project / "results" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["tables"][1]["parts"] = "a, *"
    path.write_text(json.dumps(manifest))
    (table,) = documents([project / "results" / "speed.json"])
    assert update(table)
    text = (project / "README.md").read_text()
    assert "| 1 | 2.000 |\n| 2 |  |\n\nMade by" in text
    assert text.endswith("Made by `python b.py a` at commit abcdef012, 123456789.\n<!-- end -->\n")
    manifest["tables"][1]["columns"]["seconds"] = "sec:.3f"
    path.write_text(json.dumps(manifest))
    (table,) = documents([project / "results" / "speed.json"])
    with pytest.raises(UsageError, match="table speed: no row has 'sec"):
        update(table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tables": [{"file": "README.md", "name": "runs", "runs": ["no.jsonl"]}]}, "no such file"),
        ({"tables": [{"file": "README.md", "name": "x", "runs": ["s0.jsonl"]}]}, "has no lines"),
        ({"figures": [{"file": "a.png", "draw": "pie", "runs": ["s0.jsonl"]}]}, "'pie'"),
        ({"root": None}, "is no manifest"),
    ],
)
def test_a_manifest_that_cannot_be_followed_is_named(project, change, message):
    path = project / "results" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tables": [], **change}))
    with pytest.raises(UsageError, match=message):
        for document in documents([project / "results"]):
            update(document)


def test_the_documents_of_this_repository_are_up_to_date():
    stale = [d.name for d in documents([ROOT / "benchmarks" / "results"]) if update(d, check=True)]
    assert stale == [], "run `jaxrl report benchmarks/results` and commit what changes"
