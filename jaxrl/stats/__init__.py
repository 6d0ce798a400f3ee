"""Statistics of few runs: aggregates with intervals, profiles, curves, comparisons.

    from jaxrl import stats

    scores = stats.Scores.of({"walker-walk": [930.0, 951.0, 908.0]})
    print(stats.aggregate(stats.normalise(scores), stats.iqm))

NumPy only, reproducible from a seed, and no jax. docs/statistics.md tells what is computed.
Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS
2021 (arXiv 2108.13264).
"""

from jaxrl.stats.curves import area_under_curve, on_grid, sample_efficiency
from jaxrl.stats.estimates import Band, Estimate, aggregate, improvement
from jaxrl.stats.metrics import Metric, iqm, mean, median, optimality_gap
from jaxrl.stats.profiles import average_score_profile, run_score_profile
from jaxrl.stats.references import Reference, normalise, reference
from jaxrl.stats.scores import Scores

__all__ = [
    "Band",
    "Estimate",
    "Metric",
    "Reference",
    "Scores",
    "aggregate",
    "area_under_curve",
    "average_score_profile",
    "improvement",
    "iqm",
    "mean",
    "median",
    "normalise",
    "on_grid",
    "optimality_gap",
    "reference",
    "run_score_profile",
    "sample_efficiency",
]
