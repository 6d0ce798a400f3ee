"""Runs to report on: reading run folders and tracked files, naming what may be pooled.

Two runs are pooled as seeds of one agent only if their settings agree. Where they differ within a
task, as few of the settings as tell them apart become part of the agent's name ("gqn, growth
linear"); where the task itself differs, by its action cost say, that is part of its name. No jax.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.errors import UsageError
from jaxrl.report import tracked

METRIC = "eval/return_mean"
NAMES = {METRIC: "evaluation return", "eval/success": "success rate"}
"""Of metrics, for a person."""
LESS_IS_BETTER = ("eval/final_distance",)
TASK_SETTINGS = (
    *("action_cost", "action_repeat", "goal", "frozen_starts", "dense_reward"),
    *("terminate", "dataset"),
)
"""Settings of a run that change what its return means, or what there was to learn from."""
NOT_THE_AGENT = {
    *("seed", "out", "overwrite", "resume", "video", "wandb", "checkpoint_minutes", "keep"),
    *("chunk_steps", "eval_episodes", "physics", "keep_policies", "stream"),
}
"""Settings that runs of one agent may differ in; they are reported, and pooled all the same."""

DIVERGED = "last evaluation not finite"
"""Why a finished run's score counts nowhere, if it is that."""


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One run: its evaluations, what made it, and what is wrong with it."""

    path: Path
    config: dict[str, Any]
    steps: np.ndarray
    """Environment steps of the evaluations, increasing, [L]."""
    values: np.ndarray
    """The metric at these steps, [L]; may hold NaN."""
    hours: np.ndarray
    """Wall-clock time of the evaluations since the run began, [L]."""
    notes: tuple[str, ...] = ()
    """What a reader should know: damaged lines, a commit that is not known."""
    left_out: str | None = None
    """Why the run's score counts nowhere; None if it does."""
    agent: str = ""
    task: str = ""

    @property
    def seed(self) -> int:
        """Of the run."""
        return int(self.config.get("seed", 0))

    @property
    def env_id(self) -> str:
        """Task without its settings, as references are named."""
        return str(self.config.get("env_id", "?"))

    @property
    def score(self) -> float | None:
        """The last evaluation, or None where there is none that is finite."""
        if not len(self.values) or not math.isfinite(self.values[-1]):
            return None
        return float(self.values[-1])

    @property
    def settings(self) -> dict[str, Any]:
        """The agent's hyperparameters and the run's options, as "agent.width" and "run.steps"; and
        what a file of the user's was: its dataset by name and checksum, its task by hashes."""
        groups = [(g, self.config.get(g, {})) for g in ("agent", "run")]
        settings = {f"{g}.{k}": v for g, of in groups for k, v in of.items()}
        data = self.config.get("dataset")
        if isinstance(data, dict) and "checksum" in data:
            name = Path(str(settings.get("run.dataset"))).name
            settings["run.dataset"] = f"{name} {str(data['checksum'])[:8]}"
        for key in ("task_file_hash", "task_model_hash"):
            if key in self.config:
                settings[f"task.{key.split('_')[1]}"] = str(self.config[key])[:8]
        return settings


def collect(
    paths: Sequence[Path], metric: str = METRIC, count_unfinished: bool = False
) -> list[Run]:
    """All runs in `paths`, named, in order of task, agent and seed.

    Args:
      paths: run folders, tracked files, or folders that hold any of these.
      metric: key of the lines with an evaluation.
      count_unfinished: let a run that has not reached its last step count with what it has.

    Raises:
      UsageError: a path holds no run, a tracked file is refused, or no run has an evaluation.
    """
    if not paths:
        raise UsageError("RUN is missing: give run folders, tracked files or folders of these")
    found = dict.fromkeys(p.resolve() for path in paths for p in _expand(path))
    runs = [_read(path, metric, count_unfinished) for path in found]
    if not any(len(run.steps) for run in runs):
        raise UsageError(
            f"none of the {len(runs)} runs has an evaluation ({metric}): there is nothing to report"
        )
    runs = sorted(_named(runs), key=lambda run: (run.task, run.agent, run.seed))
    return _without_twins(runs)


