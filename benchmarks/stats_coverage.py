"""How often a 95 % interval of few runs holds the truth: 1000 simulated sets of scores per cell.

    python benchmarks/stats_coverage.py

Three kinds of scores, whose truth is known from a large sample: normal; skewed (log-normal);
and failing, where a run of a task fails with a chance of its own. One task and 26 tasks, which
differ in level and scatter; 3, 5 and 10 runs of each. The percentile interval is rliable's. Writes
benchmarks/results/stats_coverage.json.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np

from jaxrl import atomic, stats
from jaxrl.train.runlog import command_line, git_commit, processor

ROOT = Path(__file__).parents[1]
SETS = 1000
REPS = 2000
TRUTH = 200_000
"""Runs per task behind the truth."""
METRICS = {"mean": stats.mean, "IQM": stats.iqm}
METHODS = ("percentile", "student")


def draw(kind: str, tasks: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Scores of one agent, [n, tasks]. The tasks are the same at every call."""
    of_tasks = np.random.default_rng(tasks)
    level, scatter = of_tasks.uniform(0.2, 0.9, tasks), of_tasks.uniform(0.02, 0.2, tasks)
    fails = of_tasks.uniform(0.05, 0.35, tasks)
    noise = scatter * rng.normal(size=(n, tasks))
    match kind:
        case "normal":
            return level + noise
        case "skewed":
            return level * np.exp(5 * noise)
        case "failing":
            return np.where(rng.random((n, tasks)) < fails, 0.1 * level, level) + noise / 4
    raise ValueError(kind)


def coverage(kind: str, tasks: int, n: int, truth: dict[str, float]) -> list[dict]:
    """Share of sets whose interval holds the truth, and the mean width, by metric and method."""
    inside = {(metric, method): 0 for metric in METRICS for method in METHODS}
    width = dict.fromkeys(inside, 0.0)
    for i in range(SETS):
        scores = stats.Scores.from_matrix(draw(kind, tasks, n, np.random.default_rng([n, i])))
        for metric, method in inside:
            estimate = stats.aggregate(scores, METRICS[metric], method=method, seed=i, reps=REPS)
            inside[metric, method] += estimate.low <= truth[metric] <= estimate.high
            width[metric, method] += (estimate.high - estimate.low) / SETS
    return [
        {
            "scores": kind,
            "tasks": tasks,
            "runs": n,
            "metric": metric,
            "method": method,
            "coverage": inside[metric, method] / SETS,
            "mean_width": float(f"{width[metric, method]:.4g}"),
        }
        for metric, method in inside
    ]


def main() -> None:
    """Simulates and prints."""
    rows, commit = [], git_commit()  # of what is being run
    print(f"{'scores':<10}{'tasks':>6}{'runs':>6}  {'metric':<8}{'method':<12}coverage  width")
    for kind in ("normal", "skewed", "failing"):
        for tasks in (1, 26):
            many = stats.Scores.from_matrix(draw(kind, tasks, TRUTH, np.random.default_rng(0)))
            truth = {
                name: stats.aggregate(many, metric, interval=False).point
                for name, metric in METRICS.items()
            }
            for n in (3, 5, 10):
                for row in coverage(kind, tasks, n, truth):
                    rows.append(row)
                    print(
                        f"{kind:<10}{tasks:>6}{n:>6}  {row['metric']:<8}{row['method']:<12}"
                        f"{row['coverage']:8.3f}  {row['mean_width']:.4f}",
                        flush=True,
                    )
    result = {
        "command": command_line(),
        "commit": commit,
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "device": {"platform": "cpu", "kind": processor(), "cores": os.cpu_count()},
        "sets": SETS,
        "reps": REPS,
        "level": 0.95,
        "standard_error_of_a_coverage_of_95_percent": float(np.sqrt(0.95 * 0.05 / SETS).round(4)),
        "rows": rows,
    }
    path = ROOT / "benchmarks" / "results" / "stats_coverage.json"
    atomic.write_json(path, result)


if __name__ == "__main__":
    main()
