"""Each solver step by step against its paper, and what holds of all of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from jaxrl.diffusion import EDM, Flow, Sampler, VariancePreserving, denoiser
from jaxrl.diffusion.solvers import tabulate
from jaxrl.errors import UsageError
from tests.diffusion.mixture import PLANE
from tests.diffusion.processes import DETERMINISTIC, KINDS, PATHS, PROCESSES, STOCHASTIC, noisy
from tests.nets.test_encoder import equations

B = 16
RNG = np.random.default_rng(0)
SOLVERS = DETERMINISTIC + STOCHASTIC
KEY = jax.random.key(0)


def path(sampler: Sampler, start: np.ndarray, **options):
    """The path from a start with the mixture's exact denoiser, (states [n + 1, B, 2], log_prob)."""
    denoise = PLANE.denoiser(sampler.process)
    found = jax.jit(lambda x: sampler.path(KEY, denoise, x, **options))(np.float32(start))
    return jax.tree.map(lambda x: np.asarray(x, np.float64), found)


def x0_hat(process, x: np.ndarray, t: float) -> np.ndarray:
    return PLANE.x0(x, *process.levels(np.asarray(t)))


def test_ddpm_by_its_betas():
    """IDQL's T = 5: mean and variance of Ho et al.'s equations 6 and 7, from betas alone."""
    steps = 5
    process = VariancePreserving("vp", steps)
    i = np.arange(1, steps + 1)
    betas = 1 - np.exp(-0.1 / steps - 0.5 * 9.9 * (2 * i - 1) / steps**2)
    alphas = np.cumprod(1 - betas)
    x, log_prob = path(Sampler(process, "ddpm", steps), noisy(process, RNG, B))
    for n, k in enumerate(reversed(range(steps))):
        before = alphas[k - 1] if k else 1.0
        x0 = x0_hat(process, x[n], (k + 1) / steps)
        eps = (x[n] - np.sqrt(alphas[k]) * x0) / np.sqrt(1 - alphas[k])
        mean = (x[n] - betas[k] / np.sqrt(1 - alphas[k]) * eps) / np.sqrt(1 - betas[k])
        if k == 0:  # no noise in the last step, and x0 itself
            np.testing.assert_allclose(x[n + 1], mean, atol=2e-5)
            np.testing.assert_allclose(x[n + 1], x0, atol=2e-5)
            np.testing.assert_array_equal(log_prob[n], 0)
        else:
            std = np.sqrt((1 - before) / (1 - alphas[k]) * betas[k])
            expected = norm.logpdf(x[n + 1], mean, std).sum(-1)
            np.testing.assert_allclose(log_prob[n], expected, atol=2e-3)
            assert 0.7 < ((x[n + 1] - mean) / std).std() < 1.3


def test_ddim_is_euler_in_sigma_over_alpha():
    for process in (VariancePreserving("linear"), VariancePreserving("cosine", 20), EDM()):
        sampler = Sampler(process, "ddim", 7)
        found, log_prob = path(sampler, noisy(process, RNG, B))
        assert log_prob is None
        alpha, sigma = process.levels(process.grid(7))
        y, ratio = found[0] / alpha[0], sigma / alpha
        for i in range(7):
            slope = (y - x0_hat(process, alpha[i] * y, process.grid(7)[i])) / ratio[i]
            y = y + (ratio[i + 1] - ratio[i]) * slope
            np.testing.assert_allclose(found[i + 1], alpha[i + 1] * y, atol=1e-4)


def test_euler_is_ddim_where_sigma_is_time():
    for process in (EDM(), Flow()):
        for mine, other in zip(
            tabulate(process, "euler", 6), tabulate(process, "ddim", 6), strict=True
        ):
            np.testing.assert_allclose(mine, other, atol=1e-12)
    process = VariancePreserving()  # where DDIM turns x0 and noise by equal angles
    angle, table = process.clock(process.grid(6)), tabulate(process, "ddim", 6)
    turn = np.sin(angle[1:]) / np.sin(angle[:-1])
    np.testing.assert_allclose(table.x[:-1], turn[:-1], rtol=1e-12)
    np.testing.assert_allclose(table.x0[:-1], (np.sin(angle[0] / 6) / np.sin(angle[:-1]))[:-1])


def test_heun_of_karras():
    """Algorithm 1 of EDM."""
    process, steps = EDM(), 6
    x, _ = path(Sampler(process, "heun", steps), noisy(process, RNG, B))
    sigma, y = process.grid(steps), x[0]
    for i in range(steps):
        d = (y - x0_hat(process, y, sigma[i])) / sigma[i]
        new = y + (sigma[i + 1] - sigma[i]) * d
        if sigma[i + 1] > 0:
            d2 = (new - x0_hat(process, new, sigma[i + 1])) / sigma[i + 1]
            new = y + (sigma[i + 1] - sigma[i]) * 0.5 * (d + d2)
        y = new
        np.testing.assert_allclose(x[i + 1], y, atol=5e-4 * max(1, sigma[i + 1]))


