"""Datasets on disk, whatever their layout: opening, writing, and what a file says of itself.

with open_dataset(path) as dataset:
    rows = dataset.rows(env.spec)       checked, actions in [-1, 1]
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.util
import json
import os
import re
import shutil
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxrl import atomic
from jaxrl.data import d4rl, minari, ogbench
from jaxrl.data.fields import Fields
from jaxrl.data.rows import LAST, HostRows, Plan, fill
from jaxrl.envs import taskfile
from jaxrl.envs.core import EnvSpec
from jaxrl.errors import UsageError
from jaxrl.stats.references import Reference

Layout = Literal["d4rl", "minari", "ogbench"]

UNREADABLE = (
    *(OSError, ValueError, EOFError, SyntaxError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
"""What NumPy raises for a damaged npz file."""

SUFFIXES: dict[str, str] = {"d4rl": ".hdf5", "minari": "", "ogbench": ".npz"}
"""Of the files that we write; Minari's datasets are folders."""

HDF5, ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
"""First bytes of such files."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """An open dataset; its rows can be read while it is open."""

    path: Path
    layout: Layout
    checksum: str
    """SHA-256 of its files."""
    about: dict[str, Any]
    """What it says of itself: "env_id", "quality", "random_return", "expert_return", ..."""
    plan: Plan
    has_rewards: bool

    @property
    def size(self) -> int:
        """Rows, R."""
        return len(self.plan.flags)

    @property
    def nbytes(self) -> int:
        """Of the rows in memory."""
        width = self.plan.observations.shape[1] + self.plan.actions.shape[1]
        return self.size * (4 * width + 5)

    @property
    def reference(self) -> Reference | None:
        """The returns that normalised scores put at 0 and 1, if the file has both."""
        low, high = (self.about.get(name) for name in minari.REFERENCES)
        if low is None or high is None:
            return None
        if isinstance(low, float | int) and isinstance(high, float | int) and low < high:
            return Reference(low, high, str(self.path))
        raise UsageError(
            f"{self.path}: random_return {low!r} must be a number below expert_return {high!r}"
        )

    def shortest(self) -> tuple[int, str]:
        """Transitions of the shortest trajectory, and where in the file it begins."""
        ends = np.flatnonzero(self.plan.flags & LAST)
        starts = np.concatenate([[0], ends[:-1] + 1])
        least = int(np.argmin(ends - starts))
        row = int(self.plan.obs_at[starts[least]])
        return int(ends[least] - starts[least]), self.plan.place("observations", row) + "]"

    def check_task(self, env_id: str, options: dict[str, Any]) -> None:
        """Raises `UsageError` if the file says that it is of another task than `env_id`, or of the
        same with other options."""
        said = self.about.get("env_id")
        if said is not None and taskfile.short(str(said)) != taskfile.short(env_id):
            raise UsageError(f"{self.path} is of {said}, and not of {env_id}")
        theirs = parsed(self.about.get("options", "{}"), self.path, "options")
        options = json.loads(json.dumps(options))  # a goal is a list there
        for name, value in theirs.items():
            if name in options and options[name] != value:
                option = f"--{name.replace('_', '-')}"
                raise UsageError(
                    f"{self.path} was made with {option} {value}, and now it is {options[name]}; "
                    "give the same"
                )

    def rows(self, spec: EnvSpec | None = None, on_disk: bool = False) -> HostRows:
        """Reads and checks all rows; see `rows.fill`."""
        return fill(self.plan, spec, on_disk)


@contextlib.contextmanager
def open_dataset(path: str | Path) -> Iterator[Dataset]:
    """Opens a dataset and checks all but its observations and actions, which `rows` reads.

    Raises:
      UsageError: there is none, it is of no known layout, a field is missing or is not what the
        layout says; the message names file, field and row.
    """
    path = Path(path)
    layout = layout_of(path)
    with contextlib.ExitStack() as stack:
        if layout == "ogbench":
            arrays = _arrays(path)
            about = parsed(str(arrays.pop(ogbench.ABOUT, "{}")), path, ogbench.ABOUT)
            plan = ogbench.read(Fields(path, arrays))
            rewards = "rewards" in arrays
        else:
            main = _main(path) if layout == "minari" else path
            file = stack.enter_context(_hdf5(main))
            rewards = True
            if layout == "d4rl":
                columns = {k: v for k, v in file.items() if hasattr(v, "dtype")}
                plan = d4rl.read(Fields(path, columns))
                about = {k: _plain(v) for k, v in file.attrs.items()}
            else:
                plan = minari.read(path, _episodes(path, file))
                about = minari.about(_metadata(main.with_name(minari.METADATA)))
        yield Dataset(path, layout, checksum(path), about, plan, rewards)


def layout_of(path: Path) -> Layout:
    """The layout of a file or folder by its content.

    Raises:
      UsageError: it does not exist or is of no known layout.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist; `jaxrl dataset` makes datasets")
    if path.is_dir():
        if _main(path).exists():
            return "minari"
    else:
        with path.open("rb") as file:
            head = file.read(8)
        if head.startswith(ZIP):
            return "ogbench"
        if head == HDF5:
            return "minari" if path.name == minari.MAIN else "d4rl"
    raise UsageError(
        f"{path} is of no known layout: neither D4RL (an HDF5 file), nor Minari (a folder with "
        f"{minari.MAIN}), nor OGBench (an npz file)"
    )


