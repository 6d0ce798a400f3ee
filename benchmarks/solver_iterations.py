"""The fewest solver iterations with which mjx and warp stay close to native, for each task.

    python benchmarks/solver_iterations.py mjx [TASK ...]
    python benchmarks/solver_iterations.py warp [TASK ...]
    python benchmarks/solver_iterations.py warp [TASK ...] --from mjx    tries mjx's pair first
    python benchmarks/solver_iterations.py mjx --only-missing     what it lacks, without measuring
    python benchmarks/solver_iterations.py mjx [TASK ...] --instances 40    on 200 states

On 1,000 states that random play visits (from the task's starts and from poses of high reward) each
engine and native take one control step from the same float32 state. A state's error is the largest
|a - b| / max(1, |b|) over the entries of qpos, qvel, act and the observation, b being native's.
With the model's own iterations most errors are float32's rounding, which a contact that just opens
or closes may enlarge; some states are then off by more than 1e-3 whatever the solver does. The
rule: no more states may be off by 1e-3 than with the model's own iterations, so none where that is
possible. Of all pairs that pass, the one with the least iterations * line search iterations is
taken, the most that the solver can spend on line searches. Tasks that differ in their reward alone
share a measurement.

warp compiles anew for each pair, and mjx takes minutes for a step of a model with thousands of
possible contacts. Since the solvers are the same, `--from` tries the other engine's pair first, and
takes it if no more states are off, in proportion, than the other engine's were with the model's own
iterations; else it searches.

Writes jaxrl/envs/physics/engines.json, which the engines read, and what was measured to
benchmarks/results/solver_iterations.json. Tasks that are not named, nor such a task of one that is,
keep their rows.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from visited import INSTANCES, ROOT, Visited, errors, twins, visited

from jaxrl import atomic
from jaxrl.envs import registry
from jaxrl.envs.physics import engines
from jaxrl.envs.physics.mjx import Mjx
from jaxrl.envs.task import Physics
from jaxrl.train.runlog import command_line, device, git_commit, versions

TOLERANCE = 1e-3
ITERATIONS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 50)
LINE_SEARCH = (1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 50)
RESULTS = ROOT / "benchmarks" / "results" / "solver_iterations.json"

Stepper = Callable[[tuple[int, int]], Physics]


class Argument:
    """A number of iterations that is an argument of the compiled program: `at_most` where mjx needs
    a length, `value` where it compares."""

    def __init__(self, value: jax.Array, at_most: int):
        self.value, self.at_most = value, at_most

    def __index__(self) -> int:
        return self.at_most

    def __jax_array__(self) -> jax.Array:
        return self.value

    def __le__(self, other: object) -> jax.Array:
        return self.value <= other

    def __eq__(self, other: object) -> bool:
        return False  # mjx asks whether it is 1, to leave out a loop

    __hash__ = None  # type: ignore[assignment]


def mjx_stepper(states: Visited) -> Stepper:
    """Steps with any pair of iterations, compiled once."""
    engine = Mjx(states.env.model, states.env.engine.substeps)
    own = states.env.model.opt

    def step(physics: Physics, ctrl: jax.Array, iterations: jax.Array, search: jax.Array):
        tuned = copy.copy(engine)
        tuned._model = engine._model.tree_replace(
            {
                "opt.iterations": Argument(iterations, own.iterations),
                "opt.ls_iterations": Argument(search, own.ls_iterations),
            }
        )
        return tuned._advance(physics, ctrl)

    compiled = jax.jit(jax.vmap(step, in_axes=(0, 0, None, None)))
    return lambda pair: compiled(states.physics, states.actions, *map(jnp.asarray, pair))


def warp_stepper(states: Visited) -> Stepper:
    """Steps with any pair of iterations; each compiles anew."""
    from jaxrl.envs.physics.warp import Warp

    def step(pair: tuple[int, int]) -> Physics:
        env, count = states.env, len(states.actions)
        engine = Warp(env.model, env.engine.substeps, pair, num_instances=count)
        stepped, lost = jax.jit(jax.vmap(engine.advance))(states.physics, states.actions)
        assert not lost.any(), f"{env.task.name}: the contact buffer is too small"
        return stepped

    return step


STEPPERS = {"mjx": mjx_stepper, "warp": warp_stepper}


def search(states: Visited, step: Stepper, other: dict[str, Any] | None = None) -> dict[str, Any]:
    """The smallest pair that passes, with its errors and those of the model's own iterations; or
    that of the other engine's row, if it passes."""
    own = (int(states.env.model.opt.iterations), int(states.env.model.opt.ls_iterations))
    measured: dict[tuple[int, int], dict[str, float]] = {}

    def measure(pair: tuple[int, int]) -> dict[str, float]:
        if pair not in measured:
            error = np.max(list(errors(states, step(pair)).values()), axis=0)
            measured[pair] = {
                "median": float(np.median(error)),
                "99 %": float(np.quantile(error, 0.99)),
                "max": float(error.max()),
                "off": int((error > TOLERANCE).sum()),
            }
        return measured[pair]

    if other:
        error = measure(tuple(other["solver"]))
        share = other["error of own"]["off"] / other["states"]
        if error["off"] <= share * len(states.actions):
            row = {"solver": other["solver"], "states": len(states.actions), "error": error}
            row |= {"own solver": list(own), "error of own": other["error of own"]}
            return row | {"from": "the other engine, whose error of own this is"}
    allowed, best = measure(own)["off"], own
    for iterations in (n for n in ITERATIONS if n <= own[0]):
        if iterations * LINE_SEARCH[0] >= best[0] * best[1]:
            break
        if measure((iterations, own[1]))["off"] > allowed:
            continue
        for line in LINE_SEARCH:
            if iterations * line >= best[0] * best[1]:
                break
            if measure((iterations, line))["off"] <= allowed:
                best = (iterations, line)
                break
    return {
        "solver": list(best),
        "states": len(states.actions),
        "error": measure(best),
        "own solver": list(own),
        "error of own": measure(own),
    }


