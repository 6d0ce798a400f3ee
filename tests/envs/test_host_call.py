"""Functions of the host inside compiled programs: one call under any nesting of vmap."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs.host_call import host_call

SCALAR = jax.ShapeDtypeStruct((), jnp.float32)


class Dot:
    """The dot product of the last axes and twice its first argument; remembers its calls."""

    def __init__(self):
        self.shapes: list[tuple] = []

    def __call__(self, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
        assert isinstance(x, np.ndarray) and isinstance(y, np.ndarray)
        self.shapes.append((x.shape, y.shape))
        return {"dot": (x * y).sum(-1), "twice": 2 * x}

    def inside(self, x, y):
        """Unbatched, in a program."""
        return host_call(self, {"dot": SCALAR, "twice": jax.ShapeDtypeStruct((3,), x.dtype)}, x, y)


def test_plain_jitted_and_in_a_scan():
    dot, x, y = Dot(), jnp.arange(3.0), jnp.ones(3)
    for call in (dot.inside, jax.jit(dot.inside)):
        out = call(x, y)
        assert out["dot"] == 3.0
        np.testing.assert_array_equal(out["twice"], 2 * x)
    _, dots = jax.lax.scan(lambda c, i: (c, dot.inside(c + i, y)["dot"]), x, jnp.arange(4.0))
    np.testing.assert_array_equal(dots, 3.0 + 3.0 * np.arange(4))


def test_nested_vmap_is_one_call_with_every_argument_broadcast():
    dot = Dot()
    x = jax.random.normal(jax.random.key(0), (3, 5))
    y = jax.random.normal(jax.random.key(1), (2, 4, 3))
    inner = jax.vmap(dot.inside, in_axes=(1, None))
    over = jax.jit(jax.vmap(jax.vmap(inner, in_axes=(None, 0)), in_axes=(None, 0)))
    out = jax.block_until_ready(over(x, y))
    assert dot.shapes == [((2, 4, 5, 3),) * 2]
    np.testing.assert_allclose(out["dot"], np.einsum("ik,abi->abk", x, y), rtol=1e-5)
    np.testing.assert_array_equal(out["twice"], np.broadcast_to(2 * x.T, (2, 4, 5, 3)))


def test_an_unused_call_is_not_made():
    dot = Dot()
    jax.jit(lambda x: (dot.inside(x, x), x)[1])(jnp.ones(3)).block_until_ready()
    assert dot.shapes == []


def test_a_result_of_the_wrong_shape_is_named():
    with pytest.raises(Exception, match="Incorrect output shape"):
        jax.block_until_ready(host_call(lambda x: x[:1], SCALAR, jnp.ones(3)))


ON_DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxrl.envs.host_call import host_call

shapes = []

def total(x):
    assert isinstance(x, np.ndarray)
    shapes.append(x.shape)
    return x.sum(-1)

row = jax.ShapeDtypeStruct((), jnp.float32)
mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
d = PartitionSpec("d")
x = jax.device_put(jnp.arange(32.0).reshape(16, 2), NamedSharding(mesh, d))
gathered = jax.vmap(lambda row_: host_call(total, row, row_))
over = jax.shard_map(gathered, mesh=mesh, in_specs=d, out_specs=d, check_vma=False)
for program in (gathered, over):
    out = jax.block_until_ready(jax.jit(program)(x))
    np.testing.assert_array_equal(out, np.asarray(x).sum(-1))
    print(shapes)
    shapes.clear()
"""


def test_on_eight_devices_rows_are_gathered_for_one_call_or_each_calls_for_its_own():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    ended = subprocess.run(
        [sys.executable, "-c", ON_DEVICES],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.stdout == f"{[(16, 2)]}\n{[(2, 2)] * 8}\n", ended.stderr
