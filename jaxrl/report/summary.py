"""What a report says of runs: cells, aggregates, curves and profiles, with intervals where there
are several seeds and a mark where there is one.

An interval over the seeds of one task is Student's, mean +- t * s / sqrt(n); aggregates over tasks
are of normalised scores, by `jaxrl.stats`. Shapes: n seeds, L points of a curve.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from jaxrl import stats
from jaxrl.errors import UsageError
from jaxrl.report.runs import METRIC, Run
from jaxrl.stats.student import t_quantile

LEVEL = 0.95
GRID = 200
"""Points of a curve whose runs were not evaluated at the same moments."""
METRICS: dict[str, stats.Metric] = {
    "IQM": stats.iqm,
    "Median": stats.median,
    "Mean": stats.mean,
    "Optimality gap": stats.optimality_gap,
}
REPS = 10_000
"""Resamples behind an interval over tasks."""
RATES = {
    name: stats.Reference(0.0, 1.0, "a share of episodes")
    for name in ("eval/success", "eval/success_easy")
}
"""References of metrics that are shares already."""
THRESHOLDS = np.linspace(0.0, 1.0, 101)


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """One agent on one task."""

    agent: str
    task: str
    runs: tuple[Run, ...]
    """Those that count."""
    left_out: tuple[Run, ...]

    @cached_property
    def scores(self) -> np.ndarray:
        """Last evaluations, [n]."""
        return np.array([r.score for r in self.runs], dtype=np.float64)

    @property
    def n(self) -> int:
        """Runs that count."""
        return len(self.runs)

    @property
    def mean(self) -> float | None:
        """Of the scores; None without any."""
        return float(self.scores.mean()) if self.n else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the mean; None for fewer than two runs."""
        if self.n < 2:
            return None
        half = float(half_width(self.scores[:, None])[0])
        mean = float(self.scores.mean())
        return mean - half, mean + half


def given_references(texts: Sequence[str], runs: Sequence[Run]) -> dict[str, stats.Reference]:
    """References of tasks from texts TASK=LOW:HIGH, where TASK is a name that a run's task goes by:
    in the report, in the run's settings, or as `jaxrl train` was told.

    Raises:
      UsageError: another form, or no run is of that task.
    """
    found: dict[str, stats.Reference] = {}
    for text in texts:
        name, equals, ends = text.rpartition("=")
        low, colon, high = ends.partition(":")
        try:
            if not (name and equals and colon):
                raise ValueError
            low_score, high_score = float(low), float(high)
        except ValueError:
            raise UsageError(f"--reference takes TASK=LOW:HIGH, got {text!r}") from None
        kind, _, file = name.partition(":")
        names = {name, os.path.abspath(name), f"{kind}:{os.path.abspath(file)}"}
        tasks = {run.task for run in runs if {run.task, run.env_id} & names}
        if not tasks:
            known = "; ".join(sorted({run.task for run in runs}))
            raise UsageError(f"--reference {text}: no run is of {name!r}; there are: {known}")
        reference = stats.Reference(low_score, high_score, "given on the command line")
        found |= dict.fromkeys(tasks, reference)
    return found


def half_width(values: np.ndarray) -> np.ndarray:
    """Half the width of Student's interval of the mean over n >= 2 seeds, from [n, L] to [L]."""
    n = len(values)
    return t_quantile(LEVEL, n - 1) * values.std(axis=0, ddof=1) / math.sqrt(n)


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """One agent's mean learning curve on one task."""

    agent: str
    task: str
    x: np.ndarray
    """Environment steps or hours, [L]."""
    mean: np.ndarray
    """[L]."""
    half: np.ndarray | None
    """Half the width of the interval at each point, [L]; None for one run."""
    n: int