def _expand(path: Path) -> list[Path]:
    """The runs at `path`: itself, or those below it."""
    if path.is_file():
        if path.suffix != ".jsonl":
            raise UsageError(f"{path} is no run: give a run folder or a tracked .jsonl file")
        return [path]
    if not path.is_dir():
        raise UsageError(f"{path} does not exist: give a run folder or a tracked .jsonl file")
    if (path / "config.json").exists():
        return [path]
    below = [p.parent for p in path.rglob("config.json") if _is_run(p)]
    files = [p for p in path.rglob("*.jsonl") if p.name != "metrics.jsonl"]
    if not below and not files:
        raise UsageError(f"{path} holds no run: no config.json and no tracked .jsonl file in it")
    return sorted(below) + sorted(files)


def _is_run(config: Path) -> bool:
    """Whether a config.json is a run's; other programs have files of this name, too."""
    return (config.parent / "metrics.jsonl").exists() or (config.parent / "checkpoints").exists()


def _read(path: Path, metric: str, count_unfinished: bool) -> Run:
    damaged = ""
    if path.is_file():
        config, lines = tracked.read(path)
        check_config(config, path)
    else:
        config = read_config(path / "config.json")
        lines, damaged = read_lines(path / "metrics.jsonl")
    rows = {
        int(line["global_step"]): (_number(line[metric]), _number(line.get("wall_time")))
        for line in lines
        if metric in line and isinstance(line.get("global_step"), int)
    }
    steps = np.array(sorted(rows), dtype=np.int64)
    values = np.array([rows[s][0] for s in steps], dtype=np.float64)
    hours = np.array([rows[s][1] for s in steps], dtype=np.float64) / 3600
    notes = [damaged] if damaged else []
    notes += _origin(config)
    planned = config.get("run", {}).get("steps")
    left_out = None
    if not len(steps):
        left_out = "no evaluation"
    elif planned and steps[-1] < planned:
        left_out = f"unfinished: {steps[-1]:,} of {planned:,} steps"
        if count_unfinished:
            notes, left_out = [*notes, left_out], None
    if left_out is None and not math.isfinite(values[-1]):
        left_out = DIVERGED
    return Run(path, config, steps, values, hours, tuple(notes), left_out)


def read_config(path: Path, needed: Sequence[str] = ()) -> dict[str, Any]:
    """The content of a run's config.json, which has all keys of `needed`.

    Raises:
      UsageError: it is damaged, or no run's.
    """
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    return check_config(config, path, needed)


def check_config(config: Any, path: Path, needed: Sequence[str] = ()) -> dict[str, Any]:
    """The configuration `config` that `path` holds, if it is a run's; see `read_config`."""
    wanted = ("env_id", "exp_name", *needed)
    missing = [k for k in wanted if not (isinstance(config, dict) and k in config)]
    if missing:
        raise UsageError(f"{path} is no run's: it has no {' and no '.join(missing)}")
    kinds = {"env_id": str, "exp_name": str, "seed": int, "agent": dict, "run": dict}
    found = [(key, kind, config[key]) for key, kind in kinds.items() if key in config]
    if isinstance(run := config.get("run"), dict) and "steps" in run:
        found.append(("run.steps", int, run["steps"]))
    for key, kind, value in found:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UsageError(f"{path} is damaged: {key} should be {kind.__name__}, got {value!r}")
    return config


