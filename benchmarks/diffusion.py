"""Diffusion policies beside others: what they can express, what they learn offline, what they cost.

    python benchmarks/diffusion.py modes        eight equally good ways: kept, and invalid samples
    python benchmarks/diffusion.py exact        what the samplers draw with the data's own denoiser
    python benchmarks/diffusion.py cost [AGENT ...]    milliseconds beside bare matrix products
    python benchmarks/diffusion.py run [PATTERN]   makes datasets and trains offline what is missing
    python benchmarks/diffusion.py datasets     what the datasets hold, once `run` has made them
    python benchmarks/diffusion.py report       the table of what is there

`modes`, `cost` (as cost_AGENT), `datasets` and `report` (as offline) write NAME.json in
benchmarks/results/diffusion/, and `modes` docs/images/diffusion_modes.png. How runs are resumed,
kept and counted: benchmarks/cells.py.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import multimodal
import offline_cells
from cells import RESULTS, ROOT
from products import bare, gflop, products_of
from timing import alternate, repeated

from jaxrl import agents, atomic
from jaxrl.agents import _offline
from jaxrl.envs.core import EnvSpec
from jaxrl.replay.ring import Batch
from jaxrl.train.runlog import command_line, device, git_commit, versions

ENVIRONMENTS = 64
"""Rows of an action batch."""
SIZES = EnvSpec("walker", 24, 6, (-1.0,) * 6, (1.0,) * 6, 1000, 0.025)
STEPS = (1, 2, 5, 10, 20)
NETWORK = {"widths": (256, 256, 256)}
"""Of the plain denoisers, the largest layer of which is 256 x 256."""


def modes() -> None:
    """Trains, judges and draws every policy class."""
    data = multimodal.data()
    whole = multimodal.judged(data)
    found: dict[str, dict[str, Any]] = {
        "the data": {"actions": data, "seconds": 0.0, **whole, **_greedy(whole)}
    }
    for name in multimodal.CLASSES:
        agent, state, seconds = multimodal.learn(name)
        sampled = multimodal.actions(agent, state, explore=True)
        greedy = multimodal.judged(multimodal.actions(agent, state, explore=False))
        about = {"actions": sampled, "paths": multimodal.paths(agent, state), "seconds": seconds}
        about |= {**multimodal.judged(sampled), **_greedy(greedy)}
        about |= {"exact": multimodal.exact(name)}
        found[name] = about
        print(
            f"{name:<24}kept {about['kept']:>4.0%}  invalid {about['invalid']:>4.0%}   greedy: "
            f"kept {greedy['kept']:>4.0%}  invalid {greedy['invalid']:>4.0%}   "
            f"{seconds:.0f} s",
            flush=True,
        )
        jax.clear_caches()
    rows = [
        {"policy": name, **{k: v for k, v in about.items() if k not in ("actions", "paths")}}
        for name, about in found.items()
    ]
    _write("modes", rows, updates=multimodal.UPDATES, samples=multimodal.SAMPLES)
    multimodal.draw(found, ROOT / "docs" / "images" / "diffusion_modes.png")


def exact() -> None:
    """Prints shares of invalid samples where nothing is left to learn, and EDA's in fewer steps."""
    for name in multimodal.CLASSES:
        share = multimodal.exact(name)
        if share is not None:
            print(f"{name:<24}{share:>4.0%}", flush=True)
    print(f"{'eda, 8 steps':<24}{multimodal.exact('eda', sampling_steps=8):>4.0%}")


def _greedy(judged: dict[str, float]) -> dict[str, float]:
    return {f"greedy {name}": share for name, share in judged.items()}


COSTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "diffusion_ql": lambda n: {**NETWORK, "samples": 1, "train_steps": n, "sampling_steps": n},
    "idql": lambda n: {"samples": 1, "train_steps": n, "sampling_steps": n},
    "fql": lambda n: {**NETWORK, "sampling_steps": n},
}
"""Denoising policies, and their settings for a number of steps."""


def cost(kind: str) -> None:
    """Times an action batch and an update of a denoising policy, by steps and precision."""
    rows = []
    for precision in ("float32", "bfloat16"):
        for steps in STEPS:
            given = COSTS[kind](steps)
            agent = agents.default(kind)
            agent = dataclasses.replace(agent, **given, precision=precision).canonical()
            row = {"agent": kind, "precision": precision, "steps": steps}
            rows.append(row | _timed(agent))
            print(
                "  ".join(
                    f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}"
                    for k, v in rows[-1].items()
                ),
                flush=True,
            )
            jax.clear_caches()
    _write(f"cost_{kind}", rows, environments=ENVIRONMENTS)


def _timed(agent: Any) -> dict[str, float]:
    """Milliseconds of acting for ENVIRONMENTS rows and of an update, and of their products."""
    state = jax.jit(lambda: agent.init(jax.random.key(0), SIZES))()
    told = _offline.Statistics.neutral(SIZES.observation_size)
    state = agent.begin(state, told)
    obs = jax.random.normal(jax.random.key(1), (ENVIRONMENTS, SIZES.observation_size))
    batch = _batch(agent.batch_size)

    def act(state: Any, obs: jax.Array) -> jax.Array:
        return agent.act(state, obs, jax.random.key(2), explore=True)

    def acting(carry: Any, i: jax.Array) -> Any:
        state, obs = carry
        return state, obs.at[:, : SIZES.action_size].add(1e-6 * act(state, obs))

    def update(state: Any, i: jax.Array) -> Any:
        return agent.update(state, batch, jax.random.fold_in(jax.random.key(3), i))[0]

    acts = products_of(act, state, obs)
    updates = products_of(lambda state: update(state, jnp.int32(0)), state)
    rates = alternate(
        {
            "act": (repeated(acting, (state, obs)), 1),
            "act, products": (bare(acts), 1),
            "update": (repeated(update, state), 1),
            "update, products": (bare(updates), 1),
        }
    )
    times = {f"{name}, ms": 1e3 / rate for name, rate in rates.items()}
    return times | {"act, GFLOP": gflop(acts), "update, GFLOP": gflop(updates)}


def _batch(size: int) -> Batch:
    """Transitions of noise."""
    keys = jax.random.split(jax.random.key(0), 4)
    return Batch(
        obs_tm1=jax.random.normal(keys[0], (size, SIZES.observation_size)),
        action_tm1=jax.random.uniform(keys[1], (size, SIZES.action_size), minval=-1.0),
        reward_t=jax.random.uniform(keys[2], (size,)),
        discount_t=jnp.full((size,), 0.99),
        obs_t=jax.random.normal(keys[3], (size, SIZES.observation_size)),
        weight=jnp.ones((size,)),
        index=jnp.arange(size, dtype=jnp.int32),
    )


def _write(name: str, rows: list[dict], **about: Any) -> None:
    where = {"command": command_line(), "commit": git_commit(), "versions": versions()}
    result = {**where, "device": device(), **about, "rows": rows}
    (RESULTS / "diffusion").mkdir(parents=True, exist_ok=True)
    atomic.write_json(RESULTS / "diffusion" / f"{name}.json", result)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["modes"]:
            modes()
        case ["exact"]:
            exact()
        case ["cost", *kinds] if set(kinds) <= set(COSTS):
            for kind in kinds or COSTS:
                cost(kind)
        case ["run", *pattern] if len(pattern) < 2:
            offline_cells.run(*pattern)
        case ["datasets"]:
            offline_cells.describe()
        case ["report"]:
            offline_cells.report()
        case _:
            sys.exit(__doc__)
