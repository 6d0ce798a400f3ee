"""SAC on control tasks: returns after 500,000 steps beside published ones.

    python benchmarks/sac_control.py run [PATTERN]     trains what is missing, one run at a time
    python benchmarks/sac_control.py report            the table of what is there

One update per environment step, action repeat 1, three seeds. How runs are resumed, kept and
counted: benchmarks/cells.py.

Published: SAC after 500k steps in Figure 10 of Seyde et al., "Growing Q-Networks", 2024 (read off
the figure, +-20 return).
"""

from __future__ import annotations

import dataclasses
import sys

import cells
import numpy as np

from jaxrl import atomic

SUITE = "sac_control"
STEPS = 500_000
PUBLISHED = {"walker-run": 633, "cheetah-run": 679, "hopper-hop": 128}
SETTINGS = f"--steps {STEPS} --env-steps-per-update 1 --learning-starts 5000"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run."""

    task: str
    seed: int

    @property
    def name(self) -> str:
        """File name."""
        return f"{self.task}_sac_s{self.seed}"

    def arguments(self) -> list[str]:
        """What follows `jaxrl`."""
        return [
            "train",
            "sac",
            self.task,
            *SETTINGS.split(),
            "--seed",
            str(self.seed),
            "--no-video",
        ]


CELLS = [Cell(task, seed) for seed in range(3) for task in PUBLISHED]
"""In the order in which they are trained."""


def report() -> None:
    """Prints the table and writes it as JSON. Returns are means of a run's last tenth."""
    runs: dict[str, list[dict]] = {task: [] for task in PUBLISHED}
    for cell, config, metrics in cells.finished(SUITE, CELLS):
        last = [m["eval/return_mean"] for m in metrics if m["global_step"] > 0.9 * STEPS]
        about = {key: config[key] for key in ("command", "git_commit", "versions", "device")}
        hours = metrics[-1]["wall_time"] / 3600
        runs[cell.task].append(
            {"seed": cell.seed, "return": float(np.mean(last)), "hours": hours} | about
        )
    rows = [
        {
            "task": task,
            "ours": float(np.mean([run["return"] for run in found])),
            "seeds": len(found),
            "each": ", ".join(f"{run['return']:.0f}" for run in found),
            "published": PUBLISHED[task],
            "command": found[0]["command"],
            "commit": cells.commits(run["git_commit"] for run in found),
            "runs": found,
        }
        for task, found in runs.items()
        if found
    ]
    print(f"{'task':<14}{'ours':>7}{'published':>11}   each seed")
    for row in rows:
        print(f"{row['task']:<14}{row['ours']:>7.0f}{row['published']:>11}   {row['each']}")
    (cells.RESULTS / SUITE).mkdir(exist_ok=True)
    atomic.write_json(cells.RESULTS / SUITE / "table.json", {"rows": rows})


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["run", *pattern] if len(pattern) < 2:
            cells.run(SUITE, CELLS, *pattern)
        case ["report"]:
            report()
        case _:
            sys.exit(__doc__)
