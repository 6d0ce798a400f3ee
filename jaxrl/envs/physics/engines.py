"""Which engine simulates a task, and how: the choice, what is missing, solver iterations.

`engines.json` beside this file holds, for each task and engine, what the engine lacks for it, or
the solver iterations that it takes: the fewest that stay as close to MuJoCo's C engine as the rule
of `benchmarks/solver_iterations.py` asks. That script writes the file.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import mujoco

from jaxrl.envs.mujoco_env import Engine
from jaxrl.envs.physics.native import Native
from jaxrl.envs.task import Task
from jaxrl.errors import UsageError

NAMES = ("native", "mjx", "warp")
TABLE = Path(__file__).parent / "engines.json"

THREADS = 8
"""Of XLA's pool for mjx on a processor, at least."""

MakeEngine = Callable[[mujoco.MjModel, int], Engine]


@functools.cache
def table() -> dict[str, dict[str, dict[str, Any]]]:
    """Task to engine to {"missing": [words]} or {"solver": [iterations, line search]}."""
    return json.loads(TABLE.read_text())


def solver(task: str, engine: str) -> tuple[int, int] | None:
    """(iterations, line search iterations) of the engine on the task; None: the model's own."""
    found = table().get(task, {}).get(engine, {}).get("solver")
    return tuple(found) if found else None


def unsupported(task: Task, engine: str) -> list[str]:
    """What `engine` lacks to simulate `task`, in words that name it; [] if nothing.

    From the table; a task that is not in it is compiled and looked at.
    """
    if engine == "native":
        return []
    row = table().get(task.name, {})
    if engine in row:
        return row[engine].get("missing", [])
    return live_unsupported(compiled(task), engine)


def compiled(task: Task) -> mujoco.MjModel:
    """The task's model."""
    with warnings.catch_warnings():  # dm_control's cheetah sets its total mass that way
        warnings.filterwarnings("ignore", message=".*settotalmass.*deprecated")
        return task.model().compile()


def in_words(task: Task) -> str:
    """The engines that can simulate `task`, and what the others lack."""
    missing = {engine: unsupported(task, engine) for engine in NAMES}
    able = ", ".join(engine for engine in NAMES if not missing[engine])
    return able + "".join(f"; no {e}: {', '.join(m)}" for e, m in missing.items() if m)


def live_unsupported(model: mujoco.MjModel, engine: str) -> list[str]:
    """What `engine` ("mjx" or "warp") says itself that it lacks for `model`."""
    if engine == "mjx":
        from jaxrl.envs.physics import mjx

        return mjx.unsupported(model)
    from jaxrl.envs.physics import warp

    return warp.unsupported(model)


def check_name(physics: str) -> None:
    """Raises UsageError unless `physics` is an engine or "auto"."""
    known = ("auto", *NAMES)
    if physics not in known:
        raise UsageError(f"unknown physics engine {physics!r}; there are: {', '.join(known)}")


def choose(task: Task, physics: str) -> str:
    """The engine's name; "auto" is native on a CPU, and elsewhere the first of warp, mjx and native
    that is there and can simulate the task (warp wants a CUDA device).

    Raises:
      UsageError: no such engine, or it cannot simulate the task.
    """
    if physics == "auto":
        return _automatic(task)
    check_name(physics)
    if physics == "warp":
        from jaxrl.envs.physics.warp import load_warp

        load_warp()
    if missing := unsupported(task, physics):
        raise UsageError(
            f"{task.name} cannot run on {physics}, which lacks: {'; '.join(missing)}; "
            "use physics 'native'"
        )
    return physics


def ask_for_threads() -> None:
    """For mjx: has jax start a pool of more threads than it factorises batches of matrices at once.

    On a processor such a call of LAPACK waits, in a thread of XLA's pool, for the others of that
    pool. mjx makes several at once; where the pool has two threads, as it has on two cores, they
    may wait for each other for ever (jax 0.10). It has `NPROC` threads if that is set before jax
    starts; afterwards it has no effect.
    """
    if (os.cpu_count() or 1) < THREADS:
        os.environ.setdefault("NPROC", str(THREADS))


def _automatic(task: Task) -> str:
    platform = jax.default_backend()
    if platform == "cpu":
        return "native"
    cuda = platform == "gpu" and "cuda" in jax.devices()[0].client.platform_version.lower()
    if cuda and importlib.util.find_spec("warp") and not unsupported(task, "warp"):
        return "warp"
    return "native" if unsupported(task, "mjx") else "mjx"


def maker(task: Task, engine: str, num_instances: int) -> MakeEngine:
    """What `MujocoEnv` makes the task's engine with.

    Args:
      num_instances: how many step together, over all seeds; sizes warp's buffers.
    """
    if engine == "native":
        return Native
    if engine == "mjx":
        from jaxrl.envs.physics.mjx import Mjx

        return functools.partial(Mjx, solver=solver(task.name, "mjx"))
    from jaxrl.envs.physics.warp import Warp

    return functools.partial(Warp, solver=solver(task.name, "warp"), num_instances=num_instances)
