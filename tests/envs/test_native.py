"""MuJoCo's C engine under every transformation that training uses: the same rows each time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import jax
import mujoco
import numpy as np
import pytest

from jaxrl.envs.physics.native import refuse_on_several_devices
from jaxrl.envs.registry import make
from jaxrl.errors import UsageError
from tests.envs.episodes import assert_equal, keys, random_actions, rows

ROOT = Path(__file__).parents[2]
SEEDS, INSTANCES, STEPS = 3, 4, 6

ON_DEVICES = """
import jax, numpy as np
from jax.sharding import PartitionSpec
from jaxrl.envs.registry import make
from tests.envs.episodes import keys, random_actions

env = make("walker-walk", "native")
mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
rows, actions = keys(16), random_actions(env, 5, 16)

def play(rows, actions):
    state = jax.vmap(env.reset)(rows)
    return jax.lax.scan(lambda s, a: (jax.vmap(env.step)(s, a),) * 2, state, actions)[1].obs

d = PartitionSpec("d")
over = PartitionSpec(None, "d")
on_eight = jax.shard_map(play, mesh=mesh, in_specs=(d, over), out_specs=over, check_vma=False)
out = jax.block_until_ready(jax.jit(on_eight)(rows, actions))
assert len(out.sharding.device_set) == 8
np.testing.assert_array_equal(out, jax.jit(play)(rows, actions))
print("the same rows")
"""


ON_ONE_CORE = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import jax, jax.numpy as jnp, numpy as np
from jaxrl.envs.registry import make

env = make("cartpole-swingup", "native")
first = env.reset(jax.random.key(0)).physics
physics = jax.tree.map(lambda x: jnp.broadcast_to(x, (6000, *x.shape)), first)
actions = jnp.linspace(-1, 1, 6000)[:, None]
step = jax.jit(jax.vmap(env.engine.step))
work = jax.jit(lambda x: jax.lax.fori_loop(0, 5, lambda i, x: jnp.tanh(x @ x), x))
busy = jnp.ones((500, 500))
state = physics
for _ in range(4):  # programs that run behind one another, not waited for
    busy, state = work(busy), step(state, actions)
whole = physics
for _ in range(4):  # small ones, each waited for
    parts = [slice(i, i + 1000) for i in range(0, 6000, 1000)]
    rows = [step(jax.tree.map(lambda x: x[part], whole), actions[part]) for part in parts]
    whole = jax.block_until_ready(jax.tree.map(lambda *x: jnp.concatenate(x), *rows))
np.testing.assert_array_equal(state.sensordata, whole.sensordata)
np.testing.assert_array_equal(state.qpos, whole.qpos)
print("no deadlock")
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_large_batches_do_not_wait_for_themselves():
    """`jax.pure_callback` copies a large argument in the pool, whose only thread waits for it."""
    ended = subprocess.run(
        [sys.executable, "-c", ON_ONE_CORE],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "NPROC": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.stdout == "no deadlock\n", ended.stderr


def test_nested_vmap_is_one_flat_batch():
    env = make("walker-walk", "native")
    seeds = keys(SEEDS * INSTANCES).reshape(SEEDS, INSTANCES)
    actions = random_actions(env, STEPS, SEEDS, INSTANCES)
    flat = rows(env, actions.reshape(STEPS, SEEDS * INSTANCES, -1))
    step = jax.jit(jax.vmap(jax.vmap(env.step)))
    state = jax.jit(jax.vmap(jax.vmap(env.reset)))(seeds)
    for t in range(STEPS):
        state = step(state, actions[t])
        np.testing.assert_array_equal(state.obs.reshape(SEEDS * INSTANCES, -1), flat.obs[t + 1])


def test_a_batch_is_its_instances():
    env = make("finger-turn-hard", "native")
    actions = random_actions(env, STEPS, INSTANCES)
    batch = rows(env, actions)
    step = jax.jit(env.step)
    for i, key in enumerate(keys(INSTANCES)):
        state = env.reset(key)
        for t in range(STEPS):
            state = step(state, actions[t, i])
        np.testing.assert_array_equal(state.obs, batch.obs[-1, i])
        np.testing.assert_array_equal(state.physics.qvel, batch.physics.qvel[-1, i])


def test_two_threads_take_turns():
    """Two concurrent calls on one Rollout would crash; batches of several sizes would mix up."""
    env = make("cheetah-run", "native")
    sizes = (3, 17)
    step = jax.jit(jax.vmap(env.step))
    actions = [random_actions(env, 100, n, seed=n) for n in sizes]
    starts = [jax.jit(jax.vmap(env.reset))(keys(n)) for n in sizes]

    def play(i):
        state = starts[i]
        for action in actions[i]:
            state = step(state, action)
        return jax.block_until_ready(state)

    alone = [play(i) for i in range(2)]
    together: dict[int, object] = {}
    threads = [
        threading.Thread(target=lambda i=i: together.__setitem__(i, play(i)), daemon=True)
        for i in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert sorted(together) == [0, 1], "the threads wait for each other"
    for i in range(2):
        assert_equal(together[i], alone[i])


def test_a_start_can_be_drawn_during_a_step(monkeypatch):
    """Drawing a start switches actuation off in the environment's model for a moment."""
    env = make("cheetah-run", "native")
    state = np.zeros((1, 1 + env.model.nq + env.model.nv))
    control = np.ones((1, env.model.nu))
    alone = env.engine._rollout(state, control)
    forward, seen = mujoco.mj_forward, []

    def spy(model, data):
        seen.append(env.engine._rollout(state, control))
        forward(model, data)

    monkeypatch.setattr(mujoco, "mj_forward", spy)
    env._draw(np.zeros(2, np.uint32), 0)
    assert seen
    np.testing.assert_array_equal(np.concatenate(seen), np.repeat(alone, len(seen), axis=0))


def test_eight_devices_get_the_rows_of_one():
    """On jax 0.10, where callbacks of several devices deadlock, it is refused in one line."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    ended = subprocess.run(
        [sys.executable, "-c", ON_DEVICES],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    if jax.__version_info__ >= (0, 11):
        assert ended.stdout == "the same rows\n", ended.stderr
    else:
        assert ended.returncode != 0
        assert (
            "UsageError: native physics on 8 devices needs jax 0.11 or newer, and this is jax "
            f"{jax.__version__}; upgrade jax (Python 3.12), or use one device or physics 'mjx'"
        ) in ended.stderr


def test_one_device_is_not_refused():
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        assert refuse_on_several_devices() is None


@pytest.mark.parametrize("version, fine", [((0, 10, 2), False), ((0, 11, 0), True)])
def test_several_devices_need_a_newer_jax(monkeypatch, version, fine):
    monkeypatch.setattr(jax, "__version_info__", version)
    mesh = jax.sharding.AbstractMesh((8,), ("d",))
    with jax.sharding.use_abstract_mesh(mesh):
        if fine:
            refuse_on_several_devices()
        else:
            with pytest.raises(UsageError, match="on 8 devices needs jax"):
                refuse_on_several_devices()
