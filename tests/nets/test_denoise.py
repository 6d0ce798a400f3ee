"""Networks of diffusion policies against twins in NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.errors import UsageError
from jaxrl.nets.denoise import (
    FourierFeatures,
    PlainMLP,
    ResidualMLP,
    ScalarEnergy,
    SimbaMLP,
    gradient,
)
from jaxrl.nets.transformer import Block, DiffusionTransformer
from tests.nets.test_encoder import equations

B, H, A, C = 7, 4, 3, 5
RNG = np.random.default_rng(0)
X, TIME, COND = (np.float32(RNG.normal(size=s)) for s in ((B, A), (B,), (B, C)))
CHUNK = np.float32(RNG.normal(size=(B, H, A)))


def parameters(network, *inputs):
    """Random ones, also where the initial ones are 0."""
    shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: jnp.float32(0.3 * rng.normal(size=x.shape)), shapes)


def wide(params):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"])


def affine(p, x):
    return x @ p["kernel"] + p["bias"]


def normed(x, p=None):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x if p is None else x * p["scale"] + p["bias"]


def mish(x):
    return x * np.tanh(np.log1p(np.exp(x)))


def swish(x):
    return x / (1 + np.exp(-x))


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def embedded(p, time):
    angle = 2 * np.pi * time[:, None] * p["FourierFeatures_0"]["frequency"]
    features = np.concatenate([np.cos(angle), np.sin(angle)], -1)
    return affine(p["Dense_1"], mish(affine(p["Dense_0"], features)))


def block(p, x, activation):
    hidden = activation(affine(p["Dense_0"], normed(x, p["LayerNorm_0"])))
    return x + affine(p["Dense_1"], hidden)


@pytest.mark.parametrize("chunk", [False, True])
@pytest.mark.parametrize("make", [ResidualMLP, SimbaMLP])
def test_residual_networks_by_hand(make, chunk):
    x = CHUNK if chunk else X
    network = make(width=16, blocks=2)
    params = parameters(network, x, TIME, COND)
    p = wide(params)
    time = embedded(p["TimeEmbedding_0"], TIME)
    hidden = affine(p["Dense_0"], np.concatenate([x.reshape(B, -1), time, COND], -1))
    for i in range(2):
        activation = mish if make is ResidualMLP else lambda x: np.maximum(x, 0)
        hidden = block(p[f"ResidualBlock_{i}"], hidden, activation)
    # IDQL's activation before the last layer, which copies of it have left out.
    hidden = mish(hidden) if make is ResidualMLP else normed(hidden, p["LayerNorm_0"])
    expected = affine(p["out"], hidden).reshape(x.shape)
    found = jax.jit(network.apply)(params, x, TIME, COND)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("time", ["embedded", "bare", "none"])
def test_plain_networks_by_hand(time):
    network = PlainMLP(widths=(16, 12), activation=jax.nn.gelu, embed=time == "embedded")
    seen = None if time == "none" else TIME
    params = parameters(network, CHUNK, seen, COND)
    p = wide(params)
    parts = {"bare": [TIME[:, None]], "none": []}
    if time == "embedded":
        parts[time] = [embedded(p["TimeEmbedding_0"], TIME)]
    hidden = np.concatenate([CHUNK.reshape(B, -1), *parts[time], COND], -1)
    for layer in p["MLP_0"].values():
        hidden = gelu(affine(layer, hidden))
    expected = affine(p["out"], hidden).reshape(CHUNK.shape)
    found = jax.jit(network.apply)(params, CHUNK, seen, COND)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


def test_fourier_features_see_times_of_idql():
    """Time in fifths with frequencies of deviation 1, as IDQL's steps 1 to 5 with 0.2."""
    frequency = FourierFeatures().init(jax.random.key(0), TIME)["params"]["frequency"]
    assert frequency.shape == (32,)
    assert 0.6 < float(frequency.std()) < 1.4


def test_dropout_is_for_training():
    network = ResidualMLP(width=16, blocks=1, dropout=0.5)
    params = parameters(network, X, TIME)

    @jax.jit
    def train(key):
        return network.apply(params, X, TIME, train=True, rngs={"dropout": key})

    one, other = (train(jax.random.key(i)) for i in range(2))
    assert np.abs(one - other).mean() > 1e-3
    still = jax.jit(network.apply)(params, X, TIME)  # needs no key
    plain = jax.jit(ResidualMLP(width=16, blocks=1).apply)(params, X, TIME)
    np.testing.assert_array_equal(still, plain)


