"""Small runs through the command line, and what they leave on disk."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxrl.cli import main
from jaxrl.train.checkpoint import Checkpoints

ROOT = Path(__file__).parents[2]

SMALL = shlex.split(
    "--steps 2000 --num-envs 4 --env-steps-per-update 4 --learning-starts 100 --capacity 1024 "
    "--chunk-steps 100 --eval-every 500 --eval-episodes 2 --no-video --batch-size 16"
)
"""Options of a run of a second or two; later ones on a command line win."""

Q_NETWORK = shlex.split("--width 32 --critics 1 --torso plain --target-period 20")
ENCODERS = shlex.split("--width 16 --representation 8")
SMALL_AGENT = {
    "gqn": Q_NETWORK,
    "decqn": Q_NETWORK,
    "sac": ["--widths", "16", "16"],
    "crl": ENCODERS,
    "sgcrl": ENCODERS,
}
"""Options of a small agent by its name."""

PHYSICS_TASK = {"crl": "point-spiral", "sgcrl": "point-spiral"}
"""A task with physics that an agent can learn, where it is not cartpole-swingup."""

EACH_CHUNK = ("--checkpoint-minutes", "1e-9", "--keep", "3")
"""Options for a checkpoint after every chunk."""

CLOCK = {"wall_time", "charts/SPS"}
"""Metrics that may differ between equal runs."""


def command(out: Path, *options: str, agent: str = "gqn", task: str = "probe-both") -> list[str]:
    """Arguments of `jaxrl` for a small run in the folder `out`."""
    return ["train", agent, task, *SMALL, *SMALL_AGENT[agent], "--out", str(out), *options]


def train(out: Path, *options: str, agent: str = "gqn", task: str = "probe-both") -> Path:
    """A small run that ends well; returns its folder."""
    assert main(command(out, *options, agent=agent, task=task)) == 0
    return out


def child(arguments: Sequence[str], module: str = "jaxrl") -> subprocess.CompletedProcess:
    """`python -m module arguments` in a process of its own."""
    words = [sys.executable, "-m", module, *arguments]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)


def steps(run: Path) -> list[int]:
    """Steps of the checkpoints on disk."""
    return sorted(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdigit())


def arrays(run: Path, step: int | None = None) -> dict[str, np.ndarray]:
    """Every array of the newest checkpoint, or of the one at `step`."""
    found = checkpoint(run, step)[1]
    return {f"{item}/{name}": x for item in found for name, x in found[item].items()}


def checkpoint(run: Path, step: int | None = None):
    """Step, arrays and meta of the newest checkpoint, or of the one at `step`."""
    checkpoints = Checkpoints(run / "checkpoints")
    try:
        return checkpoints.newest(("agent", "rest"), _unexpected, step)
    finally:
        checkpoints.close()


def _unexpected(line: str) -> None:
    """For checkpoints that must not be damaged."""
    raise AssertionError(line)


def records(run: Path) -> list[dict]:
    """metrics.jsonl, line by line, each of them whole."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def column(run: Path, name: str) -> dict[int, float]:
    """One metric by global step."""
    return {row["global_step"]: row[name] for row in records(run) if name in row}


def assert_same_arrays(run: Path, other: Path, only: str = "", but: Sequence[str] = ()) -> None:
    """The newest checkpoints hold the same arrays, bit for bit.

    Args:
      only: beginning of the names to compare.
      but: names left out.
    """
    ours, theirs = (
        {k: v for k, v in arrays(path).items() if k.startswith(only) and k not in but}
        for path in (run, other)
    )
    assert ours.keys() == theirs.keys()
    assert len(ours) > 3
    assert not [name for name in ours if ours[name].tobytes() != theirs[name].tobytes()]


def assert_same_run(run: Path, other: Path) -> None:
    """Every array and every metric but the clock's is the same."""
    assert_same_arrays(run, other)
    ours, theirs = (
        [{k: v for k, v in row.items() if k not in CLOCK} for row in records(path)]
        for path in (run, other)
    )
    assert ours == theirs
