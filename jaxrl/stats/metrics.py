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

IQM_BLOCK = 2**18
"""Weights of runs in samples that are summed at once; they stay in the processor's cache."""

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
    total = sum(s.sum(x) / s.draws for x, s in zip(runs, samples, strict=True))
    return np.asarray(total) / len(runs)


def median(runs: Runs, samples: Samples) -> np.ndarray:
    """Median over tasks of the task's mean, [R]."""
    means = np.sort(
        task_means(runs, samples), axis=0
    )  # np.median(axis=0) takes seven times as long
    return means[[(len(means) - 1) // 2, len(means) // 2]].mean(0)


def iqm(runs: Runs, samples: Samples) -> np.ndarray:
    """Interquartile mean: the mean of the middle half of all runs of all tasks, [R].

    Of N sorted scores, floor(N / 4) are cut at either end, as `scipy.stats.trim_mean(x, 0.25)`
    does. Where tasks differ in their number of runs, a run of task t weighs 1 / n_t and the share
    floor(N / 4) / N of the weight is cut.
    """
    x = np.concatenate(runs)
    order = np.argsort(x, kind="stable")
    x, rank = x[order], np.argsort(order)
    counts = [s.counts() for s in samples]
    # Whole-number weights: sums of them are exact, and a score that is cut counts nothing.
    unit = math.lcm(*(s.draws for s in samples))
    weights = [unit // s.draws for s in samples]
    total = float(unit * len(runs))
    cut = len(x) // 4 * total / len(x)
    small = total < 2**24 and cut.is_integer()  # float32 holds every sum
    reps = counts[0].shape[1]
    block = max(64, IQM_BLOCK // len(x))
    means = np.empty(reps)
    mass = np.empty((len(x), min(block, reps)), np.float32 if small else np.float64)
    for start in range(0, reps, block):
        columns = slice(start, min(start + block, reps))
        m = mass[:, : columns.stop - columns.start]
        row = 0
        for c, weight in zip(counts, weights, strict=True):
            m[rank[row : row + len(c)]] = np.multiply(c[:, columns], weight, dtype=mass.dtype)
            row += len(c)
        for i in range(1, len(x)):  # np.cumsum(axis=0) is many times slower
            m[i] += m[i - 1]
        np.clip(m, cut, total - cut, out=m)
        means[columns] = x[0] * (m[0] - cut) + x[1:] @ (m[1:] - m[:-1]).astype(np.float64)
    return means / (total - 2 * cut)


def optimality_gap(runs: Runs, samples: Samples, gamma: float = 1.0) -> np.ndarray:
    """How far scores fall short of `gamma`, gamma - mean of min(score, gamma), [R].

    `functools.partial(optimality_gap, gamma=...)` sets another threshold.
    """
    return gamma - mean([np.minimum(x, gamma) for x in runs], samples)