def attended(p, x, heads):
    """Multi-head self-attention from queries, keys and values side by side."""
    width = x.shape[-1]
    q, k, v = np.split(affine(p["qkv"], x), 3, -1)
    out = np.zeros_like(x)
    for head in range(heads):
        at = slice(head * width // heads, (head + 1) * width // heads)
        logits = np.einsum("bqd,bkd->bqk", q[..., at], k[..., at]) / np.sqrt(width // heads)
        share = np.exp(logits - logits.max(-1, keepdims=True))
        out[..., at] = share / share.sum(-1, keepdims=True) @ v[..., at]
    return affine(p["mixed"], out)


def test_transformer_by_hand():
    width, heads, depth = 8, 2, 2
    network = DiffusionTransformer(width, heads, depth)
    params = parameters(network, CHUNK, TIME, COND)
    p = wide(params)

    def modulation(p, condition, count):
        return np.split(affine(p["Dense_0"], condition)[:, None], count, -1)

    condition = swish(embedded(p["TimeEmbedding_0"], TIME) + affine(p["cond"], COND))
    x = affine(p["token"], CHUNK) + p["position"]
    for i in range(depth):
        b = jax.tree.map(lambda leaf, i=i: leaf[i], p["blocks"])
        shift, scale, gate, shift2, scale2, gate2 = modulation(b["Modulation_0"], condition, 6)
        x = x + gate * attended(b, normed(x) * (1 + scale) + shift, heads)
        hidden = gelu(affine(b["wide"], normed(x) * (1 + scale2) + shift2))
        x = x + gate2 * affine(b["narrow"], hidden)
    shift, scale = modulation(p["last"], condition, 2)
    expected = affine(p["out"], normed(x) * (1 + scale) + shift)
    found = jax.jit(network.apply)(params, CHUNK, TIME, COND)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_a_new_transformer_predicts_0_and_its_blocks_are_the_identity():
    """adaLN-Zero; and blocks start different from each other."""
    network = DiffusionTransformer(8, 2, 3)
    out, params = jax.jit(network.init_with_output)(jax.random.key(0), CHUNK, TIME, COND)
    np.testing.assert_array_equal(out, 0)
    kernels = params["params"]["blocks"]["qkv"]["kernel"]
    assert kernels.shape == (3, 8, 24) and np.mean(kernels[0] == kernels[1]) < 0.1
    x, condition = CHUNK[..., :2], COND[:, :2]
    first = Block(2, 1, jnp.float32)
    fresh = jax.jit(first.init_with_output)(jax.random.key(0), x, condition)[0]
    np.testing.assert_array_equal(fresh[0], x)


def test_depth_of_a_transformer_costs_no_equations():
    def size(depth):
        network = DiffusionTransformer(8, 2, depth)
        params = jax.eval_shape(network.init, jax.random.key(0), CHUNK, TIME)
        grad = jax.grad(lambda p: network.apply(p, CHUNK, TIME).sum())
        return equations(jax.make_jaxpr(grad)(params).jaxpr)

    assert size(8) == size(2)


@pytest.mark.parametrize(
    ("make", "x"), [(ResidualMLP, X), (SimbaMLP, X), (DiffusionTransformer, CHUNK)]
)
def test_precision(make, x):
    """Parameters and predictions are float32; bfloat16 products change them a little."""
    exact, network = (make(width=16, blocks=1, dtype=d) for d in (jnp.float32, jnp.bfloat16))
    params = parameters(network, x, TIME, COND)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    run = jax.jit(lambda p: (network.apply(p, x, TIME, COND), exact.apply(p, x, TIME, COND)))
    found, expected = run(params)
    assert found.dtype == jnp.float32
    assert 1e-4 < np.abs(found - expected).mean() / np.abs(expected).mean() < 0.1


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_score_is_the_gradient_of_the_energy(dtype):
    """And learns: a loss of it has the gradient by the parameters of finite differences."""
    energy = ScalarEnergy(width=16, blocks=1, dtype=dtype)
    params = parameters(energy, X, TIME, COND)

    @jax.jit
    def energies(params, x):
        return energy.apply(params, x, TIME, COND)

    @jax.jit
    def loss(params):
        score = gradient(lambda x, time: energy.apply(params, x, time, COND))(X, TIME)
        return jnp.mean((score - 1.0) ** 2), score

    ((_, score), slope) = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    assert score.shape == X.shape
    step = 1e-2 * np.eye(A, dtype=np.float32)[1]
    if dtype == jnp.float32:
        above, below = (energies(params, X + sign * step) for sign in (1, -1))
        np.testing.assert_allclose(score[:, 1], (above - below) / 2e-2, rtol=1e-2, atol=1e-3)
    norm = np.sqrt(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(jax.device_get(slope))))
    far = 3e-3 / norm
    above, below = (
        loss(jax.tree.map(lambda p, g, s=sign: p + s * far * g, params, slope))[0]
        for sign in (1, -1)
    )
    exact = dtype == jnp.float32
    np.testing.assert_allclose((above - below) / 6e-3, norm, rtol=0.02 if exact else 0.5)


@pytest.mark.parametrize(
    ("network", "x", "says"),
    [
        (DiffusionTransformer(10, 4), CHUNK, "width 10 is not a multiple of its 4 heads"),
        (DiffusionTransformer(8, 4), X, "takes chunks"),
    ],
)
def test_bad_input(network, x, says):
    with pytest.raises(UsageError, match=says):
        network.init(jax.random.key(0), x, TIME)
