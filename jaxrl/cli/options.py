"""Options from dataclasses, by tyro; its errors become one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from typing import Any, TypeVar

import tyro

from jaxrl.errors import UsageError

T = TypeVar("T")


def parse(cls: type[T], arguments: list[str], prog: str, description: str) -> T:
    """An instance of the dataclass `cls` from the command line. `--help` prints and exits.

    Raises:
      UsageError: an unknown option, a wrong type or a missing argument, in one line.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(cls, args=arguments, prog=prog, description=description)
    except SystemExit as exit:
        if not exit.code:
            raise
        raise UsageError(_one_line(said.getvalue(), prog)) from None


def merged(name: str, positional: dict[str, str], **groups: Any) -> type:
    """A dataclass with positional strings (name to help) and the options of several dataclasses,
    whose instances in `groups` are the defaults."""
    fields: list[Any] = [
        (argument, tyro.conf.Positional[str], dataclasses.field(metadata={"help": text}))
        for argument, text in positional.items()
    ]
    fields += [
        (
            group,
            tyro.conf.OmitArgPrefixes[type(default)],  # type: ignore[misc]
            dataclasses.field(default_factory=lambda default=default: default),
        )
        for group, default in groups.items()
    ]
    return dataclasses.make_dataclass(name, fields, frozen=True)


def _one_line(message: str, prog: str) -> str:
    """The facts of tyro's framed message: its first paragraph, and the option it suggests."""
    lines = [line.strip(" │╭╮╰╯─-") if set(line) <= set(" │╭╮╰╯─-") else line for line in message.split("\n")]
    lines = [re.sub(r"[│╭╮╰╯]", "", line).strip() for line in lines]
    paragraphs: list[list[str]] = [[]]
    for line in lines[2:]:
        if line:
            paragraphs[-1].append(line)
        elif paragraphs[-1]:
            paragraphs.append([])
    text = " ".join(paragraphs[0])
    if len(paragraphs) > 1 and paragraphs[1] and paragraphs[1][0].startswith("Perhaps"):
        text += f"; did you mean {paragraphs[1][1]}?"
    return f"{text} ({prog} --help lists the options)"
