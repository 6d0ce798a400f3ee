"""Losses by their definitions, times by their distributions, distillation of what is known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest, logistic, norm

from jaxrl.diffusion import (
    EDM,
    Flow,
    Sampler,
    VariancePreserving,
    distill,
    in_space,
    log_logistic,
    log_normal,
    logit_normal,
    loss,
    loss_at,
    min_snr,
    uniform,
)
from jaxrl.errors import UsageError
from tests.diffusion.mixture import PLANE, Mixture
from tests.diffusion.processes import KINDS, PATHS, PROCESSES

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
B = 32
X0, NOISE = (RNG.normal(size=(B, 3, 2)) for _ in range(2))
U = RNG.uniform(0.05, 0.95, B)


def kinds_of(name: str) -> list[str]:
    return [k for k in KINDS if name != "flow" or k not in ("noise", "score")]


@pytest.mark.parametrize("name", PATHS)
def test_a_loss_of_any_kind_in_any_space(name):
    """|x0-hat - x0|^2 times the square of the kind's gain, whatever the network predicts."""
    process = PROCESSES[name]
    t = np.asarray(process.spread(jnp.array(U)), np.float64)
    alpha, sigma = process.levels(t)
    square = ((np.sin(process.corrupt(X0, NOISE, t)) - X0) ** 2).mean((1, 2))
    std = process.data_std
    gains = {
        "x0": 1,
        "noise": alpha / sigma,
        "velocity": 1 / sigma,
        "score": alpha / sigma**2,
        "preconditioned": np.sqrt((alpha * std) ** 2 + sigma**2) / (sigma * std),  # EDM, eq. 8
    }

    def network(kind):
        def predict(scaled, condition):
            x = process.corrupt(X0, NOISE, t)  # x0-hat is its sine
            np.testing.assert_allclose(scaled, process.inputs(kind, x, t)[0], rtol=1e-5)
            np.testing.assert_allclose(condition, process.condition(t), rtol=1e-5)
            return process.from_x0(kind, np.sin(x), x, t)

        return predict

    for kind in kinds_of(name):
        found = loss_at(process, kind, network(kind), X0, NOISE, t)
        np.testing.assert_allclose(found, gains[kind] ** 2 * square, rtol=1e-5)
        for space in kinds_of(name):
            weight = in_space(process, kind, space)(t)
            np.testing.assert_allclose(weight * found, gains[space] ** 2 * square, rtol=1e-5)
        snr = min_snr(process, kind, 5.0)(t) * found
        np.testing.assert_allclose(snr, np.minimum((alpha / sigma) ** 2, 5) * square, rtol=1e-5)


def test_each_sample_has_its_weight():
    """And the same time and noise with one as without; a weight of 0 takes no part at all."""
    weight = jnp.float32(RNG.uniform(size=B)).at[3].set(0.0)
    process, x0 = VariancePreserving("vp", 5), jnp.float32(X0)

    @jax.jit
    def losses(scale):
        def network(x, time):
            return scale * x * time[:, None, None]

        plain = loss(KEY, process, "noise", network, x0)
        snr = min_snr(process, "noise", 1.0)
        timed = loss(KEY, process, "noise", network, x0, weight, time_weight=snr)
        return plain, loss(KEY, process, "noise", network, x0, weight), timed

    plain, weighted, timed = losses(0.3)
    assert plain.shape == (B,)
    np.testing.assert_allclose(weighted, weight * plain, rtol=1e-6)
    slope = jax.jit(jax.jacfwd(lambda s: losses(s)[1]))(0.3)
    assert slope[3] == 0 and np.all(slope[:3] != 0)
    ratio = np.unique(np.round(np.delete(timed / weighted, 3), 4))
    assert 2 <= len(ratio) <= 5  # a weight for each of five times


@pytest.mark.parametrize("name", PATHS)
def test_weights_exp_q_make_the_density_times_exp_q(name):
    """With Q linear that is a mixture again, whose x0-hat must minimise the weighted loss: there
    the loss has no slope along changes of the network, while the unweighted one has."""
    process, slope = PROCESSES[name], np.array([1.0, -0.5])
    shift = PLANE.covariances @ slope
    log = PLANE.means @ slope + 0.5 * shift @ slope
    tilted = Mixture(
        PLANE.shares * np.exp(log) / (PLANE.shares @ np.exp(log)),
        PLANE.means + shift,
        PLANE.covariances,
    )
    x0 = jnp.float32(PLANE.draw(np.random.default_rng(0), 100_000))
    weight = jnp.exp(x0 @ jnp.float32(slope))

    @jax.jit
    def slopes(x0, weight):
        def losses(change):
            def network(x, time):
                t = jnp.exp(4 * time) if name == "edm" else time
                exact = process.from_x0("velocity", tilted.x0(x, *process.levels(t)), x, t)
                scale = jnp.minimum(1 / process.levels(t)[1], 4)[:, None]  # an even error of x0
                return exact + scale * (change[0] * slope + change[1] * jnp.sin(3 * x))

            weights = (weight, jnp.ones_like(weight))
            return jnp.stack([loss(KEY, process, "velocity", network, x0, w) for w in weights])

        return jax.jacfwd(losses)(jnp.zeros(2))  # [2 losses, B, 2]

    weighted, plain = np.asarray(slopes(x0, weight), np.float64)
    noise = weighted.std(0) / np.sqrt(len(weighted))
    assert np.all(np.abs(weighted.mean(0)) < 4 * noise)
    assert np.abs(plain.mean(0)[0]) > 8 * noise[0]


