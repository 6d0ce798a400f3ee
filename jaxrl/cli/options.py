"""Options from dataclasses, by tyro; its errors become one line."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import re
from typing import Annotated, Any, TypeVar

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
        raise UsageError(_one_line(said.getvalue(), arguments, prog)) from None


def merged(name: str, positional: dict[str, str], **groups: Any) -> type:
    """A dataclass with positional strings (name to help) and the options of several dataclasses,
    whose instances in `groups` are the defaults."""
    fields: list[Any] = [
        (
            argument,
            Annotated[
                str, tyro.conf.Positional, tyro.conf.arg(metavar=argument.upper(), help=text)
            ],
        )
        for argument, text in positional.items()
    ]
    fields += [
        (
            group,
            tyro.conf.OmitArgPrefixes[type(default)],  # type: ignore[misc]
            dataclasses.field(default_factory=functools.partial(_itself, default)),
        )
        for group, default in groups.items()
    ]
    return dataclasses.make_dataclass(name, fields, frozen=True)


def _itself(value: T) -> T:
    return value


RULE = re.compile(r"^\s*[│├]?\s*[-─]{3}|╭")
"""Beginning of a line of tyro's message that is drawn, not said."""

IN_WORDS = {"INT": "a whole number", "FLOAT": "a number"}


def _one_line(message: str, arguments: list[str], prog: str) -> str:
    """The facts of tyro's framed message: what is wrong, with which value, and the way out."""
    sections: list[list[str]] = [[]]
    for line in re.sub(r"\x1b\[[\d;]*m", "", message).splitlines():  # no colours
        text = line.strip(" │╰╯")
        if RULE.search(line):
            sections.append([])
        elif text:
            sections[-1].append(text)
    facts, *others = sections[1:]  # section 0 is the title
    said = " ".join(facts).rstrip(".")
    for lines in others:
        if lines and lines[0].startswith("Perhaps you meant"):
            near = [line.split()[0].rstrip(",") for line in lines if line.startswith("--")]
            said += f"; did you mean {' or '.join(near)}?"
    if found := re.match(r"Error parsing (--\S+): ", said):
        option = found[1]
        lines = [line for section in others for line in section]
        kinds = [line.split(maxsplit=1)[1] for line in lines if line.startswith(f"{option} ")]
        if kinds:
            values = " ".join(map(repr, values_of(option, arguments)))
            said = f"{option} takes {IN_WORDS.get(kinds[0], kinds[0])}, got {values}"
    elif found := re.match(r"Missing from .*?: (\S+) (.*)\(required\)", said):
        said = f"{found[1]} is missing: {found[2].strip(' .')}"
    said = re.sub(r"^Error parsing \w+: ", "", said)  # a dataclass refused; its words are enough
    if said[1:2].islower():
        said = said[0].lower() + said[1:]
    return f"{said} ({prog} --help says more)"


def values_of(option: str, arguments: list[str]) -> list[str]:
    """What the command line gives to `option`; the last time counts."""
    values: list[str] = []
    inside = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name.startswith("--"):
            inside = name.replace("_", "-") == option
            if inside:
                values = [value] if equals else []
        elif inside:
            values.append(argument)
    return values
