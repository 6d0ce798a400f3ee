"""Kills training runs at random moments, resumes them, and looks for any difference.

    python benchmarks/kill.py [--kills 200] [--walker 20] [--writing 20] [--seed 0]

Each run has six checkpoints, three growths and many episode ends. It is started
with --resume, killed with SIGKILL at a random moment (some of them while a checkpoint is being
written), and started again, until it ends. Every array of its final checkpoint and every metric
but the clock's must equal those of a run that was never killed. Writes
benchmarks/results/kill.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from jaxrl import atomic
from jaxrl.train.checkpoint import Checkpoints
from jaxrl.train.runlog import RunFolder, command_line, device, git_commit, versions

ROOT = Path(__file__).parents[1]
CLOCK = ("wall_time", "charts/SPS")
COMMON = ["--no-video", "--checkpoint-minutes", "1e-9", "--width", "32", "--capacity", "20000"]
STEPS = ["--steps", "6000", "--eval-every", "2000", "--chunk-steps", "1000"]
TASKS = {"probe-nstep": "gqn", "walker-walk": "gqn"}


def command(task: str, out: Path) -> list[str]:
    """The run's command; the same for every attempt."""
    options = [*STEPS, *COMMON, "--out", str(out), "--resume"]
    return [sys.executable, "-m", "jaxrl", "train", TASKS[task], task, *options]


@dataclasses.dataclass(frozen=True)
class Moment:
    """When to kill: counted in progress, not in seconds, so that a slow machine changes nothing."""

    lines: int
    """Lines that metrics.jsonl must have gained; 0 is while the process starts."""
    seconds: float
    """Time to wait after that."""
    writing: bool
    """Wait then for a checkpoint to be half written."""


def attempt(task: str, out: Path, moment: Moment | None) -> tuple[bool, bool]:
    """Starts the run and kills it at `moment`, if it comes. Returns (was killed, was writing)."""
    before = lines(out)
    process = subprocess.Popen(command(task, out), stdout=subprocess.DEVNULL, cwd=ROOT)
    reached = None
    while process.poll() is None:
        if moment is None:
            process.wait()
        elif reached is None:
            reached = time.monotonic() if lines(out) - before >= moment.lines else None
        elif time.monotonic() - reached > moment.seconds and (writes(out) or not moment.writing):
            process.kill()
            process.wait()
            return True, writes(out)
        time.sleep(0.0005)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command(task, out))} ended with exit code {process.returncode}")
    return False, False


def lines(out: Path) -> int:
    """Lines of metrics so far."""
    path = out / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def writes(out: Path) -> bool:
    """Whether a checkpoint is half written."""
    folder = out / "checkpoints"
    return folder.exists() and any("checkpoint-tmp" in name for name in os.listdir(folder))


def outcome(out: Path) -> tuple[dict[str, np.ndarray], list[dict]]:
    """All arrays of the final checkpoint, and all metrics but the clock's."""
    checkpoints = Checkpoints(out / "checkpoints")
    arrays, meta = checkpoints.read(checkpoints.steps()[-1], ("agent", "rest"))
    checkpoints.close()
    flat = {f"{item}/{name}": x for item, found in arrays.items() for name, x in found.items()}
    counters = {k: v for k, v in meta.items() if k not in ("wall_time", "crc32", "sum")}
    metrics = [
        {k: v for k, v in line.items() if k not in CLOCK} for line in RunFolder(out).metrics()
    ]
    return flat, [counters, *metrics]


def difference(a: tuple, b: tuple) -> str | None:
    """The first array or metric that differs, or None."""
    (arrays_a, metrics_a), (arrays_b, metrics_b) = a, b
    if arrays_a.keys() != arrays_b.keys():
        return f"arrays {sorted(arrays_a.keys() ^ arrays_b.keys())}"
    for name in arrays_a:
        if arrays_a[name].tobytes() != arrays_b[name].tobytes():
            return f"array {name}"
    if len(metrics_a) != len(metrics_b):
        return f"{len(metrics_a)} lines of metrics against {len(metrics_b)}"
    for x, y in zip(metrics_a, metrics_b, strict=True):
        if json.dumps(x, sort_keys=True) != json.dumps(y, sort_keys=True):
            return f"metrics at step {x.get('global_step')}"
    return None


def campaign(task: str, kills: int, writing: int, dice: random.Random, scratch: Path) -> dict:
    """`kills` kills on runs of `task`, of which at least `writing` inside a checkpoint write."""
    reference = scratch / f"{task}-reference"
    attempt(task, reference, None)
    expected = outcome(reference)
    done, inside, runs, differences = 0, 0, 0, []
    while done < kills:
        out = scratch / f"{task}-{runs}"
        killed = True
        while killed:
            moment = None
            if done < kills:
                early = dice.random() < 0.1
                want = not early and inside < writing and dice.random() < 0.5
                wait = dice.uniform(0, 6) if early else dice.uniform(0, 0.4)
                moment = Moment(0 if early else dice.randint(1, 3), wait, want)
            killed, wrote = attempt(task, out, moment)
            done, inside = done + killed, inside + wrote
        found = difference(expected, outcome(out))
        if found:
            differences.append(f"run {runs}: {found}")
        shutil.rmtree(out)
        runs += 1
        print(
            f"{task}: {done} kills, {inside} inside a write, {runs} runs, {differences}", flush=True
        )
    return {"kills": done, "inside_a_write": inside, "runs": runs, "differences": differences}


def main() -> int:
    """Runs both campaigns and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="in all")
    parser.add_argument("--walker", type=int, default=20, help="of them on walker-walk")
    parser.add_argument(
        "--writing", type=int, default=20, help="at least, inside a checkpoint write"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    options = parser.parse_args()
    dice = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        plans = {
            "probe-nstep": (options.kills - options.walker, options.writing),
            "walker-walk": (options.walker, options.writing // 5),
        }
        campaigns = {
            task: campaign(task, kills, writing, dice, Path(scratch))
            for task, (kills, writing) in plans.items()
            if kills
        }
    result = {
        "command": command_line(),
        "commit": git_commit(),
        "versions": versions(),
        "device": device(),
        "campaigns": campaigns,
    }
    path = ROOT / "benchmarks" / "results" / "kill.json"
    path.parent.mkdir(exist_ok=True)
    atomic.write_json(path, result)
    bad = [d for c in campaigns.values() for d in c["differences"]]
    print(f"{sum(c['kills'] for c in campaigns.values())} kills, {len(bad)} differences")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
