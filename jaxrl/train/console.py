"""What a person sees while a run goes on: a live bar, or plain lines where there is no terminal."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


def say(message: str) -> None:
    """One line on standard output."""
    print(message, flush=True)


class Bar:
    """Steps (or another unit), steps/s, time left and the latest evaluation return."""

    def __init__(self, total: int, done: int, unit: str = "steps"):
        self._total, self._unit = total, unit
        self._live = sys.stdout.isatty()
        columns = (
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} " + unit),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[latest]}"),
        )
        self._progress = Progress(*columns, console=Console(), disable=not self._live)
        self._task = self._progress.add_task(
            "train", total=total, completed=done, speed="compiling", latest=""
        )
        self._speed = 0.0

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def steps(self, done: int, speed: float | None) -> None:
        """`done` steps so far, at `speed` steps/s (None: not measured in this chunk)."""
        if speed is not None:
            self._speed = speed
            self._progress.update(self._task, speed=f"{speed:,.0f} {self._unit}/s")
        self._progress.update(self._task, completed=done)

    def evaluation(self, step: int, mean: float, std: float, seconds: float) -> None:
        """The latest evaluation, `seconds` after the run began."""
        self._progress.update(self._task, latest=f"return {mean:.1f} ± {std:.1f}")
        if not self._live:
            say(
                f"step {step:>9,} of {self._total:,}   return {mean:8.1f} ± {std:.1f}   "
                f"{self._speed:6,.0f} {self._unit}/s   {seconds:6.0f} s"
            )
