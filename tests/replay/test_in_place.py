"""The ring is donated and written in place: nothing in a compiled step copies it."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest
from flax import struct

import jaxrl
from jaxrl.agents.gqn import GQN
from jaxrl.replay.hindsight import Hindsight, HindsightState
from jaxrl.replay.prioritized import Prioritized, PrioritizedState
from jaxrl.replay.uniform import Uniform
from jaxrl.train.online import OnlineLoop
from tests.compiling import EMITTERS
from tests.replay.episodes import Stream, first_row

IN_PLACE = {
    "parameter",
    "get-tuple-element",
    "bitcast",
    "fusion",
    "dynamic-update-slice",
    "scatter",
}
"""What may have the shape of a ring. A fusion's own instructions are listed, too."""


def operations(compiled, arrays) -> set[str]:
    """The operations of a compiled program whose result has the shape of one of `arrays`."""
    shapes = {",".join(map(str, x.shape)) for x in arrays}
    result = re.compile(r" = \w+\[(" + "|".join(shapes) + r")\](?:\{[^ ]*\})? ([\w-]+)\(")
    return {operation for _, operation in result.findall(compiled.as_text())}


GOAL = {"achieved": (0, 1), "commanded": (1, 2)}
KINDS = {
    "uniform": Uniform,
    "prioritized": Prioritized,
    "hindsight": functools.partial(Hindsight, **GOAL),
}


@struct.dataclass
class WithReplay(GQN):
    """A GQN that learns from another kind of replay."""

    kind: str = struct.field(pytree_node=False, default="uniform")

    def replay(self, time_slots, num_envs):
        return KINDS[self.kind](
            discount=self.discount,
            time_slots=time_slots,
            num_envs=num_envs,
            batch_size=self.batch_size,
        )


def ring_arrays(replay) -> list:
    """What the replay keeps of each row; Prioritized's sums over blocks are small, and every draw
    reads them all."""
    if isinstance(replay, PrioritizedState):
        return [*jax.tree.leaves(replay.rows), replay.priority]
    if isinstance(replay, HindsightState):
        return [*jax.tree.leaves(replay.rows), replay.episode, replay.end]
    return jax.tree.leaves(replay)


def pointers(tree) -> list[int]:
    """Where the arrays lie in memory."""
    return [x.unsafe_buffer_pointer() for x in jax.tree.leaves(tree)]


@pytest.mark.parametrize("kind", KINDS)
def test_add_writes_where_the_ring_lies(kind):
    stream = Stream(rows=3, num_envs=7)
    row = first_row(stream.all_rows())
    replay = KINDS[kind](0.99, time_slots=1000, num_envs=7)
    state = jax.jit(replay.init)(row)
    before, given = pointers(state), jax.tree.leaves(state)
    state = jax.jit(replay.add, donate_argnums=0)(state, row, jnp.int32(0))
    assert all(x.is_deleted() for x in given)
    assert pointers(state) == before


@pytest.mark.parametrize("seeds", [None, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_no_chunk_copies_the_ring(kind, seeds, optimised):
    agent = WithReplay(width=16, bins=(2, 3), batch_size=32, kind=kind).canonical()
    loop = OnlineLoop(jaxrl.make("probe-both"), 8, env_steps_per_update=8, capacity=100_000)

    def chunk(agent, state, t, blocks):
        return loop.chunk(agent, state, t, blocks, learn=True)

    init, key = loop.init, jax.random.key(0)
    if seeds:
        init, key = jax.vmap(init, in_axes=(None, 0)), jax.random.split(key, seeds)
        chunk = jax.vmap(chunk, in_axes=(None, 0, None, None))
    state = jax.eval_shape(init, agent, key)
    lowered = jax.jit(chunk, donate_argnums=1).lower(agent, state, jnp.int32(0), jnp.int32(1))
    compiled = lowered.compile(EMITTERS)
    found = operations(compiled, ring_arrays(state.replay))
    written = {"dynamic-update-slice"} | ({"scatter"} if kind != "uniform" else set())
    assert written <= found <= IN_PLACE
    # The compiler's own account says the same without reading the program.
    ring_bytes = sum(x.size * x.dtype.itemsize for x in ring_arrays(state.replay))
    memory = compiled.memory_analysis()
    assert memory.alias_size_in_bytes > ring_bytes
    assert memory.temp_size_in_bytes < 4 * 100_000


def test_a_copy_would_be_seen(optimised):
    """The ring behind a `cond` under a batched predicate: the copy that this file looks for."""
    stream = Stream(rows=3, num_envs=7)
    row = first_row(stream.all_rows())
    replay = Prioritized(0.99, time_slots=1000, num_envs=7)
    state = jax.vmap(lambda _: replay.init(row))(jnp.arange(3))

    def add(state, flag):
        return jax.lax.cond(flag, lambda s: replay.add(s, row, 0), lambda s: s, state)

    flags = jnp.array([True, False, True])
    lowered = jax.jit(jax.vmap(add), donate_argnums=0).lower(state, flags)
    compiled = lowered.compile(EMITTERS)
    assert not operations(compiled, ring_arrays(state)) <= IN_PLACE
