"""Datasets as rows, what every layout is read to and written from.

Row t = (obs_t, action_t; reward_t and flags_t received with obs_t), as in `jaxrl.replay.ring`: an
episode of L transitions is L + 1 rows, its final observation is one, and the last row is flagged.
So loaded rows are a ring of one instance, and everything that draws from a ring works on them.

A layout says where each row comes from (`Plan`); `fill` then reads the file block by block, checks
it, and writes the rows to memory or to a file. No jax arrays here.

Shapes: R rows, N transitions, O observation size, A action size.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from jaxrl.envs.core import EnvSpec
from jaxrl.errors import UsageError

TERMINATED, TRUNCATED, UNSTABLE = 1, 2, 4
"""Bits of a row's flags, as in `jaxrl.replay.ring`."""
CUT = 8
"""Bit of a last row whose episode went on: the data end there. Not written to files."""
LAST = TERMINATED | TRUNCATED

BLOCK = 1 << 16
"""Rows read at a time."""


class Column(Protocol):
    """One field of a file: an array, or what reads like one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def __getitem__(self, rows: slice) -> np.ndarray: ...


@dataclasses.dataclass
class HostRows:
    """Rows on the host, in memory or mapped from a file."""

    obs: np.ndarray  # [R, O] float32
    action: np.ndarray  # [R, A] float32; 0 in a last row
    reward: np.ndarray  # [R] float32; 0 in a first row
    flags: np.ndarray  # [R] uint8

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def last(self) -> np.ndarray:
        """Which rows end an episode, [R] bool."""
        return self.flags & LAST > 0

    @property
    def ends(self) -> np.ndarray:
        """Last rows, increasing, [episodes]."""
        return np.flatnonzero(self.last)

    @property
    def starts(self) -> np.ndarray:
        """First rows, [episodes]."""
        return np.concatenate([[0], self.ends[:-1] + 1])

    @property
    def transitions(self) -> int:
        """N."""
        return int(len(self) - self.last.sum())


@dataclasses.dataclass(frozen=True)
class Plan:
    """Where in a file each row lies."""

    path: Path
    observations: Column
    following: Column | None
    """Next observations, where the layout has them."""
    actions: Column
    obs_at: np.ndarray  # [R] int64, in `observations` or, where `from_following`, in `following`
    from_following: np.ndarray  # [R] bool
    action_at: np.ndarray  # [R] int64; not read in a last row
    reward: np.ndarray  # [R] float32
    flags: np.ndarray  # [R] uint8
    notes: tuple[str, ...] = ()
    """What a person should know of how the file was read."""
    place: Callable[[str, int], str] = lambda name, row: f"{name}[{row}"
    """How the file calls (field, row), open for a column."""


def plan(
    path: Path,
    columns: tuple[Column, Column | None, Column],
    obs_at: np.ndarray,
    next_at: np.ndarray,
    action_at: np.ndarray,
    reward: np.ndarray,
    ends: np.ndarray,
    terminated: np.ndarray,
    truncated: np.ndarray,
    notes: list[str],
) -> Plan:
    """Lays N transitions out as rows: one for each, and one more where an episode ends.

    Args:
      columns: observations, next observations (None: `next_at` points into observations), actions.
      obs_at, next_at, action_at: where in its column each transition has its arrays, [N] int64.
      reward: of each transition, [N].
      ends: whether the next transition does not follow on this one, [N] bool.
      terminated, truncated: how it ends, [N] bool; an end that is neither is truncated.
    """
    ends = ends.copy()
    ends[-1:] = True
    ends |= terminated
    row = np.arange(len(ends)) + np.cumsum(ends) - ends
    final = row[ends] + 1
    total = len(ends) + len(final)

    def spread(values: np.ndarray, at_end: np.ndarray) -> np.ndarray:
        out = np.zeros(total, values.dtype)
        out[row], out[final] = values, at_end
        return out

    none = np.zeros(len(final), bool)
    received = np.zeros(total, np.float32)
    received[row + 1] = reward
    how = TERMINATED * terminated[ends] | TRUNCATED * (truncated[ends] | ~terminated[ends])
    return Plan(
        path=path,
        observations=columns[0],
        following=columns[1],
        actions=columns[2],
        obs_at=spread(obs_at, next_at[ends]),
        from_following=spread(np.zeros(len(ends), bool), none | (columns[1] is not None)),
        action_at=spread(action_at, action_at[ends]),
        reward=received,
        flags=spread(np.zeros(len(ends), np.uint8), how.astype(np.uint8)),
        notes=tuple(notes),
    )


def read_slice(path: Path, name: str, column: Column, rows: slice) -> np.ndarray:
    """Rows of a field as an array.

    Raises:
      UsageError: the file is damaged there.
    """
    try:
        return np.asarray(column[rows])
    except OSError as error:  # h5py's, of a chunk that does not unpack
        raise UsageError(f"{path}: {name} cannot be read: {error}") from None


def cut(path: Path, observations: Column, following: Column, ends: np.ndarray) -> list[str]:
    """Ends episodes, in `ends` [N] bool, where a transition's next observation is not the next
    row's, both as float32, as rows are kept; returns notes on that."""
    n = len(ends)
    broken = np.zeros(n, bool)
    for start in range(0, n - 1, BLOCK):
        stop = min(n - 1, start + BLOCK)
        ahead = read_slice(path, "next_observations", following, slice(start, stop))
        there = read_slice(path, "observations", observations, slice(start + 1, stop + 1))
        broken[start:stop] = np.any(_float32(ahead) != _float32(there), axis=1)
    broken &= ~ends
    ends |= broken
    if not broken.any():
        return []
    return [
        f"{path}: {broken.sum():,} of {n:,} transitions do not lead to the next row's observation; "
        "episodes are cut there"
    ]


