"""Offline agents on datasets of one SAC run per task: which runs there are, and their table."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import cells
import numpy as np
from cells import ROOT

from jaxrl import atomic, stats
from jaxrl.data.files import open_dataset
from jaxrl.data.rows import LAST

SUITE = "diffusion"
UPDATES = 100_000
ROWS = 100_000
SOURCES = {"walker-walk": 300_000, "hopper-hop": 500_000}
"""Steps of the SAC run that a task's datasets come from."""
QUALITIES = ("medium", "medium-replay")
SEEDS = {"bc": 3, "iql": 3, "td3_bc": 3, "idql": 3, "fql": 3}
SEEDS |= {"diffusion_ql": 1, "eda": 1, "cfpi": 1}
"""Runs of each agent."""
OPTIONS = {"idql": "--width 64", "eda": "--width 64 --levels 8"}
OPTIONS |= dict.fromkeys(("fql", "diffusion_ql"), "--widths 256 256")
"""So that two cores can train the table. Denoisers have 75,000 to 135,000 weights; the other
agents' policies, two layers of 256, have 74,000, the papers' denoisers up to twelve times as many.
EDA contrasts the actions of 32 states at eight levels each, as drawing them for 256 takes a quarter
of a second."""
EVALUATIONS = 3
"""The last ones, whose mean is a run's score."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run."""

    task: str
    quality: str
    agent: str
    seed: int

    @property
    def name(self) -> str:
        """File name."""
        return f"{self.task}_{self.quality}_{self.agent}_s{self.seed}"

    def arguments(self) -> list[str]:
        """What follows `jaxrl`."""
        words = ["train", self.agent, self.task, "--dataset", dataset(self.task, self.quality)]
        words += OPTIONS.get(self.agent, "").split()
        words += ["--steps", str(UPDATES), "--eval-every", str(UPDATES // 10)]
        return [*words, "--seed", str(self.seed), "--no-video"]


CELLS = [
    Cell(task, quality, agent, seed)
    for seed in range(3)
    for agent, seeds in SEEDS.items()
    for task in SOURCES
    for quality in QUALITIES
    if seed < seeds
]
"""In the order in which they are trained."""


def dataset(task: str, quality: str) -> str:
    """Path of a dataset, beneath the repository's root."""
    return f"datasets/{task}-{quality}.hdf5"


def make(task: str) -> None:
    """Trains the task's SAC agent, or goes on with it, and writes its datasets."""
    folder = f"runs/{SUITE}/{task}_sac"
    resume = "--resume" if any((ROOT / folder / "checkpoints").glob("*")) else "--overwrite"
    steps = ["--steps", str(SOURCES[task]), "--capacity", str(SOURCES[task])]
    update = ["--env-steps-per-update", "1", "--learning-starts", "5000", "--eval-every", "5000"]
    train = ["train", "sac", task, *steps, *update, "--keep-policies", "--no-video"]
    _jaxrl([*train, "--out", folder, resume])
    for quality in QUALITIES:
        if not (ROOT / dataset(task, quality)).exists():
            # All that the run had seen until its medium policy, which may be fewer.
            rows = [] if quality == "medium-replay" else ["--rows", str(ROWS)]
            _jaxrl(["dataset", folder, "--quality", quality, *rows])


def describe() -> None:
    """Prints what the datasets hold, and writes it as JSON."""
    rows = []
    for task in SOURCES:
        for quality in QUALITIES:
            with open_dataset(ROOT / dataset(task, quality)) as opened:
                about, ends = opened.about, opened.plan.flags & LAST > 0
            row = {"task": task, "quality": quality, "episodes": int(ends.sum())}
            row |= {"transitions": int(len(ends) - ends.sum()), "policy": about["policy_step"]}
            row |= {name: about[name] for name in ("tq", "saco", "saco_parts")}
            row |= {name: about[name] for name in ("random_return", "expert_return")}
            row |= {"command": about["command"], "commit": about["git_commit"]}
            rows.append(row)
            print(f"{task:<14}{quality:<15}TQ {row['tq']:.2f}   SACo {row['saco']:.2f}")
    atomic.write_json(cells.RESULTS / SUITE / "datasets.json", {"rows": rows})


def run(pattern: str = "*") -> None:
    """Makes what datasets are missing and trains the cells that match."""
    for task in SOURCES:
        if not all((ROOT / dataset(task, quality)).exists() for quality in QUALITIES):
            make(task)
    cells.run(SUITE, CELLS, pattern)


def report() -> None:
    """Prints the table and writes it as JSON: normalised returns, random 0 and expert 1.

    A run's score is the mean of its last evaluations; intervals are Student's, over seeds.
    """
    groups: dict[tuple[str, str, str], list[dict]] = {}
    checksums: dict[str, set[str]] = {}
    for cell, config, metrics in cells.finished(SUITE, CELLS):
        last = metrics[-EVALUATIONS:]
        about = {key: config[key] for key in ("command", "git_commit", "versions", "device")}
        about |= {"seed": cell.seed, "hours": metrics[-1]["wall_time"] / 3600}
        about |= {"score": float(np.mean([m["eval/return_normalised"] for m in last]))}
        about |= {"return": float(np.mean([m["eval/return_mean"] for m in last]))}
        groups.setdefault((cell.task, cell.quality, cell.agent), []).append(about)
        data = config["dataset"]
        checksums.setdefault(data["path"], set()).add(data["checksum"])
    for path, found in checksums.items():
        if len(found) > 1:
            sys.exit(f"{path}: runs of {len(found)} different files of this name; keep one's")
    rows = []
    for (task, quality, agent), runs in groups.items():
        scores = stats.Scores.of({task: [run["score"] for run in runs]})
        estimate = stats.aggregate(scores, stats.mean, interval=len(runs) > 1, method="student")
        row = {"task": task, "quality": quality, "agent": agent, "score": str(estimate)}
        row |= {"seeds": len(runs), "hours": float(np.mean([run["hours"] for run in runs]))}
        row |= {"command": runs[0]["command"], "runs": runs}
        row |= {"commit": cells.commits(run["git_commit"] for run in runs)}
        rows.append(row)
        print(f"{task:<14}{quality:<15}{agent:<14}{row['score']}", flush=True)
    path = cells.RESULTS / SUITE / "offline.json"
    atomic.write_json(path, {"rows": rows})


def _jaxrl(words: list[str]) -> None:
    print("jaxrl " + " ".join(words), flush=True)
    ended = subprocess.run([sys.executable, "-m", "jaxrl", *words], cwd=ROOT)
    if ended.returncode != 0:
        sys.exit(f"exit code {ended.returncode}; the same command goes on")
