"""A vmapped seed does what the single run does; one after another, bit for bit."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import jaxrl
from jaxrl import agents
from jaxrl.agents.crl import CRL
from jaxrl.agents.gqn import GQN
from jaxrl.agents.sac import SAC
from jaxrl.train.online import OnlineLoop
from tests.agents.goal_probe import Square
from tests.compiling import EMITTERS

PREFILL, CHUNKS, BLOCKS = 8, 3, 4
UPDATES = CHUNKS * BLOCKS  # one per block


@struct.dataclass
class Recorded:
    """An agent's state and the replay indices of its updates."""

    state: Any
    index: jax.Array  # [UPDATES, B] int32


@dataclasses.dataclass(frozen=True)
class Recorder:
    """An agent that writes down what it learns from."""

    agent: Any

    def init(self, key, spec):
        index = jnp.full((UPDATES, self.agent.batch_size), -1, jnp.int32)
        return Recorded(state=self.agent.init(key, spec), index=index)

    def replay(self, *sizes):
        return self.agent.replay(*sizes)

    def act(self, state, obs, key, explore):
        return self.agent.act(state.state, obs, key, explore)

    def decode(self, action, spec):
        return self.agent.decode(action, spec)

    def update(self, state, batch, key):
        index = state.index.at[state.state.updates].set(batch.index)
        new, metrics = self.agent.update(state.state, batch, key)
        return Recorded(state=new, index=index), metrics


NETWORKS = ("params", "target_params", "actor", "critic", "target_critic")
"""Fields of states that hold networks."""


def runs(small: Any, env: Any):
    """The final states of three seeds: alone, vmapped, and mapped one after another, [3, ...]."""
    agent = Recorder(agents.bound(small, env.spec).canonical())
    loop = OnlineLoop(env, num_envs=4, env_steps_per_update=8, capacity=300)

    def run(key):
        """Fills the replay, then a few chunks with a refill after each."""
        state = loop.init(agent, key)
        state, _ = loop.chunk(agent, state, jnp.int32(0), jnp.int32(PREFILL), learn=False)

        def chunk(i, state):
            t = (PREFILL + i * BLOCKS) * loop.iterations
            return loop.refill(loop.chunk(agent, state, t, jnp.int32(BLOCKS), learn=True)[0])

        state = jax.lax.fori_loop(0, CHUNKS, chunk, loop.refill(state))
        data = jax.random.key_data
        return state.replace(key=data(state.key), env=state.env.replace(key=data(state.env.key)))

    keys = jax.random.split(jax.random.key(7), 3)
    jit = functools.partial(jax.jit, compiler_options=EMITTERS)
    single = jit(run)
    alone = [jax.device_get(single(key)) for key in keys]
    alone = jax.tree.map(lambda *x: np.stack(x), *alone)
    vmapped = jax.device_get(jit(jax.vmap(run))(keys))
    mapped = jax.device_get(jit(lambda keys: jax.lax.map(run, keys))(keys))
    return alone, vmapped, mapped


def assert_equal(left, right):
    """Every array of two trees is the same, bit for bit."""
    for (path, a), b in zip(jax.tree.leaves_with_path(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path), strict=True)


SMALL_GQN = GQN(width=32, batch_size=32, learning_rate=1e-3)
CASES = {
    "gqn": (SMALL_GQN, lambda: jaxrl.make("probe-both")),
    "gqn, physics": (SMALL_GQN, lambda: jaxrl.make("walker-walk")),
    "sac": (SAC(widths=(32, 32), batch_size=32), lambda: jaxrl.make("probe-both")),
    "crl": (CRL(width=32, representation=8, batch_size=32), Square),
}


def test_every_agent_has_a_case():
    kinds = {type(agent) for agent, _ in CASES.values()}
    assert {type(agent) for agent in agents.online().values()} <= kinds


@pytest.mark.parametrize("case", CASES)
def test_many_seeds_do_what_each_does_alone(case):
    small, env = CASES[case]
    alone, vmapped, mapped = runs(small, env())
    # The seeds differ, and all of them have learned.
    assert np.all(alone.agent.index >= 0) and np.all(alone.agent.state.updates == UPDATES)
    for i, j in ((0, 1), (1, 2)):
        assert np.mean(alone.agent.index[i, 0] != alone.agent.index[j, 0]) > 0.5
        assert np.any(alone.env.obs[i] != alone.env.obs[j])
    # Vmapped: keys, starts and replay indices bit for bit.
    for exact in (
        lambda state: (state.key, state.env.key, state.env.start, state.env.task),
        lambda state: state.agent.index,
    ):
        assert_equal(exact(alone), exact(vmapped))
    for field in (name for name in NETWORKS if hasattr(alone.agent.state, name)):
        left, right = getattr(alone.agent.state, field), getattr(vmapped.agent.state, field)
        for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    # One after another: everything.
    assert_equal(alone, mapped)
