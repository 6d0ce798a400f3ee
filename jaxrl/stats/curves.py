"""Learning curves: on one grid, as areas, and aggregated with an interval at each point.

Shapes: n runs, L points of a grid of environment steps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from jaxrl.errors import UsageError
from jaxrl.stats.bootstrap import Seed, percentiles, resamples
from jaxrl.stats.estimates import CURVE_REPS, Band, refuse_one_run
from jaxrl.stats.metrics import Metric, Samples, iqm
from jaxrl.stats.samples import once
from jaxrl.stats.scores import Scores


def on_grid(steps: ArrayLike, values: ArrayLike, grid: ArrayLike) -> np.ndarray:
    """One run's curve at the steps of `grid` [L], by straight lines between its points.

    Beyond the run's first and last point there is nothing to know: NaN, for `Scores.of` to refuse
    or to treat as its `missing` says.
    """
    x, y = _curve(steps, values)
    return np.interp(np.asarray(grid, dtype=np.float64), x, y, left=np.nan, right=np.nan)


def area_under_curve(steps: ArrayLike, values: ArrayLike) -> np.ndarray:
    """Mean of the curve over its steps: its area by the trapezoid rule over the range of steps.

    Args:
      steps: increasing, [L].
      values: one curve [L] or several [n, L].

    Returns:
      in the units of `values`, a scalar or [n].
    """
    x, y = _curve(steps, values)
    return np.trapezoid(y, x, axis=-1) / (x[-1] - x[0])


def sample_efficiency(
    scores: Scores,
    steps: ArrayLike,
    metric: Metric = iqm,
    *,
    interval: bool = True,
    seed: Seed = 0,
    reps: int = CURVE_REPS,
    level: float = 0.95,
) -> Band:
    """`metric` of all runs at each of the steps [L], from curves [n_t, L] on one grid.

    Whole runs are resampled, and intervals are point by point.

    Raises:
      UsageError: scores are no curves of L points, or an interval is asked of a task with one run.
    """
    grid = np.asarray(steps, dtype=np.float64)
    if scores.runs[0].shape[1:] != grid.shape:
        raise UsageError(
            f"{grid.size} steps need curves of as many points, got {scores.runs[0].shape[1:]}"
        )
    columns = [[np.ascontiguousarray(x[:, i]) for x in scores.runs] for i in range(len(grid))]

    def curves(samples: Samples) -> np.ndarray:
        return np.stack([metric(runs, samples) for runs in columns])  # [L, R]

    point = curves(once(scores.sizes))[:, 0]
    if not interval:
        return Band(grid, point, None, None, scores.n)
    refuse_one_run(scores)
    drawn = np.concatenate([curves(c) for c in resamples(scores.sizes, reps, seed)], axis=1)
    return Band(grid, point, *percentiles(drawn, level), scores.n)


def _curve(steps: ArrayLike, values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) < 2 or y.shape[-1:] != x.shape:
        raise UsageError(
            f"a curve needs two or more steps and as many values, got {x.shape}, {y.shape}"
        )
    if not (np.diff(x) > 0).all():
        raise UsageError("the steps of a curve must increase")
    return x, y
