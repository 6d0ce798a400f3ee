"""Signals that ask a run to stop between two chunks."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

import jax


class StopSignals:
    """SIGINT and SIGTERM ask the loop to stop; a second one takes its usual course.

    On several hosts SIGTERM is left to jax's preemption service, which knows of all hosts.
    """

    def __init__(self) -> None:
        self.came: str | None = None
        """Name of the signal that asks to stop."""

    def asked_to_stop(self, iteration: int) -> bool:
        """Whether a signal came. On several hosts all of them stop at the same iteration."""
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            if multihost_utils.reached_preemption_sync_point(iteration):
                self.came = "preemption"
        return self.came is not None

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """While this is open, a signal is noted. Only the main thread can do so."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        single = jax.process_count() == 1
        numbers = (signal.SIGINT, signal.SIGTERM) if single else (signal.SIGINT,)
        before = {number: signal.getsignal(number) for number in numbers}

        def ask(number: int, frame: object) -> None:
            self.came = signal.Signals(number).name
            signal.signal(number, before[signal.Signals(number)])

        for number in numbers:
            signal.signal(number, ask)
        try:
            yield
        finally:
            for number in numbers:
                signal.signal(number, before[number])
