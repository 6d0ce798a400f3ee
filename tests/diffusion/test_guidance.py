"""Guidance against closed-form product densities; choice among samples against order statistics."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest, norm

from jaxrl.diffusion import (
    Sampler,
    best_of,
    choose,
    classifier_free,
    denoiser,
    drop_condition,
    energy_guided,
)
from tests.diffusion.mixture import PLANE, Mixture
from tests.diffusion.processes import PATHS, PROCESSES, noisy

KEY = jax.random.key(0)
S = np.array([[0.4, 0.15], [0.15, 0.2]])


def gaussian(mean, covariance=S) -> Mixture:
    return Mixture(np.ones(1), np.array([mean], float), np.array([covariance]))


def test_conditions_are_dropped_as_a_whole():
    """Per sample, not per entry."""
    cond = jnp.arange(1.0, 12_001.0).reshape(2000, 3, 2)
    found = np.asarray(drop_condition(KEY, cond, 0.0, 0.2)).reshape(2000, 6)
    gone = (found == 0).all(1)
    np.testing.assert_array_equal(found[~gone], np.asarray(cond).reshape(2000, 6)[~gone])
    assert gone.mean() == pytest.approx(0.2, abs=0.03)
    null = jnp.full((3, 2), -7.0)  # such as a learnt one
    np.testing.assert_array_equal(drop_condition(KEY, cond, null, 1.0), np.full(cond.shape, -7.0))
    np.testing.assert_array_equal(drop_condition(KEY, cond, null, 0.0), cond)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("kind", ["velocity", "x0"])
def test_classifier_free_guidance_of_gaussians(name, kind):
    """N(m, S)^scale N(0, S)^(1 - scale) is N(scale m, S), whose x0-hat the guided network has."""
    process = PROCESSES[name]
    calls = []

    def network(x, time, cond):
        """x0-hat of N(cond, S) is linear in cond."""
        calls.append(x.shape)
        t = jnp.exp(4 * time) if name == "edm" else time
        alpha, _ = process.levels(t)
        x0 = cond + gaussian([0.0, 0.0]).x0(x - alpha[:, None] * cond, *process.levels(t))
        return process.from_x0(kind, x0, x, t)

    t = process.spread(jnp.linspace(0.02, 0.98, 40))
    x = np.float32(np.random.default_rng(0).normal(size=(40, 2)))
    mean = np.array([1.0, -0.5])
    cond = jnp.tile(jnp.float32(mean), (40, 1))
    for scale in (0.0, 1.0, 2.5):
        guided = denoiser(process, kind, classifier_free(network, cond, 0.0, scale))
        expected = gaussian(scale * mean).x0(np.float64(x), *process.levels(np.float64(t)))
        np.testing.assert_allclose(guided(x, t), expected, atol=2e-4)
    assert calls == 3 * [(80, 2)]  # both in one call
    scales = jnp.linspace(0.0, 3.0, 40)
    guided = denoiser(process, kind, classifier_free(network, cond, 0.0, scales))
    each = [
        gaussian(s * mean).x0(np.float64(x[i]), *process.levels(np.float64(t[i])))
        for i, s in enumerate(np.asarray(scales))
    ]
    np.testing.assert_allclose(guided(x, t), each, atol=2e-4)


def product(mixture: Mixture, mean, precision) -> Mixture:
    """The mixture's density times exp(-(x - mean)^T precision (x - mean) / 2), normalised."""
    covariances = np.linalg.inv(np.linalg.inv(mixture.covariances) + precision)
    pulled = (
        np.linalg.solve(mixture.covariances, mixture.means[..., None])[..., 0] + precision @ mean
    )
    means = np.einsum("kde,ke->kd", covariances, pulled)
    gap = mixture.means - mean
    spread = mixture.covariances + np.linalg.inv(precision)
    log = -0.5 * np.einsum("kd,kde,ke->k", gap, np.linalg.inv(spread), gap)
    shares = mixture.shares * np.exp(log) / np.sqrt(np.linalg.det(spread))
    return Mixture(shares / shares.sum(), means, covariances)


@pytest.mark.parametrize("name", PATHS)
def test_energy_guidance_gives_the_product(name):
    """The mixture times a Gaussian is a mixture. Guided by log E[w | x_t], in closed form, samples
    follow it: its moments, and its x0-hat at every level, that where sampling begins included."""
    process = PROCESSES[name]
    target = product(PLANE, np.array([0.5, -0.5]), np.array([[1.5, 0.4], [0.4, 0.8]]))
    scale = 2.0

    def log_weight(x, t):
        levels = process.levels(t)
        return (target.log_density(x, *levels) - PLANE.log_density(x, *levels)) / scale

    guided = energy_guided(process, PLANE.denoiser(process), log_weight, scale)
    first = process.grid(1)[:1]
    t = jnp.append(process.spread(jnp.linspace(0.05, 0.95, 39)), np.float32(first))
    x = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    x[-1] *= process.prior_std
    expected = target.x0(np.float64(x), *process.levels(np.float64(t)))
    found = jax.jit(guided)(x, t)
    np.testing.assert_allclose(found[:-1], expected[:-1], atol=2e-3 if name == "edm" else 5e-4)
    np.testing.assert_allclose(found[-1], expected[-1], atol=2e-3)
    few = Sampler(process, "heun", 5)
    exact = few.solve(KEY, target.denoiser(process), x)
    np.testing.assert_allclose(few.solve(KEY, guided, x), exact, atol=5e-4)
    start = np.float32(noisy(process, np.random.default_rng(1), 8000))
    samples = jax.jit(lambda x: Sampler(process, "heun", 24).solve(KEY, guided, x))(start)
    np.testing.assert_allclose(samples.mean(0), target.mean, atol=0.06)
    np.testing.assert_allclose(np.cov(samples.T), target.covariance, atol=0.06)
    assert np.abs(target.mean - PLANE.mean).max() > 0.2


def test_the_best_of_n():
    """The largest of n normal numbers has the CDF Phi^n; softmax weighs the density with exp(Q)."""

    def draw(key):
        return jax.random.normal(key, (4000, 1))

    def value(x):
        return x[:, 0]

    best, soft = jax.jit(
        lambda key: (best_of(key, draw, value, 5), best_of(key, draw, value, 64, temperature=2.0))
    )(KEY)
    assert best.shape == (4000, 1)
    assert kstest(best[:, 0], lambda x: norm.cdf(x) ** 5).statistic < 0.03
    assert kstest(soft[:, 0], lambda x: norm.cdf(x - 0.5)).statistic < 0.04


def test_each_row_chooses_for_itself():
    x = jnp.arange(24.0).reshape(3, 4, 2)
    value = jnp.array([[0.0, 5, 1, 1], [1, 0, 3, 1], [2, 1, 2, 4]])
    np.testing.assert_array_equal(choose(KEY, x, value), x[jnp.array([2, 0, 1, 2]), jnp.arange(4)])
    often = jax.vmap(lambda key: choose(key, x, value, 1.5)[:, 0])(jax.random.split(KEY, 4000))
    share = np.asarray(often == x[1, :, 0]).mean(0)
    weight = np.exp(np.asarray(value) / 1.5)
    np.testing.assert_allclose(share, weight[1] / weight.sum(0), atol=0.03)
