"""Training from a dataset: the loop as pure functions, and the host's side of it.

    state = loop.init(agent, key, statistics)
    index = loop.draw(agent, key, piece)                       which rows a piece's batches take
    windows = gather(rows, index, span)                        where the rows are: device or host
    state, sums = loop.learn(agent, state, sums, windows, index, first, low, high)

A *piece* is a fixed number of updates, P, whose batches are fetched together. A chunk runs any part
of any number of pieces, so that chunks of every length share one compilation. The dataset is an
argument and in no state. Whether its rows lie on the device or are sent ahead of time, `learn` is
the same program on the same numbers, and the result the same bit for bit.

Everything is a function of (agent, key, update): seeds and float hyperparameters may have a leading
axis. Shapes: T rows of the dataset, B batch, L rows of a window.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxrl import agents
from jaxrl.agents._offline import Statistics
from jaxrl.data.files import Dataset, open_dataset
from jaxrl.data.rows import BLOCK, HostRows
from jaxrl.envs.core import Env, EnvSpec
from jaxrl.errors import UsageError
from jaxrl.memory import available_bytes
from jaxrl.replay.ring import Rows
from jaxrl.replay.stored import gather
from jaxrl.stats.references import Reference
from jaxrl.train import console
from jaxrl.train.config import OfflineConfig, check_extras
from jaxrl.train.loops import env_options
from jaxrl.train.runlog import Metrics

Array = jax.Array
Sums = dict[str, Array]

PIECE = 100
"""Updates whose batches are fetched together, P, unless they take more than `PIECE_BYTES`."""
PIECE_BYTES = 1 << 27


@struct.dataclass
class OfflineState:
    """All that training changes; a checkpoint of it is a checkpoint of the run."""

    agent: Any
    key: Array  # the run's key for drawing and learning; never changes


@dataclasses.dataclass(frozen=True)
class OfflineLoop:
    """Trains any agent of `agents.offline()` from T stored rows."""

    spec: EnvSpec
    rows: int
    """T."""
    piece: int = PIECE
    """P; changes no result."""

    def init(self, agent: Any, key: Array, statistics: Statistics) -> OfflineState:
        """A fresh agent that knows the dataset's statistics."""
        agent_key, loop_key = jax.random.split(key)
        state = agent.init(agent_key, self.spec)
        return OfflineState(agent=agent.begin(state, statistics), key=loop_key)

    def draw(self, agent: Any, key: Array, piece: Array) -> Array:
        """The rows that piece number `piece` takes, [P, B] int32; `key` is the state's."""
        replay = agent.replay(self.rows)

        def one(update: Array) -> Array:
            return replay.index(_keys(key, update)[0])

        updates = piece * self.piece + jnp.arange(self.piece, dtype=jnp.int32)
        return jax.lax.map(one, updates)  # as in a loop, whatever P is

    def learn(
        self,
        agent: Any,
        state: OfflineState,
        sums: Sums,
        windows: Rows,
        index: Array,
        piece: Array,
        low: Array,
        high: Array,
    ) -> tuple[OfflineState, Sums]:
        """Updates `low` to `high` - 1, all of piece number `piece`.

        Args:
          sums: over the chunk so far: "updates", "losses/...".
          windows: [P, L, B, ...] rows; see `jaxrl.replay.stored`.
          index: [P, B] int32, the windows' first rows.
        """
        replay = agent.replay(self.rows)

        def one(update: Array, carry: tuple[OfflineState, Sums]) -> tuple[OfflineState, Sums]:
            state, sums = carry
            i = update - piece * self.piece
            batch = replay.batch(jax.tree.map(lambda x: x[i], windows), index[i])
            agent_state, metrics = agent.update(state.agent, batch, _keys(state.key, update)[1])
            losses = {f"losses/{k}": sums[f"losses/{k}"] + v for k, v in metrics.items()}
            return state.replace(agent=agent_state), {"updates": sums["updates"] + 1, **losses}

        return jax.lax.fori_loop(low, high, one, (state, sums))

    def zero_sums(self, agent: Any, state: OfflineState, windows: Rows) -> Sums:
        """Sums over no update."""

        def losses(state: OfflineState, windows: Rows) -> Sums:
            replay = agent.replay(self.rows)
            index = jnp.zeros((replay.batch_size,), jnp.int32)
            batch = replay.batch(jax.tree.map(lambda x: x[0], windows), index)
            return agent.update(state.agent, batch, state.key)[1]

        names = jax.eval_shape(losses, state, windows)
        zeros = {f"losses/{name}": jnp.zeros(()) for name in names}
        return {"updates": jnp.zeros((), jnp.int32), **zeros}


