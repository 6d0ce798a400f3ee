"""Files that are written whole or not at all, whenever the process is killed or the disk fills."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxrl.errors import UsageError

UNFINISHED = re.compile(r"\..+\.\d+(\.\w+)?")
"""Names of what is being written or deleted: hidden, with the process's number."""


def check_folder(path: Path) -> None:
    """Raises `UsageError` if there is no folder to write `path` to, or nothing can be written."""
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} to write {path.name} to")
    probe = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}; give another") from None


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A name beside `path` to write to, with its suffix; at the end it takes the place of `path`,
    or vanishes on an error."""
    path = Path(path)
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Deletes what killed writes left in a folder that no other process writes to."""
    for left in folder.iterdir():
        if UNFINISHED.fullmatch(left.name):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, a line for each entry."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text file."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
