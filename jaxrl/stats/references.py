"""Reference scores, and scores normalised by them: (score - low) / (high - low)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from jaxrl.errors import UsageError
from jaxrl.stats.scores import Scores


@dataclasses.dataclass(frozen=True)
class Reference:
    """The scores that become 0 and 1."""

    low: float
    high: float
    source: str

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise UsageError(
                f"a reference needs two numbers, low < high, got {self.low} and {self.high}"
            )


SUITE = Reference(
    0.0,
    1000.0,
    "Tassa et al., DeepMind Control Suite (arXiv 1801.00690): rewards in [0, 1], 1000 steps",
)
"""Bounds, not achievements: 1 is more than most tasks let anyone reach."""

_SUITE_TASKS = {
    "acrobot": "swingup swingup-sparse",
    "ball_in_cup": "catch",
    "cartpole": "balance balance-sparse swingup swingup-sparse two-poles three-poles",
    "cheetah": "run",
    "dog": "stand walk trot run fetch",
    "finger": "spin turn-easy turn-hard",
    "fish": "upright swim",
    "hopper": "stand hop",
    "humanoid": "stand walk run run-pure-state",
    "humanoid_CMU": "stand walk run",
    "manipulator": "bring-ball bring-peg insert-ball insert-peg",
    "pendulum": "swingup",
    "point_mass": "easy hard",
    "quadruped": "walk run escape fetch",
    "reacher": "easy hard",
    "stacker": "stack-2 stack-4",
    "swimmer": "swimmer6 swimmer15",
    "walker": "stand walk run",
}
REFERENCES = {
    f"{domain}-{task}": SUITE for domain, tasks in _SUITE_TASKS.items() for task in tasks.split()
}
"""By task. The suite's lqr is left out: its returns have no such bounds."""


def reference(task: str) -> Reference:
    """The committed reference of a task.

    Raises:
      UsageError: there is none.
    """
    if task in REFERENCES:
        return REFERENCES[task]
    raise UsageError(
        f"{task} has no reference score; give one: "
        f"stats.normalise(scores, {{{task!r}: stats.Reference(low, high, source)}})"
    )


def normalise(scores: Scores, references: Mapping[str, Reference] | None = None) -> Scores:
    """Scores with `low` at 0 and `high` at 1. Nothing is clipped.

    Args:
      references: for tasks without a committed reference, or instead of it.
    """
    runs = []
    for task, x in zip(scores.tasks, scores.runs, strict=True):
        r = (references or {}).get(task) or reference(task)
        runs.append((x - r.low) / (r.high - r.low))
    return dataclasses.replace(scores, runs=tuple(runs))
