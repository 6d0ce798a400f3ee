"""What a run repeats between two looks at the clock, the disk and the signals: the host's side.

`Loop` is what `runner.Run` asks of it. `Online` is the one that learns from what it does; the one
that learns from a dataset is `jaxrl.train.offline.Offline`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import agents
from jaxrl.envs.core import Env
from jaxrl.envs.registry import make
from jaxrl.envs.task import never
from jaxrl.train import config as config_module
from jaxrl.train import console
from jaxrl.train.config import RunConfig, TrainConfig
from jaxrl.train.online import OnlineLoop, TrainState
from jaxrl.train.runlog import Metrics

Array = jax.Array

SHORT = 10
"""Steps of an episode that may end early, as far as starts are drawn ahead."""


class Loop(Protocol):
    """The compiled functions that a run repeats, and what to say of them."""

    unit: str
    """What `--steps` counts."""
    num_envs: int
    """Steps of one iteration, the unit of a run's clock."""
    block_steps: int
    """Steps of the smallest part of a chunk."""
    prefill: int
    """Step at which learning starts: whole blocks."""
    about: dict[str, Any]
    """What config.json says beside the settings."""

    def init(self, agent: Any, key: Array) -> Any:
        """The training state at step 0: a dataclass of `agent` and what else is checkpointed."""

    def advance(
        self, agent: Any, state: Any, iteration: int, blocks: int, learn: bool
    ) -> tuple[Any, dict[str, np.ndarray]]:
        """Runs `blocks` blocks from `iteration` on and waits for them; `state` is given away.

        Returns:
          the state, and sums over the chunk: "updates", "losses/..." (over updates) and others.
        """

    def refresh(self, state: Any) -> Any:
        """What follows a chunk, outside of its clock."""

    def charts(self, state: Any, sums: dict[str, np.ndarray]) -> Metrics:
        """What a line of metrics says of a chunk, beside its losses."""

    def scores(self, return_mean: float) -> Metrics:
        """What an evaluation says beside its returns."""

    def refuse_if_too_large(self, error: Exception, path: Path) -> None:
        """Raises `UsageError` if `error` says that memory ran out."""


class Online:
    """Acts, stores, learns (`OnlineLoop`), and redraws the starts that a chunk used."""

    unit = "steps"

    def __init__(self, loop: OnlineLoop, config: TrainConfig):
        self._loop, self._config = loop, config
        self.num_envs, self.block_steps = loop.num_envs, loop.block_steps
        self.prefill = ceil(config.learning_starts, loop.block_steps)
        self.about: dict[str, Any] = {}
        self._init = jax.jit(loop.init)
        self._chunk = jax.jit(loop.chunk, static_argnames="learn", donate_argnums=1)
        self._refill = jax.jit(loop.refill, donate_argnums=0)
        self._overflown = False

    def init(self, agent: Any, key: Array) -> TrainState:
        """See `Loop`."""
        return self._init(agent, key)

    def advance(
        self, agent: Any, state: TrainState, iteration: int, blocks: int, learn: bool
    ) -> tuple[TrainState, dict[str, np.ndarray]]:
        """See `Loop`."""
        state, sums = self._chunk(
            agent,
            state,
            jnp.asarray(iteration, jnp.int32),
            jnp.asarray(blocks, jnp.int32),
            learn=learn,
        )
        return state, jax.device_get(sums)

    def refresh(self, state: TrainState) -> TrainState:
        """Redraws the starts that the chunk used."""
        return self._refill(state)

    def charts(self, state: TrainState, sums: dict[str, np.ndarray]) -> Metrics:
        """See `Loop`."""
        record: Metrics = {}
        if episodes := int(sums["episodes"]):
            record["charts/episodic_return"] = float(sums["return/episode_return"]) / episodes
        counts = state.env.metrics
        for name in ("unstable", "starts_reused", "overflow"):
            if name in counts:
                record[f"charts/{name}"] = int(counts[name].sum())
        if record.get("charts/overflow") and not self._overflown:
            self._overflown = True
            console.say("warp left out contacts that its buffers have no room for; see overflow")
        return record

    def scores(self, return_mean: float) -> Metrics:
        """See `Loop`."""
        return {}

    def refuse_if_too_large(self, error: Exception, path: Path) -> None:
        """See `Loop`."""
        config_module.refuse_if_too_large(self._config, error, path)


def prepare_online(
    agent: Any, env_id: str, eval_env: Env, config: TrainConfig
) -> tuple[Any, Online, str]:
    """The agent as it will train, its loop, and what to say of it.

    Raises:
      UsageError: a combination that cannot be trained, or that does not fit in memory.
    """
    rows = -(-config.chunk_steps // config.num_envs)
    env = make(
        env_id,
        num_instances=config.num_envs,
        start_slots=start_slots(rows, eval_env),
        stagger=config.stagger,
        **env_options(config),
    )
    loop = OnlineLoop(env, config.num_envs, config.env_steps_per_update, config.capacity)
    config_module.check(config, agent, loop)
    config_module.check_goal(agent, eval_env)
    agent = agents.bound(agent, env.spec).canonical()
    needed = config_module.replay_bytes(agent, loop)
    config_module.check_memory(config, needed)
    config_module.check_instances(config, agent, loop)
    said = f"physics {engine_name(env)}, replay {needed / 2**20:,.0f} MiB"
    return agent, Online(loop, config), said


def env_options(config: RunConfig) -> dict[str, Any]:
    """The settings of a run that `jaxrl.make` takes."""
    return {name: getattr(config, name) for name in config_module.ENV_OPTIONS}


def start_slots(rows: int, env: Env) -> int:
    """Starts that one instance can use in `rows` rows, if its episodes last to the clock, or to the
    row `SHORT` where the task can end them before. Starts that do not suffice are counted."""
    task, length = getattr(_innermost(env), "task", None), env.spec.episode_length
    if task is not None and task.terminated is not never:
        length = min(length, SHORT)
    return 1 + rows // (length + 1)


def engine_name(env: Any) -> str:
    """Name of the physics engine under any wrappers; "none" for a probe."""
    env = _innermost(env)
    return env.engine.name if hasattr(env, "engine") else "none"


def _innermost(env: Any) -> Any:
    return _innermost(env.env) if hasattr(env, "env") else env


def ceil(value: int, multiple: int) -> int:
    """The least multiple that is at least `value`."""
    return -(-value // multiple) * multiple
