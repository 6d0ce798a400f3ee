"""Minari's layout: a folder with `main_data.hdf5`, one group for each episode, and `metadata.json`.

    episode_0/    observations [L + 1, O], actions [L, A], rewards [L], terminations [L],
                  truncations [L]

A folder that holds it in `data/` is read, too: Minari's datasets are such folders. Spaces must be
boxes of one dimension. What we write, `minari.MinariDataset(folder / "data")` opens.

Younis et al., "Minari" (Farama Foundation), 2024; the format of version 0.5.
"""

from __future__ import annotations

import bisect
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.data.fields import Fields
from jaxrl.data.rows import TERMINATED, TRUNCATED, Column, HostRows, Plan, plan
from jaxrl.errors import UsageError

MAIN, METADATA = "main_data.hdf5", "metadata.json"
VERSION = "0.5.4"
"""Of Minari, whose format we write."""

REFERENCES = {"random_return": "ref_min_score", "expert_return": "ref_max_score"}
"""Our names and Minari's, in metadata.json."""


@dataclasses.dataclass(frozen=True)
class Joined:
    """Arrays one after the other, which reads like one."""

    parts: Sequence[Column]
    starts: np.ndarray  # [parts] first row of each

    @classmethod
    def of(cls, parts: Sequence[Column]) -> Joined:
        """Of at least one array."""
        lengths = [part.shape[0] for part in parts]
        return cls(parts, np.cumsum([0, *lengths[:-1]]))

    @property
    def shape(self) -> tuple[int, ...]:
        """As one array's."""
        last = self.parts[-1].shape
        return (int(self.starts[-1]) + last[0], *last[1:])

    @property
    def dtype(self) -> np.dtype:
        """Of the first; all are numbers."""
        return self.parts[0].dtype

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(self.shape[0])
        first = self.part(start)
        found = []
        for number in range(first, len(self.parts)):
            begins = int(self.starts[number])
            if begins >= stop:
                break
            found.append(self.parts[number][max(0, start - begins) : stop - begins])
        return np.concatenate(found)

    def part(self, row: int) -> int:
        """The array that a row is of."""
        return bisect.bisect_right(self.starts.tolist(), row) - 1


def read(path: Path, episodes: Sequence[tuple[str, Any]]) -> Plan:
    """Where each row lies.

    Args:
      episodes: names and groups, in order.
    """
    names = [name for name, _ in episodes]
    columns: dict[str, list[Column]] = {"observations": [], "actions": []}
    small: dict[str, list[np.ndarray]] = {"rewards": [], "terminations": [], "truncations": []}
    for name, group in episodes:
        fields = Fields(path, {f"{name}/{k}": v for k, v in group.items() if hasattr(v, "dtype")})
        actions = fields.matrix(f"{name}/actions")
        length = actions.shape[0]
        observations = fields.matrix(f"{name}/observations")
        if observations.shape[0] != length + 1:
            raise UsageError(
                f"{path}: {name}/observations have {observations.shape[0]:,} rows, and must have "
                f"{length + 1:,}, one more than its actions"
            )
        for key, column in (("observations", observations), ("actions", actions)):
            if columns[key] and column.shape[1] != columns[key][0].shape[1]:
                raise UsageError(
                    f"{path}: {name}/{key} have {column.shape[1]} columns, {names[0]}/{key} have "
                    f"{columns[key][0].shape[1]}"
                )
            columns[key].append(column)
        small["rewards"].append(fields.vector(f"{name}/rewards", length))
        for key in ("terminations", "truncations"):
            ends = fields.bools(f"{name}/{key}", length)
            if ends[:-1].any():
                row = int(np.flatnonzero(ends)[0])
                raise UsageError(f"{path}: {name}/{key}[{row}] = 1 before the episode's last step")
            small[key].append(ends)
    lengths = np.array([len(x) for x in small["rewards"]])
    joined = {key: Joined.of(parts) for key, parts in columns.items()}
    flat = {key: np.concatenate(parts) for key, parts in small.items()}
    ends = np.zeros(int(lengths.sum()), bool)
    ends[np.cumsum(lengths) - 1] = True
    action_at = np.arange(len(ends))
    obs_at = action_at + np.repeat(np.arange(len(lengths)), lengths)
    found = plan(
        path,
        (joined["observations"], None, joined["actions"]),
        obs_at,
        obs_at + 1,
        action_at,
        flat["rewards"],
        ends,
        flat["terminations"],
        flat["truncations"],
        [],
    )

    def place(name: str, row: int) -> str:
        part = joined[name].part(row)
        return f"{names[part]}/{name}[{row - int(joined[name].starts[part])}"

    return dataclasses.replace(found, place=place)


def about(metadata: dict[str, Any]) -> dict[str, Any]:
    """What a dataset says of itself, by our names."""
    said = metadata.get("jaxrl", {})
    ours = dict(said) if isinstance(said, dict) else {}
    for name, theirs in REFERENCES.items():
        if theirs in metadata:
            ours.setdefault(name, metadata[theirs])
    return ours


def write(folder: Path, rows: HostRows, about: dict[str, Any], bounds: np.ndarray) -> None:
    """Writes rows, actions in the task's units, into folder/data.

    Args:
      bounds: least and greatest action, [2, A].
    """
    import h5py

    data = folder / "data"
    data.mkdir(parents=True)
    starts, ends = rows.starts, rows.ends
    with h5py.File(data / MAIN, "w", track_order=True) as file:
        for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
            group = file.create_group(f"episode_{number}")
            group.attrs["id"] = number
            group.attrs["total_steps"] = int(end - start)
            group["observations"] = rows.obs[start : end + 1]
            group["actions"] = rows.action[start:end]
            group["rewards"] = rows.reward[start + 1 : end + 1]
            ended = rows.flags[start + 1 : end + 1]
            group["terminations"] = ended & TERMINATED > 0
            group["truncations"] = ended & TRUNCATED > 0
    size, actions = rows.obs.shape[1], rows.action.shape[1]
    metadata = {
        "total_episodes": len(ends),
        "total_steps": rows.transitions,
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "observation_space": _box(np.full(size, -np.inf), np.full(size, np.inf)),
        "action_space": _box(*bounds),
        "dataset_id": f"jaxrl/{_plain(about.get('env_id'))}/{_plain(about.get('quality'))}-v0",
        "minari_version": VERSION,
        "author": ["jaxrl"],
        "description": "made by `jaxrl dataset`",
        **{theirs: about[name] for name, theirs in REFERENCES.items() if name in about},
        "jaxrl": about,
    }
    (data / METADATA).write_text(json.dumps(metadata, indent=1))
    assert actions == bounds.shape[1]


def _box(low: np.ndarray, high: np.ndarray) -> str:
    """A box of float32 numbers, as Minari writes spaces."""
    ends = {"low": low.astype(np.float32).tolist(), "high": high.astype(np.float32).tolist()}
    return json.dumps({"type": "Box", "dtype": "float32", "shape": [len(low)], **ends})


def _plain(name: Any) -> str:
    """A name with nothing in it that Minari's names cannot have."""
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in str(name or "unknown"))
