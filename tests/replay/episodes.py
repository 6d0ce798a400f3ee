"""Random episodes with every kind of end, and their n-step transitions by walking the list."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.replay import ring
from jaxrl.replay.ring import Rows

ENDS = ((True, False, False), (False, True, False), (True, True, False), (True, False, True))
"""(terminated, truncated, unstable) of a final row."""


@dataclasses.dataclass(frozen=True)
class Episode:
    """Rows first, first + 1, ..., first + length of one instance; all but the last are acted on."""

    first: int
    length: int
    terminated: bool
    truncated: bool
    unstable: bool


@dataclasses.dataclass(frozen=True)
class Transitions:
    """What the twin finds for each row, [rows, N]."""

    target: np.ndarray  # the row it bootstraps from; -1 for an episode's last row
    reward: np.ndarray  # float64
    discount: np.ndarray  # float64
    unstable: np.ndarray

    def eligible(self, t: int, time_slots: int) -> np.ndarray:
        """Rows of which the ring holds the whole window when t rows were written, [rows, N]."""
        row = np.arange(len(self.target))[:, None]
        complete = (self.target >= 0) & (self.target < t)
        return complete & ~self.unstable & (row >= t - time_slots)


class Stream:
    """`rows` rows of N instances. An observation is (row, instance, episode)."""

    def __init__(self, rows: int, num_envs: int, longest: int = 9, seed: int = 0):
        rng = np.random.RandomState(seed)
        self.rows, self.num_envs = rows, num_envs
        self.episodes: list[list[Episode]] = []
        for _ in range(num_envs):
            episodes, first = [], 0
            while first < rows:
                ends = ENDS[rng.randint(len(ENDS))]
                episodes.append(Episode(first, rng.randint(1, longest + 1), *ends))
                first += episodes[-1].length + 1
            self.episodes.append(episodes)
        # Rewards of first rows are never received; they are not 0 here, so that none is counted.
        self.reward = rng.normal(size=(rows, num_envs)).astype(np.float32)
        self.action = rng.randint(0, 9, size=(rows, num_envs, 2)).astype(np.uint8)
        self.obs = np.zeros((rows, num_envs, 3), np.float32)
        self.ends = np.zeros((3, rows, num_envs), bool)
        for i, episodes in enumerate(self.episodes):
            for number, e in enumerate(episodes):
                own = np.arange(e.first, min(e.first + e.length + 1, rows))
                self.obs[own, i] = np.stack([own, 0 * own + i, 0 * own + number], axis=-1)
                if e.first + e.length < rows:
                    self.ends[:, e.first + e.length, i] = e.terminated, e.truncated, e.unstable

    def all_rows(self, merge_ends: bool = False) -> Rows:
        """Every row, [rows, N, ...]. `merge_ends` is the classic bug: a time-out terminates."""
        terminated, truncated, unstable = jnp.asarray(self.ends)
        if merge_ends:
            terminated = terminated | truncated
        return Rows(
            obs=jnp.asarray(self.obs),
            action=jnp.asarray(self.action),
            reward=jnp.asarray(self.reward),
            flags=ring.flags(terminated, truncated, unstable),
        )

    def transitions(self, n: int, discount: float) -> Transitions:
        """The n-step transitions, episode by episode."""
        shape = (self.rows, self.num_envs)
        found = Transitions(
            np.full(shape, -1), np.zeros(shape), np.zeros(shape), np.zeros(shape, bool)
        )
        for i, episodes in enumerate(self.episodes):
            for e in episodes:
                for p in range(e.length):
                    k = min(n, e.length - p)
                    start, end = e.first + p, e.first + p + k
                    if end >= self.rows:
                        continue
                    at_end = p + k == e.length
                    found.target[start, i] = end
                    found.discount[start, i] = 0.0 if at_end and e.terminated else discount**k
                    found.unstable[start, i] = at_end and e.unstable
                    for j in range(1, k + 1):
                        reward = float(self.reward[start + j, i])
                        found.reward[start, i] += discount ** (j - 1) * reward
        return found


def first_row(rows: Rows, t: int = 0) -> Rows:
    """Row t of all rows, [N, ...]."""
    return jax.tree.map(lambda x: x[t], rows)


@jax.jit
def filled(replay, rows: Rows, t: int):
    """The replay's state after t rows."""

    def add(i, state):
        return replay.add(state, first_row(rows, i), i)

    return jax.lax.fori_loop(0, t, add, replay.init(first_row(rows)))


def flat_index(where: np.ndarray, time_slots: int) -> np.ndarray:
    """slot * N + instance of the rows that `where` [rows, N] marks, in row order."""
    row, instance = np.nonzero(where)
    return (row % time_slots * where.shape[1] + instance).astype(np.int32)
