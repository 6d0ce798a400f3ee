"""What a checkpoint of a full million-row replay costs: seconds, bytes, and training time lost.

    python benchmarks/checkpoint_cost.py

Trains GQN on walker-walk in turns of a few seconds, every second turn with a checkpoint at its
start, so both kinds see the same machine. The time lost to a checkpoint, over five minutes, is the
slow-down of a run with the default --checkpoint-minutes. Writes
benchmarks/results/checkpoint_cost.json.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl
from jaxrl import atomic
from jaxrl.agents.gqn import GQN
from jaxrl.train.checkpoint import Checkpoints
from jaxrl.train.online import OnlineLoop
from jaxrl.train.runlog import command_line, device, git_commit, versions

ROOT = Path(__file__).parents[1]
ROWS = 1_000_000
BLOCKS = 250
"""Updates per turn."""
TURNS = 8
MINUTES = 5.0


def fill(key: jax.Array, shape: jax.ShapeDtypeStruct) -> jax.Array:
    """Noise of a leaf's shape and type: zeros would compress to nothing."""
    if jnp.issubdtype(shape.dtype, jnp.floating):
        return jax.random.normal(key, shape.shape, shape.dtype)
    return jax.random.randint(key, shape.shape, 0, 2).astype(shape.dtype)


def main() -> None:
    """Measures and prints."""
    agent = GQN().canonical()
    loop = OnlineLoop(jaxrl.make("walker-walk"), 8, 8, ROWS)
    state = jax.jit(loop.init)(agent, jax.random.key(0))
    rows = jax.tree.map(lambda x: fill(jax.random.key(1), x), state.replay.rows)
    priority = jnp.ones_like(state.replay.priority)
    replay = state.replay.replace(rows=rows, priority=priority, sums=priority.sum(1))
    state = state.replace(replay=replay)
    chunk = jax.jit(loop.chunk, static_argnames="learn", donate_argnums=1)
    t, blocks = ROWS // 8, jnp.asarray(BLOCKS, jnp.int32)

    def turn() -> float:
        nonlocal state, t
        began = time.monotonic()
        state, sums = chunk(agent, state, jnp.asarray(t, jnp.int32), blocks, learn=True)
        jax.block_until_ready(sums)
        t += BLOCKS
        return time.monotonic() - began

    turn()
    plain, with_save, blocking, writing = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), keep=1)
        for i in range(TURNS):
            plain.append(turn())
            began = time.monotonic()
            problem = checkpoints.save(i, state.agent, state.replace(agent=()), {}, None)
            assert problem is None, problem
            blocking.append(time.monotonic() - began)
            with_save.append(blocking[-1] + turn())
            began_wait = time.monotonic()
            assert checkpoints.wait() is None
            writing.append(time.monotonic() - began_wait)
        size = sum(f.stat().st_size for f in Path(folder, str(TURNS - 1)).rglob("*") if f.is_file())
        checkpoints.close()
    lost = float(np.median(np.array(with_save) - np.array(plain)))
    result = {
        "command": command_line(),
        "commit": git_commit(),
        "versions": versions(),
        "device": device(),
        "rows": ROWS,
        "bytes": size,
        "seconds_blocking": float(np.median(blocking)),
        "seconds_per_turn": float(np.median(plain)),
        "seconds_still_writing_after_the_turn": float(np.median(writing)),
        "seconds_lost_per_checkpoint": lost,
        "slowdown_at_one_every_five_minutes": lost / (60 * MINUTES),
    }
    path = ROOT / "benchmarks" / "results" / "checkpoint_cost.json"
    path.parent.mkdir(exist_ok=True)
    atomic.write_json(path, result)
    for name, value in result.items():
        print(f"{name:<40} {value}")


if __name__ == "__main__":
    main()
