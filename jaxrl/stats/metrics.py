"""Aggregates of scores over runs and tasks, of the sample itself and of its resamples at once.

A resample is written as counts: how often each run of a task was drawn. A metric maps the runs and
R resamples to R numbers; a count of one each is the sample itself. So a metric needs no sorting per
resample: the scores are sorted once and the counts are put in that order.

Every task weighs the same, however many runs it has.
Shapes: T tasks, n_t runs of task t, N = sum of n_t, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

Runs = Sequence[np.ndarray]
"""For each task, its scores, [n_t]."""
Counts = Sequence[np.ndarray]
"""For each task, how often each run was drawn, [n_t, R]; all columns of a task sum to the same."""
Metric = Callable[[Runs, Counts], np.ndarray]
"""Aggregate of each resample, [R]."""


def task_means(runs: Runs, counts: Counts) -> np.ndarray:
    """Each task's mean score, [T, R]."""
    return np.stack([x @ c / c[:, 0].sum() for x, c in zip(runs, counts, strict=True)])


def mean(runs: Runs, counts: Counts) -> np.ndarray:
    """Mean over tasks of the task's mean, [R]."""
    return task_means(runs, counts).mean(0)


def median(runs: Runs, counts: Counts) -> np.ndarray:
    """Median over tasks of the task's mean, [R]."""
    return np.median(task_means(runs, counts), axis=0)


def iqm(runs: Runs, counts: Counts) -> np.ndarray:
    """Interquartile mean: the mean of the middle half of all runs of all tasks, [R].

    Of N sorted scores, floor(N / 4) are cut at either end, as `scipy.stats.trim_mean(x, 0.25)`
    does. Where tasks differ in their number of runs, a run of task t weighs 1 / n_t and the share
    floor(N / 4) / N of the weight is cut.
    """
    x = np.concatenate(runs)
    order = np.argsort(x, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(x))
    drawn = [int(c[:, 0].sum()) for c in counts]
    unit = math.lcm(*drawn)  # whole-number weights: sums of floats that hold them are exact
    mass = np.empty((len(x), counts[0].shape[1]))
    start = 0
    for c, m in zip(counts, drawn, strict=True):
        mass[rank[start : start + len(c)]] = c * float(unit // m)
        start += len(c)
    for i in range(1, len(x)):  # np.cumsum(axis=0) is many times slower
        mass[i] += mass[i - 1]
    total = float(unit * len(runs))
    cut = len(x) // 4 * total / len(x)
    np.clip(mass, cut, total - cut, out=mass)
    x = x[order]
    first = x[0] * (mass[0] - cut)
    return (first + x[1:] @ (mass[1:] - mass[:-1])) / (total - 2 * cut)


def optimality_gap(runs: Runs, counts: Counts, gamma: float = 1.0) -> np.ndarray:
    """How far scores fall short of `gamma`, gamma - mean of min(score, gamma), [R].

    `functools.partial(optimality_gap, gamma=...)` sets another threshold.
    """
    return gamma - mean([np.minimum(x, gamma) for x in runs], counts)


def once(sizes: Sequence[int]) -> list[np.ndarray]:
    """The counts of the sample itself: every run once, [n_t, 1]."""
    return [np.ones((n, 1)) for n in sizes]