@pytest.mark.parametrize("name", PATHS)
def test_dpmpp_2m_of_lu(name):
    """Algorithm 2, in log-SNR; first order in the first step, and in the last, to x0-hat."""
    process, steps = PROCESSES[name], 6
    x, _ = path(Sampler(process, "dpmpp_2m", steps), noisy(process, RNG, B))
    t = process.grid(steps)
    alpha, sigma = process.levels(t)
    with np.errstate(divide="ignore"):
        half_snr = np.log(alpha) - np.log(sigma)
    y, before = x[0], None
    for i in range(steps):
        x0 = x0_hat(process, y, t[i])
        h = half_snr[i + 1] - half_snr[i]
        d = x0
        if i > 0 and sigma[i + 1] > 0:
            r = (half_snr[i] - half_snr[i - 1]) / h
            d = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * before
        y = sigma[i + 1] / sigma[i] * y - alpha[i + 1] * np.expm1(-h) * d
        before = x0
        np.testing.assert_allclose(x[i + 1], y, atol=1e-4)


def test_euler_ancestral_of_k_diffusion():
    """With EDM: sigma_up and sigma_down of Crowson's k-diffusion, and Euler to sigma_down."""
    process, steps = EDM(sigma_max=5.0), 5
    x, log_prob = path(Sampler(process, "euler_ancestral", steps), noisy(process, RNG, B))
    sigma = process.grid(steps)
    for i in range(steps - 1):
        high, low = sigma[i], sigma[i + 1]
        up = min(low, (low**2 * (high**2 - low**2) / high**2) ** 0.5)
        down = (low**2 - up**2) ** 0.5
        mean = x[i] + (x[i] - x0_hat(process, x[i], high)) / high * (down - high)
        expected = norm.logpdf(x[i + 1], mean, up).sum(-1)
        np.testing.assert_allclose(log_prob[i], expected, rtol=1e-3, atol=2e-2)


@pytest.mark.parametrize("name", ["edm", "flow", "vp"])
def test_euler_ancestral_is_ddpm_where_euler_is_ddim(name):
    mine, other = (tabulate(PROCESSES[name], s, 20) for s in ("euler_ancestral", "ddpm"))
    same = [np.allclose(a, b, atol=1e-10) for a, b in zip(mine, other, strict=True)]
    assert all(same) == (name != "vp")
    np.testing.assert_allclose(mine.noise, other.noise, atol=1e-10)  # by construction, always
    np.testing.assert_allclose(mine.x[5:], other.x[5:], atol=0.05)


def straight(mean: np.ndarray, matrix: np.ndarray):
    """x0-hat of a flow whose noise z goes to mean + matrix z along straight lines."""

    def x0_hat(x, t):
        t = t[:, None, None]
        mix = (1 - t) * matrix + t * jnp.eye(2)
        z = jnp.linalg.solve(mix, (x - (1 - t[..., 0]) * mean)[..., None])[..., 0]
        return mean + z @ matrix.T

    return x0_hat


def test_one_step_of_a_flow_is_exact_for_a_linear_map():
    mean, matrix = np.float32([1.0, -2.0]), np.float32([[0.5, 0.2], [-0.1, 0.8]])
    z = np.float32(RNG.normal(size=(B, 2)))

    @jax.jit
    def samples(z):
        samplers = [Sampler(Flow(), solver, n) for solver in DETERMINISTIC for n in (1, 4)]
        return [sampler.solve(KEY, straight(mean, matrix), z) for sampler in samplers]

    for x in samples(z):
        np.testing.assert_allclose(x, mean + z @ matrix.T, atol=2e-5)


@pytest.mark.parametrize("name", ["cosine, T = 20", "vp", "edm", "flow"])
def test_every_kind_of_network_gives_the_same_sample(name):
    """A network that predicts any kind, from the inputs that it is given, and one solver."""
    process = PROCESSES[name]
    kinds = [k for k in KINDS if name != "flow" or k not in ("noise", "score")]
    steps = 5
    start = np.float32(noisy(process, RNG, B))

    def network(kind):
        def predict(scaled, condition):
            t = jnp.exp(4 * condition) if name == "edm" else condition
            one = process.inputs(kind, jnp.ones_like(scaled), t)[0]
            x = scaled / one
            return process.from_x0(kind, PLANE.x0(x, *process.levels(t)), x, t)

        return predict

    @jax.jit
    def samples(x):
        denoisers = [PLANE.denoiser(process)] + [denoiser(process, k, network(k)) for k in kinds]
        return [Sampler(process, "dpmpp_2m", steps).solve(KEY, d, x) for d in denoisers]

    exact, *found = samples(start)
    for x in found:
        np.testing.assert_allclose(x, exact, atol=2e-3)


