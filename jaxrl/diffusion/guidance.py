"""Guidance: towards a condition, along the gradient of an energy, by choosing among samples.

Shapes: B batch, x [B, ...], t [B], cond [B, ...], N candidates per row.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrl.diffusion.process import MIN_TIME, Denoiser, Network, Process, rows

Array = jax.Array


def drop_condition(key: Array, cond: Array, null: Array | float, rate: Array | float) -> Array:
    """cond [B, ...] with the whole condition of a sample replaced by `null` with chance `rate`.

    For training what `classifier_free` samples from (Ho and Salimans, 2022, arXiv 2207.12598).
    """
    dropped = jax.random.bernoulli(key, rate, cond.shape[:1])
    return jnp.where(rows(dropped, cond), null, cond)


def classifier_free(
    network: Callable[[Array, Array, Array], Array],
    cond: Array,
    null: Array | float,
    scale: Array | float,
) -> Network:
    """null + scale (cond - null) of a network's predictions, by one call on both.

    0 is unconditional, 1 conditional; above 1 sharpens, towards p(x | cond)^scale p(x)^(1 - scale)
    (Ho and Salimans, 2022, arXiv 2207.12598, eq. 6 with scale = 1 + w). It is the same for every
    kind of prediction, as each is affine in x0-hat.

    Args:
      network: (x [B, ...], time [B], cond [B, ...]) to a prediction.
      cond: [B, ...].
      null: what `drop_condition` put in its place.
      scale: a number, or one for each row, [B].
    """
    both = jnp.concatenate([cond, jnp.broadcast_to(jnp.asarray(null, cond.dtype), cond.shape)])

    def guided(x: Array, time: Array) -> Array:
        double = network(jnp.concatenate([x, x]), jnp.concatenate([time, time]), both)
        conditional, unconditional = jnp.split(double, 2)
        return unconditional + rows(jnp.asarray(scale), x) * (conditional - unconditional)

    return guided


def energy_guided(
    process: Process,
    denoise: Denoiser,
    log_weight: Callable[[Array, Array], Array],
    scale: Array | float = 1.0,
) -> Denoiser:
    """Adds scale grad log_weight to the score: x0-hat + scale sigma^2 / alpha grad_x log_weight.

    Dhariwal and Nichol, 2021 (arXiv 2105.05233), algorithm 1. Samples follow p(x0) w(x0)^scale if
    log_weight(x_t, t) [B] is log E[w(x0)^scale | x_t] / scale (Lu et al., 2023, arXiv 2304.12824,
    eq. 9); lambda x, t: q(denoise(x, t)), with log w = q, is an approximation. Where alpha = 0, as
    at a flow's start, gradient and alpha vanish together, and what is added is their ratio a
    thousandth before.
    """

    def guided(x: Array, t: Array) -> Array:
        near = jnp.where(process.levels(t)[0] > 0, t, (1 - MIN_TIME) * t)
        alpha, sigma = (rows(c, x) for c in process.levels(near))
        gradient = jax.grad(lambda x: jnp.sum(log_weight(x, near)))(x)
        return denoise(x, t) + scale * sigma**2 / alpha * gradient

    return guided


def choose(key: Array, x: Array, value: Array, temperature: Array | float | None = None) -> Array:
    """One of the candidates x [N, B, ...] for each row by their values [N, B], [B, ...].

    The best if temperature is None, else each with chance softmax(value / temperature).
    """
    if temperature is None:
        index = jnp.argmax(value, axis=0)
    else:
        index = jax.random.categorical(key, value / temperature, axis=0)
    return jnp.take_along_axis(x, rows(index[None], x), axis=0)[0]


def best_of(
    key: Array,
    sample: Callable[[Array], Array],
    value: Callable[[Array], Array],
    n: int,
    temperature: Array | float | None = None,
) -> Array:
    """`choose` among n draws of any sampler, [B, ...].

    Args:
      key: split over the draws and the choice.
      sample: key to samples, [B, ...].
      value: samples [B, ...] to the value of each, [B].
      n: candidates per row.
      temperature: as in `choose`.
    """
    choice_key, key = jax.random.split(key)
    x = jax.vmap(sample)(jax.random.split(key, n))
    if n == 1:
        return x[0]
    return choose(choice_key, x, jax.vmap(value)(x), temperature)
