"""The report as one HTML file that needs no server, no network and no other file.

Its numbers are a JSON block in the page; assets/*.js draw them and act on the filters. Statistics
of the whole are computed here, by `jaxrl.stats`; those of a filtered part in the page, by the same
formulas.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

import jaxrl
from jaxrl import atomic
from jaxrl.errors import UsageError
from jaxrl.report import differences
from jaxrl.report.published import Published
from jaxrl.report.runs import LESS_IS_BETTER, NAMES, Run, label
from jaxrl.report.summary import LEVEL, Cell, Summary
from jaxrl.stats.student import t_quantile

SCRIPTS = ("theme.js", "statistics.js", "charts.js", "state.js", "sections.js", "report.js")
PLAYER = ("three.min.js", "rollout.js", "playback.js")
PLAYBACK = "playback.json"
"""A run's recording, in its folder."""
FORMAT = 1
"""Of recordings."""


def write(
    path: Path,
    summary: Summary,
    title: str,
    metric: str,
    published: Mapping[str, Sequence[Published]] | None = None,
    media: Sequence[tuple[Run, dict[str, Any]]] = (),
) -> None:
    """Writes the page.

    Args:
      published: reference curves by task.
      media: recordings, each with the run that it is of.
    """
    data = payload(summary, title, metric, published or {}, media)
    scripts = [*PLAYER, *SCRIPTS] if media else list(SCRIPTS)
    atomic.write_text(path, _document("report.html", title, scripts, data))


def write_player(path: Path, recording: dict[str, Any], title: str) -> None:
    """Writes a page that plays one recording."""
    data = {"title": title, "media": [{"name": title, "recording": recording}]}
    page = _document("player.html", title, ["theme.js", *PLAYER, "player.js"], data)
    atomic.write_text(path, page)


def write_recording(path: Path, recording: dict[str, Any]) -> None:
    """Writes a recording."""
    text = json.dumps(recording, separators=(",", ":"), allow_nan=False)
    atomic.write_text(path, text + "\n")


def read_recording(path: Path) -> dict[str, Any]:
    """A recording that `jaxrl.train.playback` made.

    Raises:
      UsageError: it is damaged, or of another format.
    """
    try:
        recording = json.loads(path.read_text())
        known = recording["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no playback: {error!r}; delete it to go without") from None
    if not known:
        raise UsageError(
            f"{path} has format {recording['format']}, this version of jaxrl reads {FORMAT}: "
            "`jaxrl render RUN --html` writes it again"
        )
    return recording


def best(summary: Summary) -> list[Run]:
    """The run with the best score of each agent on each task, of those that count."""

    def worth(run: Run) -> float:
        assert run.score is not None  # it counts
        return -run.score if summary.metric in LESS_IS_BETTER else run.score

    return [max(cell.runs, key=worth) for cell in summary.cells if cell.n]


def payload(
    summary: Summary,
    title: str,
    metric: str,
    published: Mapping[str, Sequence[Published]],
    media: Sequence[tuple[Run, dict[str, Any]]] = (),
) -> dict[str, Any]:
    """What the page is drawn from; see assets/report.js."""
    runs = list(summary.runs)
    grids: dict[bytes, int] = {}
    steps: list[list[int]] = []
    for run in runs:
        key = run.steps.tobytes()
        if key not in grids:
            grids[key] = len(steps)
            steps.append(run.steps.tolist())
    return {
        "title": title,
        "version": jaxrl.__version__,
        "metric": NAMES.get(metric, metric),
        "unit": summary.unit,
        "level": LEVEL,
        "agents": summary.agents,
        "tasks": [_task(summary, task) for task in summary.tasks],
        "steps": steps,
        "runs": [_run(r, runs, summary, grids[r.steps.tobytes()]) for r in runs],
        "cells": [_cell(cell, summary) for cell in summary.cells],
        "refusal": summary.refusal,
        "aggregates": [
            {
                "agent": summary.agents.index(row.agent),
                "n": row.n,
                "mark": row.mark,
                "estimates": {
                    name: [_round(e.point), _round(e.low), _round(e.high)]
                    for name, e in row.estimates.items()
                },
            }
            for row in summary.aggregates
        ],
        "profiles": _profiles(summary),
        "t_quantiles": [t_quantile(LEVEL, df) for df in range(1, max(2, len(runs)))],
        "published": [
            {
                "task": summary.tasks.index(task),
                "name": curve.name,
                "x": curve.x.tolist(),
                "y": curve.y.tolist(),
                "uncertainty": curve.uncertainty,
                "source": curve.source,
            }
            for task, curves in published.items()
            for curve in curves
        ],
        "differences": _differences(summary),
        "media": [
            {
                "agent": summary.agents.index(run.agent),
                "task": summary.tasks.index(run.task),
                "seed": run.seed,
                "score": _round(run.score),
                "name": f"{run.agent} on {run.task}, seed {run.seed}",
                "recording": recording,
            }
            for run, recording in media
        ],
    }


