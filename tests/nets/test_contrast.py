"""Energies by their definitions, losses against twins in NumPy, and what leaves them unchanged."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from jaxrl.nets.contrast import EPS, LOSSES, energy, pairwise

B, R = 9, 5
KINDS = ("l2", "squared_l2", "dot", "cosine")
PENALTY = 0.3


def rows(seed: int, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).normal(size=(B, R))


X, Y = rows(0), rows(1)
VALID = np.array([True, True, False, True, True, True, False, True, True])
ALIVE = np.array([1.0, 0.4, 0.0, 0.01, 1.0, 0.7, 0.5, 0.9, 0.2])

BROADCAST = {
    "l2": lambda x, y: -np.sqrt(((x[:, None] - y[None]) ** 2).sum(-1) + EPS),
    "squared_l2": lambda x, y: -((x[:, None] - y[None]) ** 2).sum(-1),
    "dot": lambda x, y: (x[:, None] * y[None]).sum(-1),
    "cosine": lambda x, y: np.array(
        [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in y] for a in x]
    ),
}
"""Pairwise energies [B, B] by their definitions."""


def twin(name: str, logits: np.ndarray, alive: np.ndarray) -> float:
    """A loss, row by row, over the valid rows and columns only; goals count `alive` times."""
    logits, alive = logits[np.ix_(VALID, VALID)], alive[VALID]
    if name == "binary":
        labels = np.eye(len(logits))
        p = 1 / (1 + np.exp(-logits))
        each = labels * np.log(p) + (1 - labels) * np.log(1 - p)
        return float(-np.average(each, weights=np.tile(alive, (len(p), 1))))
    total = 0.0
    for axis in {"forward": (1,), "backward": (0,), "symmetric": (1, 0)}[name]:
        lse = logsumexp(logits, axis=axis, b=alive[None] if axis == 1 else None)
        total += np.average(lse - np.diag(logits) + PENALTY * lse**2, weights=alive)
    return float(total)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_matrix_form_is_broadcasting(kind, scale):
    x, y = rows(0, scale), rows(1, scale)
    expected = BROADCAST[kind](x, y)
    found = pairwise(kind, jnp.float32(x), jnp.float32(y))
    atol = 2e-5 * max(scale, 0.03) if kind == "l2" else 1e-5 * scale**2 + 1e-6
    if kind == "cosine" and scale < 1:  # the eps under the root is as long as these vectors
        lengths = np.sqrt((x**2).sum(-1) + EPS)[:, None] * np.sqrt((y**2).sum(-1) + EPS)
        expected = x @ y.T / lengths
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=atol)
    aligned = energy(kind, jnp.float32(x), jnp.float32(y))
    np.testing.assert_allclose(aligned, np.diag(expected), rtol=1e-5, atol=atol)


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_is_infinite_where_pairs_meet(kind):
    def total(x):
        return pairwise(kind, x, x).sum() + energy(kind, x, x).sum()

    for x in (jnp.float32(X), jnp.zeros((B, R))):
        assert np.all(np.isfinite(jax.grad(total)(x)))


def test_what_scaling_does():
    """Cosine: nothing, per row. Distances are homogeneous of degree 1 and 2, dot of each side."""
    x, y, c = jnp.float32(X), jnp.float32(Y), 7.0
    by_row = jnp.arange(1.0, B + 1)[:, None]
    np.testing.assert_allclose(
        pairwise("cosine", by_row * x, c * y), pairwise("cosine", x, y), rtol=1e-4, atol=1e-6
    )
    for kind, factor in (("l2", c), ("squared_l2", c**2), ("dot", c**2)):
        np.testing.assert_allclose(
            pairwise(kind, c * x, c * y), factor * pairwise(kind, x, y), rtol=1e-4, atol=1e-4
        )
    np.testing.assert_allclose(
        pairwise("dot", by_row * x, y), by_row * pairwise("dot", x, y), rtol=1e-5
    )
    shift = jnp.arange(R) * 3.0
    np.testing.assert_allclose(
        pairwise("l2", x + shift, y + shift), pairwise("l2", x, y), rtol=1e-4
    )


@pytest.mark.parametrize("name", LOSSES)
def test_losses_equal_their_twins(name):
    for kind in KINDS:
        logits = BROADCAST[kind](X, Y)
        inputs = jnp.float32(logits), jnp.asarray(VALID), PENALTY
        immortal = twin(name, logits, np.ones(B))
        np.testing.assert_allclose(LOSSES[name](*inputs), immortal, rtol=1e-5)
        np.testing.assert_allclose(LOSSES[name](*inputs, jnp.ones(B)), immortal, rtol=1e-5)
        found = LOSSES[name](*inputs, jnp.float32(ALIVE))
        np.testing.assert_allclose(found, twin(name, logits, ALIVE), rtol=1e-5)


@pytest.mark.parametrize("alive", [None, ALIVE])
@pytest.mark.parametrize("name", LOSSES)
def test_rows_that_are_no_transition_are_nowhere(name, alive):
    """Neither as rows nor as negatives, in the value and in the gradient."""
    alive = None if alive is None else jnp.float32(alive)
    logits = jnp.float32(BROADCAST["dot"](X, Y))
    other = jnp.where(VALID[:, None] & VALID[None], logits, 50.0)
    loss = jax.value_and_grad(lambda x, valid: LOSSES[name](x, valid, PENALTY, alive))
    (a, grad), (b, same) = loss(logits, jnp.asarray(VALID)), loss(other, jnp.asarray(VALID))
    np.testing.assert_allclose(a, b, rtol=1e-6)
    np.testing.assert_allclose(grad, same, atol=1e-7)
    assert np.all(grad[~VALID] == 0) and np.all(grad[:, ~VALID] == 0)
    nothing, grad = loss(logits, jnp.zeros(B, bool))
    assert nothing == 0 and np.all(grad == 0)


def test_goals_that_an_early_end_leaves_out_are_unlikely():
    """Of two states that lead to the same goals, one ends before 80 % of them. Backward InfoNCE is
    stationary where energies are log p(g|s) with the missing mass missing, plus any offset of the
    goal; forward InfoNCE, which compares goals, where they are log p(g|s) / p(g)."""
    share = np.array([1.0, 0.2])  # of the future, that there is
    law = np.array([[3, 1, 0, 4], [3, 1, 4, 0]]) / 8  # of goals, given that there is one
    counts = np.array([16, 32])  # rows of each state
    pairs = np.rint(counts[:, None] * law).astype(int)
    state, goal = (np.repeat(x, pairs.ravel()) for x in np.indices(pairs.shape).reshape(2, -1))
    met = pairs > 0  # elsewhere energies fall without end
    mass = (share * counts) @ law

    def slope(name, table):
        table = jnp.float32(np.where(met, table, -40.0))
        valid, alive = jnp.ones(len(state), bool), jnp.float32(share[state])
        loss = LOSSES[name]
        return jax.grad(lambda x: loss(x[state][:, goal], valid, 0.0, alive))(table)

    with np.errstate(divide="ignore"):
        futures = np.log(share[:, None] * law)
    np.testing.assert_allclose(slope("backward", futures + np.arange(4)), 0.0, atol=1e-6)
    np.testing.assert_allclose(slope("forward", futures - np.log(mass)), 0.0, atol=1e-6)
    assert np.abs(slope("backward", futures - np.log(share)[:, None])).max() > 0.05


def test_what_each_loss_cannot_see():
    """Without a penalty InfoNCE is blind to an offset per row (forward) or column (backward)."""
    logits, valid = jnp.float32(BROADCAST["dot"](X, Y)), jnp.asarray(VALID)
    by_row, by_column = logits + jnp.arange(B)[:, None], logits + jnp.arange(B)[None]
    for name, same, other in (("forward", by_row, by_column), ("backward", by_column, by_row)):
        loss = LOSSES[name]
        np.testing.assert_allclose(loss(same, valid, 0.0), loss(logits, valid, 0.0), rtol=1e-5)
        assert abs(loss(other, valid, 0.0) - loss(logits, valid, 0.0)) > 0.1
        assert abs(loss(same, valid, PENALTY) - loss(logits, valid, PENALTY)) > 0.1
    # Binary NCE has labels: raising every logit cannot lower it without end (JaxGCRL's does).
    assert LOSSES["binary"](logits + 50, valid, 0.0) > LOSSES["binary"](logits, valid, 0.0) + 10
