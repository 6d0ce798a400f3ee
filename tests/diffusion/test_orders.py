"""How errors fall with the number of steps, on the mixture whose x0-hat is a closed form.

Deterministic solvers: against SciPy's solution of the probability-flow ODE, written as in the
papers, with its own score and in its own time. Stochastic ones: the error of expectations.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.interpolate import CubicSpline
from scipy.stats import wasserstein_distance

from jaxrl.diffusion import EDM, Sampler
from jaxrl.diffusion.solvers import tabulate
from tests.diffusion.mixture import PLANE, Mixture
from tests.diffusion.processes import (
    DETERMINISTIC,
    PATHS,
    PROCESSES,
    STOCHASTIC,
    noisy,
    solved,
)

ORDERS = {"ddim": 1, "euler": 1, "heun": 2, "dpmpp_2m": 2}
INTERVALS = (16, 32, 64)


def drift(name: str, t: float, x: np.ndarray) -> np.ndarray:
    """dx/dt of the probability-flow ODE."""
    match name:
        case "vp":  # Song et al.: -1/2 beta (x + score)
            log = -(0.1 * t + 4.95 * t**2)
            score = PLANE.score(x, np.exp(log / 2), np.sqrt(-np.expm1(log)))
            return -0.5 * (0.1 + 9.9 * t) * (x + score)
        case "edm":  # Karras et al.: -sigma score
            return -t * PLANE.score(x, 1.0, t)
        case "flow":  # E[noise - x0 | x_t]
            return (x - PLANE.x0(x, 1 - t, t)) / t
    raise ValueError(name)


@functools.cache
def truth(name: str, late: float) -> np.ndarray:
    """The noisy end, and where the ODE takes it at times `late` and nearly 0, [3, 16, 2]."""
    process = PROCESSES[name]
    start = noisy(process, np.random.default_rng(0), 16)
    done = solve_ivp(
        lambda t, x: drift(name, t, x.reshape(-1, 2)).ravel(),
        (process.grid(1)[0], 1e-6),
        start.ravel(),
        method="DOP853",
        t_eval=(late, 1e-6),
        rtol=1e-8,
        atol=1e-9,
    )
    return np.stack([start, *done.y.T.reshape(2, -1, 2)])


def errors(name: str, solver: str) -> tuple[list[float], list[float]]:
    """Mean distance to the truth after three quarters of the steps, and at the end."""
    process, midway, end = PROCESSES[name], [], []

    def denoise(x, t):
        return jnp.array(PLANE.x0(np.asarray(x), *process.levels(np.asarray(t))))

    with jax.enable_x64(True), jax.disable_jit():  # without a compilation for each length
        for n in INTERVALS:
            sampler = Sampler(process, solver, n + (name == "edm"))  # n steps, and one to 0
            late = 3 * n // 4
            start, *exact = truth(name, round(float(process.grid(sampler.steps)[late]), 12))
            path = sampler.path(jax.random.key(0), denoise, jnp.array(start))
            midway.append(np.abs(path.x[late] - exact[0]).mean())
            end.append(np.abs(path.x[-1] - exact[1]).mean())
    return midway, end


def slope(steps, errors) -> float:
    """Least-squares slope of log error against log steps, negated."""
    return -float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


@pytest.mark.parametrize("solver", DETERMINISTIC)
@pytest.mark.parametrize("name", PATHS)
def test_order_of_deterministic_solvers(name, solver):
    """Next to sigma = 0 or alpha = 0 the steps of DPM-Solver++ in log-SNR are log 2, log 3/2, ...,
    however many there are; so its error falls like log(n) / n^2 there, and not evenly."""
    midway, end = errors(name, solver)
    if solver == "dpmpp_2m" and name == "flow":
        midway = midway / np.log(INTERVALS)
    assert slope(INTERVALS, midway) == pytest.approx(ORDERS[solver], abs=0.2)
    if solver == "dpmpp_2m" and name != "edm":
        assert end[-1] < 0.003
    else:
        assert slope(INTERVALS, end) == pytest.approx(ORDERS[solver], abs=0.2)
        assert end[-1] < {1: 0.04, 2: 0.01}[ORDERS[solver]]


LINE = Mixture(
    shares=np.array([0.4, 0.6]),
    means=np.array([[-0.9], [1.1]]),
    covariances=np.array([[[0.16]], [[0.36]]]),
)


_mean, _variance = LINE.means[:, 0], LINE.covariances[:, 0, 0]
MOMENTS = np.array(
    [LINE.shares @ m for m in (_mean, _mean**2 + _variance, _mean**3 + 3 * _mean * _variance)]
)
"""E[x], E[x^2] and E[x^3] of LINE."""


def expectations(process, solver: str, steps: int) -> np.ndarray:
    """E[x], E[x^2] and E[x^3] of a stochastic solver's samples from LINE, without drawing any.

    Backwards: what is expected of the sample given the state, on a grid of states, by Gauss-Hermite
    quadrature over each step's noise and a spline in between.
    """
    table = tabulate(process, solver, steps)
    alpha, sigma = process.levels(table.t)
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    weights = weights / weights.sum()
    unit = np.linspace(-7, 7, 401)
    later = None
    for i in reversed(range(steps)):
        x = unit * np.sqrt(alpha[i] ** 2 * 1.3 + sigma[i] ** 2)
        mean = table.x[i] * x + table.x0[i] * LINE.x0(x[:, None], alpha[i], sigma[i])[:, 0]
        if later is None:
            value = mean[:, None] ** np.array([1, 2, 3])
        else:
            value = np.einsum("n,xnk->xk", weights, later(mean[:, None] + table.noise[i] * nodes))
        later = CubicSpline(x, value)
    centres = alpha[0] * LINE.means[:, 0]
    roots = np.sqrt(alpha[0] ** 2 * LINE.covariances[:, 0, 0] + sigma[0] ** 2)
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    start = later(centres[:, None] + roots[:, None] * nodes)
    return np.einsum("k,n,knm->m", LINE.shares, weights / weights.sum(), start)


@pytest.mark.parametrize("solver", STOCHASTIC)
@pytest.mark.parametrize("name", PATHS)
def test_weak_order_of_stochastic_solvers(name, solver):
    steps = (32, 64, 128)
    wrong = [expectations(PROCESSES[name], solver, n) - MOMENTS for n in steps]
    size = np.linalg.norm(wrong, axis=1)
    assert slope(steps, size) == pytest.approx(1, abs=0.2)
    assert size[-1] < 0.06


@pytest.mark.parametrize("solver", DETERMINISTIC + STOCHASTIC)
@pytest.mark.parametrize("name", PATHS)
def test_samples_follow_the_mixture(name, solver):
    """Mean, covariance, and Wasserstein distance along 8 directions, of 8192 samples."""
    rng, n = np.random.default_rng(1), 8192
    process = PROCESSES[name]
    x = solved(Sampler(process, solver, 64), noisy(process, rng, n))
    bias = 0.1 if solver in STOCHASTIC else 0.03  # at 64 steps; the rest is the draw
    np.testing.assert_allclose(x.mean(0), PLANE.mean, atol=0.04 + bias / 4)
    np.testing.assert_allclose(np.cov(x.T), PLANE.covariance, atol=0.04 + bias)
    angles = np.pi * np.arange(8) / 8
    lines = np.stack([np.cos(angles), np.sin(angles)])
    exact = PLANE.draw(rng, 4 * n)
    far = [
        wasserstein_distance(*pair) for pair in zip((x @ lines).T, (exact @ lines).T, strict=True)
    ]
    assert max(far) < 0.03 + bias / 2


def test_the_noisy_end_is_the_prior():
    """What a sampler starts from is what the data becomes, but for the signal that is left."""
    for process in PROCESSES.values():
        alpha, sigma = process.levels(process.grid(1)[:1])
        assert sigma == pytest.approx(process.prior_std, rel=4e-3)
        assert alpha / sigma < (0.1001 if isinstance(process, EDM) else 0.085)
