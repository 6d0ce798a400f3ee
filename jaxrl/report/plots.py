"""The report's charts as pictures: the same lines, bands and marks, by matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxrl import atomic
from jaxrl.report.published import Published
from jaxrl.report.runs import NAMES
from jaxrl.report.summary import METRICS, Curve, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (
    *("#2563d9", "#c2560a", "#0f7f5f", "#b0287d"),
    *("#6d4bd1", "#7d6608", "#b8342b", "#3f5468"),
)
MARKERS = "os^Dv P".replace(" ", "")
DASHES = ((6, 4), (2, 3), (9, 3, 2, 3), (8, 2), (4, 2, 1, 2), (1, 4))
INK, MUTED, GRID = "#18202a", "#566270", "#dfe3e8"
COLUMNS = 3
REACH = 0.5
"""Bands may widen the vertical axis by this share of what the lines span, to either side."""


def curves(
    summary: Summary,
    metric: str,
    published: Mapping[str, Sequence[Published]] | None = None,
    clock: bool = False,
) -> Figure:
    """Learning curves, one panel per task, against steps or, if `clock`, hours."""
    figure, panels = _panels(len(summary.tasks))
    handles: dict[str, Any] = {}
    name = NAMES.get(metric, metric)
    for axes, task in zip(panels, summary.tasks, strict=False):
        found = [summary.curve(agent, task, clock) for agent in summary.agents]
        lines = [c for c in found if c is not None]
        if not clock and lines:
            end = max(c.x[-1] for c in lines)
            for i, curve in enumerate((published or {}).get(task, ())):
                handles[f"published {curve.name}"] = _published(axes, curve, i, end)
        for c in lines:
            i = summary.agents.index(c.agent)
            handles[c.agent if c.n > 1 else f"{c.agent} (n = 1)"] = _line(
                axes, c.x, c.mean, _ends(c), i
            )
        _frame(axes, task, "wall-clock time (h)" if clock else summary.unit, name)
        _limit(axes)
        if not lines:
            _note(axes, "no wall-clock time" if clock else "no evaluation")
    _legend(figure, handles)
    return figure


def profile(summary: Summary) -> Figure:
    """Share of runs above a normalised score."""
    figure, (axes,) = _panels(1)
    handles = {}
    for i, agent in enumerate(summary.agents):
        band = summary.profile(agent)
        if band is not None:
            ends = None if band.low is None or band.high is None else (band.low, band.high)
            name = agent if band.n > 1 else f"{agent} (n = 1)"
            handles[name] = _line(axes, band.x, band.point, ends, i)
    _frame(axes, "Performance profile", "normalised score", "share of runs above it")
    axes.set_ylim(-0.02, 1.02)
    if not handles:
        _note(axes, summary.refusal or "no agent has a finished run of every task")
    _legend(figure, handles)
    return figure


def aggregates(summary: Summary) -> Figure:
    """Each aggregate over tasks, a row per agent; hollow where one seed has no interval."""
    figure, panels = _panels(len(METRICS), height=0.9 + 0.36 * len(summary.agents), columns=4)
    for axes, metric in zip(panels, METRICS, strict=True):
        for row, found in enumerate(summary.aggregates):
            if metric not in found.estimates:
                continue
            estimate, colour = found.estimates[metric], COLOURS[row % len(COLOURS)]
            if estimate.low is not None and estimate.high is not None:
                axes.plot([estimate.low, estimate.high], [row] * 2, color=colour, lw=5, alpha=0.35)
            fill = "white" if estimate.low is None else colour
            axes.plot(estimate.point, row, "o", color=colour, markerfacecolor=fill)
        _frame(axes, metric, "", "")
        axes.set_ylim(len(summary.agents) - 0.5, -0.5)
        names = [f"{a.agent}{' (n = 1)' if a.n == 1 else ''}" for a in summary.aggregates]
        axes.set_yticks(range(len(names)), names if axes is panels[0] else [""] * len(names))
    if summary.refusal:
        _note(panels[0], summary.refusal)
    return figure


def save(figure: Figure, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Writes a picture, whole or not at all; its format is the path's suffix, .png or .svg."""
    kind = path.suffix[1:]
    about: dict[str, Any] = dict(metadata or {})
    if kind == "svg":
        about = {"Date": None, "Description": " ".join(about.values()) or None}
    import matplotlib

    with (
        atomic.replacing(path) as unfinished,
        matplotlib.rc_context({"svg.hashsalt": "jaxrl", "svg.fonttype": "none"}),
    ):
        figure.savefig(unfinished, format=kind, metadata=about)


def _panels(
    count: int, height: float = 3.3, columns: int = COLUMNS
) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 2 if count == 4 and columns == COLUMNS else max(1, min(columns, count))
    rows = max(1, -(-count // columns))
    width = 6.4 if columns == 1 else 4.2 * columns if columns < 4 else 3.2 * columns
    figure = Figure(figsize=(width, height * rows), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, panels[:count] or panels


def _ends(curve: Curve) -> tuple[np.ndarray, np.ndarray] | None:
    return None if curve.half is None else (curve.mean - curve.half, curve.mean + curve.half)


def _line(
    axes: Axes, x: np.ndarray, y: np.ndarray, ends: tuple[np.ndarray, np.ndarray] | None, i: int
) -> Any:
    colour = COLOURS[i % len(COLOURS)]
    if ends is not None:
        axes.fill_between(x, *ends, color=colour, alpha=0.15, linewidth=0)
    look: dict[str, Any] = {"marker": MARKERS[i % len(MARKERS)], "markersize": 4}
    every = max(1, len(x) // 6)
    (line,) = axes.plot(x, y, color=colour, lw=1.8, markevery=every, **look)
    return line


def _published(axes: Axes, curve: Published, i: int, end: float) -> Any:
    keep = curve.x <= end
    x, y, u = curve.x[keep], curve.y[keep], curve.uncertainty
    axes.fill_between(x, y - u, y + u, color=MUTED, alpha=0.15, linewidth=0)
    (line,) = axes.plot(x, y, color=MUTED, lw=1.2, dashes=DASHES[i % len(DASHES)])
    return line


def _limit(axes: Axes) -> None:
    """Keeps a wide band of few seeds from flattening the lines."""
    drawn = [np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.lines]
    values = np.concatenate([y[np.isfinite(y)] for y in drawn] or [np.zeros(0)])
    if not len(values):
        return
    low, high = float(values.min()), float(values.max())
    low = min(low, 0.0)
    room = REACH * (high - low) or 1.0
    bottom, top = axes.get_ylim()
    axes.set_ylim(max(min(bottom, low), low - room), min(top, high + room))


def _frame(axes: Axes, title: str, x: str, y: str) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.set_title(title, loc="left", fontsize=10.5, color=INK, pad=8)
    axes.set_xlabel(x, color=MUTED, fontsize=9)
    axes.set_ylabel(y, color=MUTED, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if x.endswith(("steps", "updates")):
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, colors=MUTED, labelsize=8.5)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _note(axes: Axes, text: str) -> None:
    at: dict[str, Any] = {"transform": axes.transAxes, "ha": "center", "va": "center"}
    axes.text(0.5, 0.5, text, color=MUTED, wrap=True, fontsize=9, **at)


def _legend(figure: Figure, handles: Mapping[str, Any]) -> None:
    if handles:
        look: dict[str, Any] = {"frameon": False, "fontsize": 9, "labelcolor": INK}
        columns = min(len(handles), max(1, int(figure.get_figwidth() // 2.4)))
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=columns, **look
        )
