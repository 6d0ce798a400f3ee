"""Tracked cells: what is trained, what is kept, and what no longer counts."""

from __future__ import annotations

import dataclasses
import importlib

import pytest

from tests.train.runs import ROOT, SMALL, SMALL_AGENT


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """The module, with its results in a folder of the test."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = importlib.import_module("cells")
    module.code.cache_clear()
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return module


@dataclasses.dataclass
class Cell:
    """A run of a second."""

    steps: int = 400
    name: str = "probe_c0.5_s0"

    def arguments(self) -> list[str]:
        options = [*SMALL, *SMALL_AGENT["gqn"], "--steps", str(self.steps), "--eval-every", "200"]
        return ["train", "gqn", "probe-constant", *options]


def change(cells, monkeypatch, code: str) -> None:
    cells.code.cache_clear()
    monkeypatch.setattr(importlib.import_module("programs"), "run_hash", lambda arguments: code)


def test_a_cell_is_trained_once_and_kept_until_its_code_or_its_command_changes(
    cells, capfd, monkeypatch
):
    cell = Cell()
    cells.run("some", [cell], "other*")
    assert cells.accepted("some", cell) is None
    cells.run("some", [cell])
    config, metrics = cells.accepted("some", cell)
    assert [m["global_step"] for m in metrics] == [0, 200, 400]
    assert config["command"].startswith("jaxrl train gqn probe-constant --steps 2000")
    assert "--resume" not in config["command"] and "--overwrite" not in config["command"]
    capfd.readouterr()

    cells.run("some", [cell])
    assert capfd.readouterr().out == ""  # nothing was trained
    assert [found[0] for found in cells.finished("some", [cell])] == [cell]
    assert cells.accepted("some", dataclasses.replace(cell, steps=800)) is None
    change(cells, monkeypatch, config["code"][:-1])
    assert cells.accepted("some", cell) is None
    assert "made by other code" in capfd.readouterr().err
    change(cells, monkeypatch, "jax 99.0.0 ff")
    assert cells.accepted("some", cell) is None
    assert f"made under {config['code'].rsplit(' ', 1)[0]}, whose" in capfd.readouterr().err
    (cells.RESULTS / "some" / f"{cell.name}.jsonl").unlink()
    with pytest.raises(SystemExit, match="the code has changed since it began; delete "):
        cells.run("some", [cell])


def test_a_cell_that_fails_ends_the_list_and_keeps_nothing(cells, tmp_path, capfd, monkeypatch):
    change(cells, monkeypatch, "jax 1.0.0 00")
    with pytest.raises(SystemExit, match="exit code 2; the same command goes on"):
        cells.run("some", [Cell(steps=-1)])
    assert not (tmp_path / "results").exists()
    assert "steps" in capfd.readouterr().err
