"""A run from start to end: the host loop between compiled chunks.

Between two chunks the host logs, refills starts, evaluates, lets the agent react, checkpoints, and
looks at the signal flags. Nothing that it does depends on the clock but when it checkpoints, so a
run that was killed and resumed equals one that was not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import agents
from jaxrl.agents._common import weak_leaves
from jaxrl.envs import taskfile
from jaxrl.envs.registry import make
from jaxrl.errors import UsageError
from jaxrl.train import console, results
from jaxrl.train.checkpoint import Checkpoints, from_arrays
from jaxrl.train.config import OfflineConfig, RunConfig, TrainConfig
from jaxrl.train.evaluate import GOAL_METRICS, Evaluator
from jaxrl.train.loops import Loop, ceil, env_options, prepare_online
from jaxrl.train.runlog import Metrics, MetricsWriter, RunFolder, describe
from jaxrl.train.signals import StopSignals

Array = jax.Array


ALL = 2**31
"""Checkpoints kept where none goes."""


class RunFailed(RuntimeError):
    """A run that an exception ended; the message names the last checkpoint."""


@dataclasses.dataclass(frozen=True)
class RunResult:
    """How a run ended."""

    path: Path
    finished: bool
    """False if a signal ended it; `--resume` goes on."""
    step: int
    return_mean: float
    """Of the last evaluation."""
    saved: int | None
    """Step of the last checkpoint; None where none could be written."""


@dataclasses.dataclass
class Progress:
    """The host's share of the training state; a checkpoint's `meta`."""

    iteration: int = 0
    """Iterations done, t."""
    transitions: int = 0
    wall_time: float = 0.0
    """Seconds spent training, over all resumes."""
    return_mean: float = float("nan")
    """Of the last evaluation."""
    evaluated: int = -1
    """Global step of the last evaluation."""


def train(agent_name: str, agent: Any, env_id: str, config: RunConfig) -> RunResult:
    """Trains `agent` on the task `env_id` and writes a run folder.

    Raises:
      UsageError: an argument is bad, the folder is taken, or memory does not suffice.
      RunFailed: an exception ended the run; the folder is whole.
    """
    eval_env = make(env_id, num_instances=config.eval_episodes, **env_options(config))
    loop: Loop
    if isinstance(config, TrainConfig) and not agents.is_offline(agent):
        agent, loop, said = prepare_online(agent, env_id, eval_env, config)
    elif isinstance(config, OfflineConfig):
        from jaxrl.train.offline import prepare_offline

        agent, loop, said = prepare_offline(agent, env_id, eval_env, config)
    else:
        raise UsageError(f"{agent_name} learns from a dataset: its config is an OfflineConfig")
    described = {**describe(agent_name, agent, env_id, config), **loop.about}
    path = config.out or Path("runs", f"{agent_name}_{taskfile.short(env_id)}_s{config.seed}")
    with contextlib.closing(results.open_or_create(path, described, config)) as folder:
        console.say(
            f"{agent_name} on {env_id}: {config.steps:,} {loop.unit}, {said}, run folder {path}"
        )
        run = Run(agent, loop, Evaluator(eval_env, config.eval_episodes), config, folder)
        with run.open(described):
            result = run.go()
        results.finish(folder, run.evaluator, agent, run.state.agent, result, config.video)
    return result


class Run:
    """One run's compiled functions and everything that changes."""

    def __init__(
        self,
        agent: Any,
        loop: Loop,
        evaluator: Evaluator,
        config: RunConfig,
        folder: RunFolder,
    ):
        self.agent, self.loop, self.evaluator = agent, loop, evaluator
        self.config, self.folder = config, folder
        self.progress = Progress()
        self.state: Any
        key = jax.random.key(config.seed)
        self._init_key, self._eval_key = jax.random.split(key)
        self._on_progress = jax.jit(type(agent).on_progress)
        self._on_evaluation = jax.jit(type(agent).on_evaluation)
        self._compiled: set[bool] = set()
        self._signals = StopSignals()

    @contextlib.contextmanager
    def open(self, described: dict[str, Any]) -> Iterator[None]:
        """Opens checkpoints, logs and the progress bar; restores the state on a resume."""
        with contextlib.ExitStack() as stack:
            self.checkpoints = Checkpoints(self.folder.checkpoints, self.config.keep)
            stack.callback(self.checkpoints.close)
            self.policies = None
            if self.config.keep_policies:
                self.policies = Checkpoints(self.folder.policies, keep=ALL)
                stack.callback(self.policies.close)
            self.folder.error.unlink(missing_ok=True)
            after = -1
            if self.config.resume and self.checkpoints.steps():
                after = self._restore()
                _tell(self.folder.note_commit(after, described["git_commit"]))
            else:
                self.state = self._first_state()
            if self.policies is not None:
                self.policies.discard_after(after)  # they come again
            weak = weak_leaves((self.agent, self.state))
            assert not weak, f"weakly typed leaves recompile silently: {weak}"
            wandb_config = described if self.config.wandb else None
            self.writer = MetricsWriter(self.folder, after, wandb_config)
            stack.callback(self.writer.close)
            self.bar = stack.enter_context(
                console.Bar(self.config.steps, self.step, self.loop.unit)
            )
            yield

    @property
    def step(self) -> int:
        """Global step: rows so far."""
        return self.progress.iteration * self.loop.num_envs

    def go(self) -> RunResult:
        """Runs to the end or to a signal, and leaves a checkpoint.

        Raises:
          RunFailed: an exception came out of a compiled function.
        """
        self._began = time.monotonic() - self.progress.wall_time
        self._saved_at = time.monotonic()
        with self._signals.caught():
            try:
                if self.progress.evaluated < 0:
                    self._write(self._evaluate() | self._scalars())
                while self.step < self.config.steps and not self._stop():
                    self._advance()
                    self._checkpoint_if_due()
            except Exception as error:
                self._fail(error)
            self._save()
            _tell(self.checkpoints.wait())
        finished = self.step >= self.config.steps
        saved = max(self.checkpoints.steps(), default=None)
        came = "finished" if finished else f"{self._signals.came}: stopped"
        if saved is None:
            console.say(f"{came} at step {self.step:,} without a checkpoint; --resume starts again")
        elif saved < self.step:
            console.say(f"{came} at step {self.step:,}; --resume goes on from step {saved:,}")
        elif not finished:
            console.say(f"{came} at step {self.step:,} with a checkpoint; --resume goes on")
        return RunResult(self.folder.path, finished, self.step, self.progress.return_mean, saved)

    def _advance(self) -> None:
        """One chunk and all that follows it."""
        end = self._next_stop()
        blocks = (end - self.step) // self.loop.block_steps
        learn = self.step >= self.loop.prefill
        began = time.monotonic()
        iteration = self.progress.iteration
        self.state, sums = self.loop.advance(self.agent, self.state, iteration, blocks, learn)
        speed = (end - self.step) / (time.monotonic() - began)
        warm = learn in self._compiled  # the first call of each program compiles
        self._compiled.add(learn)
        self.state = self.loop.refresh(self.state)
        self.progress.iteration = end // self.loop.num_envs
        self.progress.transitions += int(sums.get("transitions", 0))
        record = self._record(sums, speed if warm else None)
        if self._due(self.config.eval_every) or end == self.config.steps:
            record |= self._evaluate()
        share = np.float32(self.step / self.config.steps)
        self.state = self.state.replace(
            agent=self._on_progress(self.agent, self.state.agent, share)
        )
        self._write(record | self._scalars())
        self.bar.steps(self.step, speed if warm else None)

    def _next_stop(self) -> int:
        """Where the coming chunk ends: full length, or the next evaluation, growth or phase."""
        block = self.loop.block_steps
        chunk = max(1, self.config.chunk_steps // block) * block
        stops = [self.step + chunk, self.config.steps]
        stops.append(ceil(self.step + 1, self.config.eval_every))
        shares = self.agent.milestones()
        # The first step at which the share is reached; a product may exceed it by rounding.
        stops += [math.ceil(share * self.config.steps * (1 - 1e-9)) for share in shares]
        if self.step < self.loop.prefill:
            stops.append(self.loop.prefill)
        return min(ceil(stop, block) for stop in stops if stop > self.step)

    def _due(self, every: int) -> bool:
        """Whether this block is the first at or past a multiple of `every`."""
        return self.step // every != (self.step - self.loop.block_steps) // every

    def _evaluate(self) -> Metrics:
        """Greedy episodes with keys of their own; the agent may react."""
        key = jax.random.fold_in(self._eval_key, self.progress.iteration)
        returns = self.evaluator.returns(self.agent, self.state.agent, key)
        total = returns["episode_return"]
        mean, std = float(total.mean()), float(total.std())
        self.progress.return_mean, self.progress.evaluated = mean, self.step
        agent_state = self._on_evaluation(
            self.agent,
            self.state.agent,
            jnp.asarray(mean, jnp.float32),
            np.float32(self.step / self.config.steps),
        )
        self.state = self.state.replace(agent=agent_state)
        self.bar.evaluation(self.step, mean, std, time.monotonic() - self._began)
        if self.policies is not None:
            meta = {"return_mean": mean}
            _tell(self.policies.save(self.step, self.state.agent, None, meta, mean))
        raw = returns.get("episode_return_unpenalised", total)
        return {
            "eval/return_mean": mean,
            "eval/return_std": std,
            "eval/return_unpenalised": float(raw.mean()),
            "eval/episodes": len(total),
            **self.loop.scores(mean),
            **{f"eval/{k}": float(returns[k].mean()) for k in GOAL_METRICS if k in returns},
        }

    def _record(self, sums: dict[str, np.ndarray], speed: float | None) -> Metrics:
        """A chunk's sums as a line of metrics."""
        record: Metrics = {}
        if "transitions" in sums:
            record["charts/transitions"] = self.progress.transitions
        record |= self.loop.charts(self.state, sums)
        if speed is not None:
            record["charts/SPS"] = speed
        updates = int(sums["updates"])
        for name, value in sums.items():
            if name.startswith("losses/") and updates:
                record[name] = float(value) / updates
        return record

    def _scalars(self) -> Metrics:
        """What the agent tells about its state as the next chunk will find it."""
        scalars = self.agent.scalars(self.state.agent)
        return {f"agent/{name}": float(value) for name, value in scalars.items()}

    def _write(self, record: Metrics) -> None:
        self.progress.wall_time = time.monotonic() - self._began
        clock = {"global_step": self.step, "wall_time": round(self.progress.wall_time, 3)}
        self.writer.write({**clock, **record})

    def _checkpoint_if_due(self) -> None:
        if time.monotonic() - self._saved_at >= 60 * self.config.checkpoint_minutes:
            self._save()

    def _save(self) -> None:
        meta = dataclasses.asdict(self.progress)
        score = self.progress.return_mean if self.progress.evaluated == self.step else None
        rest = self.state.replace(agent=())
        self._wait_for_policies()  # a resume from here does not evaluate here again
        _tell(self.checkpoints.save(self.step, self.state.agent, rest, meta, score))
        self._saved_at = time.monotonic()

    def _restore(self) -> int:
        """Loads the newest readable checkpoint; returns its step."""
        template = jax.eval_shape(self.loop.init, self.agent, self._init_key)
        step, arrays, meta = self.checkpoints.newest(("agent", "rest"), console.say)
        agent = from_arrays(template.agent, arrays["agent"])
        rest = from_arrays(template.replace(agent=()), arrays["rest"])
        self.state = rest.replace(agent=agent)
        names = [field.name for field in dataclasses.fields(Progress)]
        self.progress = Progress(**{name: meta[name] for name in names})
        self.checkpoints.discard_after(step)  # damaged ones; they come again
        console.say(f"resuming from step {step:,}")
        return step

    def _first_state(self) -> Any:
        try:
            return jax.block_until_ready(self.loop.init(self.agent, self._init_key))
        except jax.errors.JaxRuntimeError as error:
            self.loop.refuse_if_too_large(error, self.folder.path)
            raise

    def _wait_for_policies(self) -> None:
        if self.policies is not None:
            _tell(self.policies.wait())

    def _fail(self, error: Exception) -> None:
        self.checkpoints.wait()
        self._wait_for_policies()
        if self.progress.iteration == 0:
            self.loop.refuse_if_too_large(error, self.folder.path)
        steps = self.checkpoints.steps()
        last = (
            f"the last checkpoint is at step {steps[-1]:,}" if steps else "there is no checkpoint"
        )
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        with contextlib.suppress(OSError):
            self.folder.error.write_text("".join(traceback.format_exception(error)))
        raise RunFailed(
            f"the run failed after step {self.step:,}: {reason}; {last} in {self.folder.path}, "
            f"the traceback in {self.folder.error.name}"
        ) from error

    def _stop(self) -> bool:
        return self._signals.asked_to_stop(self.progress.iteration)


def _tell(problem: str | None) -> None:
    if problem:
        console.say(problem)
