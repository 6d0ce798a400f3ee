"""bfloat16 products: rounded inputs, sums and all else in float32, and gradients of both kinds."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax import export

from jaxrl.nets.precision import dense, product

rng = np.random.default_rng(0)
X, W, G = (rng.normal(size=s).astype(np.float32) for s in ((3, 8, 300), (300, 5), (3, 8, 5)))


def rounded(x: np.ndarray) -> np.ndarray:
    return x.astype(ml_dtypes.bfloat16).astype(np.float64)


def test_products_of_rounded_inputs_are_summed_in_float32():
    found = jax.jit(product)(X, W)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, rounded(X) @ rounded(W), rtol=1e-5, atol=1e-5)
    assert np.abs(found - X @ W).max() > 1e-3  # they were rounded


def test_gradients_on_a_processor_are_those_of_the_float32_product():
    dx, dw = jax.jit(jax.grad(lambda x, w: jnp.sum(G * product(x, w)), (0, 1)))(X, W)
    np.testing.assert_allclose(dx, G @ W.T, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dw, np.einsum("abi,abo->io", X, G), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("platform", "kinds"), [("cuda", 3 * ["bf16"]), ("cpu", ["bf16", "f32", "f32"])]
)
def test_which_products_are_bfloat16(platform, kinds):
    """The forward one everywhere, the gradients' two on an accelerator; sums are float32."""
    gradient = jax.jit(jax.value_and_grad(lambda x, w: jnp.sum(G * product(x, w)), (0, 1)))
    text = export.export(gradient, platforms=[platform])(X, W).mlir_module()
    pattern = r"dot_general .*: \(tensor<\S*x(\w+)>, tensor<\S*x(\w+)>\) -> tensor<\S*x(\w+)>"
    found = re.findall(pattern, text)
    assert found == [(kind, kind, "f32") for kind in kinds]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_layer_keeps_float32_parameters(dtype):
    layer = dense(5, dtype)
    params = layer.init(jax.random.key(0), X)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    kernel = np.asarray(params["params"]["kernel"])
    exact = dtype == jnp.float32
    twin = X @ kernel if exact else rounded(X) @ rounded(kernel)
    np.testing.assert_allclose(layer.apply(params, X), twin, rtol=1e-4, atol=1e-5)
