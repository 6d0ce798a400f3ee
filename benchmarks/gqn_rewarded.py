"""How often a run was rewarded while it explored, tenth by tenth of its training.

    python benchmarks/gqn_rewarded.py RUN...     adds them to results/gqn_paper/rewarded.json

RUN is a run folder of benchmarks/gqn_paper.py, of a task whose reward is 0 or 1. Its newest
checkpoint's replay is read, which holds every step.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cells
import numpy as np
from gcrl_pictures import provenance, stored

from jaxrl import atomic
from jaxrl.train import results
from jaxrl.train.results import Trained

PARTS = 10


def task_rewards(trained: Trained) -> np.ndarray:
    """Rewards before the action cost of every step of the run, [T, N], oldest first."""
    reward, indices = stored(trained, "reward", "action")
    action = np.asarray(trained.agent.decode(indices[:-1], trained.evaluator.env.spec))
    cost = trained.folder.config()["run"]["action_cost"]
    return reward[1:] + cost * np.square(action).mean(-1)


def main(paths: list[Path]) -> None:
    """Counts, prints and keeps."""
    file = cells.RESULTS / "gqn_paper" / "rewarded.json"
    rows = json.loads(file.read_text())["rows"] if file.exists() else []
    for path in paths:
        trained = results.load(path, episodes=1)
        rewarded = task_rewards(trained) > 0.5
        counts = [int(part.sum()) for part in np.array_split(rewarded, PARTS)]
        row = {"run": path.name, "steps": trained.step, "rewarded": sum(counts)}
        row |= {"by tenth": ", ".join(f"{count:,}" for count in counts), **provenance(trained)}
        row["commit"] = cells.commits([row["commit"]])
        rows = [other for other in rows if other["run"] != path.name] + [row]
        print(f"{path.name:<40}{sum(counts):>8,} of {rewarded.size:,}:  {row['by tenth']}")
    rows.sort(key=lambda row: row["run"])
    atomic.write_json(file, {"rows": rows})


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main([Path(argument) for argument in sys.argv[1:]])
