"""The stratified bootstrap: within each task, as many runs are drawn as there are, with return.

Each task has a random stream of its own, consumed resample by resample, so a result is a function
of the seed alone: the blocks that bound the memory do not change it, nor does NumPy's global state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from jaxrl.errors import UsageError
from jaxrl.stats.samples import Drawn, Sample

BLOCK_BYTES = 16 * 2**20
"""Of the counts of one block."""

Seed = int | np.random.SeedSequence


def resamples(
    sizes: Sequence[int],
    reps: int,
    seed: Seed = 0,
    block: int | None = None,
    left_out: int = 0,
) -> Iterator[list[Sample]]:
    """`reps` stratified resamples, in blocks.

    Args:
      sizes: runs of each task, n_t.
      reps: resamples over all blocks.
      block: resamples per block, R; by default what keeps the counts under `BLOCK_BYTES`.
      left_out: draws fewer than n_t in each task.

    Yields:
      R resamples of each task.
    """
    if reps < 2:
        raise UsageError(f"reps must be at least 2, got {reps}")
    block = block or max(256, BLOCK_BYTES // (8 * sum(sizes)))
    streams = [np.random.default_rng(s) for s in sequence(seed).spawn(len(sizes))]
    for start in range(0, reps, block):
        size = min(block, reps - start)
        yield [Drawn.by(rng, n, n - left_out, size) for n, rng in zip(sizes, streams, strict=True)]


def sequence(seed: Seed) -> np.random.SeedSequence:
    """A fresh seed sequence: spawning from it again gives the same children."""
    if isinstance(seed, np.random.SeedSequence):
        return np.random.SeedSequence(seed.entropy, spawn_key=seed.spawn_key)
    if seed < 0:
        raise UsageError(f"the seed must be at least 0, got {seed}")
    return np.random.SeedSequence(seed)


def percentiles(samples: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the percentile interval over the last axis of `samples` [..., reps]."""
    if not 0 < level < 1:
        raise UsageError(f"level must be between 0 and 1, got {level}")
    tail = (1 - level) / 2
    low, high = np.quantile(samples, [tail, 1 - tail], axis=-1)
    return low, high
