"""Tasks of your own: `path/to/my_task.py:balance` names a task that a Python file defines.

The file holds `TASKS = [Task(...), ...]`, or a `Task` as a variable of its own. It is imported when
the task is first asked for, and again when it has changed (docs/your_own_task.md is the tutorial).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxrl.errors import UsageError
from jaxrl.report.tracked import code_hash

if TYPE_CHECKING:
    from jaxrl.envs.task import Sim, Task


TRIALS = 4
"""Starts drawn to try a task out."""

Shaped = jax.Array | np.ndarray | np.generic | float | int | bool


def split(name: str) -> tuple[Path, str] | None:
    """(file, task) of a name such as "my_task.py:balance"; None for any other name. The task is ""
    where the name is a file alone."""
    file, colon, task = name.rpartition(":")
    if colon and file.endswith(".py"):
        return Path(file), task
    return (Path(name), "") if name.endswith(".py") else None


def split_map(name: str) -> tuple[str, Path] | None:
    """(kind, file) of a name such as "point-map:maze.txt"; None for any other name."""
    from jaxrl.envs.goal.options import MAPS

    kind, colon, file = name.partition(":")
    return (kind, Path(file)) if colon and kind in MAPS else None


def absolute(name: str) -> str:
    """The same name with the file's absolute path, so that it means the same in every folder."""
    if maze := split_map(name):
        return f"{maze[0]}:{os.path.abspath(maze[1])}"
    found = split(name)
    return f"{os.path.abspath(found[0])}:{found[1]}" if found else name


def short(name: str) -> str:
    """The name as part of a file's name: "my_task-balance" for "path/to/my_task.py:balance"."""
    if maze := split_map(name):
        return f"{maze[0]}-{maze[1].stem}"
    found = split(name)
    return (f"{found[0].stem}-{found[1]}" if found else name).replace("/", "-")


def hashes(name: str) -> tuple[str, str] | None:
    """Of a task of the user's own: hashes of its file (a Python file's without comments) and of its
    model, so that a change of either is noticed. None for other tasks."""
    if maze := split_map(name):
        from jaxrl.envs.goal.options import goal_task_named

        task = goal_task_named(name)
        assert task is not None
        text = hashlib.sha256(maze[1].read_bytes()).hexdigest()[:16]
        return text, model_hash(task)
    found, task = split(name), load(name)
    if found is None or task is None:
        return None
    return code_hash([found[0]]), model_hash(task)


def load(name: str) -> Task | None:
    """The task of that name, tried out; None if the name is not one of a file.

    The task is renamed to `file.py:task`, so that it cannot be taken for one of the suite.

    Raises:
      UsageError: the file is gone, fails or defines no such task, or the task cannot be simulated;
        one line with the place in the file.
    """
    found = split(name)
    if found is None:
        return None
    file, task = found
    if not file.is_file():
        raise UsageError(f"there is no file {file} to take the task {task!r} from")
    return _tried(Path(os.path.abspath(file)), task, file.stat().st_mtime_ns)


@functools.cache
def _tried(file: Path, name: str, modified: int) -> Task:
    tasks = _tasks(file, modified)
    if name not in tasks:
        known = ", ".join(tasks) or "none; it needs a list TASKS, or a Task as a variable"
        asked = f"no task {name!r}" if name else "its tasks by name, as in FILE.py:TASK"
        raise UsageError(f"{file} defines {asked}; there are: {known}")
    task = dataclasses.replace(tasks[name], name=f"{file.name}:{name}")
    with _one_line(file):
        _try(task)
    return task


@functools.cache
def _tasks(file: Path, modified: int) -> dict[str, Task]:
    """Tasks by name that the file defines."""
    from jaxrl.envs.task import Task

    with _one_line(file):
        module = _import(file)
        tasks = getattr(module, "TASKS", [])
        if not isinstance(tasks, list | tuple) or not all(isinstance(t, Task) for t in tasks):
            raise UsageError(f"TASKS must be a list of Task, got {tasks!r:.60}")
        listed = {task.name: task for task in tasks}
    return listed | {k: v for k, v in vars(module).items() if isinstance(v, Task)}


