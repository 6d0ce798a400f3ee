"""Timing of things side by side: best of several turns, taken in alternation."""

from __future__ import annotations

import time
from collections.abc import Callable

import jax

TURNS = 7
SECONDS = 0.4
"""Least length of a turn."""

Turn = Callable[[int], None]
"""Does the thing `n` times and waits for it."""


def alternate(turns: dict[str, tuple[Turn, float]]) -> dict[str, float]:
    """Units per second of each (turn, units per repetition): the best of TURNS turns, taken in
    alternation so that all see the same machine."""
    counts = {}
    for name, (turn, _) in turns.items():
        turn(1)  # compiles
        n, spent = 1, 0.0
        while spent < SECONDS / 4:
            n, began = 2 * n, time.perf_counter()
            turn(n)
            spent = time.perf_counter() - began
        counts[name] = max(1, round(n * SECONDS / spent))
    best = dict.fromkeys(turns, 0.0)
    for _ in range(TURNS):
        for name, (turn, units) in turns.items():
            began = time.perf_counter()
            turn(counts[name])
            best[name] = max(best[name], units * counts[name] / (time.perf_counter() - began))
    return best


def repeated(body: Callable, carry) -> Turn:
    """A turn of n calls of `body(carry, i)` in one compiled loop."""
    run = jax.jit(lambda carry, n: jax.lax.fori_loop(0, n, lambda i, c: body(c, i), carry))
    return lambda n: jax.block_until_ready(run(carry, n))