def write(path, table: dict) -> None:
    """One row a task, sorted."""
    rows = [f" {json.dumps(k)}: {json.dumps(table[k])}" for k in sorted(table)]
    atomic.write_text(path, "{\n" + ",\n".join(rows) + "\n}\n")


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engine", choices=sorted(STEPPERS))
    parser.add_argument("tasks", nargs="*", help="all by default")
    parser.add_argument("--only-missing", action="store_true", help="measure nothing")
    parser.add_argument("--from", dest="other", choices=sorted(STEPPERS), help="try its pair first")
    parser.add_argument("--instances", type=int, default=INSTANCES, help="fewer for large models")
    arguments = parser.parse_args()
    all_tasks = {**registry.tasks(), **registry.goal_tasks()}
    done: set[str] = set()
    for name in arguments.tasks or sorted(all_tasks):
        if name in done:
            continue
        missing = engines.live_unsupported(engines.compiled(all_tasks[name]), arguments.engine)
        if missing:
            row: dict[str, Any] = {"missing": missing}
            print(f"{name:<24} cannot run on {arguments.engine}: {'; '.join(missing)}", flush=True)
        elif arguments.only_missing:
            row = {}
        else:
            began = time.monotonic()
            states = visited(name, arguments.instances)
            results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            other = results.get(f"{name} {arguments.other}")
            if arguments.other and not other:
                continue
            row = search(states, STEPPERS[arguments.engine](states), other)
            took = time.monotonic() - began
            error, own = row["error"], row["error of own"]
            print(
                f"{name:<24} {arguments.engine:<5} {row['solver']!s:<9} error median "
                f"{error['median']:.1e} 99 % {error['99 %']:.1e} max {error['max']:.1e} off "
                f"{error['off']}; with {row['own solver']} 99 % {own['99 %']:.1e} max "
                f"{own['max']:.1e} off {own['off']}  ({took:.0f} s)",
                flush=True,
            )
        for twin in twins(name):
            record(arguments.engine, twin, row)
            done.add(twin)
        jax.clear_caches()


def record(engine: str, name: str, row: dict[str, Any]) -> None:
    """Puts one row into both files."""
    table = json.loads(engines.TABLE.read_text())
    kept = {k: row[k] for k in ("missing", "solver") if k in row}
    before = table.setdefault(name, {}).get(engine, {})
    table[name][engine] = kept or {k: before[k] for k in ("solver",) if k in before}
    write(engines.TABLE, table)
    if "solver" not in row:
        return
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    stamp = {
        "command": command_line(),
        "commit": git_commit(),
        "versions": versions(),
        "device": device(),
    }
    results[f"{name} {engine}"] = row | stamp
    write(RESULTS, results)


if __name__ == "__main__":
    main()
