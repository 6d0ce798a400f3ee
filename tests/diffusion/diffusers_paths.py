"""Paths of Hugging Face diffusers' schedulers on the plane's mixture, for test_peers.py.

    python -m tests.diffusion.diffusers_paths

Needs diffusers and torch, which nothing else here does; writes diffusers_paths.json beside it.
"""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import numpy as np
import torch
from diffusers.schedulers import scheduling_ddpm

from tests.diffusion.mixture import PLANE

STEPS = 10
ALPHAS = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
RNG = np.random.default_rng(0)
OPTIONS = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "timestep_spacing": "trailing",
}


def noise_hat(x: torch.Tensor, t: int) -> torch.Tensor:
    alpha, sigma = np.sqrt(ALPHAS[t]), np.sqrt(1 - ALPHAS[t])
    return torch.tensor((x.numpy() - alpha * PLANE.x0(x.numpy(), alpha, sigma)) / sigma)


def rounded(x) -> list:
    return np.round(np.asarray(x), 8).tolist()


def path(scheduler, start: torch.Tensor) -> list:
    """States from the start to the sample, [STEPS + 1, B, 2]."""
    scheduler.set_timesteps(STEPS)
    x, seen = start, [rounded(start)]
    for t in scheduler.timesteps:
        x = scheduler.step(noise_hat(x, int(t)), t, x).prev_sample
        seen.append(rounded(x))
    return seen


def main() -> None:
    """Runs three schedulers from the same start."""
    start = torch.tensor(RNG.normal(size=(4, 2)))
    drawn: list = []

    def draw(shape, **_) -> torch.Tensor:
        drawn.append(rounded(RNG.normal(size=tuple(shape))))
        return torch.tensor(drawn[-1], dtype=torch.float64)

    scheduling_ddpm.randn_tensor = draw
    ddim = diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=True, **OPTIONS)
    dpm = diffusers.DPMSolverMultistepScheduler(
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        lower_order_final=False,
        final_sigmas_type="zero",
        **OPTIONS,
    )
    ddpm = diffusers.DDPMScheduler(variance_type="fixed_small", clip_sample=True, **OPTIONS)
    found = {
        "diffusers": diffusers.__version__,
        "torch": torch.__version__.split("+")[0],
        "ddim": path(ddim, start),
        "dpmpp_2m": path(dpm, start),
        "ddpm": path(ddpm, start),  # x0-hat clipped to [-1, 1]
        "noise of ddpm": drawn,
    }
    file = Path(__file__).with_suffix(".json")
    file.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
