"""Files that are written whole or not at all, whenever the process is killed or the disk fills."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from jaxrl.errors import UsageError


def check_folder(path: Path) -> None:
    """Raises `UsageError` if there is no folder to write `path` to."""
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} to write {path.name} to")


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


def write_text(path: Path, text: str) -> None:
    """Writes a text file."""
    with replacing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
