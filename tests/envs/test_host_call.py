"""Functions of the host inside compiled programs: one call under any nesting of vmap."""

from __future__ import annotations

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
