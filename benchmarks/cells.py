"""Cells: runs that a benchmark lists, trains one at a time, and keeps in the repository.

A run in progress lives in runs/SUITE/ and can be interrupted at any time; the same command goes on.
A finished one is kept in benchmarks/results/SUITE/ and counts as long as its command and a hash of
the code that computed it equal today's.
"""

from __future__ import annotations

import fnmatch
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from jaxrl.report import tracked
from jaxrl.train.runlog import RunFolder

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGE = ROOT / "jaxrl"


class Cell(Protocol):
    """One run."""

    @property
    def name(self) -> str:
        """File name."""

    def arguments(self) -> list[str]:
        """What follows `jaxrl`, but for the run folder."""

    def files(self) -> list[Path]:
        """The code that computes it."""


C = TypeVar("C", bound=Cell)


def package_files(**names: Iterable[str]) -> list[Path]:
    """Files of the package by folder: `package_files(nets=("mlp",))`."""
    return [PACKAGE / folder / f"{name}.py" for folder, those in names.items() for name in those]


def command(suite: str, cell: Cell) -> str:
    """The command that makes a run, as it is kept."""
    return " ".join(["jaxrl", *cell.arguments(), "--out", f"runs/{suite}/{cell.name}"])


def accepted(suite: str, cell: Cell) -> tuple[dict, list[dict]] | None:
    """Configuration and evaluations of a kept run, if today's code would compute the same."""
    path = RESULTS / suite / f"{cell.name}.jsonl"
    if not path.exists():
        return None
    config, metrics = tracked.read(path)
    same_command = sorted(config["command"].split()) == sorted(command(suite, cell).split())
    if config["code"] != tracked.code_hash(cell.files()) or not same_command:
        print(f"{cell.name}: made by other code or settings, not counted", file=sys.stderr)
        return None
    return config, metrics


def finished(suite: str, cells: Iterable[C]) -> Iterator[tuple[C, dict, list[dict]]]:
    """Every cell that has an accepted run."""
    for cell in cells:
        if found := accepted(suite, cell):
            yield cell, *found


def run(suite: str, cells: Iterable[Cell], pattern: str = "*") -> None:
    """Trains the cells whose name matches and that have no accepted run."""
    for cell in cells:
        if not fnmatch.fnmatch(cell.name, pattern) or accepted(suite, cell):
            continue
        folder = ROOT / "runs" / suite / cell.name
        resume = "--resume" if any((folder / "checkpoints").glob("*")) else "--overwrite"
        code, kept = tracked.code_hash(cell.files()), command(suite, cell)
        print(kept, flush=True)
        line = [sys.executable, "-m", "jaxrl", *kept.split()[1:], resume]
        ended = subprocess.run(line, cwd=ROOT)
        if ended.returncode != 0:
            sys.exit(f"{cell.name}: exit code {ended.returncode}; the same command goes on")
        done = RunFolder.open(folder)
        config = {**done.config(), "command": kept}
        tracked.write(RESULTS / suite / f"{cell.name}.jsonl", config, done.metrics(), code)
