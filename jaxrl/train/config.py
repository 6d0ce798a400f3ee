"""What a run is told, and whether it can be done."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl.envs.core import Env
from jaxrl.envs.goal.common import GoalReward
from jaxrl.errors import UsageError, check_seed
from jaxrl.memory import available_bytes
from jaxrl.train.online import OnlineLoop

ENV_OPTIONS = (
    *("physics", "action_cost", "action_repeat", "goal", "frozen_starts", "dense_reward"),
    "terminate",
)
"""Settings of a run that `jaxrl.make` takes, for training and for evaluation."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What every run is told, whatever it learns from."""

    steps: int = 1_000_000
    """Environment steps (rows) of the whole run, prefill included."""
    seed: int = 0
    """Of everything random in the run."""
    eval_every: int = 10_000
    """Environment steps between evaluations; there is one at step 0 and one at the end, too."""
    eval_episodes: int = 10
    """Greedy episodes per evaluation, in parallel."""
    chunk_steps: int = 1000
    """Environment steps per compiled call, between two looks at signals and logs."""
    action_cost: float = 0.0
    """c_a in the reward r - c_a * mean(a^2)."""
    action_repeat: int = 1
    """Control steps per action."""
    physics: str = "auto"
    """Physics engine: native (MuJoCo's C engine), mjx (MuJoCo XLA), warp (MuJoCo Warp, extra cuda),
    or auto: native on a CPU, warp on a CUDA device, mjx elsewhere."""
    goal: tuple[float, ...] | None = None
    """Command this goal in every episode, in training and evaluation; for goal tasks."""
    frozen_starts: bool = False
    """Keep each instance's first start and goal for its whole life, as JaxGCRL does."""
    dense_reward: bool = False
    """Reward minus the distance to the goal; for goal tasks."""
    terminate: bool = True
    """End episodes where the task says so, as at a fall; else the clock alone does."""
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints of the whole training state; there is one at the end, too."""
    keep: int = 2
    """Newest checkpoints kept, beside the best one."""
    keep_policies: bool = False
    """Keep the agent of every evaluation in policies/, as `jaxrl dataset` needs it."""
    out: Path | None = None
    """Run folder; by default runs/AGENT_TASK_sSEED."""
    overwrite: bool = False
    """Delete the run in that folder first."""
    resume: bool = False
    """Go on from the folder's newest checkpoint, bit for bit; start if there is none yet."""
    video: bool = True
    """Write policy.mp4 and playback.json, the final policy to watch, at the end."""
    wandb: bool = False
    """Log to Weights & Biases too (extra: wandb)."""

    def __post_init__(self) -> None:
        for name in (
            "steps",
            *self._counts(),
            "eval_every",
            "eval_episodes",
            "chunk_steps",
            "keep",
        ):
            value = getattr(self, name)
            if value < 1:
                raise UsageError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
        check_seed(self.seed)
        if not self.checkpoint_minutes > 0:
            raise UsageError(
                f"--checkpoint-minutes must be positive, got {self.checkpoint_minutes}"
            )
        if self.overwrite and self.resume:
            raise UsageError("--overwrite deletes the run that --resume would go on with; give one")

    def _counts(self) -> tuple[str, ...]:
        """Further settings that are at least 1."""
        return ()


@dataclasses.dataclass(frozen=True)
class TrainConfig(RunConfig):
    """A run that learns from what it does: everything but its agent and its environment's name."""

    num_envs: int = 8
    """Instances stepped in parallel, N."""
    env_steps_per_update: int = 8
    """Environment steps per gradient step (released DecQN code: 8)."""
    capacity: int = 1_000_000
    """Rows kept for replay."""
    learning_starts: int = 1000
    """Environment steps before the first gradient step."""
    stagger: bool = False
    """Let the instances' first episodes end at different times."""

    def _counts(self) -> tuple[str, ...]:
        return ("num_envs", "env_steps_per_update", "capacity", "learning_starts")


@dataclasses.dataclass(frozen=True)
class OfflineConfig(RunConfig):
    """A run that learns from a dataset. Its steps are gradient updates."""

    steps: int = 100_000
    """Gradient updates of the whole run."""
    eval_every: int = 10_000
    """Updates between evaluations; there is one at step 0 and one at the end, too."""
    chunk_steps: int = 500
    """Updates between two looks at signals and logs."""
    dataset: Path | None = None
    """File or folder of the dataset: D4RL (HDF5), Minari (folder) or OGBench (npz)."""
    stream: bool = False
    """Keep the dataset in files on the host and send batches ahead of time; so it is done, too,
    where it does not fit in memory."""


