"""`jaxrl report`: what it writes, what it says, and bad input in one line with exit code 2."""

from __future__ import annotations

import pytest

from jaxrl.cli import main
from jaxrl.report import page
from tests.report import samples


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    samples.runs(tmp_path / "runs", seeds=2)
    return tmp_path


def test_writes_a_page_with_the_playbacks_that_are_recorded(root, capsys):
    page.write_recording(root / "runs" / "walker-walk_gqn_s1" / page.PLAYBACK, samples.recording())
    assert main(["report", "runs", "--out", "r.html", "--title", "Ours"]) == 0
    said = capsys.readouterr()
    assert "r.html (8 runs, 1 playbacks" in said.out
    assert "walker-walk_sac_s1 has no playback" in said.err
    text = (root / "r.html").read_text()
    assert "<title>Ours</title>" in text and "THREE" in text
    assert main(["report", "runs", "--out", "r.html", "--no-media"]) == 0
    assert "var THREE" not in (root / "r.html").read_text()


def test_writes_figures_and_tables(root, capsys):
    assert main(["report", "runs", "--figures", "f", "--format", "svg"]) == 0
    names = {path.name for path in (root / "f").iterdir()}
    pictures = {"curves_steps.svg", "curves_hours.svg", "profile.svg", "aggregates.svg"}
    assert names == pictures | {"results.csv", "aggregates.csv", "runs.csv", "tables.tex"}


def test_says_what_was_left_out_and_not_averaged(root, capsys):
    odd = samples.config("mine", "gqn", 0, 1000)
    samples.folder(root / "runs" / "odd", odd, samples.lines([1.0, 2.0]), '{"global_')
    assert main(["report", "runs", "--out", "r.html"]) == 0
    said = capsys.readouterr().err
    assert "odd: unfinished: 100 of 1,000 steps" in said
    assert "odd: last line of metrics.jsonl cut short" in said
    assert "not aggregated: mine has no reference score" in said
    more = ["--count-unfinished", "--reference", "mine=0:10"]
    assert main(["report", "runs", "--out", "r.html", *more]) == 0
    said = capsys.readouterr().err
    assert "n = 1     no interval for gqn on mine" in said and "not aggregated" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("report", "RUN is missing"),
        ("report --out r.html", "RUN is missing"),
        ("report nowhere --out r.html", "nowhere does not exist"),
        ("report nowhere", "nowhere does not exist"),
        ("report runs", "give --out PAGE.html or --figures DIR"),
        ("report runs --out no/r.html", "there is no folder no to write r.html to"),
        ("report runs --out runs", "--out runs is a folder; give a file"),
        ("report runs --figures file.txt", "--figures file.txt is no folder"),
        ("report runs --out r.html --reference x", "--reference takes TASK=LOW:HIGH, got 'x'"),
        ("report runs --out r.html --reference walker-walk=2:1", "low < high"),
        ("report runs --out r.html --published no.json", "no.json cannot be read"),
        ("report runs --out r.html --metric eval/nothing", "has an evaluation (eval/nothing)"),
        ("report runs --out r.html --check", "--check is for documents"),
        ("report runs --figures f --format", "--format"),
    ],
)
def test_bad_input(root, capsys, arguments, message):
    (root / "file.txt").write_text("x")
    before = sorted(root.rglob("*"))
    assert main(arguments.split()) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and message in said.err and said.out == ""
    assert sorted(root.rglob("*")) == before
