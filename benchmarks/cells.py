"""Cells: runs that a benchmark lists, trains one at a time, and keeps in the repository.

A run in progress lives in runs/SUITE/ and can be interrupted at any time; the same command goes on.
A finished one is kept in benchmarks/results/SUITE/ and counts as long as its command and the hash
of what it computed (benchmarks/programs.py) equal today's, under the same version of jax.
"""

from __future__ import annotations

import fnmatch
import functools
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol, TypeVar

from jaxrl import atomic
from jaxrl.report import tracked
from jaxrl.report.runs import short_commit
from jaxrl.train.runlog import RunFolder

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


class Cell(Protocol):
    """One run."""

    @property
    def name(self) -> str:
        """File name."""

    def arguments(self) -> list[str]:
        """What follows `jaxrl`, but for the run folder."""


C = TypeVar("C", bound=Cell)


@functools.cache
def code(arguments: tuple[str, ...]) -> str:
    """Hash of what `jaxrl` with these arguments computes today."""
    from programs import run_hash

    return run_hash(arguments[1:])


def commits(found: Iterable[str]) -> str:
    """The distinct commits of a row's runs, short, with the "+" of uncommitted changes."""
    return ", ".join(dict.fromkeys(map(short_commit, found)))


def command(suite: str, cell: Cell) -> str:
    """The command that makes a run, as it is kept."""
    return " ".join(["jaxrl", *cell.arguments(), "--out", f"runs/{suite}/{cell.name}"])


def accepted(suite: str, cell: Cell) -> tuple[dict, list[dict]] | None:
    """Configuration and evaluations of a kept run, if today's code would compute the same."""
    path = RESULTS / suite / f"{cell.name}.jsonl"
    if not path.exists():
        return None
    config, metrics = tracked.read(path)
    today = code(tuple(cell.arguments()))
    same_command = sorted(config["command"].split()) == sorted(command(suite, cell).split())
    if config["code"] == today and same_command:
        return config, metrics
    *jax, _ = config["code"].split()
    problem = "made by other code or settings, not counted"
    if jax != today.split()[:-1]:
        problem = f"made under {' '.join(jax)}, whose programs cannot be compared with today's"
    print(f"{cell.name}: {problem}", file=sys.stderr)
    return None


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
        kept, today = command(suite, cell), code(tuple(cell.arguments()))
        began = folder.parent / f"{cell.name}.code"
        if resume == "--resume" and began.read_text() != today:
            sys.exit(f"{cell.name}: the code has changed since it began; delete {folder} first")
        began.parent.mkdir(parents=True, exist_ok=True)
        if resume == "--overwrite":
            atomic.write_text(began, today)
        print(kept, flush=True)
        line = [sys.executable, "-m", "jaxrl", *kept.split()[1:], resume]
        ended = subprocess.run(line, cwd=ROOT)
        if ended.returncode != 0:
            sys.exit(f"{cell.name}: exit code {ended.returncode}; the same command goes on")
        done = RunFolder.open(folder)
        config = {**done.config(), "command": kept}
        tracked.write(RESULTS / suite / f"{cell.name}.jsonl", config, done.metrics(), today)
