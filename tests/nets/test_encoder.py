"""Encoders: residual blocks by hand, and a program whose size does not depend on depth."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.errors import UsageError
from jaxrl.nets.encoder import Encoder, check_depth

WIDTH, SIZE, B = 16, 5, 7
X = jnp.float32(np.random.default_rng(0).normal(size=(B, SIZE)))


def parameters(encoder: Encoder):
    """Random ones, biases and scales too."""
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), X)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: jnp.float32(0.3 * rng.normal(size=x.shape)), shapes)


def layer(params, x: np.ndarray, layer_norm: bool, relu: bool) -> np.ndarray:
    """Dense -> (LayerNorm) -> activation in NumPy."""
    x = x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    if layer_norm:
        norm = params["LayerNorm_0"]
        centred = x - x.mean(-1, keepdims=True)
        x = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        x = x * norm["scale"] + norm["bias"]
    return np.maximum(x, 0) if relu else x / (1 + np.exp(-x))


@pytest.mark.parametrize("layer_norm", [False, True])
@pytest.mark.parametrize(("depth", "activation"), [(2, "swish"), (2, "relu"), (8, "swish")])
def test_layers_by_hand(depth, activation, layer_norm):
    encoder = Encoder(WIDTH, depth, layer_norm, activation)
    params = parameters(encoder)
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"])
    options = {"layer_norm": layer_norm, "relu": activation == "relu"}
    x = np.asarray(X, np.float64)
    if depth < 4:
        for i in range(depth):
            x = layer(p[f"Layer_{i}"], x, **options)
    else:
        x = layer(p["stem"], x, **options)
        for block in range(depth // 4):
            hidden = x
            for i in range(4):
                own = jax.tree.map(lambda leaf, b=block: leaf[b], p["blocks"][f"Layer_{i}"])
                hidden = layer(own, hidden, **options)
            x = x + hidden
    np.testing.assert_allclose(encoder.apply(params, X), x, rtol=1e-4, atol=1e-4)


def equations(jaxpr) -> int:
    """Equations of a jaxpr and of those inside it."""
    inner = [
        x for eqn in jaxpr.eqns for x in jax.tree.leaves(list(eqn.params.values()), is_leaf=closed)
    ]
    return len(jaxpr.eqns) + sum(equations(getattr(x, "jaxpr", x)) for x in inner if closed(x))


def closed(x) -> bool:
    return hasattr(x, "eqns") or hasattr(x, "jaxpr")


def gradient_size(depth: int) -> int:
    """Equations of the gradient of an encoder."""
    encoder = Encoder(WIDTH, depth, layer_norm=True)
    params = jax.eval_shape(encoder.init, jax.random.key(0), X)
    grad = jax.grad(lambda p: encoder.apply(p, X).sum())
    return equations(jax.make_jaxpr(grad)(params).jaxpr)


def test_depth_costs_no_equations():
    assert gradient_size(64) == gradient_size(4) > 100
    assert gradient_size(3) > gradient_size(2)  # the plain one is unrolled


def test_blocks_start_different():
    params = Encoder(WIDTH, 8).init(jax.random.key(0), X)["params"]
    kernels = params["blocks"]["Layer_0"]["Dense_0"]["kernel"]
    assert kernels.shape == (2, WIDTH, WIDTH)
    assert np.mean(kernels[0] == kernels[1]) < 0.1
    # Uniform of variance 1 / (3 fan_in), as JaxGCRL's: all below 1 / sqrt(fan_in).
    assert 0.9 < float(jnp.abs(kernels).max()) * WIDTH**0.5 <= 1.0


@pytest.mark.parametrize(("depth", "near"), [(0, "1 to 3"), (6, "4 or 8"), (9, "8 or 12")])
def test_depths_that_cannot_be(depth, near):
    with pytest.raises(UsageError, match=f"got {depth}; the nearest are {near}"):
        check_depth(depth)
