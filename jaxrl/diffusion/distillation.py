"""Distillation of a sampler to one step.

Park et al., "Flow Q-Learning", ICML 2025 (arXiv 2502.02538), eq. 7.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxrl.diffusion.process import Denoiser
from jaxrl.diffusion.solvers import STOCHASTIC, Sampler
from jaxrl.errors import UsageError

Array = jax.Array


def distill(
    key: Array,
    sampler: Sampler,
    denoise: Denoiser,
    student: Callable[[Array], Array],
    shape: tuple[int, ...],
    weight: Array | None = None,
) -> tuple[Array, Array]:
    """|student(z) - what the sampler makes of z|^2 of each row, and the student's samples.

    Args:
      key: for the noise z ~ Normal(0, I).
      sampler: deterministic; it starts at prior_std z and is not differentiated.
      denoise: the teacher.
      student: z [B, ...] to samples [B, ...].
      shape: of the samples, [B, ...].
      weight: of each row, [B]; None: 1.

    Returns:
      losses, mean over a row's entries, [B], and student(z) [B, ...], for a value to judge.

    Raises:
      UsageError: the sampler draws noise, so that z does not tell its sample.
    """
    if sampler.solver in STOCHASTIC:
        raise UsageError(
            f"distillation takes a deterministic solver, such as euler, got {sampler.solver}"
        )
    z = jax.random.normal(key, shape)
    target = jax.lax.stop_gradient(sampler.solve(key, denoise, sampler.process.prior_std * z))
    x = student(z)
    value = jnp.mean((x - target).reshape(len(x), -1) ** 2, axis=-1)
    return (value if weight is None else weight * value), x
