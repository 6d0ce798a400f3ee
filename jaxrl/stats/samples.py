"""R samples of one task's runs: drawn with return, or given as weights.

What a metric needs of them is the sum of a quantity over each sample, and how often each run is in
it. Neither needs the scores of a sample to be written out, let alone sorted.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

TABLE = 2**14
"""Most entries of a table of sums; it stays in the processor's cache."""


class Sample(Protocol):
    """R samples of a task's n runs."""

    @property
    def draws(self) -> int:
        """Runs in each sample, m."""
        ...

    def sum(self, x: np.ndarray) -> np.ndarray:
        """Sum of the runs' `x` [n] over each sample, [R]."""
        ...

    def counts(self) -> np.ndarray:
        """How often each run is in each sample, floats [n, R]; a column sums to m."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Weighted:
    """Samples given by their counts."""

    draws: int
    weights: np.ndarray
    """[n, R]."""

    def sum(self, x: np.ndarray) -> np.ndarray:
        """See `Sample`."""
        return x @ self.weights

    def counts(self) -> np.ndarray:
        """See `Sample`."""
        return self.weights


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """Samples drawn with return, several runs at a time.

    One random number below n^k is k draws: its digits to the base n. So a table of the n^k sums of
    k values takes k draws in one look-up, and counts are sums, too.
    """

    n: int
    draws: int
    at_a_time: int
    """k."""
    numbers: np.ndarray
    """[ceil(m / k), R], each below n^k; of the last one the first digits count."""

    @classmethod
    def by(cls, rng: np.random.Generator, n: int, draws: int, reps: int) -> Drawn:
        """`reps` samples; the generator is consumed sample by sample."""
        k = 1
        while k < draws and n ** (k + 1) <= TABLE:
            k += 1
        shape = (reps, -(-draws // k))
        # 32-bit draws: their unused halves wait in the generator and not in the call.
        numbers = rng.integers(0, n**k, size=shape, dtype=np.uint32)
        return cls(n, draws, k, np.ascontiguousarray(numbers.T, dtype=np.int64))

    def sum(self, x: np.ndarray) -> np.ndarray:
        """See `Sample`."""
        return self._look_up(functools.partial(_sums, x))

    def counts(self) -> np.ndarray:
        """See `Sample`."""
        reps = self.numbers.shape[1]
        if self.at_a_time == 1:
            cells = self.numbers * reps + np.arange(reps)
            counted = np.bincount(cells.ravel(), minlength=self.n * reps)
            return counted.reshape(self.n, reps).astype(np.float32)
        counts = np.empty((self.n, reps), np.float32)
        for first in range(0, self.n, 8):  # eight counts in the bytes of one sum
            packed = self._look_up(functools.partial(_packed, self.n, first))
            some = counts[first : first + 8]
            some[:] = packed.view(np.uint8).reshape(reps, 8).T[: len(some)]
        return counts

    def _look_up(self, sums: Callable[[int], np.ndarray]) -> np.ndarray:
        """Sum over each sample [R], from the sums over a number's digits, by how many there are."""
        whole, rest = divmod(self.draws, self.at_a_time)
        total = sums(rest)[self.numbers[-1] % self.n**rest] if rest else 0
        if whole:
            table = sums(self.at_a_time)
            for numbers in self.numbers[:whole]:
                total = total + table[numbers]
        return np.asarray(total)


def _sums(x: np.ndarray, digits: int) -> np.ndarray:
    """Sum of `x` [n] over the digits of each number below n^digits."""
    table = x
    for _ in range(digits - 1):
        table = np.add.outer(x, table).ravel()
    return table


@functools.lru_cache(maxsize=256)
def _packed(n: int, first: int, digits: int) -> np.ndarray:
    """How often each of eight runs is among a number's digits: a byte each, the low one first."""
    ones = np.zeros(n, "<u8")
    some = ones[first : first + 8]
    some[:] = 256 ** np.arange(len(some), dtype="<u8")
    return _sums(ones, digits)


def once(sizes: Sequence[int]) -> list[Weighted]:
    """The runs themselves as a sample: each once, R = 1."""
    return [Weighted(n, np.ones((n, 1))) for n in sizes]
