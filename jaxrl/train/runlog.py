"""A run on disk: config.json, metrics.jsonl, TensorBoard; and the same for a person to watch."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxrl.envs import taskfile
from jaxrl.errors import UsageError
from jaxrl.report.tracked import code_hash

Metrics = dict[str, float | int]

PACKAGES = ("jaxrl", "jax", "jaxlib", "flax", "optax", "numpy", "mujoco", "orbax-checkpoint")


TASK_HASHES = ("task_file_hash", "task_model_hash")
"""Keys of config.json for a task of the user's own."""


class RunFolder:
    """The folder of one run. A run never overwrites another."""

    def __init__(self, path: Path):
        self.path = path

    @classmethod
    def create(cls, path: Path, overwrite: bool) -> RunFolder:
        """A fresh folder.

        Raises:
          UsageError: it exists, and `overwrite` is not set or it holds something else than a run.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            is_run = (path / "config.json").exists()
            if not overwrite:
                raise UsageError(
                    f"{path} exists: give another --out, --overwrite to delete it, or --resume to "
                    "go on with it"
                )
            if not is_run:
                raise UsageError(f"{path} holds no run (no config.json), so --overwrite spares it")
            shutil.rmtree(path)
        path.mkdir(parents=True, exist_ok=True)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The folder of an existing run.

        Raises:
          UsageError: there is no run.
        """
        if not (path / "config.json").exists():
            raise UsageError(f"{path} holds no run: there is no config.json in it")
        return cls(path)

    @property
    def checkpoints(self) -> Path:
        """Where Orbax writes."""
        return self.path / "checkpoints"

    @property
    def policies(self) -> Path:
        """The agents of all evaluations, if the run keeps them."""
        return self.path / "policies"

    @property
    def error(self) -> Path:
        """Traceback of the exception that ended the run; not there if none did."""
        return self.path / "error.txt"

    def write_config(self, config: dict[str, Any]) -> None:
        """Writes config.json, whole or not at all."""
        temporary = self.path / "config.json.tmp"
        temporary.write_text(json.dumps(config, indent=2, default=str) + "\n")
        os.replace(temporary, self.path / "config.json")

    def config(self) -> dict[str, Any]:
        """Reads config.json.

        Raises:
          UsageError: it is damaged.
        """
        try:
            return json.loads((self.path / "config.json").read_text())
        except (OSError, ValueError) as error:
            raise UsageError(f"{self.path}/config.json cannot be read: {error}") from None

    def metrics(self) -> list[Metrics]:
        """The lines of metrics.jsonl; a last line that a kill cut short is left out."""
        path = self.path / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        records = []
        for line in lines:
            try:
                records.append(json.loads(line))
            except ValueError:
                continue
        return records


class MetricsWriter:
    """Appends to metrics.jsonl, TensorBoard and, if asked, Weights & Biases.

    Args:
      folder: the run's.
      after: on a resume, the step of the checkpoint: later lines are dropped. -1 keeps nothing.
      wandb_config: the run's configuration, to log to Weights & Biases; None does not.
    """

    def __init__(self, folder: RunFolder, after: int = -1, wandb_config: dict | None = None):
        from tensorboardX import SummaryWriter

        kept = [line for line in folder.metrics() if line["global_step"] <= after]
        path = folder.path / "metrics.jsonl"
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        os.replace(temporary, path)
        self._file = path.open("a", buffering=1)
        purge = after + 1 if after >= 0 else None
        self._tensorboard = SummaryWriter(str(folder.path / "tb"), purge_step=purge)
        self._wandb = None
        if wandb_config is not None:
            self._wandb = _start_wandb(folder, wandb_config)

    def write(self, record: Metrics) -> None:
        """One line; `record` has "global_step" and "wall_time"."""
        self._file.write(json.dumps(record) + "\n")
        for name, value in record.items():
            if "/" in name:
                self._tensorboard.add_scalar(name, value, record["global_step"])
        if self._wandb is not None:
            self._wandb.log(record, step=record["global_step"])

    def close(self) -> None:
        """Flushes everything."""
        self._file.close()
        self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()


def _start_wandb(folder: RunFolder, config: dict) -> Any:
    import wandb

    return wandb.init(project="jaxrl", name=folder.path.name, dir=folder.path, config=config)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "source tree"
    return found


def git_commit() -> str:
    """Commit of the source tree, with "+" if it has changes; "unknown" outside a checkout."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return commit + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def device() -> dict[str, Any]:
    """Kind and number of the devices that jax computes on."""
    import jax

    devices = jax.devices()
    return {
        "platform": devices[0].platform,
        "kind": processor() if devices[0].platform == "cpu" else devices[0].device_kind,
        "count": len(devices),
        "cores": os.cpu_count(),
    }


def processor() -> str:
    """The processor's name, as well as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.split(":")[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def describe(agent_name: str, agent: Any, env_id: str, config: Any) -> dict[str, Any]:
    """The content of config.json: all that it takes to run this again."""
    fields = dataclasses.asdict(config)
    return {
        "env_id": taskfile.absolute(env_id),
        **task_hashes(env_id),
        "exp_name": agent_name,
        "seed": config.seed,
        "command": command_line(),
        "agent": {f.name: _plain(getattr(agent, f.name)) for f in dataclasses.fields(agent)},
        "run": {name: _plain(value) for name, value in fields.items()},
        "git_commit": git_commit(),
        "versions": versions(),
        "device": device(),
    }


def task_hashes(env_id: str) -> dict[str, str]:
    """Of a task of the user's own: hashes of its file (without comments) and of its model, so that
    a resume notices a change of either. Nothing for other tasks."""
    found, task = taskfile.split(env_id), taskfile.load(env_id)
    if found is None or task is None:
        return {}
    hashes = (code_hash([found[0]]), taskfile.model_hash(task))
    return dict(zip(TASK_HASHES, hashes, strict=True))


def command_line() -> str:
    """What started this process, as a shell takes it."""
    program = Path(sys.argv[0])
    ours = program.name == "jaxrl" or program.parent.name == "jaxrl"  # or python -m jaxrl
    return shlex.join(["jaxrl", *sys.argv[1:]] if ours else ["python", *sys.argv])


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return float(value) if hasattr(value, "dtype") else value


def cpu_flags() -> list[str]:
    """Instruction set extensions, as well as the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.split(":")[1].split() for x in lines if x.startswith("flags"))
    except (OSError, StopIteration):
        return []
