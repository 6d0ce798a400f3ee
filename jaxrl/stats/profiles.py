"""Performance profiles: the share of runs, or of tasks, that score above each threshold.

Agarwal et al. (arXiv 2108.13264), section 4.2. Every task weighs the same.
Shapes: T tasks, n_t runs of task t, K thresholds, R samples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from jaxrl.stats.bootstrap import Seed, percentiles, resamples
from jaxrl.stats.estimates import CURVE_REPS, Band, refuse_one_run, scalars
from jaxrl.stats.metrics import Samples, task_means
from jaxrl.stats.samples import once
from jaxrl.stats.scores import Scores

Profile = Callable[[Samples], np.ndarray]
"""The profile of each sample, [K, R]."""


def run_score_profile(
    scores: Scores,
    thresholds: ArrayLike,
    *,
    interval: bool = True,
    seed: Seed = 0,
    reps: int = CURVE_REPS,
    level: float = 0.95,
) -> Band:
    """Share of runs whose score is above each threshold [K]; intervals are point by point.

    Raises:
      UsageError: an interval is asked of a task with one run.
    """
    taus = np.asarray(thresholds, dtype=np.float64)
    above = np.concatenate(scores.runs) > taus[:, None]  # [K, N]

    def profile(samples: Samples) -> np.ndarray:
        weight = [np.full(n, 1 / s.draws) for n, s in zip(scores.sizes, samples, strict=True)]
        counts = np.concatenate([s.counts() for s in samples]).astype(np.float64)  # [N, R]
        return above * (np.concatenate(weight) / len(weight)) @ counts

    return _band(scores, taus, profile, interval, seed, reps, level)


def average_score_profile(
    scores: Scores,
    thresholds: ArrayLike,
    *,
    interval: bool = True,
    seed: Seed = 0,
    reps: int = CURVE_REPS,
    level: float = 0.95,
) -> Band:
    """Share of tasks whose mean score is above each threshold [K]; see `run_score_profile`."""
    taus = np.asarray(thresholds, dtype=np.float64)

    def profile(samples: Samples) -> np.ndarray:
        means = task_means(scores.runs, samples)
        return np.stack([(means > tau).mean(0) for tau in taus])

    return _band(scores, taus, profile, interval, seed, reps, level)


def _band(
    scores: Scores,
    taus: np.ndarray,
    profile: Profile,
    interval: bool,
    seed: Seed,
    reps: int,
    level: float,
) -> Band:
    scalars(scores)
    point = profile(once(scores.sizes))[:, 0]
    if not interval:
        return Band(taus, point, None, None, scores.n)
    refuse_one_run(scores)
    drawn = np.concatenate([profile(c) for c in resamples(scores.sizes, reps, seed)], axis=1)
    return Band(taus, point, *percentiles(drawn, level), scores.n)