def read_lines(path: Path) -> tuple[list[dict[str, Any]], str]:
    """The lines of metrics.jsonl that can be read, and what to say of the others."""
    if not path.exists():
        return [], "no metrics.jsonl"
    text = path.read_text(errors="replace").splitlines()
    lines, bad = [], []
    for number, line in enumerate(text, 1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or not isinstance(record.get("global_step"), int):
                raise ValueError(line)
            lines.append(record)
        except ValueError:
            bad.append(number)
    if not bad:
        return lines, ""
    if bad == [len(text)]:
        return lines, "last line of metrics.jsonl cut short"
    if len(bad) == 1:
        return lines, f"1 damaged line of metrics.jsonl left out, line {bad[0]}"
    return lines, f"{len(bad)} damaged lines of metrics.jsonl left out, the first is {bad[0]}"


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _origin(config: dict[str, Any]) -> list[str]:
    """Notes on a command or a commit that nobody can go back to."""
    notes = []
    if config.get("command") in (None, "", "unknown"):
        notes.append("command unknown")
    commit = str(config.get("git_commit") or "unknown")
    if commit == "unknown":
        notes.append("commit unknown")
    elif commit.endswith("+"):
        notes.append("uncommitted changes")
    for resumed in config.get("resumed", []):
        notes.append(f"from step {resumed['global_step']:,} on of commit {resumed['git_commit']}")
    return notes


def _named(runs: list[Run]) -> list[Run]:
    """Runs with the names of their agent and task."""
    by_env = _groups(runs, lambda r: r.env_id)
    task_keys = {env: _differing(group, _of_the_task) for env, group in by_env.items()}
    tasks = [_name(r.env_id, r, task_keys[r.env_id]) for r in runs]
    runs = [dataclasses.replace(r, task=t) for r, t in zip(runs, tasks, strict=True)]
    by_name = _groups(runs, _exp_name)
    agent_keys = {name: _telling(group) for name, group in by_name.items()}
    names = [_name(_exp_name(r), r, agent_keys[_exp_name(r)]) for r in runs]
    return [dataclasses.replace(r, agent=name) for r, name in zip(runs, names, strict=True)]


def _telling(runs: list[Run]) -> list[str]:
    """As few settings as tell apart what differs within any task, found greedily."""
    by_task = list(_groups(runs, lambda r: r.task).values())
    keys = sorted(set().union(*(_differing(group, _of_the_agent) for group in by_task)))

    def kinds(chosen: Sequence[str]) -> int:
        """How many agents these settings tell apart, summed over tasks."""
        values = [
            {json.dumps([r.settings.get(k) for k in chosen]) for r in group} for group in by_task
        ]
        return sum(map(len, values))

    chosen: list[str] = []
    while kinds(chosen) < kinds(keys):
        chosen.append(max(keys, key=lambda k: kinds([*chosen, k])))
    return chosen


def _exp_name(run: Run) -> str:
    return str(run.config.get("exp_name", "?"))


def _groups(runs: Iterable[Run], key: Any) -> dict[Any, list[Run]]:
    groups: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        groups[key(run)].append(run)
    return groups


def _of_the_task(setting: str) -> bool:
    group, _, name = setting.partition(".")
    return group == "task" or (group == "run" and name in TASK_SETTINGS)


def _of_the_agent(setting: str) -> bool:
    group, _, name = setting.partition(".")
    return group == "agent" or (group == "run" and name not in NOT_THE_AGENT)


def _differing(runs: Iterable[Run], which: Any) -> set[str]:
    """Settings in which runs differ; one that an older run does not know does not differ there."""
    seen: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        for key, value in run.settings.items():
            if which(key):
                seen[key].add(json.dumps(value))
    return {key for key, values in seen.items() if len(values) > 1}


def _name(base: str, run: Run, keys: Iterable[str]) -> str:
    settings = run.settings
    parts = [f"{k.partition('.')[2]} {short(settings[k])}" for k in sorted(keys) if k in settings]
    return ", ".join([base, *parts])


def short(value: Any) -> str:
    """A setting's value as a person writes it."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return " ".join(map(short, value))
    return str(value)


def short_commit(commit: str) -> str:
    """Nine digits of a commit, and the "+" of uncommitted changes."""
    return commit[:9] + ("+" if commit.endswith("+") and len(commit) > 9 else "")


def _without_twins(runs: list[Run]) -> list[Run]:
    """Of runs of one agent, task and seed only the longest counts: they are not independent."""
    best: dict[tuple[str, str, int], Run] = {}
    for run in runs:
        key = (run.agent, run.task, run.seed)
        if key not in best or _worth(run) > _worth(best[key]):
            best[key] = run
    twins = []
    for run in runs:
        kept = best[run.agent, run.task, run.seed]
        twin = None if run is kept or not len(run.steps) else f"same seed as {label(kept, runs)}"
        twins.append(dataclasses.replace(run, left_out=twin) if twin else run)
    return twins


def _worth(run: Run) -> tuple[bool, int]:
    return run.left_out is None, len(run.steps)


def label(run: Run, runs: Sequence[Run]) -> str:
    """The run's folder or file by as few of its last names as tell it from the others."""
    for depth in range(1, len(run.path.parts)):
        name = "/".join(run.path.parts[-depth:])
        same = Counter("/".join(other.path.parts[-depth:]) for other in runs)
        if same[name] == 1:
            return name
    return str(run.path)
