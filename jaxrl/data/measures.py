"""How good a dataset's trajectories are, and how much of the task it covers.

Schweighofer et al., "A Dataset Perspective on Offline Reinforcement Learning", CoLLAs 2022
(arXiv 2111.04714).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxrl.data.rows import CUT, HostRows
from jaxrl.stats.references import Reference

PARTS = (100, 50, 20, 10, 5, 4, 3, 2)
"""Parts that a dimension may be cut into; the first is the authors' code's."""
PAIRS = 200_000
"""Pairs that are looked at, at most."""


def returns(rows: HostRows) -> np.ndarray:
    """Sum of rewards of each episode that was not cut short, [episodes] float64."""
    total = np.add.reduceat(rows.reward.astype(np.float64), rows.starts)
    return total[rows.flags[rows.ends] & CUT == 0]


def trajectory_quality(rows: HostRows, reference: Reference) -> float:
    """TQ: the mean return with the random policy's at 0 and the expert's at 1; NaN if there is no
    whole episode."""
    found = returns(rows)
    if not len(found):
        return float("nan")
    return float((found.mean() - reference.low) / (reference.high - reference.low))


@dataclasses.dataclass(frozen=True)
class Grid:
    """Where pairs of observation and action are counted: D dimensions, cut into equal parts.

    Continuous pairs are all unique, so they are counted on a grid between the extremes of a
    reference, as the authors' code does; what lies outside counts as in the outermost part. A
    hundred parts, as there, leave pairs of many dimensions unique still. Here it is the finest grid
    of `PARTS` on which at most half of the reference's pairs are unique, or else the coarsest.
    """

    pairs: np.ndarray  # [N, D], the reference's
    parts: int
    """Parts of each dimension."""
    unique: float
    """Share of the reference's pairs that are unique; near 1 the grid is too fine to tell."""

    @classmethod
    def of(cls, reference: HostRows, seed: int = 0) -> Grid:
        """The grid for a reference, such as a run's whole replay."""
        pairs = _draw(_pairs(reference), PAIRS, seed)
        for parts in PARTS:
            grid = cls(pairs, parts, 0.0)
            share = grid.count(pairs) / len(pairs)
            if share <= 0.5:
                break
        return dataclasses.replace(grid, unique=share)

    def count(self, pairs: np.ndarray) -> int:
        """Unique pairs of [N, D]."""
        low, high = self.pairs.min(axis=0), self.pairs.max(axis=0)
        place = (pairs - low) / np.where(high > low, high - low, 1) * self.parts
        cells = np.clip(np.floor(place), 0, self.parts - 1).astype(np.uint8)
        return len(np.unique(cells.view(np.dtype((np.void, cells.shape[1])))))

    def coverage(self, rows: HostRows, seed: int = 0) -> float:
        """SACo: unique pairs, relative to those of equally many pairs of the reference."""
        pairs = _pairs(rows)
        n = min(len(pairs), len(self.pairs))
        return self.count(_draw(pairs, n, seed)) / self.count(_draw(self.pairs, n, seed))


def _draw(pairs: np.ndarray, n: int, seed: int) -> np.ndarray:
    """At most n pairs, each at most once."""
    if len(pairs) <= n:
        return pairs
    return pairs[np.random.default_rng(seed).choice(len(pairs), n, replace=False)]


def _pairs(rows: HostRows) -> np.ndarray:
    acted = ~rows.last
    return np.concatenate([rows.obs[acted], rows.action[acted]], axis=1).astype(np.float64)
