"""Processes and converters by their definitions, by textbook schedules and the mixture's score."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.diffusion import EDM, Flow, VariancePreserving
from jaxrl.diffusion.process import MIN_TIME
from jaxrl.errors import UsageError
from tests.diffusion.mixture import PLANE
from tests.diffusion.processes import CONTINUOUS, KINDS, PROCESSES

RNG = np.random.default_rng(0)
B = 64
U = RNG.uniform(0.02, 0.98, B)  # at the noisy end of a flow, noise does not tell x0
X0, NOISE = (RNG.normal(size=(B, 3, 2)) for _ in range(2))


@pytest.fixture(params=PROCESSES)
def process(request):
    return PROCESSES[request.param]


@pytest.fixture
def t(process):
    """Times of training, in float64."""
    return np.asarray(process.spread(jnp.array(U)), np.float64)


def squares(process, times) -> np.ndarray:
    """alpha^2 at those times, in float64."""
    return process.levels(np.asarray(times, np.float64))[0] ** 2


@pytest.mark.parametrize("steps", [5, 20])
def test_vp_schedule_of_idql(steps):
    i, least, most = np.arange(1, steps + 1), 0.1, 10.0  # most is not 20
    betas = 1 - np.exp(-least / steps - 0.5 * (most - least) * (2 * i - 1) / steps**2)
    found = squares(VariancePreserving("vp", steps), i / steps)
    np.testing.assert_allclose(found, np.cumprod(1 - betas), rtol=1e-12)
    np.testing.assert_allclose(squares(VariancePreserving("vp"), i / steps), found, rtol=1e-12)
    np.testing.assert_allclose(found[-1], np.exp(-5.05), rtol=1e-12)


def test_linear_schedule_of_ddpm():
    times = np.arange(1, 1001) / 1000
    found = squares(VariancePreserving("linear", 1000), times)
    np.testing.assert_allclose(found, np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)), rtol=1e-12)
    np.testing.assert_allclose(found[-1], 4.0358e-5, rtol=1e-4)  # as every code base has it
    np.testing.assert_allclose(squares(VariancePreserving("linear"), times), found, rtol=0.11)
    short = squares(VariancePreserving("linear", 50), [1.0])  # as noisy at its end, not 0.6
    assert short < 2e-5


def test_cosine_schedule_of_improved_ddpm():
    times = np.arange(21) / 20
    f = np.cos((times + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.minimum(1 - f[1:] / f[:-1], 0.999)
    found = squares(VariancePreserving("cosine", 20), times[1:])
    np.testing.assert_allclose(found, np.cumprod(1 - betas), rtol=1e-9)
    assert betas[-1] == 0.999  # so that some signal is left
    continuous = squares(VariancePreserving("cosine"), times / 0.9946)[:20]
    np.testing.assert_allclose(continuous, (f / f[0])[:20], rtol=1e-9)


def test_times_are_exact_in_float32_too(process, t):
    narrow = jax.jit(process.levels)(jnp.array(t))
    for found, exact in zip(narrow, process.levels(t), strict=True):
        np.testing.assert_allclose(found, exact, rtol=2e-5)


def test_paths(process, t):
    """Rates are the derivatives by the clock, and the clock is found from sigma / alpha."""
    clock = process.clock(t)
    alpha, sigma = process.path(clock)
    for found, above, below in zip(
        process.rates(clock), process.path(clock + 1e-6), process.path(clock - 1e-6), strict=True
    ):
        np.testing.assert_allclose(found, (above - below) / 2e-6, atol=1e-8)
    d_alpha, d_sigma = process.rates(clock)
    np.testing.assert_allclose(alpha * d_sigma - d_alpha * sigma, 1, rtol=1e-12)
    np.testing.assert_allclose(process.clock_of_ratio(sigma / alpha), clock, rtol=1e-9)


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("target", KINDS)
def test_round_trips(process, t, source, target):
    """Of what each kind means of the same x0 and noise."""
    x = process.corrupt(X0, NOISE, t)
    mine, other = (process.target(kind, X0, NOISE, t) for kind in (source, target))
    found = process.convert(mine, source, target, x, t)
    np.testing.assert_allclose(found, other, rtol=1e-7, atol=1e-9)
    back = process.convert(found, target, source, x, t)
    np.testing.assert_allclose(back, mine, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["cosine", "vp", "edm", "flow"])
def test_kinds_mean_what_they_say(name):
    """The mixture's E[x0 | x_t] as score is the gradient of its log-density; as velocity it moves
    the density as the continuity equation says."""
    process = CONTINUOUS[name]
    with jax.enable_x64(True):
        t = jnp.array(process.spread(jnp.array(U)))
        x = jnp.array(RNG.normal(size=(B, 2)))
        alpha, sigma = (jnp.array(c) for c in process.levels(np.asarray(t)))

        def log_density(x, t):
            return PLANE.log_density(x, *process.levels(t))

        x0 = jnp.array(PLANE.x0(np.asarray(x), np.asarray(alpha), np.asarray(sigma)))
        score = jax.jit(jax.vmap(jax.grad(log_density)))(x, t)
        np.testing.assert_allclose(process.from_x0("score", x0, x, t), score, rtol=1e-6, atol=1e-8)
        noise = process.from_x0("noise", x0, x, t)
        np.testing.assert_allclose(noise, -sigma[:, None] * score, rtol=1e-6, atol=1e-8)

        def velocity(x, t):
            return process.from_x0("velocity", PLANE.x0(x, *process.levels(t)), x[None], t[None])[0]

        def change(x, t):
            """d log p / dc + div v + v . score, which is 0."""
            divergence = jnp.trace(jax.jacfwd(velocity)(x, t))
            slope = jax.grad(log_density, 1)(x, t) / jax.grad(process.clock)(t)
            return slope + divergence + velocity(x, t) @ jax.grad(log_density)(x, t)

        np.testing.assert_allclose(jax.jit(jax.vmap(change))(x, t), 0, atol=1e-6)


def test_preconditioning_of_karras():
    process, sigma, std = EDM(data_std=0.7), np.float32([0.01, 0.5, 30.0]), 0.7
    x = np.float32(RNG.normal(size=(3, 2)))
    out = np.float32(RNG.normal(size=(3, 2)))
    scaled, condition = process.inputs("preconditioned", x, jnp.array(sigma))
    total = np.sqrt(sigma**2 + std**2)[:, None]
    np.testing.assert_allclose(scaled, x / total, rtol=1e-6)
    np.testing.assert_allclose(condition, np.log(sigma) / 4, rtol=1e-5, atol=1e-7)
    x0 = std**2 / total**2 * x + sigma[:, None] * std / total * out
    found = process.to_x0("preconditioned", out, x, jnp.array(sigma))
    np.testing.assert_allclose(found, x0, rtol=1e-5)
    unscaled, _ = process.inputs("noise", x, jnp.array(sigma))
    np.testing.assert_array_equal(unscaled, x)


def test_preconditioned_targets_have_variance_one(process, t):
    """For data of deviation data_std; and what the network sees, too. In expectation, as both are
    linear in x0 and noise."""
    ones, zeros = np.ones((B, 1)), np.zeros((B, 1))
    for of in (
        lambda x0, noise: process.inputs("preconditioned", process.corrupt(x0, noise, t), t)[0],
        lambda x0, noise: process.target("preconditioned", x0, noise, t),
    ):
        variance = (of(ones, zeros) * process.data_std) ** 2 + of(zeros, ones) ** 2
        np.testing.assert_allclose(variance, 1, rtol=1e-9)


@pytest.mark.parametrize("kind", ["noise", "velocity", "score", "preconditioned"])
def test_without_noise_x_is_x0(process, kind):
    np.testing.assert_array_equal(process.to_x0(kind, NOISE, X0, np.zeros(B)), X0)
    found = jax.jit(process.levels)(jnp.zeros(3))
    np.testing.assert_array_equal(found, [[1, 1, 1], [0, 0, 0]])  # in float32 too


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_grids(process, steps):
    t = process.grid(steps)
    assert t.shape == (steps + 1,) and t[-1] == 0 and np.all(np.diff(t) < 0)
    sigma = process.levels(t)[1]
    assert sigma[-1] == 0 and np.all(np.diff(sigma) < 0)


def test_grids_of_continuous_processes_are_even_in_their_clock():
    for name in ("linear", "cosine", "vp", "flow"):
        process = CONTINUOUS[name]
        steps = np.diff(process.clock(process.grid(40)))
        np.testing.assert_allclose(steps, steps[0], rtol=1e-9)
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    karras = [(high + i / 9 * (low - high)) ** 7 for i in range(10)] + [0]
    np.testing.assert_allclose(EDM().grid(10), karras, rtol=1e-12)
    np.testing.assert_allclose(np.diff(EDM(rho=1.0).grid(9)[:-1]), -79.998 / 8, rtol=1e-9)


@pytest.mark.parametrize("train_steps", [5, 20])
def test_grids_of_discrete_processes_are_times_of_training(train_steps):
    process = VariancePreserving("vp", train_steps)
    for steps in range(1, train_steps + 1):
        index = process.grid(steps) * train_steps
        np.testing.assert_allclose(index, np.round(index), atol=1e-12)
        assert np.all(np.diff(index) <= -1) and index[0] == train_steps
        assert np.ptp(np.diff(index)) <= 1 + 1e-9  # evenly
    seen = process.spread(jnp.arange(1000) / 1000)
    values, counts = np.unique(np.round(seen * train_steps), return_counts=True)
    np.testing.assert_array_equal(values, np.arange(1, train_steps + 1))
    assert np.ptp(counts) <= 1
    np.testing.assert_allclose(process.nearest(seen), seen)
    np.testing.assert_allclose(process.nearest(jnp.array([0.0, 1.0])), [1 / train_steps, 1.0])


def test_times_of_training_span_their_range():
    for process in (VariancePreserving(), Flow()):
        np.testing.assert_allclose(process.spread(jnp.array([0.0, 1.0])), [MIN_TIME, 1.0])
    np.testing.assert_allclose(EDM().spread(jnp.array([0.0, 1.0])), [0.002, 80], rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: VariancePreserving("linaer"), "unknown schedule 'linaer'; there are: linear, cos"),
        (lambda: VariancePreserving("vp", 0), "at least 1 train_steps, got 0"),
        (lambda: VariancePreserving("linear", 5), "at least 21 train_steps, got 5; vp takes fewer"),
        (lambda: EDM(sigma_min=1.0, sigma_max=1.0), "below sigma_max, got sigma_min 1 and sigma"),
        (lambda: EDM(sigma_min=0.0), "sigma_min must be above 0"),
        (lambda: Flow().grid(0), "at least 1 step, got 0"),
        (lambda: VariancePreserving("vp", 5).grid(6), "6 sampling steps are more than the 5 train"),
        (lambda: Flow().check("noise"), "Flow starts at alpha = 0, where noise does not tell x0"),
        (lambda: Flow().check("eps"), "unknown prediction 'eps'; there are: x0, noise, velocity"),
    ],
)
def test_bad_input(make, says):
    with pytest.raises(UsageError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)
