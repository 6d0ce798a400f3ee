"""Counting the matrix products of a function."""

from __future__ import annotations

import importlib

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from tests.train.runs import ROOT


@pytest.fixture
def products(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("products")


X = jnp.ones((8, 8))
ONE = 2 * 8**3 / 1e9
"""GFLOP of a product."""


def test_a_loop_counts_by_its_length(products):
    def thrice(x):
        return lax.scan(lambda c, _: (c @ X, None), x @ X, length=3)[0]

    assert products.gflop(products.products_of(thrice, X)) == pytest.approx(4 * ONE)


def test_of_what_depends_on_the_platform_only_this_one_counts(products):
    def here(x):
        once, twice = (lambda x: x @ X), (lambda x: x @ X @ X)
        return lax.platform_dependent(x, **{jax.default_backend(): once}, default=twice)

    def elsewhere(x):
        return lax.platform_dependent(x, tpu=lambda x: x, default=lambda x: x @ X @ X)

    assert products.gflop(products.products_of(here, X)) == pytest.approx(ONE)
    if jax.default_backend() != "tpu":
        assert products.gflop(products.products_of(elsewhere, X)) == pytest.approx(2 * ONE)


def test_a_loop_of_unknown_length_is_refused(products):
    def until(x):
        return lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x @ X, x)

    with pytest.raises(ValueError, match="unknown length"):
        products.products_of(until, X)
