"""Tracked runs: one compact JSONL file per run, small enough to commit.

The first line is the run's config.json with "code" (a hash of what was computed) added; each
further line is an evaluation, with the keys of metrics.jsonl. A file without its command or its
commit is refused: a number that nobody can make again is no result. Needs no jax.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxrl import atomic
from jaxrl.errors import UsageError

KEPT = (
    *("global_step", "wall_time", "eval/", "agent/"),
    *("charts/episodic_return", "charts/SPS", "charts/unstable"),
)
"""Keys, or beginnings of keys, that a tracked evaluation keeps."""


def write(path: Path, config: dict[str, Any], metrics: Iterable[dict[str, Any]], code: str) -> None:
    """Writes the run's configuration and its evaluations.

    Args:
      config: the content of config.json.
      metrics: the lines of metrics.jsonl; those without an evaluation are left out.
      code: `code_hash` of what the run computed.

    Raises:
      UsageError: the configuration lacks its command or commit.
    """
    _check(config, path)
    lines = [{**config, "code": code}]
    lines += [
        {k: _short(v) for k, v in line.items() if k.startswith(KEPT)}
        for line in metrics
        if "eval/return_mean" in line
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, "".join(json.dumps(line) + "\n" for line in lines))


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The configuration and the evaluations of a tracked run.

    Raises:
      UsageError: the file is damaged, or lacks its command or commit.
    """
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    except ValueError as error:
        raise UsageError(f"{path} is no tracked run: {error}") from None
    for number, line in enumerate(lines, 1):
        if not isinstance(line, dict):
            raise UsageError(f"{path} is no tracked run: line {number} is no JSON object")
    if not lines:
        raise UsageError(f"{path} is no tracked run: it is empty")
    config, *metrics = lines
    _check(config, path)
    return config, metrics


def code_hash(files: Iterable[Path]) -> str:
    """Hash of what Python files compute: their syntax trees without comments and docstrings."""
    digest = hashlib.sha256()
    for path in sorted(files):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):
                node.body = [x for x in body if not _is_text(x)]  # type: ignore[attr-defined]
        digest.update(path.name.encode() + ast.dump(tree).encode())
    return digest.hexdigest()[:16]


def _is_text(node: ast.AST) -> bool:
    """A docstring, or a string that documents a field."""
    is_constant = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_constant and isinstance(node.value.value, str)  # type: ignore[attr-defined]


def _check(config: dict[str, Any], path: Path) -> None:
    for key in ("command", "git_commit"):
        if config.get(key) in (None, "", "unknown"):
            raise UsageError(f"{path}: a tracked run needs its {key}, and this one has none")


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
