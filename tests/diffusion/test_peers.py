"""Paths of Hugging Face diffusers' schedulers, recorded by diffusers_paths.py, are ours too."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.diffusion import Sampler, VariancePreserving
from jaxrl.diffusion.solvers import tabulate
from tests.diffusion.mixture import PLANE

RECORDED = json.loads(Path(__file__).with_name("diffusers_paths.json").read_text())
PROCESS = VariancePreserving("linear", 1000)


@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m"])
def test_paths_of_diffusers(solver):
    theirs = np.float32(RECORDED[solver])
    sampler = Sampler(PROCESS, solver, 10)
    denoise = PLANE.denoiser(PROCESS)
    ours = jax.jit(lambda x: sampler.path(jax.random.key(0), denoise, x).x)(theirs[0])
    np.testing.assert_allclose(ours, theirs, atol=3e-5)


def test_ddpm_of_diffusers():
    """The noise that it drew, from the log-density that its path has for us."""
    path, z = np.float32(RECORDED["ddpm"]), np.array(RECORDED["noise of ddpm"])
    sampler = Sampler(PROCESS, "ddpm", 10, clip=(-1.0, 1.0))
    denoise = PLANE.denoiser(PROCESS)
    found = jax.jit(lambda x: sampler.path_log_prob(denoise, x))(path)
    std = tabulate(PROCESS, "ddpm", 10).noise[:-1, None]
    expected = -0.5 * (z[:-1] ** 2).sum(-1) - 2 * np.log(std) - np.log(2 * np.pi)
    np.testing.assert_allclose(found[:-1], expected, atol=2e-3)
    last = jnp.full(4, 0.1)
    x0 = np.clip(PLANE.x0(path[-2], *PROCESS.levels(np.asarray(last))), -1, 1)
    np.testing.assert_allclose(path[-1], x0, atol=1e-5)
