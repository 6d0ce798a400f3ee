"""Small datasets with every kind of episode end."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxrl.data.files import open_dataset
from jaxrl.data.rows import LAST, TERMINATED, TRUNCATED, HostRows
from tests.agents.values import spec

ENDS = (TERMINATED, TRUNCATED, TERMINATED, TRUNCATED, TRUNCATED)
LENGTHS = (4, 3, 1, 6, 1)
"""Transitions of the episodes of `rows()`."""
LOW, HIGH = (-1.0, 0.0), (1.0, 4.0)
"""Bounds of their actions."""
TASK = spec(2, LOW, HIGH)
BOUNDS = np.array([LOW, HIGH])
LAYOUTS = {"d4rl": "data.hdf5", "minari": "data", "ogbench": "data.npz"}


def rows(lengths=LENGTHS, ends=ENDS, seed: int = 0) -> HostRows:
    """Episodes of three observations and two actions, laid out by walking through them."""
    rng = np.random.default_rng(seed)
    obs, action, reward, flags = [], [], [], []
    for length, end in zip(lengths, ends, strict=True):
        for step in range(length + 1):
            obs.append(rng.normal(size=3))
            action.append(rng.uniform(LOW, HIGH) if step < length else np.zeros(2))
            reward.append(rng.normal() if step else 0.0)
            flags.append(end if step == length else 0)
    columns = (np.array(x, np.float32) for x in (obs, action, reward))
    return HostRows(*columns, np.array(flags, np.uint8))


def transitions(rows: HostRows, end_of=lambda flags: flags & TERMINATED > 0) -> list[tuple]:
    """(obs, action, reward, next obs, terminated, last), one after the other; the twin walks."""
    found = []
    for t in range(len(rows) - 1):
        if rows.flags[t] & LAST:
            continue
        after = rows.flags[t + 1]
        found.append(
            (
                rows.obs[t],
                rows.action[t],
                rows.reward[t + 1],
                rows.obs[t + 1],
                bool(end_of(after)),
                bool(after & LAST),
            )
        )
    return found


def assert_same_rows(found: HostRows, expected: HostRows) -> None:
    """Bit for bit."""
    for name in ("obs", "action", "reward", "flags"):
        np.testing.assert_array_equal(
            getattr(found, name), getattr(expected, name), err_msg=name, strict=True
        )


def assert_same_transitions(found: HostRows, expected: list[tuple]) -> None:
    """Bit for bit, in order."""
    walked = transitions(found)
    assert len(walked) == len(expected)
    for ours, theirs in zip(walked, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)


def read(path: Path, task=None, on_disk: bool = False) -> tuple[HostRows, tuple[str, ...]]:
    """The rows of a file, and what it says of how it was read."""
    with open_dataset(path) as dataset:
        return dataset.rows(task, on_disk), dataset.plan.notes


def npz(path: Path, **arrays) -> Path:
    """An npz file of these arrays; those that are None are left out."""
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return path


def hdf5(path: Path, **arrays) -> Path:
    """An HDF5 file of these arrays; those that are None are left out."""
    import h5py

    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            if values is not None:
                file[name] = values
    return path


def d4rl_arrays(rows: HostRows) -> dict[str, np.ndarray]:
    """The fields of D4RL's layout, by walking."""
    o, a, r, n, terminated, last = (np.array(x) for x in zip(*transitions(rows), strict=True))
    return {
        "observations": o,
        "actions": a,
        "rewards": r,
        "terminals": terminated,
        "timeouts": last & ~terminated,
        "next_observations": n,
    }
