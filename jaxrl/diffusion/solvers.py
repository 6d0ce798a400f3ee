"""Solvers: from noise to x0 in one `lax.scan`, for any process and any denoiser.

Each step is linear in what it has seen: the state x_t, x0-hat D there and at the step before,
x0-hat at a guess of the next state (Heun), and noise z. So a solver is a table of coefficients,
computed once on the host in float64 from (alpha, sigma, clock) along the grid:

    x_s = x * x_t + x0 * D(x_t) + previous * D(before) + second * D(guess) + noise * z
    guess = guess_x * x_t + guess_x0 * D(x_t)

The last step, to sigma = 0, returns x0-hat at the smallest time, whatever the solver.

    ddpm             Ho et al., 2020, arXiv 2006.11239, eq. 6-7: the posterior q(x_s | x_t, x0-hat),
                     with its variance (IDQL's code takes beta, which is larger)
    ddim             Song et al., 2021, arXiv 2010.02502, eq. 12, eta = 0; Euler in sigma / alpha
    euler, heun      in the process's clock; Heun with EDM is algorithm 1 of arXiv 2206.00364
    dpmpp_2m         DPM-Solver++(2M), Lu et al., 2022, arXiv 2211.01095, algorithm 2
    euler_ancestral  Euler to a lower level, then noise back up, as in Crowson's k-diffusion; the
                     same as ddpm where Euler is DDIM, which it is with EDM and flow matching

Shapes: B batch, x [B, ...] such as actions [B, A] or chunks [B, H, A], t [B], n steps.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.diffusion.process import Denoiser, Process
from jaxrl.errors import UsageError

Array = jax.Array
SolverName = Literal["ddpm", "ddim", "euler", "heun", "dpmpp_2m", "euler_ancestral"]
STOCHASTIC = ("ddpm", "euler_ancestral")
Bound = float | tuple[float, ...]
"""Of every entry of x, or of each along its last axis."""


class Path(NamedTuple):
    """All that a sampler visits."""

    x: Array  # [n + 1, B, ...], from the start to the sample
    log_prob: Array | None  # [n, B], of each step given the one before; None of a deterministic one


class Steps(NamedTuple):
    """A solver on a grid: coefficients, 0 unless the solver sets them, and times; each [n]."""

    x: Any
    x0: Any
    previous: Any
    second: Any
    guess_x: Any
    guess_x0: Any
    noise: Any
    t: Any
    s: Any  # where Heun evaluates its guess; in the last step t again, as D at 0 means nothing


class _Grid(NamedTuple):
    """Levels at the start of each step (t) and at its end (s), each [n]."""

    process: Process
    alpha_t: np.ndarray
    sigma_t: np.ndarray
    clock_t: np.ndarray
    alpha_s: np.ndarray
    sigma_s: np.ndarray
    clock_s: np.ndarray


def _ddim(g: _Grid) -> dict[str, np.ndarray]:
    ratio = g.sigma_s / g.sigma_t
    return {"x": ratio, "x0": g.alpha_s - ratio * g.alpha_t}


def _ddpm(g: _Grid) -> dict[str, np.ndarray]:
    step = g.alpha_t / g.alpha_s
    variance = g.sigma_t**2 - (step * g.sigma_s) ** 2  # of x_t given x_s
    return {
        "x": step * (g.sigma_s / g.sigma_t) ** 2,
        "x0": g.alpha_s * variance / g.sigma_t**2,
        "noise": np.sqrt(variance) * g.sigma_s / g.sigma_t,
    }


def _euler(g: _Grid) -> dict[str, np.ndarray]:
    """dx/dc = (sigma' x - D) / sigma."""
    step = (g.clock_s - g.clock_t) / g.sigma_t
    return {"x": 1 + step * g.process.rates(g.clock_t)[1], "x0": -step}


def _heun(g: _Grid) -> dict[str, np.ndarray]:
    guess, half = _euler(g), 0.5 * (g.clock_s - g.clock_t) / g.sigma_s
    slope = half * g.process.rates(g.clock_s)[1]  # of the second velocity by the guess
    return {
        "x": 0.5 * (1 + guess["x"]) + slope * guess["x"],
        "x0": 0.5 * guess["x0"] + slope * guess["x0"],
        "second": -half,
        "guess_x": guess["x"],
        "guess_x0": guess["x0"],
    }


def _dpmpp_2m(g: _Grid) -> dict[str, np.ndarray]:
    step = np.log(g.alpha_s / g.sigma_s) - np.log(g.alpha_t / g.sigma_t)  # of log alpha / sigma
    share = np.append(0.0, 0.5 * step[1:] / step[:-1])  # none before; 0 after an infinite step
    first = _ddim(g)
    return {
        "x": first["x"],
        "x0": (1 + share) * first["x0"],
        "previous": -share * first["x0"],
    }


def _euler_ancestral(g: _Grid) -> dict[str, np.ndarray]:
    ratio = g.sigma_s / g.alpha_s
    lower = ratio**2 * g.alpha_t / g.sigma_t  # so that noise back to `ratio` makes the posterior's
    clock = g.process.clock_of_ratio(lower)
    scale = g.alpha_s / g.process.path(clock)[0]
    down = _euler(g._replace(clock_s=clock))
    return {
        "x": scale * down["x"],
        "x0": scale * down["x0"],
        "noise": g.alpha_s * np.sqrt(ratio**2 - lower**2),
    }


_SOLVERS: dict[str, Callable[[_Grid], dict[str, np.ndarray]]] = {
    "ddpm": _ddpm,
    "ddim": _ddim,
    "euler": _euler,
    "heun": _heun,
    "dpmpp_2m": _dpmpp_2m,
    "euler_ancestral": _euler_ancestral,
}


@functools.lru_cache
def tabulate(process: Process, solver: SolverName, steps: int) -> Steps:
    """The solver's table on the process's grid, in float64."""
    t = process.grid(steps)
    clock = process.clock(t)
    alpha, sigma = process.path(clock)
    ends = (alpha[:-1], sigma[:-1], clock[:-1], alpha[1:], sigma[1:], clock[1:])
    with np.errstate(all="ignore"):  # the last row, sigma_s = 0, and the first, if alpha_t = 0
        found = _SOLVERS[solver](_Grid(process, *ends))
    columns = {name: found.get(name, np.zeros(steps)).copy() for name in Steps._fields}
    for name, column in columns.items():
        column[-1] = float(name == "x0")
    return Steps(**{**columns, "t": t[:-1], "s": np.append(t[1:-1], t[-2])})


@dataclasses.dataclass(frozen=True)
class Sampler:
    """A process, a solver and its number of steps. Static; chosen when sampling, not in training.

    Raises:
      UsageError: such a solver, number of steps or clipping there cannot be.
    """

    process: Process
    solver: SolverName = "ddim"
    steps: int = 10
    clip: tuple[Bound, Bound] | None = None
    """Bounds of every x0-hat, so of the sample; scale the data to them, don't standardise it."""
    checkpoint: bool = False
    """Recompute each step's network when differentiating through it, which saves memory."""

    def __post_init__(self) -> None:
        if self.solver not in get_args(SolverName):
            raise UsageError(
                f"unknown solver {self.solver!r}; there are: {', '.join(get_args(SolverName))}"
            )
        self.process.grid(self.steps)
        if self.clip is not None:
            low, high = (np.asarray(bound, np.float64) for bound in self.clip)
            if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
                raise UsageError(
                    f"clip takes finite bounds, low below high, got {self.clip}; with unbounded "
                    "actions, clip=None"
                )

    def sample(
        self,
        key: Array,
        denoise: Denoiser,
        shape: tuple[int, ...],
        temperature: Array | float = 1.0,
    ) -> Array:
        """Samples of that shape [B, ...]; `temperature` scales all noise, the start's too."""
        start_key, key = jax.random.split(key)
        start = self.process.prior(start_key, shape, temperature)
        return self.solve(key, denoise, start, temperature)

    def solve(
        self, key: Array, denoise: Denoiser, start: Array, temperature: Array | float = 1.0
    ) -> Array:
        """The sample [B, ...] that a start [B, ...] at the noisy end becomes; differentiable."""
        return self._run(key, denoise, start, temperature, lambda x, log_prob: None)[0]

    def path(
        self, key: Array, denoise: Denoiser, start: Array, temperature: Array | float = 1.0
    ) -> Path:
        """All states on the way, and each step's log-density given the state before.

        A step to sigma = 0 is certain given its state, and counts 0.
        """
        _, (x, log_prob) = self._run(key, denoise, start, temperature, lambda *step: step)
        return Path(jnp.concatenate([start[None], x]), log_prob)

    def path_log_prob(self, denoise: Denoiser, x: Array, temperature: Array | float = 1.0) -> Array:
        """log p(x_{i+1} | x_i) of a path x [n + 1, B, ...] under this denoiser, [n, B].

        What PPO over denoising steps compares (DPPO, Ren et al., 2024, arXiv 2409.00588).

        Raises:
          UsageError: the solver draws no noise, so that its steps have no density.
        """
        if self.solver not in STOCHASTIC:
            raise UsageError(
                f"the steps of {self.solver} have no density; take {' or '.join(STOCHASTIC)}, or "
                "diffusion.log_prob for the density of its samples"
            )

        def step(carried: None, seen: tuple[Steps, Array, Array]) -> tuple[None, Array]:
            now, before, after = seen
            mean = now.x * before + now.x0 * self._x0(denoise, before, now.t)
            std = temperature * now.noise
            return None, _log_density((after - mean) / jnp.where(std > 0, std, 1.0), std)

        return jax.lax.scan(self._body(step), None, (self._steps(x.dtype), x[:-1], x[1:]))[1]

    def _run(
        self,
        key: Array,
        denoise: Denoiser,
        start: Array,
        temperature: Array | float,
        record: Callable[[Array, Array | None], Any],
    ) -> tuple[Array, Any]:
        stochastic = self.solver in STOCHASTIC

        def step(carry: tuple[Array, Array], seen: tuple[Steps, Any]) -> Any:
            (x, previous), (now, key) = carry, seen
            x0 = self._x0(denoise, x, now.t)
            new, log_prob = now.x * x + now.x0 * x0, None
            if self.solver == "dpmpp_2m":
                new = new + now.previous * previous
            if self.solver == "heun":
                guess = now.guess_x * x + now.guess_x0 * x0
                new = new + now.second * self._x0(denoise, guess, now.s)
            if stochastic:
                z = jax.random.normal(key, x.shape, x.dtype)
                new = new + temperature * now.noise * z
                log_prob = _log_density(z, temperature * now.noise)
            return (new, x0), record(new, log_prob)

        keys = jax.random.split(key, self.steps) if stochastic else None
        seen = (self._steps(start.dtype), keys)
        (x, _), recorded = jax.lax.scan(self._body(step), (start, jnp.zeros_like(start)), seen)
        return x, recorded

    def _body(self, step: Callable[..., Any]) -> Callable[..., Any]:
        return jax.checkpoint(step, prevent_cse=False) if self.checkpoint else step

    def _x0(self, denoise: Denoiser, x: Array, t: Array) -> Array:
        x0 = denoise(x, jnp.full(x.shape[:1], t, x.dtype))
        return x0 if self.clip is None else jnp.clip(x0, *(jnp.asarray(b) for b in self.clip))

    def _steps(self, dtype: Any) -> Steps:
        table = tabulate(self.process, self.solver, self.steps)
        return Steps(*(jnp.asarray(column, dtype) for column in table))


def _log_density(z: Array, std: Array) -> Array:
    """Of Normal(mean, std^2 I) at mean + std z, [B]; 0 where std = 0."""
    size = math.prod(z.shape[1:])
    safe = jnp.where(std > 0, std, 1.0)
    square = jnp.sum(z.reshape(z.shape[0], size) ** 2, axis=-1)
    log = -0.5 * square - size * (jnp.log(safe) + 0.5 * math.log(2 * math.pi))
    return jnp.where(std > 0, log, 0.0)
