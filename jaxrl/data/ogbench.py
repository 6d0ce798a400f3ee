"""OGBench's layout: an npz file, in each of the three forms that go round.

    as stored     observations [R, O], actions [R, A], terminals [R]: an episode of L transitions
                  has L + 1 rows, and terminals marks the last one
    compact       the same with valids [R], which is 0 in an episode's last row; terminals then mark
                  the last two
    plain         observations, actions, next_observations, terminals: one row for each transition

OGBench stores no rewards; `rewards` and `masks` (0 where the MDP ended) are read where they are
there, one for each transition, as its single-task datasets have them once they are relabelled.

Park et al., "OGBench: Benchmarking Offline Goal-Conditioned RL", ICLR 2025 (arXiv 2410.20092).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.data.fields import Fields
from jaxrl.data.rows import TERMINATED, Column, HostRows, Plan, cut, plan
from jaxrl.errors import UsageError

ABOUT = "about"
"""Field of our files: what they say of themselves, as JSON."""


def read(fields: Fields) -> Plan:
    """Where each row lies. Without `masks`, all ends are truncations."""
    observations = fields.matrix("observations")
    n = observations.shape[0]
    actions = fields.matrix("actions", n)
    terminals = fields.bools("terminals", n)
    following: Column | None = None
    notes: list[str] = []
    if "next_observations" in fields:
        following = fields.matrix("next_observations", n, observations.shape[1])
        obs_at = next_at = np.arange(n)
        ends = terminals.copy()
        notes = cut(fields.path, observations, following, ends)
    else:
        final = ~fields.bools("valids", n) if "valids" in fields else terminals.copy()
        final[-1] = True
        obs_at = np.flatnonzero(~final)
        next_at = obs_at + 1
        ends = final[next_at]
        if not len(obs_at):
            raise UsageError(
                f"{fields.path}: every row is an episode's last; there is no transition"
            )
    rewards = fields.vector("rewards", n)[obs_at] if "rewards" in fields else np.zeros(len(obs_at))
    if "masks" in fields:
        terminated = ~fields.bools("masks", n)[obs_at]
    else:
        terminated = np.zeros(len(obs_at), bool)
        notes.append(f"{fields.path}: no masks, so every episode counts as ended by the clock")
    columns = (observations, following, actions)
    return plan(
        fields.path,
        columns,
        obs_at,
        next_at,
        obs_at,
        rewards,
        ends,
        terminated,
        np.zeros(len(obs_at), bool),
        notes,
    )


def write(path: Path, rows: HostRows, about: dict[str, Any]) -> None:
    """Writes rows in the form that OGBench stores, actions in the task's units, with `rewards`,
    `masks` and `about` beside."""
    received = np.append(rows.reward[1:], np.float32(0))  # one for each transition, as the masks
    ended = np.append(rows.flags[1:] & TERMINATED > 0, False)
    acted = ~rows.last
    with path.open("wb") as file:  # NumPy adds .npz to names
        np.savez_compressed(
            file,
            observations=rows.obs,
            actions=rows.action,
            terminals=rows.last.astype(np.float32),
            rewards=np.where(acted, received, 0).astype(np.float32),
            masks=np.where(acted & ended, 0, 1).astype(np.float32),
            about=np.array(json.dumps(about)),
        )
        file.flush()
        os.fsync(file.fileno())
