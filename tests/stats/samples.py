"""Scores to test with."""

from __future__ import annotations

import numpy as np

from jaxrl.stats.samples import Weighted


def uneven(rng, sizes=(3, 8, 5, 5, 2)):
    """Runs of tasks that differ in number, level and scatter."""
    return [rng.normal(t, 1 + t, size=n) for t, n in enumerate(sizes)]


def resampled(rng, runs, reps):
    """`reps` stratified resamples as lists of runs, and by their counts."""
    indices = [rng.integers(0, len(x), size=(reps, len(x))) for x in runs]
    drawn = [[x[i[r]] for x, i in zip(runs, indices, strict=True)] for r in range(reps)]
    counts = [np.stack([np.bincount(j, minlength=len(j)) for j in i], axis=1) for i in indices]
    return drawn, [Weighted(len(c), c.astype(float)) for c in counts]
