"""The density of what a denoiser's ODE makes: the instantaneous change of variables.

Chen et al., 2018, arXiv 1806.07366, eq. 8; Song et al., 2021, arXiv 2011.13456, eq. 39.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.diffusion.process import Denoiser, Process

Array = jax.Array


def log_prob(denoise: Denoiser, process: Process, x: Array, steps: int = 64) -> Array:
    """log p(x) at the least time of training, where little noise is left, [B].

    log p(x) = log Normal(x_T; 0, prior_std^2 I) + integral from there to T of div (dx/dc) dc, by
    Heun's method along the deterministic path of each x, second order in 1 / `steps`. The
    divergence is exact, by one derivative per entry: this is for actions, not for images.

    Args:
      denoise: (x_t, t) to x0-hat; a row's must depend on that row alone.
      process: what `denoise` removes the noise of.
      x: samples, [B, ...].
      steps: of the process's grid; one more to the least time. Two evaluations each.
    """
    t = np.unique(np.append(process.grid(steps)[:-1], process.spread(np.zeros(()))))
    clock = process.clock(t)
    sigma, rate = process.path(clock)[1], process.rates(clock)[1]
    table = [jnp.asarray(c, x.dtype) for c in (t, sigma, rate)]
    now, later = ([c[:-1] for c in table], [c[1:] for c in table])
    size = math.prod(x.shape[1:])
    basis = jnp.eye(size, dtype=x.dtype).reshape(size, 1, *x.shape[1:])

    def velocity(x: Array, at: Any) -> tuple[Array, Array]:
        """dx/dc = (sigma' x - x0-hat) / sigma, and its divergence [B]."""
        t, sigma, rate = at
        x0, pullback = jax.vjp(lambda x: denoise(x, jnp.full(x.shape[:1], t, x.dtype)), x)
        rows = jax.vmap(lambda e: pullback(jnp.broadcast_to(e, x.shape))[0])(basis)
        trace = jnp.einsum("jbj->b", rows.reshape(size, len(x), size))
        return (rate * x - x0) / sigma, (rate * size - trace) / sigma

    def step(carry: tuple[Array, Array], at: Any) -> tuple[tuple[Array, Array], None]:
        (x, integral), (now, later, step) = carry, at
        speed, divergence = velocity(x, now)
        speed_later, divergence_later = velocity(x + step * speed, later)
        x = x + 0.5 * step * (speed + speed_later)
        return (x, integral + 0.5 * step * (divergence + divergence_later)), None

    steps_of_clock = jnp.asarray(np.diff(clock), x.dtype)
    start = (x, jnp.zeros(x.shape[:1], x.dtype))
    (end, integral), _ = jax.lax.scan(step, start, (now, later, steps_of_clock))
    scaled = end.reshape(len(x), size) / process.prior_std
    constant = size * (math.log(process.prior_std) + 0.5 * math.log(2 * math.pi))
    return integral - 0.5 * jnp.sum(scaled**2, axis=-1) - constant
