"""Datasets from one run: what its policies do, and what it has seen.

    random          uniform actions
    medium          the first kept policy with at least a third of the expert's return
    expert          the best kept policy: of the FINALISTS with the best evaluations, measured again
    medium-replay   all that the run had seen when it evaluated the medium policy
    mixed           equal parts of others

Policies act as they explore. Shares of the expert's return are counted from the random policy's.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxrl.agents import _common
from jaxrl.data import streams
from jaxrl.data.rows import HostRows
from jaxrl.envs.core import EnvSpec
from jaxrl.envs.registry import make
from jaxrl.errors import UsageError
from jaxrl.replay import ring
from jaxrl.stats.references import Reference
from jaxrl.train import console
from jaxrl.train.checkpoint import Checkpoints
from jaxrl.train.config import ENV_OPTIONS, TrainConfig
from jaxrl.train.loops import start_slots
from jaxrl.train.results import Trained, load
from jaxrl.train.runlog import RunFolder

Array = jax.Array

DEFAULT_ROWS = 100_000
"""Transitions of a dataset whose size nobody chose."""

Quality = Literal["random", "medium", "medium-replay", "expert", "mixed"]
Part = Literal["random", "medium", "medium-replay", "expert"]

INSTANCES = 50
"""Stepped in parallel; each gives one stream of rows."""
EPISODES = 100
"""Behind each reference return."""
FINALISTS = 5
"""Policies that may be the expert. The best of many evaluations of few episodes is often the
luckiest."""
STEPS = 250
"""Rows of each instance per compiled call."""
MEDIUM = (1 / 3, 2 / 3)
"""Shares of the expert's return between which a medium policy lies (D4RL: a third to a half)."""


@struct.dataclass
class UniformPolicy:
    """Acts uniformly within the bounds."""

    action_size: int = struct.field(pytree_node=False)

    def act(self, state: Any, obs: Array, key: Array, explore: bool) -> Array:
        """Actions in [-1, 1], [B, A]."""
        return jax.random.uniform(key, (len(obs), self.action_size), minval=-1.0)

    def decode(self, action: Array, spec: EnvSpec) -> Array:
        """Actions [..., A] in [-1, 1] to the environment's units."""
        return _common.to_units(action, spec)


