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
import uuid
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from jaxrl import atomic
from jaxrl.envs import taskfile
from jaxrl.errors import UsageError
from jaxrl.report.runs import read_config, read_lines
from jaxrl.report.tracked import code_hash

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

Metrics = dict[str, float | int]

CONFIG = "config.json"
LOCK = ".lock"
"""Held by the process that trains the run, and left there."""

PACKAGES = ("jaxrl", "jax", "jaxlib", "flax", "optax", "numpy", "mujoco", "orbax-checkpoint")


TASK_HASHES = ("task_file_hash", "task_model_hash")
"""Keys of config.json for a task of the user's own: see `taskfile.hashes`."""


class RunFolder:
    """The folder of one run. A run never overwrites another; one process at a time trains it."""

    def __init__(self, path: Path):
        self.path = path
        self._lock: IO[str] | None = None

    @classmethod
    def create(cls, path: Path, overwrite: bool) -> RunFolder:
        """A fresh folder, locked.

        Raises:
          UsageError: it cannot be made, it is being trained, or it exists, and `overwrite` is not
            set or it holds something else than a run.
        """
        try:
            if path.exists() and not path.is_dir():
                raise UsageError(f"{path} exists and is no folder: give another --out")
            taken = path.exists() and not all(map(_left_over, path.iterdir()))
            if taken and not (path / CONFIG).exists():
                spares = ", so --overwrite spares it" if overwrite else ""
                raise UsageError(f"{path} holds no run (no {CONFIG}){spares}: give another --out")
            if taken and not overwrite:
                raise UsageError(
                    f"{path} exists: give another --out, --overwrite to delete it, or --resume to "
                    "go on with it"
                )
            path.mkdir(parents=True, exist_ok=True)
            folder = cls(path)
            folder.lock()
            if taken:
                folder._clear()
        except OSError as error:
            raise UsageError(f"cannot write the run folder {path}: {error}") from None
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The folder of an existing run.

        Raises:
          UsageError: there is no run.
        """
        if not (path / CONFIG).exists():
            raise UsageError(f"{path} holds no run: there is no {CONFIG} in it")
        return cls(path)

    def lock(self) -> None:
        """Keeps other processes from training this run until this one ends, or `close`.

        Raises:
          UsageError: another one does.
        """
        lock = (self.path / LOCK).open("a+")
        try:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            lock.close()
            raise UsageError(
                f"{self.path} is being trained by {holder}: wait for its end, or give another --out"
            ) from None
        except OSError as error:  # some network file systems know no locks
            print(f"{self.path} cannot be locked against a second process: {error}", flush=True)
        atomic.sweep(self.path)
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {platform.node()}\n")
        lock.flush()
        self._lock = lock

    def close(self) -> None:
        """Lets other processes train this run."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _clear(self) -> None:
        """Deletes all but the lock: first, at once, the checkpoints, that no resume takes them up;
        config.json last, so that what a kill leaves is still a run."""
        last = self.path / CONFIG
        if self.checkpoints.exists():
            self.checkpoints.rename(self.path / f".checkpoints.{os.getpid()}")
        for child in list(self.path.iterdir()):
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            elif child.name not in (CONFIG, LOCK):
                child.unlink()
        last.unlink(missing_ok=True)

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
        """Writes config.json."""
        atomic.write_text(self.path / CONFIG, json.dumps(config, indent=2, default=str) + "\n")

    def note_commit(self, step: int, commit: str) -> str:
        """Adds the code that goes on from `step` to config.json if it is another than before;
        returns what to say of it, or ""."""
        config = self.config()
        resumed = config.get("resumed", [])
        before = (resumed[-1] if resumed else config).get("git_commit", "unknown")
        if commit == before:
            return ""
        config["resumed"] = [*resumed, {"global_step": step, "git_commit": commit}]
        self.write_config(config)
        return f"the code is of commit {commit[:9]}, and was of {before[:9]} until here"

    def config(self, needed: Sequence[str] = ()) -> dict[str, Any]:
        """Reads config.json, which has all keys of `needed`.

        Raises:
          UsageError: it is damaged, or no run's.
        """
        return read_config(self.path / CONFIG, needed)

    def metrics(self) -> list[Metrics]:
        """The lines of metrics.jsonl; a last line that a kill cut short is left out."""
        return read_lines(self.path / "metrics.jsonl")[0]


class MetricsWriter:
    """Appends to metrics.jsonl, TensorBoard and, if asked, Weights & Biases.

    Args:
      folder: the run's.
      after: on a resume, the step of the checkpoint: later lines are dropped. -1 keeps nothing.
      wandb_config: the run's configuration, to log to Weights & Biases; None does not.
    """

    def __init__(self, folder: RunFolder, after: int = -1, wandb_config: dict | None = None):
        from tensorboardX import SummaryWriter

        path = folder.path / "metrics.jsonl"
        lines, damaged = read_lines(path)
        if damaged and after >= 0:
            print(f"{folder.path}: {damaged}", flush=True)
        kept = [line for line in lines if line["global_step"] <= after]
        atomic.write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = path.open("a", buffering=1)
        self._tensorboard = SummaryWriter(str(folder.path / "tb"), purge_step=after + 1)
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
    """The run at Weights & Biases: the same again after a resume, by the name that is kept."""
    import wandb

    kept = folder.path / "wandb_id"
    if not kept.exists():
        atomic.write_text(kept, uuid.uuid4().hex)
    about: dict[str, Any] = {"id": kept.read_text(), "resume": "allow", "config": config}
    return wandb.init(project="jaxrl", name=folder.path.name, dir=folder.path, **about)


def _left_over(path: Path) -> bool:
    """Whether a start that died, or a run that ended, may leave this file in an empty folder."""
    return path.name == LOCK or path.name.startswith(".config.")


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
    """Commit of the source tree, with "+" if it has changes but for results of benchmarks, which
    compute nothing; "unknown" outside a checkout, such as in an environment that lies in the
    checkout of something else."""
    folder, ours = Path(__file__).parent, Path(__file__).name

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", ours)
        commit = git("rev-parse", "HEAD")
        source = (":/", ":(exclude,top)benchmarks/results")
        changes = git("status", "--porcelain", "--untracked-files=no", "--", *source)
        return commit + ("+" if changes else "")
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
        **_script(),
        "agent": {f.name: _plain(getattr(agent, f.name)) for f in dataclasses.fields(agent)},
        "run": {name: _plain(value) for name, value in fields.items()},
        "git_commit": git_commit(),
        "versions": versions(),
        "device": device(),
    }


def task_hashes(env_id: str) -> dict[str, str]:
    """Of a task of the user's own, what a resume compares; nothing for other tasks."""
    found = taskfile.hashes(env_id)
    return dict(zip(TASK_HASHES, found, strict=True)) if found else {}


def command_line() -> str:
    """What started this process, as a shell takes it."""
    program = Path(sys.argv[0])
    ours = program.name == "jaxrl" or program.parent.name == "jaxrl"  # or python -m jaxrl
    return shlex.join(["jaxrl", *sys.argv[1:]] if ours else ["python", *sys.argv])


def _script() -> dict[str, str]:
    """Hash of the script that was started, which may be no file of the commit's."""
    script = Path(sys.argv[0])
    is_script = script.suffix == ".py" and script.name != "__main__.py" and script.is_file()
    return {"script_hash": code_hash([script])} if is_script else {}


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