def _keys(key: Array, update: Array) -> Array:
    """The keys of an update: to draw its batch and to learn."""
    return jax.random.split(jax.random.fold_in(key, update))


class Offline:
    """`OfflineLoop` on a dataset, for `runner.Run`.

    Args:
      loop: see there.
      rows: the dataset's, actions in [-1, 1]; stored as rows [T, ...].
      span: rows of a window, L.
      resident: put the rows on the device, or send each piece's windows ahead of time.
      reference: returns that normalised scores put at 0 and 1.
      about: what config.json says of the dataset.
      total: updates of the whole run.
    """

    unit = "updates"
    num_envs = block_steps = 1
    prefill = 0

    def __init__(
        self,
        loop: OfflineLoop,
        rows: HostRows,
        span: int,
        resident: bool,
        reference: Reference | None,
        about: dict[str, Any],
        total: int,
    ):
        self.about = about
        self._loop, self._reference, self._total = loop, reference, total
        self._statistics = statistics(rows)
        stored = Rows(rows.obs, rows.action, rows.reward, rows.flags)  # type: ignore[arg-type]
        self._rows = jax.device_put(stored) if resident else stored
        self._span, self._resident = span, resident
        self._ahead: dict[int, tuple[Rows, Array]] = {}
        self._zeros: Sums = {}
        self._init = jax.jit(loop.init)
        self._draw = jax.jit(loop.draw)
        self._gather = jax.jit(gather, static_argnums=2)
        self._learn = jax.jit(loop.learn, donate_argnums=1)

    def init(self, agent: Any, key: Array) -> OfflineState:
        """See `Loop`."""
        return self._init(agent, key, self._statistics)

    def advance(
        self, agent: Any, state: OfflineState, iteration: int, blocks: int, learn: bool
    ) -> tuple[OfflineState, dict[str, np.ndarray]]:
        """See `Loop`. While the device learns from one piece, the next one is fetched."""
        key = jax.random.clone(state.key)  # the state's is given away
        size, end = self._loop.piece, iteration + blocks
        first = iteration // size
        if first in self._ahead:
            windows, index = self._ahead[first]
        else:
            windows, index = self._fetch(self._begin(agent, key, first))
        self._zeros = self._zeros or self._loop.zero_sums(agent, state, windows)
        sums = self._zeros
        for piece in range(first, -(-end // size)):
            low, high = max(iteration, piece * size), min(end, (piece + 1) * size)
            following = (piece + 1) * size < self._total and high == (piece + 1) * size
            drawn = self._begin(agent, key, piece + 1) if following else None
            state, sums = self._learn(
                agent, state, sums, windows, index, *map(np.int32, (piece, low, high))
            )
            if drawn is None:
                self._ahead = {piece: (windows, index)}
            else:
                windows, index = self._fetch(drawn)
                self._ahead = {piece + 1: (windows, index)}
        return state, jax.device_get(sums)

    def refresh(self, state: OfflineState) -> OfflineState:
        """Nothing follows a chunk."""
        return state

    def charts(self, state: OfflineState, sums: dict[str, np.ndarray]) -> Metrics:
        """Nothing but losses and speed."""
        return {}

    def scores(self, return_mean: float) -> Metrics:
        """The return between those of the random and the expert policy, if the dataset has them."""
        if self._reference is None:
            return {}
        low, high = self._reference.low, self._reference.high
        return {"eval/return_normalised": (return_mean - low) / (high - low)}

    def refuse_if_too_large(self, error: Exception, path: Path) -> None:
        """See `Loop`."""
        if "RESOURCE_EXHAUSTED" in str(error):
            raise UsageError(
                f"the dataset's {self._loop.rows:_} rows do not fit in the memory of "
                f"{jax.devices()[0]}: give --stream, and --overwrite, since {path} exists now"
            ) from error

    def _begin(self, agent: Any, key: Array, piece: int) -> Array:
        """Has the device draw a piece's rows; waits for nothing."""
        return self._draw(agent, key, np.int32(piece))

    def _fetch(self, index: Array) -> tuple[Rows, Array]:
        """A piece's windows on the device."""
        if self._resident:
            return self._gather(self._rows, index, self._span), index
        windows = gather(self._rows, np.asarray(index), self._span)
        return jax.device_put(windows), index


def statistics(rows: HostRows) -> Statistics:
    """Of the observations that were acted on, and of the trajectories; sums in float64."""
    total = np.zeros(rows.obs.shape[1])
    squares, count = total.copy(), rows.transitions
    acted = ~rows.last
    for start in range(0, len(rows), BLOCK):
        x = rows.obs[start : start + BLOCK][acted[start : start + BLOCK]].astype(np.float64)
        total += x.sum(axis=0)
    mean = total / count
    for start in range(0, len(rows), BLOCK):
        x = rows.obs[start : start + BLOCK][acted[start : start + BLOCK]].astype(np.float64)
        squares += ((x - mean) ** 2).sum(axis=0)
    returns = np.add.reduceat(rows.reward.astype(np.float64), rows.starts)
    return Statistics(
        mean=jnp.asarray(mean, jnp.float32),
        std=jnp.asarray(np.sqrt(squares / count), jnp.float32),
        returns=jnp.asarray([returns.min(), returns.max()], jnp.float32),
    )


def prepare_offline(
    agent: Any, env_id: str, eval_env: Env, config: OfflineConfig
) -> tuple[Any, Offline, str]:
    """The agent as it will train, its loop, and what to say of it.

    Raises:
      UsageError: the agent does not learn from datasets, or the dataset is missing, bad, of another
        task, or too short; the message names it.
    """
    if not agents.is_offline(agent) or config.dataset is None:
        raise UsageError(
            "a run with an OfflineConfig needs its dataset and one of the agents that learn from "
            f"one: {', '.join(agents.offline())}"
        )
    check_extras(config)
    agent = agents.bound(agent, eval_env.spec).for_run(config.steps).canonical()
    with open_dataset(config.dataset) as dataset:
        _check(dataset, agent, env_id, config)
        replay = agent.replay(dataset.size)
        resident = not config.stream
        if resident and 2 * dataset.nbytes > available_bytes():
            resident = False
            console.say(
                f"{dataset.path} takes {dataset.nbytes / 2**30:.1f} GiB, which do not fit in "
                "memory: its batches are sent ahead of time, as with --stream"
            )
        rows = dataset.rows(eval_env.spec, on_disk=not resident)
        about = {"dataset": _about(dataset, rows)}
        for note in dataset.plan.notes:
            console.say(note)
    width = rows.obs.shape[1] + rows.action.shape[1]
    nbytes = replay.batch_size * replay.span * (4 * width + 5)
    loop = OfflineLoop(eval_env.spec, len(rows), max(1, min(PIECE, PIECE_BYTES // nbytes)))
    offline = Offline(
        loop, rows, replay.span, resident, dataset.reference, about, total=config.steps
    )
    where = "memory" if resident else "a file"
    said = f"{rows.transitions:,} transitions of {config.dataset} in {where}"
    return agent, offline, said


def _check(dataset: Dataset, agent: Any, env_id: str, config: OfflineConfig) -> None:
    dataset.check_task(env_id, env_options(config))
    if agent.learns_from_rewards and not dataset.has_rewards:
        raise UsageError(
            f"{dataset.path}: field 'rewards' is missing, and the agent learns from rewards; bc "
            "does not"
        )
    needed = agent.replay(dataset.size).span - 1
    shortest, place = dataset.shortest()
    if needed > max(1, shortest):
        raise UsageError(
            f"{dataset.path}: the agent looks {needed} steps ahead, and the trajectory from "
            f"{place} has {shortest}; give a smaller --n-step"
        )


def _about(dataset: Dataset, rows: HostRows) -> dict[str, Any]:
    """What config.json records of a dataset."""
    reference = dataset.reference
    return {
        "path": str(dataset.path),
        "checksum": dataset.checksum,
        "layout": dataset.layout,
        "rows": len(rows),
        "transitions": rows.transitions,
        "quality": dataset.about.get("quality"),
        "random_return": reference and reference.low,
        "expert_return": reference and reference.high,
    }
