"""jaxrl.stats beside rliable: seconds for the same number of repetitions, and whether they agree.

    tools/check_rliable.sh benchmarks/stats_speed.py

Seconds are of processor time, the least of three tries (ours) and of one (rliable), so that a
busy machine counts less; wall-clock times are given, too. Writes
benchmarks/results/stats_speed.json.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np
from provenance import ROOT, described
from rliable import library, metrics

from jaxrl import atomic, stats

REPS, FEW = 50_000, 2_000
PACKAGES = ("numpy", "scipy", "rliable", "arch", "pandas")
AGGREGATES = {
    "mean": (stats.mean, metrics.aggregate_mean),
    "median": (stats.median, metrics.aggregate_median),
    "IQM": (stats.iqm, metrics.aggregate_iqm),
    "optimality gap": (stats.optimality_gap, metrics.aggregate_optimality_gap),
}
Ends = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Point, low, high."""


def seconds(call: Callable[[], Ends], tries: int) -> tuple[float, float, Ends]:
    """Least processor time and least wall-clock time of a call, and what it returns."""
    processor_times, wall_times = [], []
    for _ in range(tries):
        wall, cpu = time.perf_counter(), time.process_time()
        result = call()
        processor_times.append(time.process_time() - cpu)
        wall_times.append(time.perf_counter() - wall)
    return min(processor_times), min(wall_times), result


def theirs(scores: object, function: Callable[..., np.ndarray], reps: int) -> Callable[[], Ends]:
    """rliable's estimate."""

    def call() -> Ends:
        points, intervals = library.get_interval_estimates({"x": scores}, function, reps=reps)
        return points["x"], intervals["x"][0], intervals["x"][1]

    return call


def ours(function: Callable[[], stats.Estimate | stats.Band]) -> Callable[[], Ends]:
    """Our estimate, as arrays."""

    def call() -> Ends:
        e = function()
        point, low, high = (np.atleast_1d(np.asarray(v)) for v in (e.point, e.low, e.high))
        return point, low, high

    return call


def cases() -> list[tuple[str, str, int, Callable[[], Ends], Callable[[], Ends]]]:
    """What is measured: name, shape, repetitions, ours, theirs."""
    rng = np.random.default_rng(0)
    found = []
    for n, tasks in ((5, 8), (10, 26)):
        x, y = rng.gamma(2, 0.3, (n, tasks)), rng.gamma(2, 0.35, (n, tasks))
        a, b = stats.Scores.from_matrix(x), stats.Scores.from_matrix(y)
        curves = rng.gamma(2, 0.3, (n, tasks, 20))
        c, taus = stats.Scores.from_matrix(curves), np.linspace(0, 2, 50)
        shape = f"{n} x {tasks}"
        for name, (mine, other) in AGGREGATES.items():
            call = ours(lambda a=a, mine=mine: stats.aggregate(a, mine, reps=REPS))
            peer = theirs(x, lambda s, other=other: np.array([other(s)]), REPS)
            found.append((name, shape, REPS, call, peer))
        call = ours(lambda a=a, b=b: stats.improvement(a, b, reps=FEW))
        peer = theirs((x, y), lambda *s: np.array([metrics.probability_of_improvement(*s)]), FEW)
        found.append(("improvement", shape, FEW, call, peer))
        call = ours(lambda a=a, taus=taus: stats.run_score_profile(a, taus, reps=FEW))
        peer = theirs(x, lambda s, taus=taus: library.score_distributions(s, taus), FEW)
        found.append(("profile of 50", shape, FEW, call, peer))
        call = ours(lambda c=c: stats.sample_efficiency(c, np.arange(20), reps=FEW))
        peer = theirs(
            curves, lambda s: np.array([metrics.aggregate_iqm(s[..., i]) for i in range(20)]), FEW
        )
        found.append(("IQM curve of 20", shape, FEW, call, peer))
    return found


def main() -> None:
    """Measures and prints."""
    rows: list[dict] = []
    result: dict = {"command": "tools/check_rliable.sh benchmarks/stats_speed.py"}
    result |= described(*PACKAGES)
    print(
        f"{'interval of':<17}{'runs x tasks':<14}{'reps':>6}{'ours s':>9}{'rliable':>9}{'ratio':>7}"
    )
    for name, shape, reps, mine, peer in cases():
        cpu, wall, (point, low, high) = seconds(mine, 3)
        peer_cpu, peer_wall, (peer_point, peer_low, peer_high) = seconds(peer, 1)
        ends = np.abs([low - peer_low, high - peer_high])
        ends = ends / np.maximum(peer_high - peer_low, 1e-9)
        rows.append(
            {
                "interval_of": name,
                "runs_x_tasks": shape,
                "reps": reps,
                "seconds": round(cpu, 4),
                "rliable_seconds": round(peer_cpu, 4),
                "ratio": round(peer_cpu / cpu, 1),
                "wall_seconds": round(wall, 4),
                "rliable_wall_seconds": round(peer_wall, 4),
                "largest_difference_of_points": float(np.abs(point - peer_point).max()),
                "largest_difference_of_ends_in_widths": round(float(ends.max()), 4),
            }
        )
        print(
            f"{name:<17}{shape:<14}{reps:>6}{cpu:>9.3f}{peer_cpu:>9.2f}{peer_cpu / cpu:>7.0f}",
            flush=True,
        )
    result["load_average_at_the_end"] = os.getloadavg()[0]
    result["rows"] = rows
    path = ROOT / "benchmarks" / "results" / "stats_speed.json"
    atomic.write_json(path, result)


if __name__ == "__main__":
    main()
