"""The one exception whose message a person reads as a single line."""

import contextlib
import os
import sys
from collections.abc import Iterator


class UsageError(ValueError):
    """Bad input. The message names the thing, the value and the way out; the command line prints
    it alone and exits with 2."""


def check_seed(seed: int) -> None:
    """Raises `UsageError` for a seed that jax's keys do not take."""
    if seed < 0 or seed >= 2**32:
        raise UsageError(f"--seed must be in [0, 2^32), got {seed}")


@contextlib.contextmanager
def exit_on_bad_input() -> Iterator[None]:
    """For scripts: ends the program with the one line and exit code 2."""
    try:
        yield
    except UsageError as error:
        print(f"{os.path.basename(sys.argv[0])}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