def _import(file: Path) -> ModuleType:
    """The file as a module of its own, whatever its name."""
    place = hashlib.sha256(str(file).encode()).hexdigest()[:8]
    spec = importlib.util.spec_from_file_location(f"{file.stem}_{place}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _try(task: Task) -> None:
    """Raises UsageError where a step of the task would go wrong in a way that is hard to read."""
    import mujoco

    from jaxrl.envs.mujoco_env import MujocoEnv

    for name in ("control_dt", "time_limit"):
        seconds = getattr(task, name)
        if not isinstance(seconds, float | int) or not 0 < seconds < np.inf:
            raise UsageError(f"{name} must be seconds above 0, got {seconds!r}")
    env = MujocoEnv(
        dataclasses.replace(
            task,
            start=_checked_start(task.start),
            observe=_checked("observe", task.observe, "[O]"),
            reward=_checked("reward", task.reward, "[]"),
            terminated=_checked("terminated", task.terminated, "[]", "bool"),
        )
    )
    data = mujoco.MjData(env.model)
    for seed in range(TRIALS):
        mujoco.mj_resetData(env.model, data)
        env.task.start(env.model, data, np.random.RandomState(seed))
    state = jax.eval_shape(env.reset, jax.random.key(0))
    jax.eval_shape(env.step, state, jax.ShapeDtypeStruct((env.spec.action_size,), "float32"))
    if env.model.nu == 0:
        raise UsageError("the model has no actuator")
    for i, (low, high) in enumerate(zip(env.spec.action_low, env.spec.action_high, strict=True)):
        if not low < high:
            actuator = env.model.actuator(i).name or i
            raise UsageError(f'actuator {actuator!r} has no range; give it one: ctrlrange="-1 1"')


def _checked(
    what: str, function: Callable[[Sim], Any], shape: str, dtype: str = ""
) -> Callable[[Sim], Any]:
    """The function of a task, which must return an array of that shape, and of that type if any."""

    def checked(sim: Sim) -> Any:
        value = function(sim)
        got = list(np.shape(value)) if isinstance(value, Shaped) else type(value).__name__
        if not isinstance(got, list) or len(got) != (1 if shape == "[O]" else 0):
            hint = "; a sensor is [its dimension], so take [0]" if got == [1] else ""
            raise UsageError(f"{what} must return an array {shape}, got {got}{hint}")
        if dtype and str(np.result_type(value)) != dtype:
            raise UsageError(f"{what} must return {dtype}, got {np.result_type(value)}")
        return value

    return checked


def _checked_start(function: Callable) -> Callable:
    """The function of a task, which must return arrays of the same names and shapes each time."""
    first: list[dict[str, list[int]]] = []

    def checked(model: Any, data: Any, random: Any) -> dict:
        arrays = function(model, data, random)
        if not isinstance(arrays, dict):
            raise UsageError(f"start must return a dict, {{}} if nothing is to keep, got {arrays}")
        shapes = {name: list(np.shape(value)) for name, value in arrays.items()}
        if not first:
            first.append(shapes)
        if shapes != first[0]:
            raise UsageError(f"start must return the same shapes always: {first[0]}, then {shapes}")
        return arrays

    return checked


@contextlib.contextmanager
def _one_line(file: Path) -> Iterator[None]:
    """Turns an exception into one line with the place in the user's file; it stays chained."""
    try:
        yield
    except (Exception, SystemExit) as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if _is(f, file)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        place = f"{file}, line {line}" if line else str(file)
        said = " ".join(str(error).split())
        kind = "" if isinstance(error, UsageError) else f"{type(error).__name__}: "
        raise UsageError(f"{place}: {kind}{said}") from error


def _is(frame: traceback.FrameSummary, file: Path) -> bool:
    return frame.filename == str(file)


def model_hash(task: Task) -> str:
    """Hash of the task's compiled model, meshes and pictures included."""
    import mujoco

    model = task.model().compile()
    content = np.zeros(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, content)
    return hashlib.sha256(content.tobytes()).hexdigest()[:16]