def logs(low: float, high: float, law):
    """CDF of a time whose logarithm has that law, cut off to [low, high]."""
    least, most = law.cdf(np.log(low)), law.cdf(np.log(high))
    return lambda t: (law.cdf(np.log(t)) - least) / (most - least)


@pytest.mark.parametrize(
    ("times", "process", "cdf"),
    [
        (uniform, Flow(), lambda t: (t - 1e-3) / 0.999),
        (uniform, EDM(1.0, 4.0, 2.0), lambda t: t**0.5 - 1),
        (log_normal(), EDM(), lambda t: norm.cdf((np.log(t) + 1.2) / 1.2)),
        (log_logistic(0.5, 0.5), EDM(0.005, 1.0), logs(0.005, 1.0, logistic(np.log(0.5), 0.5))),
        (logit_normal(0.3, 0.8), Flow(), lambda t: norm.cdf((np.log(t / (1 - t)) - 0.3) / 0.8)),
    ],
)
def test_times(times, process, cdf):
    t = np.asarray(times(KEY, (4000,), process), np.float64)
    low, high = process.spread(jnp.array([0.0, 1.0]))
    assert t.min() >= low * (1 - 1e-5) and t.max() <= high * (1 + 1e-5)
    assert kstest(t, cdf).statistic < 0.03


@pytest.mark.parametrize("times", [uniform, logit_normal()])
def test_discrete_processes_train_at_their_own_times(times):
    process, seen = VariancePreserving("vp", 5), []

    def network(x, time):
        seen.append(np.asarray(time))
        return x

    loss(KEY, process, "noise", network, jnp.zeros((500, 2)), times=times)
    np.testing.assert_allclose(np.unique(np.round(seen[0], 6)), [0.2, 0.4, 0.6, 0.8, 1.0])


def line(process, mean, std):
    """x0-hat of Normal(mean, std^2), and the map from unit noise that its ODE is."""

    def denoise(x, t):
        alpha, sigma = (c[:, None] for c in process.levels(t))
        return mean + alpha * std**2 / ((alpha * std) ** 2 + sigma**2) * (x - alpha * mean)

    alpha, sigma = process.levels(process.grid(1)[0])
    slope = std / np.sqrt((alpha * std) ** 2 + sigma**2)
    return denoise, lambda z: mean + slope * (process.prior_std * z - alpha * mean)


@pytest.mark.parametrize("name", PATHS)
def test_distillation_is_done_when_the_student_is_the_map(name):
    process = PROCESSES[name]
    denoise, student = line(process, mean=0.7, std=0.4)
    sampler = Sampler(process, "heun", 32)
    weight = jnp.arange(8.0)

    @jax.jit
    def losses(shift, scale):
        teacher = lambda x, t: scale * denoise(x, t)  # noqa: E731
        return distill(KEY, sampler, teacher, lambda z: student(z) + shift, (8, 3), weight)

    value, x = losses(0.0, 1.0)
    np.testing.assert_allclose(value, 0, atol=3e-4)
    assert x.shape == (8, 3) and np.abs(x - 0.7).mean() < 0.6
    np.testing.assert_allclose(losses(0.5, 1.0)[0], 0.25 * weight, rtol=0.03)
    slopes = jax.jit(jax.grad(lambda *a: losses(*a)[0].sum(), (0, 1)))(0.5, 1.0)
    np.testing.assert_allclose(slopes[0], weight.sum(), rtol=0.03)  # 2 * 0.5 * weight
    assert slopes[1] == 0  # the teacher is not taught


def test_distillation_needs_a_deterministic_teacher():
    denoise, student = line(Flow(), 0.0, 1.0)
    with pytest.raises(UsageError, match="deterministic solver, such as euler, got ddpm"):
        distill(KEY, Sampler(Flow(), "ddpm", 3), denoise, student, (2, 1))