def check(config: TrainConfig, agent: Any, loop: OnlineLoop) -> None:
    """Raises `UsageError` for a combination that cannot be trained."""
    check_extras(config)
    _check_hindsight(config, agent, loop.env)
    block = loop.block_steps
    if config.steps % block:
        low = config.steps // block * block
        near = f"the nearest are {low:_} or {low + block:_}" if low else f"the nearest is {block:_}"
        raise UsageError(
            f"--steps {config.steps:_} is no multiple of {block} (num_envs {config.num_envs}, one "
            f"update per {config.env_steps_per_update} steps); {near}"
        )
    if config.capacity < agent.batch_size:
        raise UsageError(
            f"--capacity {config.capacity:_} is below the batch of {agent.batch_size}; "
            f"give --capacity {agent.batch_size} or more, or a smaller --batch-size"
        )
    if config.capacity >= 2**31:
        raise UsageError(
            f"--capacity {config.capacity:_} is more than the {2**31 - 1:_} rows that an index of "
            "32 bits can tell apart"
        )
    least = config.num_envs * (agent.n_step + 2)
    if config.capacity < least or config.learning_starts < least:
        raise UsageError(
            f"--capacity and --learning-starts must be at least {least} for {config.num_envs} "
            f"instances and {agent.n_step}-step returns, got {config.capacity:_} and "
            f"{config.learning_starts:_}"
        )
    begins = -(-config.learning_starts // block) * block  # learning begins with a whole block
    if config.steps <= begins:
        raise UsageError(
            f"--steps {config.steps:_} leaves nothing to learn: learning starts at {begins:_}; "
            "give more steps or a smaller --learning-starts"
        )


def check_extras(config: RunConfig) -> None:
    """Raises `UsageError` for an option whose package is not installed."""
    if config.wandb and importlib.util.find_spec("wandb") is None:
        raise UsageError("--wandb needs the extra: pip install 'jaxrl[wandb]'")


def check_goal(agent: Any, env: Env) -> None:
    """Raises `UsageError` if an agent that is after a single goal meets several."""
    spec = env.spec
    if not getattr(agent, "single_goal", False) or spec.goal is None:
        return
    first = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 4))
    goals = np.unique(np.asarray(first.obs)[:, spec.goal.commanded], axis=0)
    if len(goals) > 1:
        raise UsageError(
            f"the agent is after a single goal, and {spec.name} commands another in each episode; "
            f"choose one, as in --goal {' '.join(f'{x:.4g}' for x in goals[-1])} "
            f"({spec.goal.unit}), or give --no-single-goal"
        )


def _check_hindsight(config: TrainConfig, agent: Any, env: Env) -> None:
    """Raises `UsageError` where new goals would get other rewards than the task gives."""
    if getattr(agent, "hindsight", "none") == "none":
        if getattr(agent, "hindsight_dense", False):
            raise UsageError("--hindsight-dense says nothing without --hindsight: give one")
        return
    if config.action_cost != 0 or config.action_repeat != 1:
        raise UsageError(
            f"hindsight computes the reward of a new goal anew, without action costs or repeats: "
            f"got --action-cost {config.action_cost:g} and --action-repeat {config.action_repeat}; "
            "leave them out, or give --hindsight none"
        )
    if config.dense_reward != agent.hindsight_dense:
        raise UsageError(
            "--dense-reward and --hindsight-dense go together, or new goals would be rewarded "
            "otherwise than commanded ones; give both or neither"
        )
    while hasattr(env, "env"):
        env = env.env
    has_own = hasattr(env, "task") and not isinstance(env.task.reward, GoalReward)
    if env.spec.goal is not None and has_own:
        raise UsageError(
            f"hindsight knows the reward of goal_task (success, or minus the distance), and "
            f"{env.spec.name} has one of its own; make it by goal_task, or give --hindsight none"
        )


def replay_bytes(agent: Any, loop: OnlineLoop) -> int:
    """Bytes that the replay will take."""
    shape = jax.eval_shape(loop.init, agent, jax.random.key(0))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shape.replay))


def check_memory(config: TrainConfig, needed: int) -> None:
    """Raises `UsageError` if a replay of `needed` bytes does not fit."""
    available = available_bytes()
    if needed > available:
        fits = int(0.9 * config.capacity * available / needed)
        raise UsageError(
            f"--capacity {config.capacity:_} needs {needed / 2**30:.1f} GiB and "
            f"{available / 2**30:.1f} GiB are free; --capacity {fits:_} would fit"
        )


def check_instances(config: TrainConfig, agent: Any, loop: OnlineLoop) -> None:
    """Raises `UsageError` if the instances' states do not fit beside the replay."""
    shape = jax.eval_shape(loop.init, agent, jax.random.key(0))
    leaves = jax.tree.leaves(shape.replace(agent=(), replay=(), key=()))
    needed = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    available = available_bytes() - replay_bytes(agent, loop)
    if needed > available:
        fits = int(0.9 * config.num_envs * max(0, available) / needed)
        raise UsageError(
            f"--num-envs {config.num_envs:_} needs at least {needed / 2**30:.1f} GiB and "
            f"{available / 2**30:.1f} GiB are free beside the replay; --num-envs {fits:_} would fit"
        )


def refuse_if_too_large(config: TrainConfig, error: Exception, path: Path) -> None:
    """Raises `UsageError` if `error` says that memory ran out; the run has got as far as `path`."""
    if "RESOURCE_EXHAUSTED" in str(error):
        raise UsageError(
            f"{config.num_envs:_} instances and a replay of {config.capacity:_} rows do not fit in "
            f"the memory of {jax.devices()[0]}: give fewer --num-envs or a smaller --capacity, and "
            f"--overwrite, since {path} exists now"
        ) from error
