"""The report's tables as CSV, LaTeX and Markdown, with the command and the commit of each cell."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from jaxrl.report import differences
from jaxrl.report.runs import Run, label, short_commit
from jaxrl.report.summary import METRICS, Cell, Summary

Row = Sequence[Any]


def results(summary: Summary) -> list[Row]:
    """A header, and a row per task and agent."""
    head = ["task", "agent", "n", "mean", "low", "high", "scores", "left_out", "commits"]
    rows: list[Row] = [[*head, "commands"]]
    for cell in summary.cells:
        low, high = cell.interval or ("", "")
        out = "; ".join(f"{label(r, summary.runs)}: {r.left_out}" for r in cell.left_out)
        scores = " ".join(f"{s:.6g}" for s in cell.scores)
        mean = "" if cell.mean is None else cell.mean
        made = [" ".join(commits(cell.runs)), "; ".join(commands(cell.runs))]
        rows.append([cell.task, cell.agent, cell.n, mean, low, high, scores, out, *made])
    return rows


def aggregates(summary: Summary) -> list[Row]:
    """A header, and a row per agent and aggregate; only a remark where there is none."""
    rows: list[Row] = [["agent", "aggregate", "n", "point", "low", "high", "remark"]]
    if summary.refusal:
        return [*rows, ["", "", "", "", "", "", summary.refusal]]
    for found in summary.aggregates:
        if not found.estimates:
            rows.append([found.agent, "", "", "", "", "", found.mark])
        for name, e in found.estimates.items():
            ends = ["", ""] if e.low is None else [e.low, e.high]
            rows.append([found.agent, name, e.n, e.point, *ends, found.mark or ""])
    return rows


def runs(summary: Summary) -> list[Row]:
    """A header, and a row per run; the keys are those of Open RL Benchmark where it has them."""
    head = ["run", "env_id", "exp_name", "agent", "task", "seed", "global_step", "hours", "score"]
    rows: list[Row] = [[*head, "remarks", "git_commit", "device", "command"]]
    for run in summary.runs:
        steps, hours = (run.steps[-1], run.hours[-1]) if len(run.steps) else (0, "")
        remarks = "; ".join([*([run.left_out] if run.left_out else []), *run.notes])
        score = "" if run.score is None else run.score
        name, exp_name = label(run, summary.runs), run.config.get("exp_name", "")
        what = [name, run.env_id, exp_name, run.agent, run.task, run.seed, steps, hours, score]
        made = [run.config.get("git_commit", ""), differences.device(run)]
        rows.append([*what, remarks, *made, run.config.get("command", "")])
    return rows


def as_csv(rows: Iterable[Row]) -> str:
    """Comma-separated values, every number in full."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def as_latex(summary: Summary) -> str:
    """Two booktabs tables, results and aggregates; commands and commits as comments."""
    lines = ["% Made by jaxrl report. Needs \\usepackage{booktabs}.", r"\begin{tabular}{llrr}"]
    lines += [r"\toprule", r"Task & Agent & Return [95\,\% interval] & $n$ \\", r"\midrule"]
    for cell in summary.cells:
        text = latex(value(cell))
        lines.append(f"{latex(cell.task)} & {latex(cell.agent)} & {text} & {cell.n} \\\\")
        lines += [f"% {c}" for c in _origins(cell.runs)]
    lines += [r"\bottomrule", r"\end{tabular}", ""]
    if summary.refusal:
        return "\n".join([*lines, f"% No aggregates: {summary.refusal}", ""])
    lines += [r"\begin{tabular}{l" + "r" * len(METRICS) + "r}", r"\toprule"]
    lines += [" & ".join(["Agent", *METRICS, "$n$"]) + r" \\", r"\midrule"]
    for found in summary.aggregates:
        values = [str(found.estimates[m]).rpartition(" (n")[0] for m in METRICS if found.estimates]
        cells = values or [rf"\multicolumn{{{len(METRICS)}}}{{l}}{{{latex(found.mark or '')}}}"]
        lines.append(" & ".join([latex(found.agent), *cells, str(found.n)]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def as_markdown(summary: Summary) -> str:
    """The results, and below them what made each cell."""
    lines = ["| task | agent | return [95 % interval] | n | steps | commit |"]
    lines += ["|---|---|---|---|---|---|"]
    for cell in summary.cells:
        steps = max((int(r.steps[-1]) for r in cell.runs if len(r.steps)), default=0)
        made = ", ".join(map(short_commit, commits(cell.runs)))
        lines.append(
            f"| {cell.task} | {cell.agent} | {value(cell)} | {cell.n} | {steps:,} | {made} |"
        )
    lines += ["", "<details><summary>Commands</summary>", ""]
    lines += [f"- `{c}`" for c in dict.fromkeys(commands(summary.runs))]
    devices = ", ".join(dict.fromkeys(differences.device(r) for r in summary.runs))
    return "\n".join([*lines, "", f"On: {devices}.", "</details>"])


def value(cell: Cell) -> str:
    """A cell as text; a single seed has no interval, and says so by its n."""
    if cell.mean is None:
        return "no score"
    ends = "" if cell.interval is None else f" [{cell.interval[0]:.1f}, {cell.interval[1]:.1f}]"
    return f"{cell.mean:.1f}{ends}" + (" (one seed)" if cell.n == 1 else "")


def commits(found: Iterable[Run]) -> list[str]:
    """Different commits of runs."""
    return list(dict.fromkeys(str(r.config.get("git_commit") or "unknown") for r in found))


def commands(found: Iterable[Run]) -> list[str]:
    """Commands of runs."""
    return [str(r.config.get("command") or "unknown") for r in found]


def _origins(found: Sequence[Run]) -> list[str]:
    made = (short_commit(str(r.config.get("git_commit") or "unknown")) for r in found)
    return [f"{a} (commit {b})" for a, b in zip(commands(found), made, strict=True)]


def latex(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    for plain, escaped in (
        ("\\", r"\textbackslash "),
        *((c, "\\" + c) for c in "&%$#_{}"),
        ("~", r"\textasciitilde "),
        ("^", r"\textasciicircum "),
    ):
        text = text.replace(plain, escaped)
    return text