def _task(summary: Summary, task: str) -> dict[str, Any]:
    reference = summary.reference(task)
    known = reference and {
        "low": reference.low,
        "high": reference.high,
        "source": reference.source,
    }
    return {"name": task, "reference": known}


def _run(run: Run, runs: Sequence[Run], summary: Summary, grid: int) -> dict[str, Any]:
    has_clock = bool(len(run.hours)) and bool(np.isfinite(run.hours).all())
    config = run.config
    return {
        "agent": summary.agents.index(run.agent),
        "task": summary.tasks.index(run.task),
        "seed": run.seed,
        "name": label(run, runs),
        "steps": grid,
        "values": [_round(v) for v in run.values.tolist()],
        "hours": [_round(h) for h in run.hours.tolist()] if has_clock else None,
        "score": _round(run.score),
        "left_out": run.left_out,
        "notes": list(run.notes),
        "command": str(config.get("command") or ""),
        "commit": str(config.get("git_commit") or "unknown"),
        "device": differences.device(run),
    }


def _cell(cell: Cell, summary: Summary) -> dict[str, Any]:
    interval = cell.interval or (None, None)
    return {
        "agent": summary.agents.index(cell.agent),
        "task": summary.tasks.index(cell.task),
        "n": cell.n,
        "mean": cell.mean,
        "low": interval[0],
        "high": interval[1],
    }


def _profiles(summary: Summary) -> list[dict[str, Any]]:
    found = []
    for i, agent in enumerate(summary.agents):
        band = summary.profile(agent)
        if band is not None:
            lines = {"point": band.point, "low": band.low, "high": band.high}
            rounded = {
                k: None if v is None else [_round(x) for x in v.tolist()] for k, v in lines.items()
            }
            found.append({"agent": i, "x": band.x.tolist(), "n": band.n, **rounded})
    return found


def _differences(summary: Summary) -> list[dict[str, Any]]:
    tables = {
        "Hyperparameters and options": differences.hyperparameters,
        "Versions": differences.versions,
        "Hardware and commits": differences.hardware,
    }
    return [
        {
            "title": title,
            "rows": [[d.name, *map(list, d.values)] for d in of(summary.runs, summary.agents)],
        }
        for title, of in tables.items()
    ]


def _round(value: float | None) -> float | None:
    """Seven digits, as JSON: what is not finite becomes null."""
    return float(f"{value:.7g}") if value is not None and math.isfinite(value) else None


def _document(template: str, title: str, scripts: Sequence[str], data: dict[str, Any]) -> str:
    block = json.dumps(data, separators=(",", ":"), allow_nan=False)
    parts = {
        "TITLE": html.escape(title),
        "STYLE": _asset("report.css"),
        "DATA": block.replace("<", "\\u003c"),  # no "</script>" may end the block
        "SCRIPTS": "\n".join(f"<script>\n{_asset(name)}</script>" for name in scripts),
    }
    return re.sub("<!--([A-Z]+)-->", lambda match: parts[match[1]], _asset(template))


def _asset(name: str) -> str:
    return resources.files("jaxrl.report").joinpath("assets", name).read_text(encoding="utf-8")
