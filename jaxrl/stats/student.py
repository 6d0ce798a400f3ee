"""An interval for few runs: point +- t * standard error, for any smooth metric.

The percentile interval of few runs is too narrow on two counts. A resample of n draws has the share
(n - 1) / n of the variance that it stands for; here n - 1 draws are made instead, whose variance is
right (Efron, "The Jackknife, the Bootstrap and Other Resampling Plans", 1982). And the spread
itself is estimated from few runs; here the quantile is Student's, whose degrees of freedom follow
from each task's share of the variance (Satterthwaite, Biometrics Bulletin, 1946). For the mean of
one task it is the t-interval.
"""

from __future__ import annotations

import math

import numpy as np

from jaxrl.stats.bootstrap import Seed, percentiles, resamples
from jaxrl.stats.metrics import Metric, Runs
from jaxrl.stats.samples import Sample, Weighted


def student_interval(
    runs: Runs, metric: Metric, point: float, seed: Seed, reps: int, level: float
) -> tuple[float, float]:
    """Ends of the interval. Every task has at least two runs."""
    sizes = [len(x) for x in runs]
    blocks = resamples(sizes, reps, seed, left_out=1)
    drawn = np.concatenate([metric(runs, samples) for samples in blocks])
    percentiles(drawn[:2], level)  # refuses a bad level
    error = float(drawn.std())
    half = t_quantile(level, degrees_of_freedom(runs, metric)) * error
    return point - half, point + half


def degrees_of_freedom(runs: Runs, metric: Metric) -> int:
    """(sum_t v_t)^2 / sum_t v_t^2 / (n_t - 1), rounded down, with the jackknife's share v_t of each
    task in the metric's variance."""
    shares = []
    for t, x in enumerate(runs):
        n = len(x)
        without: list[Sample] = [Weighted(len(y), np.ones((len(y), n))) for y in runs]
        without[t] = Weighted(n - 1, 1 - np.eye(n))
        shares.append((n - 1) * float(metric(runs, without).var()))
    total = sum(shares)
    if total == 0:
        return 1
    squares = sum(v * v / (len(x) - 1) for v, x in zip(shares, runs, strict=True))
    return max(1, math.floor(total * total / squares + 1e-9))


def t_quantile(level: float, df: int) -> float:
    """The q with P(|T| < q) = `level` for Student's t, by bisection."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if _t_within(middle, df) < level:
            low = middle
        else:
            high = middle
    return math.sqrt(df) * math.tan((low + high) / 2)


def _t_within(angle: float, df: int) -> float:
    """P(|T| < sqrt(df) tan(angle)); Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    cos2 = math.cos(angle) ** 2
    odd = df % 2
    term, total = math.cos(angle) if odd else 1.0, 0.0
    for k in range(1 + odd, df, 2):
        total += term
        term *= cos2 * k / (k + 1)
    if odd:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total
