"""The command line: `jaxrl train | eval | render | export | dataset | compare | report | ...`.

Bad input is one line on standard error and exit code 2, a failed run 1, a run that a signal
stopped 75 (EX_TEMPFAIL: run me again).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from jaxrl import __version__
from jaxrl.errors import UsageError

HELP = """\
usage: jaxrl COMMAND ...

  train AGENT TASK   train; `jaxrl train AGENT --help` documents every option
  eval RUN           evaluate a run's policy
  render RUN         film a run's policy, or record it for a page (--html)
  export RUN         write a run's policy as one file that needs nothing but jax
  dataset RUN        make datasets of several qualities from a run, to learn from offline
  compare RUN...     say which agent is better, and after how many seeds
  report RUN...      results, curves and policies of runs as one page, figures or tables
  envs               list the tasks
  doctor             print engine, threads, devices, cache and versions

  --version          print the version
"""

INTERRUPTED = 75


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the `jaxrl` command; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] in (["-h"], ["--help"]):
        print(HELP, end="")
        return 0
    if arguments == ["--version"]:
        print(f"jaxrl {__version__}")
        return 0
    from jaxrl.cli import commands

    try:
        known = ", ".join(commands.COMMANDS)
        if not arguments:
            raise UsageError(f"COMMAND is missing; there are: {known} (jaxrl --help says more)")
        if arguments[0] not in commands.COMMANDS:
            raise UsageError(f"unknown command {arguments[0]!r}; there are: {known}")
        return commands.COMMANDS[arguments[0]](arguments[1:])
    except UsageError as error:
        print(f"jaxrl: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # jaxrl ... | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a path that cannot be read or written, a full disk
        if error.strerror is None:
            raise
        what = "" if error.filename is None else f"{error.filename}: "
        print(f"jaxrl: {what}{error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # a second Ctrl-C, or one outside of training
        print("jaxrl: interrupted", file=sys.stderr)
        return 130
