"""The figures and tables of README and docs, made again from tracked runs.

A manifest.json beside the tracked runs says which file comes from which runs:

    {"root": "../..",
     "figures": [{"file": "docs/images/demo.png", "draw": "curves", "runs": ["demo.jsonl"]}],
     "tables": [{"file": "README.md", "name": "demo", "runs": ["demo.jsonl"]},
                {"file": "docs/x.md", "name": "y", "json": "y.json", "rows": "rows",
                 "columns": {"what": "interval_of", "seconds": "seconds:.3f"}}]}

`root` and the runs are relative to the manifest, files to the root. Without "rows" a benchmark's
file is the one row; with "parts", such as "envs, *", the rows are those of every part of the file
whose name matches, or such parts themselves. A cell that a row has nothing for stays empty, and
"step.max:.1e" is an entry of an entry. Rows that agree in all "columns" become one line where there
is a "spread", such as {"{method}, {runs} runs": "coverage:.1%"}: a column for each heading that
rows fill in. A table stands between `<!-- table: NAME -->` and `<!-- end -->`. A source without its
command and its commit is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from jaxrl import atomic
from jaxrl.errors import UsageError
from jaxrl.report import plots, published, tables
from jaxrl.report.runs import METRIC, collect, short_commit
from jaxrl.report.summary import Summary

MANIFEST = "manifest.json"
SPELLED_OUT = 4
"""Commands under a table; of more only the first and their number."""
STAMP = "Source"
"""Of a picture: what it was drawn from."""


@dataclasses.dataclass(frozen=True)
class Document:
    """One figure, or one table in a file."""

    path: Path
    entry: dict[str, Any]
    sources: tuple[Path, ...]

    @property
    def name(self) -> str:
        """For a person."""
        return f"{self.path}" + (f", table {self.entry['name']}" if "name" in self.entry else "")


def documents(paths: Sequence[Path]) -> list[Document]:
    """What the manifests of these tracked runs make from them, or from folders that hold them.

    Raises:
      UsageError: no manifest knows any of them.
    """
    found: list[Document] = []
    for manifest in dict.fromkeys(m for p in paths if (m := _manifest(p)) is not None):
        for document in _entries(manifest):
            inside = any(s.is_relative_to(p.resolve()) for s in document.sources for p in paths)
            if inside and document not in found:
                found.append(document)
    if not found:
        names = ", ".join(map(str, paths))
        raise UsageError(
            f"no figure or table of a document is made from {names}: give --out PAGE.html or "
            f"--figures DIR, or name them in a {MANIFEST} beside the tracked runs"
        )
    return found


def update(document: Document, check: bool = False) -> bool:
    """Makes a document's figure or table again; returns whether it had to change.

    Args:
      check: write nothing.
    """
    if "draw" in document.entry:
        return _update_figure(document, check)
    text = document.path.read_text() if document.path.exists() else ""
    start, end = f"<!-- table: {document.entry['name']} -->", "<!-- end -->"
    pattern = re.compile(f"({re.escape(start)}\n).*?({re.escape(end)})", re.DOTALL)
    if not pattern.search(text):
        raise UsageError(f"{document.path} has no lines {start} and {end} to put the table between")
    table = _table(document)
    changed = pattern.sub(lambda m: f"{m[1]}{table}\n{m[2]}", text, count=1)
    if changed != text and not check:
        atomic.write_text(document.path, changed)
    return changed != text


def stamp(document: Document) -> str:
    """A hash of what a figure is drawn from."""
    digest = hashlib.sha256(json.dumps(document.entry, sort_keys=True).encode())
    for source in document.sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _manifest(path: Path) -> Path | None:
    for folder in [path.resolve(), *path.resolve().parents]:
        if (folder / MANIFEST).is_file():
            return folder / MANIFEST
        if (folder / ".git").exists():
            break
    return None


def _entries(manifest: Path) -> list[Document]:
    try:
        content = json.loads(manifest.read_text())
        root = (manifest.parent / content["root"]).resolve()
        entries = [*content.get("figures", ()), *content.get("tables", ())]
        return [Document(root / e["file"], e, _sources(manifest.parent, e)) for e in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{manifest} is no manifest: {error!r}") from None


def _sources(folder: Path, entry: dict[str, Any]) -> tuple[Path, ...]:
    names = [*entry.get("runs", ()), *entry.get("published", ())]
    names += [entry["json"]] if "json" in entry else []
    found: list[Path] = []
    for name in names:
        matches = sorted(folder.glob(name)) if "*" in name else [folder / name]
        if not matches or not all(m.exists() for m in matches):
            raise UsageError(f"{entry['file']} is made from {name}, and {folder} has no such file")
        found += [m.resolve() for m in matches]
    return tuple(found)


def _summary(document: Document) -> Summary:
    """Of the document's runs. A tracked run without command or commit is refused on reading."""
    return Summary(tuple(collect([s for s in document.sources if s.suffix == ".jsonl"])))


