"""What a denoiser learns from: times, losses with a weight per sample, and weights of times.

A loss is the mean square error of what the network itself predicts: of noise (Ho et al., 2020,
arXiv 2006.11239, eq. 14), of the velocity (Lipman et al., 2023, arXiv 2210.02747, eq. 9), of a
preconditioned network's output, whose unweighted error is EDM's weighted one (Karras et al., 2022,
arXiv 2206.00364, eq. 8). Each is gain(t)^2 |x0-hat - x0|^2, so `in_space` turns one into another.

Shapes: B batch, x0 [B, ...] such as actions [B, A] or chunks of them [B, H, A], t [B].
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrl.diffusion.process import Denoiser, Network, Prediction, Process

Array = jax.Array
TimeSampler = Callable[[Array, tuple[int, ...], Process], Array]
"""(key, shape, process) to times of that shape."""
TimeWeight = Callable[[Array], Array]
"""Times [B] to the weights [B] of their losses."""


def denoiser(process: Process, predicts: Prediction, network: Network) -> Denoiser:
    """A network as (x_t [B, ...], t [B]) to x0-hat [B, ...], which is what solvers take.

    Raises:
      UsageError: no x0-hat follows from `predicts` where the process starts.
    """
    process.check(predicts)

    def denoise(x: Array, t: Array) -> Array:
        return process.to_x0(predicts, network(*process.inputs(predicts, x, t)), x, t)

    return denoise


def loss(
    key: Array,
    process: Process,
    predicts: Prediction,
    network: Network,
    x0: Array,
    weight: Array | None = None,
    *,
    times: TimeSampler | None = None,
    time_weight: TimeWeight | None = None,
) -> Array:
    """The loss of each sample at a random time under random noise, [B].

    Args:
      key: for times and noise.
      process: what the samples are corrupted by.
      predicts: what the network is asked for.
      network: (x_t, time) to the raw prediction, parameters inside.
      x0: data, [B, ...].
      weight: of each sample, [B], not normalised: exp(Q / temperature) makes the learnt density the
        data's times exp(Q / temperature). None: 1.
      times: default `uniform`.
      time_weight: default 1.
    """
    time_key, noise_key = jax.random.split(key)
    t = process.nearest((times or uniform)(time_key, x0.shape[:1], process))
    noise = jax.random.normal(noise_key, x0.shape, x0.dtype)
    value = loss_at(process, predicts, network, x0, noise, t)
    if time_weight is not None:
        value = value * time_weight(t)
    return value if weight is None else weight * value


def loss_at(
    process: Process, predicts: Prediction, network: Network, x0: Array, noise: Array, t: Array
) -> Array:
    """The loss of each sample at given noise [B, ...] and times [B], mean over its entries, [B]."""
    process.check(predicts)
    x = process.corrupt(x0, noise, t)
    error = network(*process.inputs(predicts, x, t)) - process.target(predicts, x0, noise, t)
    return jnp.mean(error.reshape(len(error), -1) ** 2, axis=-1)


def uniform(key: Array, shape: tuple[int, ...], process: Process) -> Array:
    """Uniform over the process's times of training; with EDM uniform in sigma^(1/rho)."""
    return process.spread(jax.random.uniform(key, shape))


def log_normal(mean: float = -1.2, std: float = 1.2) -> TimeSampler:
    """t = exp(Normal(mean, std^2)), clipped, for EDM's sigma (Karras et al., 2022, table 1)."""

    def times(key: Array, shape: tuple[int, ...], process: Process) -> Array:
        return _clipped(process, jnp.exp(mean + std * jax.random.normal(key, shape)))

    return times


def log_logistic(scale: float = 0.5, std: float = 0.5) -> TimeSampler:
    """log t logistic around log(scale), for EDM's sigma in its range, with tails beyond cut off.

    BESO's density (Reuss et al., 2023, arXiv 2304.02532), whose two numbers are both sigma_data.
    """

    def times(key: Array, shape: tuple[int, ...], process: Process) -> Array:
        low, high = _range(process)
        least, most = (jax.nn.sigmoid((jnp.log(t) - jnp.log(scale)) / std) for t in (low, high))
        u = jax.random.uniform(key, shape, minval=least, maxval=most)
        return jnp.exp(jnp.log(scale) + std * jax.scipy.special.logit(u))

    return times


def logit_normal(mean: float = 0.0, std: float = 1.0) -> TimeSampler:
    """t = sigmoid(Normal(mean, std^2)) in (0, 1), for flows (Esser et al., arXiv 2403.03206)."""

    def times(key: Array, shape: tuple[int, ...], process: Process) -> Array:
        return _clipped(process, jax.nn.sigmoid(mean + std * jax.random.normal(key, shape)))

    return times


def in_space(process: Process, predicts: Prediction, space: Prediction) -> TimeWeight:
    """Makes the loss of a network that predicts `predicts` the mean square error of `space`."""
    return lambda t: (process.gain(space, t) / process.gain(predicts, t)) ** 2


def min_snr(process: Process, predicts: Prediction, gamma: float = 5.0) -> TimeWeight:
    """min(alpha^2 / sigma^2, gamma) on the error of x0 (Hang et al., 2023, arXiv 2303.09556)."""

    def weight(t: Array) -> Array:
        alpha, sigma = process.levels(t)
        return jnp.minimum((alpha / sigma) ** 2, gamma) / process.gain(predicts, t) ** 2

    return weight


def _range(process: Process) -> tuple[Array, Array]:
    """The least and the largest time of training."""
    low, high = process.spread(jnp.array([0.0, 1.0]))
    return low, high


def _clipped(process: Process, t: Array) -> Array:
    return jnp.clip(t, *_range(process))