@pytest.mark.parametrize("solver", SOLVERS)
def test_clipping(solver):
    """Bounds every x0-hat, each dimension's by its own, so the sample too."""
    process = VariancePreserving()
    start = np.float32(noisy(process, RNG, 100))
    denoise = PLANE.denoiser(process)
    low, high = (-0.5, 0.0), (0.5, 1.0)

    def bounded(x, t):
        return jnp.clip(denoise(x, t), jnp.array(low), jnp.array(high))

    @jax.jit
    def paths(x):
        clipped, free = Sampler(process, solver, 5, (low, high)), Sampler(process, solver, 5)
        return [
            s.path(KEY, d, x).x for s, d in ((clipped, denoise), (free, bounded), (free, denoise))
        ]

    clipped, twin, free = jax.device_get(paths(start))
    np.testing.assert_allclose(clipped, twin, atol=1e-5)
    assert ((clipped[-1] >= low) & (clipped[-1] <= high)).all()
    assert (free[-1] > high).any() and (free[-1] < low).any()


def test_ddpm_takes_the_posterior_of_the_clipped_x0():
    process = VariancePreserving("vp", 5)
    x, _ = path(
        Sampler(process, "ddpm", 5, clip=(-0.3, 0.3)), noisy(process, RNG, B), temperature=0.0
    )
    table = tabulate(process, "ddpm", 5)
    for i in range(5):
        x0 = np.clip(x0_hat(process, x[i], table.t[i]), -0.3, 0.3)
        np.testing.assert_allclose(x[i + 1], table.x[i] * x[i] + table.x0[i] * x0, atol=1e-5)


def test_temperature_scales_all_noise():
    """With an x0-hat that is linear in x, samples are linear in the noise."""
    process = VariancePreserving()
    sampler = Sampler(process, "ddpm", 6)
    shape = (500, 2)

    @jax.jit
    def sample(temperature):
        return sampler.sample(KEY, lambda x, t: 0.5 * x, shape, temperature)

    np.testing.assert_array_equal(sample(0.0), 0)
    np.testing.assert_allclose(sample(0.5), 0.5 * sample(1.0), rtol=1e-5, atol=1e-6)
    start = process.prior(KEY, shape, 0.5)
    np.testing.assert_allclose(start.std(), 0.5, atol=0.05)
    assert EDM().prior(KEY, shape).std() == pytest.approx(80, rel=0.1)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_sampler_is_one_scan(solver):
    """As many equations for 50 steps as for 3, once however often it is differentiated."""
    x = jnp.zeros((B, 2))

    def size(steps, differentiate):
        sampler = Sampler(Flow(), solver, steps, clip=(-1.0, 1.0))

        def total(scale, x):
            return sampler.solve(KEY, lambda x, t: scale * x, x).sum()

        run = jax.grad(total) if differentiate else total
        jaxpr = jax.make_jaxpr(run)(1.0, x).jaxpr
        scans = [e for e in jaxpr.eqns if e.primitive.name == "scan"]
        return equations(jaxpr), len(scans)

    assert size(50, False) == size(3, False) and size(50, False)[1] == 1
    assert size(50, True) == size(3, True)


@pytest.mark.parametrize("solver", ["ddpm", "heun", "dpmpp_2m"])
def test_gradients_through_the_path(solver):
    """Of a network's parameter, against finite differences, with and without checkpoints."""
    process = VariancePreserving("vp", 8)
    with jax.enable_x64(True):
        x = jnp.array(RNG.normal(size=(4, 2)))

        def total(scale, checkpoint):
            sampler = Sampler(process, solver, 5, (-2.0, 2.0), checkpoint)
            return jnp.sin(sampler.solve(KEY, lambda x, t: jnp.tanh(scale * x) + x / 3, x)).sum()

        values = jax.jit(jax.vmap(lambda s: total(s, False)))(jnp.array([0.7 + 1e-5, 0.7 - 1e-5]))
        numeric = (values[0] - values[1]) / 2e-5
        for checkpoint in (False, True):
            found = jax.jit(jax.grad(lambda s, c=checkpoint: total(s, c)))(0.7)
            np.testing.assert_allclose(found, numeric, rtol=1e-6)
            program = jax.make_jaxpr(jax.grad(lambda s, c=checkpoint: total(s, c)))(0.7)
            assert ("remat" in str(program)) == checkpoint


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"solver": "dpm"}, "unknown solver 'dpm'; there are: ddpm, ddim, euler, heun"),
        ({"steps": 0}, "at least 1 step, got 0"),
        ({"steps": 6}, "6 sampling steps are more than the 5 train_steps"),
        ({"clip": (-1.0, np.inf)}, "finite bounds, .*with unbounded actions, clip=None"),
        ({"clip": ((-1.0, -np.inf), (1.0, 1.0))}, "finite bounds"),
        ({"clip": (1.0, -1.0)}, "low below high"),
    ],
)
def test_bad_input(options, says):
    with pytest.raises(UsageError, match=says) as caught:
        Sampler(VariancePreserving("vp", 5), **{"steps": 5} | options)
    assert "\n" not in str(caught.value)
