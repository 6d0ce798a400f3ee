"""The scores of one agent, and what becomes of those that are missing or not finite.

Shapes: T tasks, n_t runs of task t, L points of a curve.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from jaxrl.errors import UsageError

Missing = Literal["raise", "worst", "omit"]


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """One agent's scores: for each task one number a run, or one curve a run. All are finite."""

    tasks: tuple[str, ...]
    runs: tuple[np.ndarray, ...]
    """For each task, [n_t] or [n_t, L]; the number of runs may differ from task to task."""
    replaced: int = 0
    """Missing scores that `missing="worst"` replaced."""
    omitted: int = 0
    """Runs that `missing="omit"` left out."""

    @classmethod
    def of(
        cls,
        runs: Mapping[str, ArrayLike],
        missing: Missing = "raise",
        worst: float | None = None,
    ) -> Scores:
        """Scores from each task's runs, [n_t] or [n_t, L].

        A score is missing if it is None, NaN or infinite: a run that diverged has no score, and
        leaving it out flatters the agent.

        Args:
          missing: "raise" refuses a missing score; "worst" counts it as `worst`; "omit" leaves the
            whole run out, and `omitted` counts it.
          worst: the score of a run that failed, in the units of `runs`; with missing="worst" only.

        Raises:
          UsageError: no task, a task without runs, or a missing score that no policy covers.
        """
        if missing not in ("raise", "worst", "omit"):
            raise UsageError(f"missing must be 'raise', 'worst' or 'omit', got {missing!r}")
        if (missing == "worst") != (worst is not None):
            raise UsageError(
                f"missing={missing!r} with worst={worst}: missing='worst' needs the score that a "
                "failed run counts as, such as worst=0.0, and nothing else does"
            )
        if worst is not None and not np.isfinite(worst):
            raise UsageError(f"worst must be finite, got {worst}")
        if not runs:
            raise UsageError("there are no scores: give at least one task with its runs")
        replaced = omitted = 0
        kept = []
        for task, values in runs.items():
            x = _floats(task, values)
            bad = ~np.isfinite(x)
            if missing == "raise" and bad.any():
                where = tuple(int(i) for i in np.argwhere(bad)[0])
                raise UsageError(
                    f"{task}: run {where[0]} of {len(x)} has the score {x[where]}; missing='worst' "
                    "counts such runs as failed, missing='omit' leaves them out"
                )
            if worst is not None:
                replaced += int(bad.sum())
                x = np.where(bad, worst, x)
            if missing == "omit":
                whole = ~bad.reshape(len(x), -1).any(1)
                omitted += int((~whole).sum())
                x = x[whole]
            if not len(x):
                raise UsageError(f"{task} has no runs; give some, or leave the task out")
            kept.append(x)
        if len({x.shape[1:] for x in kept}) > 1:
            lengths = ", ".join(f"{t}: {x.shape[1:]}" for t, x in zip(runs, kept, strict=True))
            raise UsageError(f"curves differ in length ({lengths}); stats.on_grid aligns them")
        return cls(tuple(runs), tuple(kept), replaced, omitted)

    @classmethod
    def from_matrix(
        cls,
        matrix: ArrayLike,
        tasks: Sequence[str] | None = None,
        missing: Missing = "raise",
        worst: float | None = None,
    ) -> Scores:
        """Scores from one array of runs by tasks, [n, T] or [n, T, L], as rliable takes it."""
        x = _floats("matrix", matrix, ranks=(2, 3))
        names = [f"task {t}" for t in range(x.shape[1])] if tasks is None else list(tasks)
        if len(set(names)) != x.shape[1]:
            raise UsageError(f"{x.shape[1]} columns need as many different tasks, got {names}")
        return cls.of({name: x[:, t] for t, name in enumerate(names)}, missing, worst)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Runs of each task, n_t."""
        return tuple(len(x) for x in self.runs)

    @property
    def n(self) -> int:
        """Runs of the task that has the fewest."""
        return min(self.sizes)


def _floats(name: str, values: ArrayLike, ranks: tuple[int, ...] = (1, 2)) -> np.ndarray:
    try:
        x = np.array(values, dtype=np.float64)  # None becomes NaN
    except (TypeError, ValueError):
        raise UsageError(f"{name}: scores must be numbers, in runs of equal length") from None
    if x.ndim not in ranks:
        raise UsageError(f"{name}: scores must have {ranks[0]} or {ranks[1]} axes, got {x.ndim}")
    return x
