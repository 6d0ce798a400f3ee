"""Every engine beside native on every task that it can simulate.

    python benchmarks/engines.py mjx [TASK ...]
    python benchmarks/engines.py warp [TASK ...]
    python benchmarks/engines.py mjx [TASK ...] --instances 40    on 200 states instead of 1,000

(a) One control step from the same float32 state and action, on 1,000 states that random play
visits, with the solver iterations of jaxrl/envs/physics/engines.json: the largest
|a - b| / max(1, |b|) over the entries of qpos, qvel, act and observation, and over the sensors.
(b) Free-running: 20 steps from the same starts with the same actions; the error of the observation
grows with the divergence of the system itself.

Tasks that differ in their reward alone share a measurement. Writes benchmarks/results/engines.json;
tasks that are not named, nor such a task of one that is, keep their rows.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import jax
import numpy as np
from solver_iterations import TOLERANCE, write
from visited import INSTANCES, ROOT, Visited, errors, observations, task_named, twins, visited

from jaxrl.envs import registry
from jaxrl.envs.physics import engines
from jaxrl.train.runlog import command_line, device, git_commit, versions

RESULTS = ROOT / "benchmarks" / "results" / "engines.json"
FREE = 20


def compare(name: str, kind: str, instances: int) -> dict[str, Any]:
    """The row of one task."""
    states = visited(name, instances)
    count = len(states.actions)
    engine = engines.maker(task_named(name), kind, count)(
        states.env.model, states.env.engine.substeps
    )
    step = jax.jit(jax.vmap(engine.step))
    began = time.monotonic()
    stepped = jax.block_until_ready(step(states.physics, states.actions))
    compiled = time.monotonic() - began
    error = errors(states, stepped)
    worst = np.max(list(error.values()), axis=0)
    sensors = np.abs(np.asarray(stepped.sensordata, np.float64) - states.native.sensordata)
    sensors /= np.maximum(1, np.abs(states.native.sensordata))
    return {
        "solver": engines.solver(name, kind),
        "states": count,
        "step": {
            "median": float(np.median(worst)),
            "99 %": float(np.quantile(worst, 0.99)),
            "max": float(worst.max()),
            "off": int((worst > TOLERANCE).sum()),
        },
        "sensors 99 %": float(np.quantile(sensors.max(axis=1), 0.99)) if sensors.size else 0.0,
        "free": free_running(states, step, instances),
        "seconds to first step": compiled,
    }


def free_running(states: Visited, step, instances: int) -> dict[str, float]:
    """Error of the observation after FREE steps from the starts.

    All visited states step, so that nothing compiles anew; the first `instances` are the starts.
    """
    native = jax.jit(jax.vmap(states.env.engine.step))
    ours = theirs = states.physics
    random = np.random.RandomState(1)
    for _ in range(FREE):
        actions = random.permutation(states.actions)
        ours, theirs = step(ours, actions), native(theirs, actions)
    a, b = (observations(states, x)[:instances] for x in (ours, theirs))
    error = (np.abs(a - b) / np.maximum(1, np.abs(b))).max(axis=1)
    return {"median": float(np.median(error)), "max": float(error.max())}


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engine", choices=["mjx", "warp"])
    parser.add_argument("tasks", nargs="*", help="all by default")
    parser.add_argument("--instances", type=int, default=INSTANCES, help="fewer for large models")
    arguments = parser.parse_args()
    every = {**registry.tasks(), **registry.goal_tasks()}
    done: set[str] = set()
    for name in arguments.tasks or sorted(every):
        if name in done or engines.unsupported(every[name], arguments.engine):
            continue
        row = compare(name, arguments.engine, arguments.instances)
        one, free = row["step"], row["free"]
        print(
            f"{name:<24} {arguments.engine:<5} one step: median {one['median']:.1e} 99 % "
            f"{one['99 %']:.1e} max {one['max']:.1e}, {one['off']} of {row['states']} off by more "
            f"than {TOLERANCE:g}; after {FREE}: median {free['median']:.1e} max {free['max']:.1e}",
            flush=True,
        )
        about = {
            "command": command_line(),
            "commit": git_commit(),
            "versions": versions(),
            "device": device(),
        }
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        for twin in twins(name):
            of = {"task": twin, "engine": arguments.engine, "measured on": name}
            results[f"{twin} {arguments.engine}"] = of | row | about
            done.add(twin)
        write(RESULTS, results)
        jax.clear_caches()


if __name__ == "__main__":
    main()