class Source:
    """A run to make datasets from.

    Raises:
      UsageError: there is no such run, it kept no policies, or its best is no better than chance.
    """

    def __init__(self, path: Path, seed: int = 0):
        self.folder = RunFolder.open(path)
        self.config = self.folder.config(("agent", "run"))
        if "dataset" in self.config:
            raise UsageError(f"{path} learned from a dataset; give a run that learned by acting")
        defaults: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(TrainConfig)}
        settings = defaults | self.config["run"]
        self.options = {name: settings[name] for name in ENV_OPTIONS}
        self.num_envs = int(settings["num_envs"])
        self.seed = seed
        self.evaluations = self._kept()
        env = make(self.config["env_id"], num_instances=INSTANCES, **self.options)
        slots = start_slots(STEPS, env)
        self.env = make(
            self.config["env_id"], num_instances=INSTANCES, start_slots=slots, **self.options
        )
        self._reset = jax.jit(jax.vmap(self.env.reset))
        self._refill = jax.jit(jax.vmap(self.env.refill))
        self._roll = jax.jit(self._roll_pure, static_argnames="explore")
        self.expert_step, self.reference = self._references()

    @property
    def spec(self) -> EnvSpec:
        """Of the task."""
        return self.env.spec

    def rows(self, quality: Quality, transitions: int | None, mix: Sequence[Part]) -> HostRows:
        """Rows of a quality, actions in the task's units.

        Args:
          transitions: how many; None: 100,000, and of medium-replay all that there are.
          mix: what mixed is made of, in equal parts.

        Raises:
          UsageError: the run cannot give them; the message says what to do.
        """
        if quality == "medium-replay":
            return self._seen(transitions)
        wanted = transitions or DEFAULT_ROWS
        if quality == "mixed":
            sizes = shares(wanted, mix)
            return streams.concatenate([self.rows(part, n, ()) for part, n in sizes.items()])
        each = -(-wanted // INSTANCES)
        length = self.spec.episode_length
        policy, state = self._policy(quality)
        gathered = self._roll_out(policy, state, -(-each // length) * (length + 1), True, quality)
        while True:
            rows = streams.join(*gathered)
            if rows.transitions >= wanted:
                return streams.take(rows, wanted)
            longer = 2 * len(gathered[-1])  # episodes that end early leave fewer transitions
            gathered = self._roll_out(policy, state, longer, True, quality)

    def check(self, quality: Quality, transitions: int | None, mix: Sequence[Part]) -> None:
        """Raises `UsageError` if the run cannot give these rows (see `rows`): makes none."""
        if quality == "mixed":
            for part, size in shares(transitions or DEFAULT_ROWS, mix).items():
                self.check(part, size, ())
        elif quality == "medium-replay":
            self._seen(transitions)
        elif quality == "medium":
            self._medium_step()

    def step(self, quality: Quality) -> int | None:
        """The checkpoint behind a quality; None for random and mixed."""
        if quality == "expert":
            return self.expert_step
        return self._medium_step() if quality.startswith("medium") else None

    @functools.cached_property
    def replay(self) -> HostRows:
        """All that the run's newest checkpoint holds of what it has seen."""
        return self._replay(None)

    def about(self) -> dict[str, Any]:
        """What a file says of where it comes from."""
        options = {k: v for k, v in self.options.items() if k != "physics"}
        return {
            "env_id": self.config["env_id"],
            "options": json.dumps(options),
            "random_return": self.reference.low,
            "expert_return": self.reference.high,
            "reference_episodes": EPISODES,
            "expert_step": self.expert_step,
            "run_command": self.config.get("command", ""),
            "run_commit": self.config.get("git_commit", ""),
            "run_agent": self.config["exp_name"],
            "run_seed": self.config["seed"],
            "seed": self.seed,
        }

    def _kept(self) -> dict[int, float]:
        """Evaluation return of each kept policy by step."""
        found = {
            int(line["global_step"]): float(line["eval/return_mean"])
            for line in self.folder.metrics()
            if isinstance(line.get("eval/return_mean"), float | int)
        }
        folders = (self.folder.policies, self.folder.checkpoints)
        kept = {s: r for s, r in found.items() if any((f / str(s)).is_dir() for f in folders)}
        if not kept:
            raise UsageError(
                f"{self.folder.path} kept no policy that it evaluated; train with --keep-policies"
            )
        return kept

    def _references(self) -> tuple[int, Reference]:
        """The expert's step, and mean returns of the random policy and of the greedy expert."""
        low = self._returns(UniformPolicy(self.spec.action_size), (), "random").mean()
        best_first = sorted(self.evaluations, key=self.evaluations.__getitem__, reverse=True)
        measured = {}
        for step in best_first[:FINALISTS]:
            trained = self._load(step)
            measured[step] = self._returns(trained.agent, trained.state, "expert").mean()
        expert = max(measured, key=measured.__getitem__)
        high = measured[expert]
        if not low < high:
            raise UsageError(
                f"the best kept policy of {self.folder.path} (step {expert:_}) returns "
                f"{high:.4g} and a random one {low:.4g}: there is no expert; train longer"
            )
        return expert, Reference(float(low), float(high), str(self.folder.path))

    def _returns(self, policy: Any, state: Any, name: str) -> np.ndarray:
        """Returns of the first episodes of each instance, `EPISODES` in all."""
        each = -(-EPISODES // INSTANCES)
        steps = each * (self.spec.episode_length + 1)
        *_, reward, flags = self._roll_out(policy, state, steps, False, f"{name} reference")
        last = flags & int(ring.LAST) > 0
        number: np.ndarray = np.cumsum(last, axis=0) - last  # of the episode that each row is of
        first = np.roll(last, 1, axis=0)
        first[0] = True
        received = np.where(first, 0, reward).astype(np.float64)
        totals = [np.where(number == i, received, 0).sum(axis=0) for i in range(each)]
        return np.concatenate(totals)[:EPISODES]

    def _policy(self, quality: str) -> tuple[Any, Any]:
        """Agent and state; the random one has none."""
        if quality == "random":
            return UniformPolicy(self.spec.action_size), ()
        step = self.expert_step if quality == "expert" else self._medium_step()
        trained = self._load(step)
        return trained.agent, trained.state

    def _load(self, step: int | None) -> Trained:
        return load(self.folder.path, episodes=1, step=step)

    def _medium_step(self) -> int:
        low, high = self.reference.low, self.reference.high
        shares = {s: (r - low) / (high - low) for s, r in sorted(self.evaluations.items())}
        above = [step for step, share in shares.items() if share >= MEDIUM[0]]
        if above and shares[above[0]] <= MEDIUM[1]:
            return above[0]
        first = above[0] if above else self.expert_step
        raise UsageError(
            f"{self.folder.path} kept no medium policy: the first of {len(shares)} with a third of "
            f"the expert's return (step {first:_}) has {shares[first]:.2f} of it; train again with "
            "--keep-policies and a smaller --eval-every"
        )

    def _seen(self, transitions: int | None) -> HostRows:
        """What the run had seen until its medium policy."""
        step = self._medium_step()
        rows = self._replay(step // self.num_envs)
        if transitions is None:
            return rows
        if transitions > rows.transitions:
            raise UsageError(
                f"the run had seen {rows.transitions:_} transitions at its medium policy (step "
                f"{step:_}); give --rows {rows.transitions:_} or fewer, or leave it out"
            )
        return streams.thin(rows, transitions, self.seed)

    def _replay(self, until: int | None) -> HostRows:
        """The rows of the newest checkpoint's replay, up to row `until` of each instance."""
        checkpoints = Checkpoints(self.folder.checkpoints)
        try:
            _, arrays, meta = checkpoints.newest(("rest",), console.say)
        finally:
            checkpoints.close()
        parts = {name.rsplit("/", 1)[-1]: x for name, x in arrays["rest"].items() if _of_rows(name)}
        slots, done = len(parts["reward"]), int(meta["iteration"])
        oldest = max(0, done - slots)
        if until is not None and oldest:
            raise UsageError(
                f"{self.folder.path} kept its newest {slots * self.num_envs:_} rows of "
                f"{done * self.num_envs:_}, and the first are gone; train with a --capacity of at "
                "least the steps"
            )
        order = np.arange(oldest, done if until is None else min(until, done)) % slots
        if not len(order):
            raise UsageError(f"{self.folder.path} had seen nothing yet at step 0")
        chosen = {name: x[order] for name, x in parts.items()}
        agent = self._load(None).agent
        action = np.asarray(agent.decode(jnp.asarray(chosen["action"]), self.spec))
        return streams.join(chosen["obs"], action, chosen["reward"], chosen["flags"])

    def _roll_out(
        self, policy: Any, state: Any, steps: int, explore: bool, purpose: str
    ) -> tuple[np.ndarray, ...]:
        """Observations, actions in the task's units, rewards, flags, [steps, INSTANCES, ...]."""
        key = jax.random.fold_in(jax.random.key(self.seed), zlib.crc32(purpose.encode()))
        reset_key, key = jax.random.split(key)
        env = self._reset(jax.random.split(reset_key, INSTANCES))
        chunks = []
        for start in range(0, steps, STEPS):
            env, rows = self._roll(policy, state, env, key, np.int32(start), explore=explore)
            chunks.append(jax.device_get(rows))
            env = self._refill(env)
        return tuple(np.concatenate(part)[:steps] for part in zip(*chunks, strict=True))

    def _roll_pure(
        self, policy: Any, state: Any, env: Any, key: Array, start: Array, explore: bool
    ) -> tuple[Any, tuple[Array, ...]]:
        def step(env: Any, i: Array) -> tuple[Any, tuple[Array, ...]]:
            chosen = policy.act(state, env.obs, jax.random.fold_in(key, start + i), explore)
            action = policy.decode(chosen, self.spec)
            flags = ring.flags(env.terminated, env.truncated, env.unstable)
            row = (env.obs, action, env.reward, flags)
            return jax.vmap(self.env.step)(env, action), row

        return jax.lax.scan(step, env, jnp.arange(STEPS, dtype=jnp.int32))


def shares(rows: int, mix: Sequence[Part]) -> dict[Part, int]:
    """Transitions of each part of a mixture of equal parts, in which a name may come up again."""
    sizes: dict[Part, int] = {}
    for part, numbers in zip(mix, np.array_split(np.arange(rows), len(mix)), strict=True):
        sizes[part] = sizes.get(part, 0) + len(numbers)
    return {part: size for part, size in sizes.items() if size}


def _of_rows(name: str) -> bool:
    """Whether a checkpoint's array is a part of its replay's rows."""
    parts = name.split("/")
    return parts[0] == "replay" and parts[-1] in ("obs", "action", "reward", "flags")
