"""D4RL's layout: an HDF5 file with one row for each transition.

    observations [N, O], actions [N, A], rewards [N], terminals [N] (the MDP ended), timeouts [N]
    (the clock ran out), next_observations [N, O] (optional)

Fu et al., "D4RL: Datasets for Deep Data-Driven Reinforcement Learning", 2020 (arXiv 2004.07219).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.data.fields import Fields
from jaxrl.data.rows import TERMINATED, TRUNCATED, Column, HostRows, Plan, cut, plan
from jaxrl.errors import UsageError


def read(fields: Fields) -> Plan:
    """Where each row lies.

    An episode's last transition is dropped where nothing tells where it led: a time-out without
    `next_observations`. A terminal one is kept, with its own observation in the place of the final
    one, since nothing is ever bootstrapped from it. Where `next_observations` is not the next row's
    observation, an episode is cut.
    """
    observations = fields.matrix("observations")
    n = observations.shape[0]
    actions = fields.matrix("actions", n)
    rewards = fields.vector("rewards", n)
    terminals = fields.bools("terminals", n)
    timed = "timeouts" in fields
    timeouts = fields.bools("timeouts", n) if timed else np.zeros(n, bool)
    if "next_observations" in fields:
        following = fields.matrix("next_observations", n, observations.shape[1])
        ends = terminals | timeouts
        notes = cut(fields.path, observations, following, ends)
        at = np.arange(n)
        columns = (observations, following, actions)
        return plan(fields.path, columns, at, at, at, rewards, ends, terminals, timeouts, notes)
    if not timed:
        raise UsageError(
            f"{fields.path}: field 'timeouts' is missing, and without next_observations nothing "
            "tells where the clock ended an episode"
        )
    return _without_next(fields, (observations, None, actions), rewards, terminals, timeouts)


def _without_next(
    fields: Fields,
    columns: tuple[Column, None, Column],
    rewards: np.ndarray,
    terminals: np.ndarray,
    timeouts: np.ndarray,
) -> Plan:
    """Transition i leads to observation i + 1, but where the episode ends."""
    n = len(rewards)
    unknown = timeouts & ~terminals  # where it led, the file does not say
    unknown[-1] |= not terminals[-1]
    kept = np.flatnonzero(~unknown)
    if not len(kept):
        raise UsageError(f"{fields.path}: no transition has a next observation")
    ends = terminals | np.append(unknown[1:], False)
    next_at = np.where(terminals, np.arange(n), np.arange(n) + 1)
    dropped, stood_in = int(unknown.sum()), int(terminals.sum())
    notes = []
    if dropped:
        notes.append(
            f"{fields.path}: no next_observations, so the last transition of each of {dropped:,} "
            "truncated episodes is dropped: nothing tells where it led"
        )
    if stood_in:
        notes.append(
            f"{fields.path}: no next_observations, so {stood_in:,} terminal observations are "
            "missing; the one before stands in, and is never bootstrapped from"
        )
    none = np.zeros(len(kept), bool)
    return plan(
        fields.path,
        columns,
        kept,
        next_at[kept],
        kept,
        rewards[kept],
        ends[kept],
        terminals[kept],
        none,
        notes,
    )


def write(path: Path, rows: HostRows, about: dict[str, Any]) -> None:
    """Writes rows, actions in the task's units, with `about` as attributes of the file."""
    import h5py

    acted = np.flatnonzero(~rows.last)
    ended = rows.flags[acted + 1]
    terminals = ended & TERMINATED > 0
    with h5py.File(path, "w") as file:
        file["observations"] = rows.obs[acted]
        file["actions"] = rows.action[acted]
        file["rewards"] = rows.reward[acted + 1]
        file["terminals"] = terminals
        file["timeouts"] = (ended & TRUNCATED > 0) & ~terminals
        file["next_observations"] = rows.obs[acted + 1]
        for name, value in about.items():
            file.attrs[name] = value
