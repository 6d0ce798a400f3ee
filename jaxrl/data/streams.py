"""Rows that an environment gave, made into a dataset's: streams joined, cut and chosen from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxrl.data.rows import CUT, TRUNCATED, UNSTABLE, HostRows


def join(obs: np.ndarray, action: np.ndarray, reward: np.ndarray, flags: np.ndarray) -> HostRows:
    """The rows of N instances, one instance after the other.

    An episode that the end of its stream cuts short is truncated at its newest observation. A step
    into unstable physics is left out, and its episode is cut before it.

    Args:
      obs, action, reward, flags: in order of time, [T, N, ...]; actions in the task's units.
    """

    def flat(x: np.ndarray, dtype: type) -> np.ndarray:
        x = np.asarray(x).swapaxes(0, 1)
        return np.ascontiguousarray(x.reshape(-1, *x.shape[2:]), dtype)

    steps = len(flags)
    rows = HostRows(
        flat(obs, np.float32),
        flat(action, np.float32),
        flat(reward, np.float32),
        flat(flags, np.uint8).copy(),
    )
    unstable = np.flatnonzero(rows.flags & UNSTABLE)
    before = unstable[unstable % steps > 0] - 1  # a first row is never unstable
    newest = np.arange(1, len(rows) // steps + 1) * steps - 1
    for ends in (before, newest):
        cut = ends[~rows.last[ends]]
        rows.flags[cut] |= TRUNCATED | CUT
    kept = np.ones(len(rows), bool)
    kept[unstable] = False
    return _tidy(_select(rows, kept))


def take(rows: HostRows, transitions: int) -> HostRows:
    """The first transitions; the episode of the last one is cut behind it."""
    acted = np.flatnonzero(~rows.last)
    assert 0 < transitions <= len(acted)
    end = int(acted[transitions - 1]) + 1
    found = _select(rows, np.arange(len(rows)) <= end)
    if not found.last[end]:
        found.flags[end] |= TRUNCATED | CUT
    return _tidy(found)


def thin(rows: HostRows, transitions: int, seed: int) -> HostRows:
    """Episodes drawn at random, in their order, with that many transitions; the last one is cut."""
    starts, ends = rows.starts, rows.ends
    order = np.random.default_rng(seed).permutation(len(ends))
    enough = int(np.searchsorted(np.cumsum((ends - starts)[order]), transitions)) + 1
    kept = np.zeros(len(rows), bool)
    for episode in order[:enough]:
        kept[starts[episode] : ends[episode] + 1] = True
    return take(_select(rows, kept), transitions)


def concatenate(parts: Sequence[HostRows]) -> HostRows:
    """Datasets one after the other."""
    columns = ("obs", "action", "reward", "flags")
    return HostRows(*(np.concatenate([getattr(part, c) for part in parts]) for c in columns))


def _select(rows: HostRows, kept: np.ndarray) -> HostRows:
    return HostRows(rows.obs[kept], rows.action[kept], rows.reward[kept], rows.flags[kept])


def _tidy(rows: HostRows) -> HostRows:
    """Without episodes of no transition; what is never used is 0."""
    starts, ends = rows.starts, rows.ends
    kept = np.ones(len(rows), bool)
    kept[ends[starts == ends]] = False
    rows = _select(rows, kept)
    rows.action[rows.last] = 0
    rows.reward[rows.starts] = 0
    return rows