def _update_figure(document: Document, check: bool) -> bool:
    current = stamp(document)
    if document.path.exists() and current.encode() in document.path.read_bytes():
        return False
    if check:
        return True
    summary, metric = _summary(document), METRIC
    curves = [c for s in document.sources if s.suffix == ".json" for c in published.read(s)]
    theirs = published.matching(curves, summary.runs)
    kind = document.entry["draw"]
    draw = {
        "curves": lambda: plots.curves(summary, metric, theirs),
        "curves-by-hours": lambda: plots.curves(summary, metric, clock=True),
        "profile": lambda: plots.profile(summary),
        "aggregates": lambda: plots.aggregates(summary),
    }
    if kind not in draw:
        raise UsageError(f"{document.path}: unknown figure {kind!r}; there are: {', '.join(draw)}")
    document.path.parent.mkdir(parents=True, exist_ok=True)
    plots.save(draw[kind](), document.path, {STAMP: current})
    return True


def _table(document: Document) -> str:
    if "json" not in document.entry:
        return tables.as_markdown(_summary(document))
    (source,) = document.sources
    content = json.loads(source.read_text())
    records = _records(content, document.entry)
    for record in records:
        origin = {**content, **record}
        for key in ("command", "commit"):
            if origin.get(key) in (None, "", "unknown"):
                raise UsageError(f"{source}: a row without its {key} is refused")
    lines = _lines(records, document.entry["columns"], document.entry.get("spread", {}))
    commands = list(dict.fromkeys({**content, **r}["command"] for r in records))
    commits = [c for r in records for c in {**content, **r}["commit"].split(", ")]
    made = list(dict.fromkeys(map(short_commit, commits)))
    if len(commands) > SPELLED_OUT:
        said = f"`{commands[0]}` and {len(commands) - 1} more commands at commits"
        return "\n".join([*lines, "", f"Made by {said} that `{source.name}` names row by row."])
    said = " and ".join(f"`{c}`" for c in commands)
    return "\n".join([*lines, "", f"Made by {said} at commit {', '.join(made)}."])


def _records(content: dict[str, Any], entry: dict[str, Any]) -> list[dict[str, Any]]:
    """A benchmark's rows, as the manifest says where they are.

    Raises:
      UsageError: a column that no row has.
    """
    if "parts" in entry:
        parts = [part for name, part in content.items() if fnmatch(name, entry["parts"])]
        rows: Any = parts
        if "rows" in entry:
            rows = [{**part, **row} for part in parts for row in part[entry["rows"]]]
    else:
        rows = content[entry["rows"]] if "rows" in entry else [content]
    records = list(rows.values()) if isinstance(rows, dict) else rows
    for spec in [*entry["columns"].values(), *entry.get("spread", {}).values()]:
        if all(_entry(record, spec.partition(":")[0]) is None for record in records):
            raise UsageError(f"{entry['file']}, table {entry['name']}: no row has {spec!r}")
    return records


def _lines(
    records: Sequence[dict[str, Any]], columns: dict[str, str], spread: dict[str, str]
) -> list[str]:
    """A Markdown table: headings to "key:format", and headings to be filled in likewise."""
    table: dict[tuple[str, ...] | int, dict[str, str]] = {}
    for number, record in enumerate(records):
        cells = {head: _cell(record, spec) for head, spec in columns.items()}
        line = table.setdefault(tuple(cells.values()) if spread else number, cells)
        line |= {head.format(**record): _cell(record, spec) for head, spec in spread.items()}
    heads = list(dict.fromkeys(head for line in table.values() for head in line))
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return lines + [
        "| " + " | ".join(line.get(head, "") for head in heads) + " |" for line in table.values()
    ]


def _cell(record: dict[str, Any], spec: str) -> str:
    keys, _, form = spec.partition(":")
    value = _entry(record, keys)
    return "" if value is None else format(value, form)


def _entry(record: dict[str, Any], keys: str) -> Any:
    """What the record has under `keys`, a name or names with dots between them; None if nothing."""
    value: Any = record
    for key in [keys] if keys in record else keys.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value
