"""How fast it all is, as ratios measured side by side in one run.

    python benchmarks/throughput.py [SECTION ...]      all sections without a name
    python benchmarks/throughput.py envs walker-walk   only this task's rows; others are kept

Sections:
  processor   GFLOP/s of square products, float32 and bfloat16
  envs        control steps/s of each engine beside raw mujoco.rollout and Playground
  update      seconds per GQN update beside its bare matrix products
  loop        training steps/s beside what stepping and updating alone would give
  start       process start to the first gradient step, cold and warm compilation cache
  memory      peak memory of a training process

Each section replaces its part of benchmarks/results/throughput.json, where every part carries
command, commit, versions and device. Rates are the best of several turns, taken in alternation.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from stepping import playground, rolling, stepping
from timing import Turn, alternate, repeated

import jaxrl
from jaxrl import atomic
from jaxrl.agents.gqn import GQN
from jaxrl.errors import UsageError
from jaxrl.replay.ring import Batch
from jaxrl.train.online import OnlineLoop
from jaxrl.train.runlog import command_line, device, git_commit, versions

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "throughput.json"
TASKS = ["walker-walk", "humanoid-walk", "cheetah-run", "reacher-easy", "cartpole-swingup"]
TASKS += ["hopper-hop", "finger-spin", "quadruped-walk", "dog-walk"]
EVERY_ENGINE = ("walker-walk", "cheetah-run", "cartpole-swingup")
"""Tasks that every engine steps, at every number of instances; on a GPU all tasks."""
AT_ONCE = 50
"""Control steps per call of raw rollout: nobody can act in between, so it is an upper bound."""


def processor() -> list[dict]:
    """GFLOP/s of a square product."""
    rows = []
    for size in (512, 2048):
        for dtype in (jnp.float32, jnp.bfloat16):
            a = jax.random.normal(jax.random.key(0), (size, size)).astype(dtype)
            turn = repeated(lambda x, i, a=a: (x @ a) * 0.01, a)
            rate = alternate({"x": (turn, 2e-9 * size**3)})["x"]
            rows.append(said({"product": f"{size}^3 {dtype.__name__}", "GFLOP/s": rate}))
    return rows


def envs(name: str) -> list[dict]:
    """Control steps/s of a task over all instances."""
    rows = []
    on_cpu = jax.default_backend() == "cpu"
    few = on_cpu and name not in EVERY_ENGINE
    for n in (128,) if few else (8, 128, 1024) if on_cpu else (16, 128, 1024, 4096, 8192):
        turns = {
            "native": (stepping(name, "native", n), n),
            "raw": (rolling(name, n, AT_ONCE), n * AT_ONCE),
            "raw, a call per step": (rolling(name, n, 1), n),
        }
        for engine in () if few else ("mjx", "warp"):
            try:
                turns[engine] = (stepping(name, engine, n), n)
            except UsageError as error:
                print(f"{name}: {error}", flush=True)
        peer = None if few else playground(name, n)
        if peer:
            turns["playground"] = (peer, n)
        rates = alternate(turns)
        for raw in ("raw", "raw, a call per step"):
            rates[f"native / {raw}"] = rates["native"] / rates[raw]
        rows.append(said({"task": name, "instances": n, **rates}))
    return rows


def random_batch(agent: GQN, observations: int, actions: int) -> Batch:
    """Transitions of noise."""
    keys, size = jax.random.split(jax.random.key(0), 4), agent.batch_size
    return Batch(
        obs_tm1=jax.random.normal(keys[0], (size, observations)),
        action_tm1=jax.random.randint(keys[1], (size, actions), 0, 2).astype(jnp.uint8),
        reward_t=jax.random.uniform(keys[2], (size,)),
        discount_t=jnp.full((size,), 0.97),
        obs_t=jax.random.normal(keys[3], (size, observations)),
        weight=jnp.ones((size,)),
        index=jnp.arange(size, dtype=jnp.int32),
    )


def products(agent: GQN, observations: int, actions: int, dtype: Any) -> tuple[Turn, float]:
    """A turn of an update's matrix products and nothing else, and their GFLOP.

    Three passes forward (online at both observations, target) and one back, layer by layer: the
    weights' gradients x^T dy, and the inputs' dy W^T but for the first layer.
    """
    sizes = [observations, *[agent.width] * 3, actions * agent.bins[-1]]
    layers = list(itertools.pairwise(sizes))
    keys = iter(jax.random.split(jax.random.key(0), 100))

    def draw(*shape: int) -> jax.Array:
        return jax.random.normal(next(keys), (agent.critics, *shape)).astype(dtype)

    multiplied = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    passes = [[draw(agent.batch_size, size) for size in sizes] for _ in range(3)]
    weights = [draw(i, o) for i, o in layers]

    def body(carry: Any, i: jax.Array) -> Any:
        passes, weights, total = carry
        out = [multiplied("cbi,cio->cbo", x[k], w) for x in passes for k, w in enumerate(weights)]
        x = passes[0]
        out += [multiplied("cbi,cbo->cio", x[k], x[k + 1]) for k in range(len(weights))]
        out += [multiplied("cbo,cio->cbi", x[k + 1], w) for k, w in enumerate(weights) if k]
        # The barrier keeps the compiler from hoisting, shrinking or dropping any of them.
        passes, weights, out = jax.lax.optimization_barrier((passes, weights, out))
        return passes, weights, total + sum(o[0, 0, 0].astype(jnp.float32) for o in out)

    flop = [2 * agent.critics * agent.batch_size * i * o for i, o in layers]
    return repeated(body, (passes, weights, jnp.zeros(()))), (5 * sum(flop) - flop[0]) / 1e9


def update() -> list[dict]:
    """Seconds per GQN update on walker-walk's sizes beside its products."""
    rows = []
    spec = jaxrl.make("walker-walk").spec
    for precision in ("float32", "bfloat16"):
        agent = GQN(precision=precision).canonical()
        batch = random_batch(agent, spec.observation_size, spec.action_size)
        state = jax.jit(lambda agent=agent: agent.init(jax.random.key(0), spec))()
        whole = repeated(
            lambda s, i, agent=agent, batch=batch: agent.update(s, batch, jax.random.key(0))[0],
            state,
        )
        bare, gflop = products(agent, spec.observation_size, spec.action_size, jnp.dtype(precision))
        rates = alternate({"update": (whole, 1), "products": (bare, 1)})
        seconds = {f"{name}, ms": 1e3 / rate for name, rate in rates.items()}
        ratio = rates["products"] / rates["update"]
        row = {"precision": precision, **seconds, "update / products": ratio, "GFLOP": gflop}
        rows.append(said({**row, "products, GFLOP/s": gflop * rates["products"]}))
    return rows


