"""`jaxrl report`: runs as one page, as figures and tables, or into the documents."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxrl import atomic
from jaxrl.cache import enable_compilation_cache
from jaxrl.cli.options import parse
from jaxrl.errors import UsageError
from jaxrl.report import page, published
from jaxrl.report.runs import METRIC, Run, collect
from jaxrl.report.summary import Summary, given_references


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """Report on runs. Without --out and --figures: figures and tables of README and docs, made
    again from the given tracked runs."""

    runs: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN", help="Run folders, tracked files, or folders of these."),
    ]
    out: Path | None = None
    """Write one self-contained HTML page."""
    figures: Path | None = None
    """Write the plots as pictures and the tables as CSV and LaTeX into this folder."""
    format: tuple[Literal["png", "svg"], ...] = ("png", "svg")
    """Of the pictures."""
    title: str = "Report"
    """Heading of the page."""
    metric: str = METRIC
    """Key of metrics.jsonl that is reported, such as eval/success."""
    published: tuple[Path, ...] = ()
    """Files of published curves to draw beside the runs, as references."""
    reference: tuple[str, ...] = ()
    """TASK=LOW:HIGH, scores that normalise a task without a committed reference."""
    count_unfinished: bool = False
    """Let runs count that have not reached their last step, with what they have."""
    media: bool = True
    """Put the recorded playback of each agent's best run on each task into the page."""
    record: bool = False
    """Record those that are missing, from the runs' checkpoints."""
    check: bool = False
    """Write nothing; exit with 1 if a document's figure or table is not up to date."""


def report(arguments: list[str]) -> int:
    """`jaxrl report RUN... [options]`."""
    options = parse(ReportOptions, arguments, "jaxrl report", "Report on runs.")
    if options.out is None and options.figures is None:
        return _documents(options)
    if options.check:
        raise UsageError("--check is for documents: leave out --out and --figures")
    _check_places(options)
    runs = collect(options.runs, options.metric, options.count_unfinished)
    references = given_references(options.reference, runs)
    summary = Summary(tuple(runs), references, options.metric)
    curves = [curve for path in options.published for curve in published.read(path)]
    theirs = published.matching(curves, runs)
    _warn(summary, bool(curves) and not theirs)
    if options.figures is not None:
        _write_figures(options.figures, summary, options, theirs)
    if options.out is not None:
        media = _media(summary, options.record) if options.media else []
        page.write(options.out, summary, options.title, options.metric, theirs, media)
        size = options.out.stat().st_size / 1e6
        print(f"report   {options.out} ({len(runs)} runs, {len(media)} playbacks, {size:.1f} MB)")
    return 0


def _check_places(options: ReportOptions) -> None:
    """Raises `UsageError` if page or figures cannot be written, before any run is read."""
    if options.out is not None:
        if options.out.is_dir():
            raise UsageError(f"--out {options.out} is a folder; give a file")
        atomic.check_folder(options.out)
    if options.figures is not None:
        if not options.format:
            raise UsageError("--format is empty; give png, svg or both")
        if options.figures.exists() and not options.figures.is_dir():
            raise UsageError(f"--figures {options.figures} is no folder")


def _documents(options: ReportOptions) -> int:
    from jaxrl.report import documents

    if not options.runs:
        raise UsageError("RUN is missing: give run folders, tracked files or folders of these")
    for path in options.runs:
        if not path.exists():
            raise UsageError(f"{path} does not exist: give a run folder or a tracked .jsonl file")
    stale = 0
    for document in documents.documents(options.runs):
        changed = documents.update(document, options.check)
        stale += changed
        said = ("out of date" if options.check else "written") if changed else "up to date"
        print(f"{said:<12} {document.name}")
    return 1 if options.check and stale else 0


def _warn(summary: Summary, unmatched: bool) -> None:
    """A line on standard error for all that a reader must not miss."""
    for run in summary.runs:
        if run.left_out:
            print(f"left out  {run.path}: {run.left_out}", file=sys.stderr)
        for note in run.notes:
            print(f"note      {run.path}: {note}", file=sys.stderr)
    single = [f"{c.agent} on {c.task}" for c in summary.cells if c.n == 1]
    if single:
        print(f"n = 1     no interval for {'; '.join(single)}", file=sys.stderr)
    if summary.refusal:
        print(f"not aggregated: {summary.refusal}", file=sys.stderr)
    if unmatched:
        print("note      no published curve is of a task of these runs", file=sys.stderr)


def _write_figures(
    folder: Path, summary: Summary, options: ReportOptions, theirs: dict[str, Any]
) -> None:
    from jaxrl.report import plots, tables

    folder.mkdir(parents=True, exist_ok=True)
    drawn = {
        "curves_steps": plots.curves(summary, options.metric, theirs),
        "curves_hours": plots.curves(summary, options.metric, clock=True),
        "profile": plots.profile(summary),
        "aggregates": plots.aggregates(summary),
    }
    for name, figure in drawn.items():
        for kind in options.format:
            plots.save(figure, folder / f"{name}.{kind}")
    for name in ("results", "aggregates", "runs"):
        rows = getattr(tables, name)(summary)
        atomic.write_text(folder / f"{name}.csv", tables.as_csv(rows))
    atomic.write_text(folder / "tables.tex", tables.as_latex(summary))
    print(f"figures  {folder} ({', '.join(drawn)}; results, aggregates and runs as CSV; LaTeX)")


def _media(summary: Summary, record: bool) -> list[tuple[Run, dict[str, Any]]]:
    """Recordings of the best runs, made now if `record` and there is none."""
    found = []
    for run in page.best(summary):
        path = run.path / page.PLAYBACK
        if run.path.is_dir() and not path.exists() and record:
            _record(run.path)
        if path.exists():
            found.append((run, page.read_recording(path)))
        elif run.path.is_dir():
            print(
                f"note      {run.path} has no playback; `jaxrl render {run.path} --html` or "
                "--record makes it",
                file=sys.stderr,
            )
    return found


def _record(path: Path) -> None:
    enable_compilation_cache()
    from jaxrl.train.results import load, write_playback

    said = write_playback(load(path, 1), path / page.PLAYBACK)
    print(f"playback {said}")


def render_html(trained: Any, out: Path | None, seed: int, newest: bool) -> int:
    """`jaxrl render RUN --html`: a page of one episode, and for the report its recording.

    Args:
      trained: `jaxrl.train.results.Trained`.
      newest: whether the policy is the run's newest; another one is not kept for the report.
    """
    from jaxrl.train.results import record_episode

    path = out or trained.folder.path / "policy.html"
    atomic.check_folder(path)
    recording = record_episode(trained, seed)
    name = "{exp_name} on {env_id}, seed {seed}".format(**recording)
    page.write_player(path, recording, name)
    print(f"page     {path} ({path.stat().st_size / 1e6:.1f} MB)")
    if newest and seed == 0:
        page.write_recording(trained.folder.path / page.PLAYBACK, recording)
    return 0
