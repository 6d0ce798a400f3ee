"""Diffusion and flow policies as pure functions; docs/diffusion.md says how they are used."""

from jaxrl.diffusion.distillation import distill
from jaxrl.diffusion.guidance import (
    best_of,
    choose,
    classifier_free,
    drop_condition,
    energy_guided,
)
from jaxrl.diffusion.likelihood import log_prob
from jaxrl.diffusion.process import Denoiser, Network, Prediction, Process
from jaxrl.diffusion.processes import EDM, Flow, VariancePreserving
from jaxrl.diffusion.solvers import Path, Sampler, SolverName
from jaxrl.diffusion.training import (
    denoiser,
    in_space,
    log_logistic,
    log_normal,
    logit_normal,
    loss,
    loss_at,
    min_snr,
    uniform,
)

__all__ = [
    "EDM",
    "Denoiser",
    "Flow",
    "Network",
    "Path",
    "Prediction",
    "Process",
    "Sampler",
    "SolverName",
    "VariancePreserving",
    "best_of",
    "choose",
    "classifier_free",
    "denoiser",
    "distill",
    "drop_condition",
    "energy_guided",
    "in_space",
    "log_logistic",
    "log_normal",
    "log_prob",
    "logit_normal",
    "loss",
    "loss_at",
    "min_snr",
    "uniform",
]
