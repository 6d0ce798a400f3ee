"""The processes that tests go through, and the closed-form denoiser of the plane's mixture."""

from __future__ import annotations

import jax
import numpy as np

from jaxrl.diffusion import EDM, Flow, Process, Sampler, VariancePreserving
from tests.diffusion.mixture import PLANE

CONTINUOUS: dict[str, Process] = {
    "linear": VariancePreserving("linear"),
    "cosine": VariancePreserving("cosine"),
    "vp": VariancePreserving("vp"),
    "edm": EDM(sigma_max=10.0),
    "flow": Flow(),
}
DISCRETE: dict[str, Process] = {
    "linear, T = 1000": VariancePreserving("linear", 1000),
    "cosine, T = 20": VariancePreserving("cosine", 20),
    "vp, T = 5": VariancePreserving("vp", 5),
}
PROCESSES = CONTINUOUS | DISCRETE
PATHS = ("vp", "edm", "flow")
"""One process of each path: samplers see no more of a continuous schedule than its noisy end."""
DETERMINISTIC = ("ddim", "euler", "heun", "dpmpp_2m")
STOCHASTIC = ("ddpm", "euler_ancestral")
KINDS = ("x0", "noise", "velocity", "score", "preconditioned")


def noisy(process: Process, rng: np.random.Generator, n: int) -> np.ndarray:
    """Draws of the mixture at the process's noisy end, [n, 2]: where a sampler should start."""
    alpha, sigma = (float(c) for c in process.levels(process.grid(1)[0]))
    return alpha * PLANE.draw(rng, n) + sigma * rng.normal(size=(n, 2))


def solved(sampler: Sampler, start: np.ndarray, seed: int = 0, **options) -> np.ndarray:
    """What the sampler makes of a start with the exact denoiser of the plane's mixture."""
    denoise = PLANE.denoiser(sampler.process)
    run = jax.jit(lambda key, x: sampler.solve(key, denoise, x, **options))
    return np.asarray(run(jax.random.key(seed), np.float32(start)), np.float64)
