"""What runs differ in: hyperparameters, versions, hardware, commits."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jaxrl.report.runs import Run, short, short_commit

IGNORED = {"run.seed", "run.out", "run.overwrite", "run.resume", "run.video", "run.wandb"}


@dataclasses.dataclass(frozen=True)
class Difference:
    """A setting, and its values by the name of those who have them."""

    name: str
    values: tuple[tuple[str, ...], ...]
    """For each group, the different values that its runs have."""


def hyperparameters(runs: Sequence[Run], agents: Sequence[str]) -> list[Difference]:
    """Settings whose values differ between agents, or among the runs of one of them."""
    return _table(runs, agents, lambda r: r.agent, lambda r: r.settings.items(), IGNORED)


def versions(runs: Sequence[Run], agents: Sequence[str]) -> list[Difference]:
    """Packages whose versions differ."""
    return _table(runs, agents, lambda r: r.agent, lambda r: _mapping(r, "versions"))


def hardware(runs: Sequence[Run], agents: Sequence[str]) -> list[Difference]:
    """Devices and commits; all of them, whether they differ or not."""

    def items(run: Run) -> Iterable[tuple[str, Any]]:
        yield "device", device(run)
        yield "commit", short_commit(str(run.config.get("git_commit") or "unknown"))

    return _table(runs, agents, lambda r: r.agent, items, all_of_them=True)


def device(run: Run) -> str:
    """The run's device in words."""
    found = run.config.get("device")
    if not isinstance(found, dict):
        return "unknown"
    kind = str(found.get("kind", found.get("platform", "unknown")))
    if found.get("count", 1) != 1:
        kind = f"{found['count']} x {kind}"
    return f"{kind}, {found['cores']} cores" if found.get("cores") else kind


def _mapping(run: Run, name: str) -> Iterable[tuple[str, Any]]:
    found = run.config.get(name)
    return found.items() if isinstance(found, dict) else ()


def _table(
    runs: Sequence[Run],
    groups: Sequence[str],
    group: Callable[[Run], str],
    items: Callable[[Run], Iterable[tuple[str, Any]]],
    ignored: Iterable[str] = (),
    all_of_them: bool = False,
) -> list[Difference]:
    found: dict[str, dict[str, dict[str, str]]] = {}
    for run in runs:
        for name, value in items(run):
            if name not in ignored:
                values = found.setdefault(name, {g: {} for g in groups})[group(run)]
                values[json.dumps(value, default=str)] = short(value)
    rows = []
    for name, by_group in found.items():
        different = {key for values in by_group.values() for key in values}
        missing = any(not values for values in by_group.values())
        if all_of_them or len(different) > 1 or (missing and len(groups) > 1):
            rows.append(Difference(name, tuple(tuple(by_group[g].values()) for g in groups)))
    return rows