def fill(plan: Plan, spec: EnvSpec | None = None, on_disk: bool = False) -> HostRows:
    """Reads the rows.

    Args:
      spec: a task: sizes and bounds are checked against it, and actions scaled to [-1, 1].
      on_disk: map them from unnamed files in the system's folder for temporary ones (TMPDIR).

    Raises:
      UsageError: a number is not finite, an action outside of its bounds, a size another than the
        task's; the message names file, field and row. Or the disk is full.
    """
    size, actions = plan.observations.shape[1], plan.actions.shape[1]
    if spec is not None:
        _check_sizes(plan, spec)
    total = len(plan.flags)
    new = _mapped if on_disk else np.zeros
    rows = HostRows(
        new((total, size), np.float32), new((total, actions), np.float32), *_small(plan)
    )
    for start in range(0, total, BLOCK):
        block = slice(start, min(total, start + BLOCK))
        for column, name, theirs in (
            (plan.observations, "observations", ~plan.from_following[block]),
            (plan.following, "next_observations", plan.from_following[block]),
        ):
            if column is not None and theirs.any():
                values = _read(plan, column, name, plan.obs_at[block][theirs])
                rows.obs[block][theirs] = values
        acts = ~rows.last[block]
        at = plan.action_at[block][acts]
        values = _read(plan, plan.actions, "actions", at)
        rows.action[block][acts] = values if spec is None else _scaled(plan, values, at, spec)
    return rows


def _small(plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    return plan.reward.astype(np.float32), plan.flags


def _read(plan: Plan, column: Column, name: str, at: np.ndarray) -> np.ndarray:
    """Rows `at` (not decreasing) of a column as float32, all of them finite."""
    if not len(at):
        return np.zeros((0, column.shape[1]), np.float32)
    low = int(at[0])
    values = read_slice(plan.path, name, column, slice(low, int(at[-1]) + 1))
    values = _float32(values[at - low])
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, entry = bad[0]
        place = f"{plan.place(name, int(at[row]))}, {entry}]"
        raise UsageError(f"{plan.path}: {place} is {values[row, entry]}, which is no number")
    return values


def _float32(values: np.ndarray) -> np.ndarray:
    """What is too large becomes inf, without NumPy's warning."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _check_sizes(plan: Plan, spec: EnvSpec) -> None:
    found = {"observations": plan.observations.shape[1], "actions": plan.actions.shape[1]}
    wanted = {"observations": spec.observation_size, "actions": spec.action_size}
    for name, size in found.items():
        if size != wanted[name]:
            raise UsageError(
                f"{plan.path}: {name} have {size} columns, and {spec.name} has {wanted[name]}: "
                "the dataset is of another task"
            )
    bounds = np.array([spec.action_low, spec.action_high])
    if not np.isfinite(bounds).all():
        j = int(np.argwhere(~np.isfinite(bounds))[0, 1])
        raise UsageError(
            f"{spec.name} has no bounds for action {j} ({bounds[0, j]:g} to {bounds[1, j]:g}), and "
            "actions are learned in [-1, 1]; give the task's actuators a control range"
        )


def _scaled(plan: Plan, action: np.ndarray, at: np.ndarray, spec: EnvSpec) -> np.ndarray:
    """Actions in the task's units to [-1, 1]."""
    low, high = np.array([spec.action_low, spec.action_high])
    scaled = 2.0 * (action.astype(np.float64) - low) / (high - low) - 1.0
    bad = np.argwhere(np.abs(scaled) > 1 + 1e-5)
    if len(bad):
        row, j = bad[0]
        raise UsageError(
            f"{plan.path}: {plan.place('actions', int(at[row]))}, {j}] = {action[row, j]:g} is "
            f"outside the bounds of {spec.name}, {low[j]:g} to {high[j]:g}"
        )
    return np.clip(scaled, -1.0, 1.0).astype(np.float32)


def _mapped(shape: tuple[int, int], dtype: type) -> np.ndarray:
    """Zeros in a file without a name, which is gone with the process."""
    size = max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
    with tempfile.TemporaryFile() as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise UsageError(
                f"streaming takes {size / 2**30:.1f} GiB in {tempfile.gettempdir()}: "
                f"{error.strerror}; set TMPDIR to a folder with room"
            ) from None
        return np.memmap(file, dtype, mode="r+", shape=shape)
