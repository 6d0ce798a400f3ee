"""Tracked cells: what is trained, what is kept, and what no longer counts."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import pytest

from tests.train.runs import ROOT, SMALL, SMALL_AGENT


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """The module, with its results in a folder of the test."""
    spec = importlib.util.spec_from_file_location("cells", ROOT / "benchmarks" / "cells.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return module


@dataclasses.dataclass
class Cell:
    """A run of a second."""

    code: Path
    steps: int = 400
    name: str = "probe"

    def arguments(self) -> list[str]:
        options = [*SMALL, *SMALL_AGENT["gqn"], "--steps", str(self.steps), "--eval-every", "200"]
        return ["train", "gqn", "probe-constant", *options]

    def files(self) -> list[Path]:
        return [self.code]


def test_a_cell_is_trained_once_and_kept_until_its_code_or_its_command_changes(
    cells, tmp_path, capfd, monkeypatch
):
    code = tmp_path / "code.py"
    code.write_text("x = 1\n")
    cell = Cell(code)
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
    code.write_text('"""Only words."""\nx = 1  # the same\n')
    assert [found[0] for found in cells.finished("some", [cell])] == [cell]
    code.write_text("x = 2\n")
    assert cells.accepted("some", cell) is None
    assert "made by other code" in capfd.readouterr().err
    code.write_text("x = 1\n")
    assert cells.accepted("some", dataclasses.replace(cell, steps=800)) is None


def test_a_cell_that_fails_ends_the_list_and_keeps_nothing(cells, tmp_path, capfd):
    code = tmp_path / "code.py"
    code.write_text("x = 1\n")
    with pytest.raises(SystemExit, match="probe: exit code 2"):
        cells.run("some", [Cell(code, steps=-1)])
    assert not (tmp_path / "results").exists()
    assert "steps" in capfd.readouterr().err
