"""Aggregates of scores over runs and tasks, of the sample itself and of its resamples at once.

A metric maps the runs and R samples of them to R numbers; the runs themselves are one such sample.

Every task weighs the same, however many runs it has.
Shapes: T tasks, n_t runs of task t, N = sum of n_t, R samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from jaxrl.stats.samples import Sample

Runs = Sequence[np.ndarray]
"""For each task, its scores, [n_t]."""
Samples = Sequence[Sample]
"""For each task, R samples of its runs."""
Metric = Callable[[Runs, Samples], np.ndarray]
"""Aggregate of each sample, [R]."""


def task_means(runs: Runs, samples: Samples) -> np.ndarray:
    """Each task's mean score, [T, R]."""
    return np.stack([s.sum(x) / s.draws for x, s in zip(runs, samples, strict=True)])


def mean(runs: Runs, samples: Samples) -> np.ndarray:
    """Mean over tasks of the task's mean, [R]."""
    return task_means(runs, samples).mean(0)


def median(runs: Runs, samples: Samples) -> np.ndarray:
    """Median over tasks of the task's mean, [R]."""
    return np.median(task_means(runs, samples), axis=0)


def iqm(runs: Runs, samples: Samples) -> np.ndarray:
    """Interquartile mean: the mean of the middle half of all runs of all tasks, [R].

    Of N sorted scores, floor(N / 4) are cut at either end, as `scipy.stats.trim_mean(x, 0.25)`
    does. Where tasks differ in their number of runs, a run of task t weighs 1 / n_t and the share
    floor(N / 4) / N of the weight is cut.
    """
    x = np.concatenate(runs)
    order = np.argsort(x, kind="stable")
    mass, unit = _mass(np.argsort(order), samples)
    for i in range(1, len(x)):  # np.cumsum(axis=0) is many times slower
        mass[i] += mass[i - 1]
    total = float(unit * len(runs))
    cut = len(x) // 4 * total / len(x)
    np.clip(mass, cut, total - cut, out=mass)
    x = x[order]
    first = x[0] * (mass[0] - cut)
    return (first + x[1:] @ (mass[1:] - mass[:-1])) / (total - 2 * cut)


def _mass(rank: np.ndarray, samples: Samples) -> tuple[np.ndarray, int]:
    """Each score's weight in each sample, in the order of the scores, [N, R]; and each task's sum.

    Weights are whole numbers, so that sums of them are exact: a score that is cut counts nothing,
    however large it is.
    """
    unit = math.lcm(*(s.draws for s in samples))
    mass: np.ndarray | None = None
    start = 0
    for s in samples:
        counts = s.counts()
        if mass is None:
            mass = np.empty((len(rank), counts.shape[1]))
        rows = rank[start : start + len(counts)]
        mass[rows] = counts if s.draws == unit else counts * float(unit // s.draws)
        start += len(counts)
    assert mass is not None
    return mass, unit


def optimality_gap(runs: Runs, samples: Samples, gamma: float = 1.0) -> np.ndarray:
    """How far scores fall short of `gamma`, gamma - mean of min(score, gamma), [R].

    `functools.partial(optimality_gap, gamma=...)` sets another threshold.
    """
    return gamma - mean([np.minimum(x, gamma) for x in runs], samples)
