"""Counters are integers: they pass 2^24, where a float32 counter stops (as JaxGCRL's does)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.agents.gqn import GQN
from jaxrl.train.online import OnlineLoop


@pytest.mark.parametrize("t", [2**24 + 1, 2**31 - 1000])
def test_rows_and_updates_go_on_past_the_end_of_float32(t):
    agent = GQN(width=16, bins=(2,)).canonical()
    loop = OnlineLoop(
        jaxrl.make("probe-nstep"), 4, 4, capacity=4 * 99
    )  # 99 rows: no whole number of episodes
    state = jax.jit(loop.init)(agent, jax.random.key(0))
    chunk = jax.jit(loop.chunk, static_argnames="learn")
    blocks = jnp.asarray(100, jnp.int32)
    filled, _ = chunk(agent, state, jnp.asarray(t, jnp.int32), blocks, learn=False)
    assert (np.asarray(filled.replay.priority) > 0).sum() > 200  # every slot was written
    end = jnp.asarray(t + 100, jnp.int32)
    one, sums = chunk(agent, filled, end, jnp.asarray(2, jnp.int32), learn=True)
    assert int(sums["updates"]) == 2 and int(one.agent.updates) == 2
    written = np.asarray(one.replay.rows.obs != filled.replay.rows.obs).any(axis=(1, 2))
    slots = {(t + 100) % loop.time_slots, (t + 101) % loop.time_slots}
    assert set(np.flatnonzero(written)) == slots
