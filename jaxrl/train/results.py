"""Opening run folders, what a finished run leaves behind, and loading it again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax

from jaxrl import agents, atomic
from jaxrl.envs.registry import make
from jaxrl.errors import UsageError
from jaxrl.report.page import PLAYBACK, write_recording
from jaxrl.train import console, media, playback
from jaxrl.train.checkpoint import Checkpoints, from_arrays
from jaxrl.train.config import ENV_OPTIONS, RunConfig, TrainConfig
from jaxrl.train.evaluate import Evaluator
from jaxrl.train.runlog import CONFIG, TASK_HASHES, RunFolder

FREE = {
    *("out", "overwrite", "resume", "video", "wandb", "checkpoint_minutes", "keep"),
    *("keep_policies", "dataset", "stream"),
}
"""Settings that a resume may change: they do not touch what is computed. A dataset may move: its
checksum tells that it is the same."""

MOVES = "dataset.path"


def open_or_create(path: Path, described: dict[str, Any], config: RunConfig) -> RunFolder:
    """The run's folder, locked, with config.json in it. A resume of nothing is a start, so that a
    scheduler can send the same command every time.

    Raises:
      UsageError: the folder is taken or being trained, or a resume would run with other settings.
    """
    if not config.resume or not (path / CONFIG).exists():
        folder = RunFolder.create(path, config.overwrite)
        folder.write_config(described)
        return folder
    folder = RunFolder.open(path)
    folder.lock()
    try:
        _same_settings(folder, described, config)
    except UsageError:
        folder.close()
        raise
    return folder


def _same_settings(folder: RunFolder, described: dict[str, Any], config: RunConfig) -> None:
    """Raises `UsageError` if a resume would run with other settings."""
    path, stored = folder.path, folder.config()
    # A setting that the stored run does not know was at its default.
    defaults = {f.name: f.default for f in dataclasses.fields(config)}
    stored["run"] = {**defaults, **stored.get("run", {})}
    compared = ("env_id", *TASK_HASHES, "exp_name", "agent", "run", "dataset")
    for key in (*compared, "versions", "device"):
        _same(key, stored.get(key), described.get(key), path)


def _same(name: str, stored: Any, now: Any, path: Path) -> None:
    if isinstance(now, dict) and isinstance(stored, dict):
        for key in sorted(now.keys() | stored.keys()):
            if not (name == "run" and key in FREE) and f"{name}.{key}" != MOVES:
                _same(f"{name}.{key}", stored.get(key), now.get(key), path)
        return
    if list(now) != list(stored) if isinstance(now, tuple | list) and stored else now != stored:
        raise UsageError(
            f"{path} was run with {name} = {stored!r}, now it is {now!r}: resume with the same, or "
            "start a new run with another --out"
        )


def finish(
    folder: RunFolder, evaluator: Evaluator, agent: Any, state: Any, result: Any, video: bool
) -> None:
    """Writes curve.png, policy.mp4 and playback.json, and says where everything lies."""
    config = folder.config()
    curve = folder.path / "curve.png"
    title = f"{config['exp_name']} on {evaluator.env.spec.name}, seed {config['seed']}"
    unit = "gradient updates" if "dataset" in config else "environment steps"
    evaluations = [m for m in folder.metrics() if "eval/return_mean" in m]
    try:
        media.save_curve(evaluations, curve, title, unit)
        drawn = str(curve)
    except (OSError, ValueError) as reason:  # a full disk; no evaluation in a damaged log
        drawn = f"not written: {reason}"
    lines = [f"return   {result.return_mean:.1f} at the last evaluation", f"curve    {drawn}"]
    if result.finished and video:
        lines.append(f"video    {write_video(folder.path / 'policy.mp4', evaluator, agent, state)}")
        trained = Trained(folder, result.step, agent, state, evaluator)
        lines.append(f"playback {write_playback(trained, folder.path / PLAYBACK)}")
    lines.append(f"metrics  {folder.path / 'metrics.jsonl'}")
    for line in lines:
        console.say(line)


def write_video(path: Path, evaluator: Evaluator, agent: Any, state: Any, seed: int = 0) -> str:
    """Films one greedy episode; returns the path, or the line that says what rendering lacks."""
    atomic.check_folder(path)
    env = evaluator.env
    try:
        rows = evaluator.record(agent, state, jax.random.key(seed))
        skip = max(1, round(1 / (50 * env.spec.control_dt)))  # at most 50 pictures per second
        frames = (env.render(row) for row in rows[::skip])
        media.save_video(frames, path, fps=1 / (skip * env.spec.control_dt))
    except (RuntimeError, OSError) as reason:  # no OpenGL library, ffmpeg failed, a full disk
        return f"not written: {reason}"
    return str(path)


def record_episode(trained: Trained, seed: int = 0) -> dict[str, Any]:
    """One greedy episode, as a page plays it."""
    config = trained.folder.config()
    about = {name: config[name] for name in ("env_id", "exp_name", "seed")}
    about["global_step"] = trained.step
    return playback.record(trained.evaluator, trained.agent, trained.state, about, seed)


def write_playback(trained: Trained, path: Path, seed: int = 0) -> str:
    """Records one greedy episode for a page to play; returns the path, or why there is none."""
    try:
        write_recording(path, record_episode(trained, seed))
    except (UsageError, OSError) as reason:  # no model of MuJoCo's, a full disk
        return f"not written: {reason}"
    return str(path)


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished or interrupted run, ready to act."""

    folder: RunFolder
    step: int
    agent: Any
    state: Any
    evaluator: Evaluator


def load(path: Path, episodes: int, step: int | None = None, task: str | None = None) -> Trained:
    """The agent of the run in `path` at its newest checkpoint (or at `step`).

    Args:
      task: evaluate on this task instead of the run's own.

    Raises:
      UsageError: there is no run or no readable checkpoint, or the task's sizes differ.
    """
    folder = RunFolder.open(path)
    config = folder.config(("agent", "run"))
    try:
        default = agents.default(config["exp_name"])
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in config["agent"].items()}
        agent = dataclasses.replace(default, **fields)
        settings = {f.name: f.default for f in dataclasses.fields(TrainConfig)} | config["run"]
        options = {name: settings[name] for name in ENV_OPTIONS}
        options["num_instances"] = episodes
        own = make(config["env_id"], **options)
        agent = agents.bound(agent, own.spec).canonical()
        template = jax.eval_shape(lambda key: agent.init(key, own.spec), jax.random.key(0))
    except UsageError as error:
        raise UsageError(f"{path}/config.json: {error}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UsageError(
            f"{path}/config.json is damaged or of another version of jaxrl: {said}"
        ) from error
    env = make(task, **options) if task else own
    sizes = ("observation_size", "action_size")
    for name in sizes:
        if getattr(env.spec, name) != getattr(own.spec, name):
            raise UsageError(
                f"the run in {path} is of {config['env_id']} with {name} "
                f"{getattr(own.spec, name)}; {task} has {getattr(env.spec, name)}"
            )
    kept = folder.checkpoints
    if step is not None and not (kept / str(step)).is_dir():
        kept = folder.policies if (folder.policies / str(step)).is_dir() else kept
    checkpoints = Checkpoints(kept)
    try:
        found, arrays, _ = checkpoints.newest(("agent",), console.say, step)
    finally:
        checkpoints.close()
    state = from_arrays(template, arrays["agent"])
    return Trained(folder, found, agent, state, Evaluator(env, episodes))