def loop() -> list[dict]:
    """Training steps/s at 8 instances beside 1 / (1/a + 1/(8 b)), where a is the environments'
    steps/s and b the updates/s."""
    rows = []
    for name in ("walker-walk", "cheetah-run"):
        agent = GQN().canonical()
        online = OnlineLoop(jaxrl.make(name), 8, 8, 100_000)
        state = jax.jit(online.init)(agent, jax.random.key(0))
        chunk = jax.jit(online.chunk, static_argnames="learn", donate_argnums=1)
        state, _ = chunk(agent, state, jnp.int32(0), jnp.int32(200), learn=False)
        clock = 200
        batch = random_batch(agent, *state.env.obs.shape[1:], online.env.spec.action_size)
        agent_state = jax.tree.map(jnp.copy, state.agent)

        def train(n: int) -> None:
            nonlocal state, clock
            state, _ = chunk(agent, state, jnp.int32(clock), jnp.int32(n), learn=True)  # noqa: B023
            jax.block_until_ready(state)
            clock += n

        rates = alternate(
            {
                "training": (train, 8),
                "stepping": (stepping(name, "native", 8), 8),
                "updates": (
                    repeated(
                        lambda s, i, b=batch: agent.update(s, b, jax.random.key(0))[0],  # noqa: B023
                        agent_state,
                    ),
                    1,
                ),
            }
        )
        ideal = 1 / (1 / rates["stepping"] + 1 / (8 * rates["updates"]))
        rows.append(
            said({"task": name, **rates, "ideal": ideal, "ratio": rates["training"] / ideal})
        )
    return rows