def checksum(path: Path) -> str:
    """SHA-256 of a dataset's file, or of Minari's data file."""
    main = path if path.is_file() else _main(path)
    digest = hashlib.sha256()
    with main.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_dataset(
    path: Path, layout: Layout, rows: HostRows, about: dict[str, Any], bounds: np.ndarray
) -> None:
    """Writes rows, whole or not at all; actions are in the task's units.

    Args:
      about: what the file says of itself: numbers and strings.
      bounds: least and greatest action of the task, [2, A].

    Raises:
      UsageError: there is something at `path`, or a package is missing.
    """
    check_target(path, layout)
    unfinished = path.with_name(path.name + ".tmp")
    _remove(unfinished)
    try:
        if layout == "d4rl":
            d4rl.write(unfinished, rows, about)
        elif layout == "minari":
            minari.write(unfinished, rows, about, bounds)
        else:
            ogbench.write(unfinished, rows, about)
        os.replace(unfinished, path)
    finally:
        _remove(unfinished)


def check_target(path: Path, layout: Layout, makes_folder: bool = False) -> None:
    """Raises `UsageError` if a dataset of that layout cannot be written to `path`, whose folder may
    be missing only if the caller makes it."""
    if path.exists():
        raise UsageError(f"{path} exists; give another --out, or delete it")
    if not makes_folder:
        atomic.check_folder(path)
    if path.suffix != SUFFIXES[layout] and SUFFIXES[layout]:
        raise UsageError(f"{path}: a file of layout {layout} ends in {SUFFIXES[layout]}")
    if layout != "ogbench":
        _need_h5py(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _main(path: Path) -> Path:
    """Minari's data file in a folder, or in its data folder."""
    if path.is_file():
        return path
    inside = path / "data" / minari.MAIN
    return inside if inside.exists() else path / minari.MAIN


def _arrays(path: Path) -> dict[str, Any]:
    """The arrays of an npz file; nothing is unpickled."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except UNREADABLE as error:
        raise UsageError(f"{path} cannot be read: {_line(error)}") from None


def _hdf5(path: Path) -> Any:
    _need_h5py(path)
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {_line(error)}") from None


def _need_h5py(path: Path) -> None:
    if importlib.util.find_spec("h5py") is None:
        raise UsageError(
            f"{path} is an HDF5 file, which needs the extra: pip install 'jaxrl[data]'"
        )


def _episodes(path: Path, file: Any) -> list[tuple[str, Any]]:
    """Minari's groups in the order of their numbers."""
    found = [
        (name, group)
        for name, group in file.items()
        if re.fullmatch(r"episode_\d+", name) and hasattr(group, "items")
    ]
    if not found:
        raise UsageError(f"{path}: there is no group episode_0 in its {minari.MAIN}")
    return sorted(found, key=lambda item: int(item[0].removeprefix("episode_")))


def _metadata(path: Path) -> dict[str, Any]:
    try:
        return parsed(path.read_text(), path, "metadata")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {_line(error)}") from None


def parsed(text: Any, path: Path, name: str) -> dict[str, Any]:
    """The JSON object that a file's field `name` holds.

    Raises:
      UsageError: it is something else.
    """
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise UsageError(f"{path}: {name} is no JSON object: {str(text)[:60]!r}")
    return found


def _plain(value: Any) -> Any:
    value = value.decode() if isinstance(value, bytes) else value
    return value.item() if isinstance(value, np.generic) else value


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
