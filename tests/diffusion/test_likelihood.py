"""Log-probabilities of paths and of samples against numerical integration and closed forms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import CubicSpline
from scipy.stats import kstest

from jaxrl.diffusion import EDM, Flow, Sampler, VariancePreserving, log_prob
from jaxrl.errors import UsageError
from tests.diffusion.mixture import PLANE
from tests.diffusion.processes import PROCESSES, STOCHASTIC, noisy
from tests.diffusion.test_orders import LINE

KEY = jax.random.key(0)


@pytest.mark.parametrize("solver", STOCHASTIC)
def test_densities_of_steps_integrate_to_one(solver):
    """Three steps of a one-dimensional sampler: the density of all (x_1, x_2, x_3) by their
    log-probabilities, summed over a grid; its margin against what the sampler draws."""
    process = VariancePreserving()
    sampler = Sampler(process, solver, 3)
    denoise = LINE.denoiser(process)
    x = np.linspace(-4.5, 4.5, 61)
    cell = x[1] - x[0]
    triples = np.stack(np.meshgrid(x, x, x, indexing="ij")).reshape(3, -1, 1)
    path = np.concatenate([triples, triples[-1:]])  # the last step has no density, and counts 0
    log = jax.jit(lambda x: sampler.path_log_prob(denoise, x))(np.float32(path))
    np.testing.assert_array_equal(log[2], 0)
    start = np.exp(-0.5 * triples[0, :, 0] ** 2) / np.sqrt(2 * np.pi)
    density = (start * np.exp(np.asarray(log, np.float64).sum(0))).reshape(61, 61, 61) * cell**3
    assert density.sum() == pytest.approx(1, abs=1e-3)
    margin = np.cumsum(density.sum((0, 1)))
    draw = jax.jit(lambda key, z: sampler.path(key, denoise, z).x[2, :, 0])
    drawn = draw(KEY, process.prior(jax.random.key(2), (40_000, 1)))
    cdf = kstest(drawn, CubicSpline(x + cell / 2, margin))
    assert cdf.statistic < 0.01


@pytest.mark.parametrize(("name", "solver"), [("vp", "euler_ancestral"), ("flow", "ddpm")])
def test_a_path_has_the_density_that_it_was_drawn_with(name, solver):
    """Under the same denoiser and temperature; under another the ratio of densities has mean 1."""
    process = PROCESSES[name]
    sampler = Sampler(process, solver, 5, clip=(-0.8, 0.8))
    denoise = PLANE.denoiser(process)

    def other(x, t):
        return denoise(x, t) + 0.05 * jnp.sin(x)

    @jax.jit
    def run(x):
        path = sampler.path(KEY, denoise, x, 0.8)
        same, new = (sampler.path_log_prob(d, path.x, 0.8) for d in (denoise, other))
        drift = jax.grad(
            lambda c: sampler.path_log_prob(lambda x, t: c * denoise(x, t), path.x).sum()
        )
        return path.log_prob, same, new, drift(1.0)

    old, same, new, slope = run(np.float32(noisy(process, np.random.default_rng(0), 20_000)))
    np.testing.assert_allclose(same, old, atol=2e-3)
    ratio = np.exp(np.sum(new - old, axis=0))
    assert ratio.std() > 0.1
    assert ratio.mean() == pytest.approx(1, abs=4 * ratio.std() / np.sqrt(len(ratio)))
    assert np.isfinite(slope)


@pytest.mark.parametrize("process", [VariancePreserving("linear"), EDM(), Flow()], ids=str)
def test_density_of_samples(process):
    """Against the mixture's own, and its sum over a grid; the error falls with 1 / steps^2."""
    axis = np.linspace(-4, 4, 41)
    x = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    denoise = PLANE.denoiser(process)
    levels = process.levels(process.spread(np.zeros(())))
    exact = PLANE.log_density(x, *(float(c) for c in levels))
    wrong = []
    for steps in (32, 128):
        found = jax.jit(lambda x, n=steps: log_prob(denoise, process, x, n))(np.float32(x))
        wrong.append(np.abs(found - exact)[exact > -8].mean())
    total = np.exp(np.asarray(found, np.float64)).sum() * (axis[1] - axis[0]) ** 2
    assert total == pytest.approx(1, abs=0.01)
    assert wrong[1] < 0.02
    if not isinstance(process, VariancePreserving):  # where 0.0066 of the data is left at the end
        assert wrong[1] < 0.1 * wrong[0]


def test_density_takes_rows_of_any_shape_and_their_conditions():
    """Chunks [B, H, A] as rows of H A entries, each with a condition of its own."""
    process = Flow()
    shift = jnp.array([[0.5, -0.5], [0.0, 1.0], [2.0, 0.0]])

    def denoise(x, t):
        return shift + PLANE.x0(x - (1 - t)[:, None] * shift, *process.levels(t))

    def chunked(x, t):
        return denoise(x.reshape(3, 2), t).reshape(3, 2, 1)

    x = jnp.array([[0.1, 0.2], [-0.4, 0.9], [1.0, -0.3]]) + shift
    flat, chunk = jax.jit(
        lambda x: (log_prob(denoise, process, x), log_prob(chunked, process, x[..., None]))
    )(x)
    np.testing.assert_allclose(flat, chunk, rtol=1e-5)
    np.testing.assert_allclose(flat, PLANE.log_density(np.asarray(x - shift)), atol=0.1)


def test_steps_without_noise_have_no_density():
    sampler = Sampler(Flow(), "euler", 3)
    with pytest.raises(
        UsageError, match="the steps of euler have no density; take ddpm or euler_a"
    ):
        sampler.path_log_prob(PLANE.denoiser(Flow()), jnp.zeros((4, 2, 2)))