FIRST_STEP = """
import sys, time
from jaxrl.train.runlog import MetricsWriter
write = MetricsWriter.write
def stop(self, record):
    write(self, record)
    if any(name.startswith("losses/") for name in record):
        print("first gradient step", time.time(), flush=True)
        import resource, os
        print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, flush=True)
        os._exit(0)
MetricsWriter.write = stop
from jaxrl.cli import main
main(sys.argv[1:])
"""
"""A training process that ends when it has logged its first gradient step."""


def until_first_update(cache: Path, *options: str) -> dict[str, float]:
    """Seconds from the process's start to its first gradient step, and its peak memory in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["train", "gqn", "walker-walk", "--out", str(Path(folder, "run")), *options]
        began = time.time()
        ended = subprocess.run(
            [sys.executable, "-c", FIRST_STEP, *words],
            env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)},
            capture_output=True,
            text=True,
            check=True,
        )
    lines = [line for line in ended.stdout.splitlines() if line.startswith(("first", "peak"))]
    first, peak = (float(line.split()[-1]) for line in lines)
    return {"seconds": first - began, "peak_MiB": peak / 2**20}


def start() -> list[dict]:
    """Process start to the first gradient step on walker-walk, default options."""
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for turn in ("cold cache", "warm cache", "warm cache"):
            found = until_first_update(Path(cache), "--no-video", "--chunk-steps", "8")
            row = {"python": platform.python_version(), "jax": jax.__version__, "cache": turn}
            rows.append(said({**row, **found}))
    return rows


def memory() -> list[dict]:
    """Peak memory of a process that trains on walker-walk, by replay capacity."""
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        for capacity in (100_000, 1_000_000):
            found = until_first_update(Path(cache), "--no-video", "--capacity", str(capacity))
            rows.append(said({"capacity": capacity, "peak_MiB": found["peak_MiB"]}))
    return rows


def said(row: dict[str, Any]) -> dict[str, Any]:
    """Prints a row and returns it."""
    words = [
        f"{k} {v:,.3g}"
        if isinstance(v, float) and v < 100
        else f"{k} {v:,.0f}"
        if isinstance(v, float)
        else f"{k} {v}"
        for k, v in row.items()
    ]
    print("  ".join(words), flush=True)
    return row


SECTIONS: dict[str, Callable[..., list[dict]]] = {
    f.__name__: f for f in (processor, envs, update, loop, start, memory)
}


def main(names: list[str]) -> None:
    """Runs the sections and writes their results."""
    tasks = [name for name in names if name in TASKS]
    names = [name for name in names if name not in tasks]
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        known = ", ".join((*SECTIONS, *TASKS))
        sys.exit(f"unknown section or task {unknown[0]!r}; there are: {known}")
    if tasks and not names:
        names = ["envs"]
    if tasks and "envs" not in names:
        sys.exit(f"{tasks[0]} is a task, and only the section envs takes tasks")
    kind = jax.devices()[0].platform
    for name in names or SECTIONS:
        print(f"== {name}", flush=True)
        key = f"{name}, {kind}, Python {platform.python_version_tuple()[1]}"
        about = {"command": command_line(), "commit": git_commit(), "versions": versions()}
        about["device"] = device()
        if name != "envs":
            write(key, {**about, "rows": SECTIONS[name]()})
            continue
        for task in tasks or TASKS:
            write(f"{key}, {task}", {**about, "rows": envs(task)})


def write(key: str, part: dict[str, Any]) -> None:
    """Replaces a part of the results."""
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found[key] = part
    atomic.write_json(RESULTS, dict(sorted(found.items())))


if __name__ == "__main__":
    main(sys.argv[1:])
