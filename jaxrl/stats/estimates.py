"""Point estimates with their intervals: aggregates, and the probability of improvement."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from jaxrl.errors import UsageError
from jaxrl.stats.bootstrap import Seed, percentiles, resamples, sequence
from jaxrl.stats.metrics import Metric, Samples, iqm
from jaxrl.stats.samples import once
from jaxrl.stats.scores import Scores
from jaxrl.stats.student import student_interval

REPS = 50_000
"""Resamples behind an interval."""
CURVE_REPS = 2_000
"""Resamples behind an interval at each point of a curve or profile."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number and, unless none was asked for, its interval."""

    point: float
    low: float | None
    high: float | None
    n: int
    """Runs of the task that has the fewest."""

    def __str__(self) -> str:
        interval = "" if self.low is None else f" [{self.low:.3f}, {self.high:.3f}]"
        return f"{self.point:.3f}{interval} (n = {self.n})"


@dataclasses.dataclass(frozen=True, eq=False)
class Band:
    """A line and, unless none was asked for, its interval at each point."""

    x: np.ndarray
    """Thresholds or environment steps, [K]."""
    point: np.ndarray
    """[K]."""
    low: np.ndarray | None
    high: np.ndarray | None
    n: int
    """Runs of the task that has the fewest."""


def aggregate(
    scores: Scores,
    metric: Metric = iqm,
    *,
    interval: bool = True,
    method: Literal["percentile", "student"] = "percentile",
    bounds: tuple[float, float] = (-np.inf, np.inf),
    seed: Seed = 0,
    reps: int = REPS,
    level: float = 0.95,
) -> Estimate:
    """`metric` over all runs and tasks, with a stratified bootstrap interval.

    Args:
      interval: False gives the point alone, as one run must.
      method: "percentile", as rliable; too narrow for few runs. "student", point +- t * standard
        error, is the better one for fewer than ten runs; docs/statistics.md has both coverages.
      bounds: range of a score, (0, 1) for a share; Student's interval is cut to it, which costs no
        coverage.

    Raises:
      UsageError: an interval is asked of a task with one run, or a score is out of bounds.
    """
    scalars(scores)
    every = np.concatenate(scores.runs)
    if len(outside := every[(every < bounds[0]) | (every > bounds[1])]):
        raise UsageError(
            f"a score of {outside[0]} is out of the bounds {bounds[0]} to {bounds[1]}; give the "
            "range of all scores"
        )
    point = metric(scores.runs, once(scores.sizes)).item()
    if not interval:
        return Estimate(point, None, None, scores.n)
    refuse_one_run(scores)
    if method == "student":
        low, high = student_interval(scores.runs, metric, point, seed, reps, level)
        low, high = max(low, bounds[0]), min(high, bounds[1])
    elif method == "percentile":
        drawn = [metric(scores.runs, c) for c in resamples(scores.sizes, reps, seed)]
        ends = percentiles(np.concatenate(drawn), level)
        low, high = float(ends[0]), float(ends[1])
    else:
        raise UsageError(f"method must be 'percentile' or 'student', got {method!r}")
    return Estimate(point, low, high, scores.n)


def improvement(
    x: Scores,
    y: Scores,
    *,
    interval: bool = True,
    seed: Seed = 0,
    reps: int = REPS,
    level: float = 0.95,
) -> Estimate:
    """Probability that a run of `x` beats a run of `y` on the same task, mean over tasks.

    P = mean_t U_t / (n_t m_t), where the Mann-Whitney U counts a tie as one half. The runs of `x`
    and `y` are resampled independently.

    Raises:
      UsageError: the tasks differ, or an interval is asked of a task with one run.
    """
    scalars(x)
    scalars(y)
    if differing := set(x.tasks) ^ set(y.tasks):
        raise UsageError(f"only one of the two agents has scores of {', '.join(sorted(differing))}")
    theirs = [y.runs[y.tasks.index(task)] for task in x.tasks]
    pairs = list(zip(x.runs, theirs, strict=True))
    wins = [np.where(a[:, None] == b, 0.5, a[:, None] > b) for a, b in pairs]  # [n_t, m_t] each

    def probability(of_x: Samples, of_y: Samples) -> np.ndarray:
        tasks = zip(wins, of_x, of_y, strict=True)
        return np.mean([(a.counts() * (w @ b.counts())).sum(0) / w.size for w, a, b in tasks], 0)

    sizes = x.sizes, tuple(map(len, theirs))
    n = min(map(min, sizes))
    point = probability(once(sizes[0]), once(sizes[1])).item()
    if not interval:
        return Estimate(point, None, None, n)
    refuse_one_run(x)
    refuse_one_run(y)
    draws = [
        resamples(size, reps, stream, block=2000)
        for size, stream in zip(sizes, sequence(seed).spawn(2), strict=True)
    ]
    drawn = [probability(c, d) for c, d in zip(*draws, strict=True)]
    low, high = percentiles(np.concatenate(drawn), level)
    return Estimate(point, float(low), float(high), n)


def refuse_one_run(scores: Scores) -> None:
    """Raises `UsageError` if a task has one run: nothing is known of how its runs scatter."""
    for task, n in zip(scores.tasks, scores.sizes, strict=True):
        if n == 1:
            raise UsageError(
                f"{task} has one run, and one run has no interval: train more seeds, or ask for "
                "the point alone with interval=False"
            )


def scalars(scores: Scores) -> None:
    """Raises `UsageError` unless each run has one score."""
    if scores.runs[0].ndim != 1:
        raise UsageError(
            "each run has a curve where one score is needed; take its last point, or "
            "stats.area_under_curve"
        )
