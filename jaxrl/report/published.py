"""Published learning curves: references from papers, with their source and their uncertainty.

A file holds {"source", "seeds", "panels", "curves"}: `curves[panel][series]` is a list of [step,
return], `panels[panel]` tells the task ("env_id", and under "run" its settings) and the
"uncertainty" of the digitised values, in their own unit.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxrl.errors import UsageError
from jaxrl.report.runs import Run


@dataclasses.dataclass(frozen=True, eq=False)
class Published:
    """One curve of a paper."""

    name: str
    env_id: str
    settings: dict[str, float]
    """Settings of a run, such as action_cost, under which the curve was made."""
    x: np.ndarray
    """Environment steps, [L]."""
    y: np.ndarray
    """[L]."""
    uncertainty: float
    """Half the width of the band around `y`."""
    source: str

    def belongs_to(self, run: Run) -> bool:
        """Whether the curve is of the run's task, settings included."""
        settings = run.config.get("run") or {}
        return run.env_id == self.env_id and all(
            settings.get(name) == value for name, value in self.settings.items()
        )


def read(path: Path) -> list[Published]:
    """The curves in a file whose panel names a task.

    Raises:
      UsageError: the file is damaged, or lacks its source or an uncertainty.
    """
    try:
        content = json.loads(path.read_text())
        source = content["source"]
        found = [
            Published(
                name=series,
                env_id=panel["env_id"],
                settings=panel.get("run", {}),
                x=np.array(points, dtype=np.float64)[:, 0],
                y=np.array(points, dtype=np.float64)[:, 1],
                uncertainty=float(panel["uncertainty"]),
                source=source,
            )
            for key, panel in content["panels"].items()
            for series, points in content["curves"][key].items()
        ]
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except KeyError as error:
        raise UsageError(
            f"{path} lacks {error}: published curves need their source, panels with env_id and "
            "uncertainty, and curves"
        ) from None
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise UsageError(f"{path} is no file of published curves: {error}") from None
    if not str(source).strip():
        raise UsageError(f"{path}: published curves need their source")
    return found


def matching(published: Sequence[Published], runs: Sequence[Run]) -> dict[str, list[Published]]:
    """The published curves of each of the runs' tasks."""
    tasks = {r.task: r for r in runs}
    found = {t: [p for p in published if p.belongs_to(run)] for t, run in tasks.items()}
    return {task: curves for task, curves in found.items() if curves}