@dataclasses.dataclass(frozen=True)
class Aggregate:
    """One agent over all tasks: an estimate by metric, or why there is none."""

    agent: str
    n: int
    estimates: Mapping[str, stats.Estimate]
    mark: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Summary:
    """A report's runs and what they say together."""

    runs: tuple[Run, ...]
    references: Mapping[str, stats.Reference] = dataclasses.field(default_factory=dict)
    """By task, instead of the committed ones or beside them."""
    metric: str = METRIC
    """What the runs' values are; the committed references are of returns."""

    @cached_property
    def agents(self) -> list[str]:
        """Names, in order."""
        return sorted({r.agent for r in self.runs})

    @cached_property
    def tasks(self) -> list[str]:
        """Names, in order."""
        return sorted({r.task for r in self.runs})

    @cached_property
    def cells(self) -> list[Cell]:
        """Every agent on every task that it has runs of."""
        cells = []
        for task in self.tasks:
            for agent in self.agents:
                runs = [r for r in self.runs if r.task == task and r.agent == agent]
                counted = tuple(r for r in runs if r.left_out is None)
                if runs:
                    out = tuple(r for r in runs if r.left_out is not None)
                    cells.append(Cell(agent, task, counted, out))
        return cells

    @property
    def unit(self) -> str:
        """What the runs' steps are; those that learn from a dataset count their updates."""
        offline = ["run.dataset" in run.settings for run in self.runs]
        if all(offline):
            return "gradient updates"
        return "environment steps or gradient updates" if any(offline) else "environment steps"

    def reference(self, task: str) -> stats.Reference | None:
        """What normalises the task's scores, or None."""
        env_id = next(r.env_id for r in self.runs if r.task == task)
        if task in self.references:
            return self.references[task]
        if self.metric != METRIC:
            return RATES.get(self.metric)
        try:
            return stats.reference(env_id)
        except UsageError:
            return None

    @cached_property
    def refusal(self) -> str | None:
        """Why scores are not aggregated over tasks; None if they are."""
        unknown = [t for t in self.tasks if self.reference(t) is None]
        if not unknown:
            return None
        one = len(unknown) == 1
        return (
            f"{', '.join(unknown)} {'has' if one else 'have'} no reference score to normalise by; "
            "returns of different tasks are not averaged without one "
            "(--reference TASK=LOW:HIGH gives it)"
        )

    def normalised(self, agent: str) -> stats.Scores | str:
        """The agent's normalised scores on all tasks, or why there are none."""
        runs, missing = {}, []
        for task in self.tasks:
            cell = next((c for c in self.cells if (c.agent, c.task) == (agent, task)), None)
            if cell is None or not cell.n:
                missing.append(task)
                continue
            reference = self.reference(task)
            assert reference is not None  # self.refusal was looked at
            runs[task] = (cell.scores - reference.low) / (reference.high - reference.low)
        if missing:
            return f"no finished run of {', '.join(missing)}"
        return stats.Scores.of(runs)

    @cached_property
    def aggregates(self) -> list[Aggregate]:
        """Each agent over all tasks; empty where `refusal` says why."""
        if self.refusal:
            return []
        rows = []
        for agent in self.agents:
            scores = self.normalised(agent)
            if isinstance(scores, str):
                rows.append(Aggregate(agent, 0, {}, scores))
                continue
            several = scores.n > 1
            estimates = {
                name: stats.aggregate(
                    scores, metric, interval=several, method="student", reps=REPS, level=LEVEL
                )
                for name, metric in METRICS.items()
            }
            rows.append(Aggregate(agent, scores.n, estimates, None if several else "n = 1"))
        return rows

    def profile(self, agent: str) -> stats.Band | None:
        """Share of the agent's runs above each normalised score; None where there are none."""
        scores = None if self.refusal else self.normalised(agent)
        if scores is None or isinstance(scores, str):
            return None
        return stats.run_score_profile(scores, THRESHOLDS, interval=scores.n > 1, level=LEVEL)

    def curve(self, agent: str, task: str, clock: bool = False) -> Curve | None:
        """The agent's mean curve on a task against steps, or hours if `clock`; None without any.

        Of the runs that count, or of the others if none does. It ends where the first of them
        ends: beyond, it would be the mean of others.
        """
        cell = next((c for c in self.cells if (c.agent, c.task) == (agent, task)), None)
        runs = [r for r in (cell.runs or cell.left_out if cell else ()) if len(r.steps)]
        if not runs:
            return None
        lines = [(r.hours if clock else r.steps.astype(np.float64), r.values) for r in runs]
        if any(not np.isfinite(x).all() for x, _ in lines):
            return None  # no clock
        x, values = aligned(lines)
        if not len(x):
            return None
        half = half_width(values) if len(runs) > 1 else None
        return Curve(agent, task, x, values.mean(axis=0), half, len(runs))


def aligned(lines: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Curves on one grid: x [L] and values [n, L], over the range that all of them cover."""
    first = lines[0][0]
    if all(np.array_equal(x, first) for x, _ in lines):
        return first, np.stack([y for _, y in lines])
    low, high = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    if low >= high:
        return np.zeros(0), np.zeros((len(lines), 0))
    grid: np.ndarray = np.linspace(low, high, GRID)
    return grid, np.stack([stats.on_grid(x, y, grid) for x, y in lines])
