"""Noising processes x_t = alpha(t) x0 + sigma(t) eps, and what a network may predict of them.

A process is a path (alpha, sigma) in a *clock* of its own, in which its velocity is smooth at both
ends, and a schedule: the clock as a function of the time t that the network sees.

    variance preserving   alpha = cos c, sigma = sin c    c in [0, pi/2)
    EDM                   alpha = 1,     sigma = c        c in [0, sigma_max]
    flow matching         alpha = 1 - c, sigma = c        c in [0, 1]

On every one of these paths alpha sigma' - alpha' sigma = 1 (primes: d/dc), so x0, noise, velocity
and score turn into each other by one line each. Time runs from t = 0, data, to noise; flow policies
are often written the other way round.

Shapes: B batch, x [B, ...] such as actions [B, A] or chunks of them [B, H, A], t [B]. The methods
of t and clock take NumPy arrays too and then compute in float64: solvers make their tables so.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.errors import UsageError

Array = jax.Array
Prediction = Literal["x0", "noise", "velocity", "score", "preconditioned"]
Network = Callable[[Array, Array], Array]
"""(x [B, ...], time [B]) to a raw prediction [B, ...]; parameters and observations are inside."""
Denoiser = Callable[[Array, Array], Array]
"""(x_t [B, ...], t [B]) to x0-hat = E[x0 | x_t], [B, ...]: the one prediction that solvers read."""

MIN_TIME = 1e-3
"""The least time of training (Song et al., 2021, arXiv 2011.13456, app. C)."""


@dataclasses.dataclass(frozen=True)
class Process(abc.ABC):
    """A path and a schedule. Static: hashable, and closed over by compiled functions."""

    data_std: float = dataclasses.field(default=0.5, kw_only=True)
    """Deviation of one entry of x0; read by "preconditioned" networks alone."""

    @abc.abstractmethod
    def clock(self, t: Any) -> Any:
        """The schedule: c(t), of t's shape."""

    @abc.abstractmethod
    def path(self, clock: Any) -> tuple[Any, Any]:
        """(alpha, sigma) at a clock."""

    @abc.abstractmethod
    def rates(self, clock: Any) -> tuple[Any, Any]:
        """(alpha', sigma'), derivatives by the clock."""

    @abc.abstractmethod
    def clock_of_ratio(self, ratio: np.ndarray) -> np.ndarray:
        """The clock at which sigma / alpha is `ratio`."""

    @abc.abstractmethod
    def grid(self, steps: int) -> np.ndarray:
        """Times [steps + 1] that a sampler visits, from noise to t = 0; the inputs are checked."""

    @abc.abstractmethod
    def spread(self, u: Any) -> Any:
        """Uniform u in [0, 1) to the times of training."""

    def levels(self, t: Any) -> tuple[Any, Any]:
        """(alpha, sigma) at time t, each of t's shape."""
        return self.path(self.clock(t))

    def nearest(self, t: Array) -> Array:
        """The time of training nearest to t."""
        return t

    def condition(self, t: Array) -> Array:
        """What a network is told of t, of order 1."""
        return t

    @property
    def prior_std(self) -> float:
        """Deviation of x at the noisy end."""
        return 1.0

    def prior(self, key: Array, shape: tuple[int, ...], temperature: Array | float = 1.0) -> Array:
        """A start for samplers: Normal(0, (temperature prior_std)^2), of that shape."""
        return temperature * self.prior_std * jax.random.normal(key, shape)

    def corrupt(self, x0: Array, noise: Array, t: Array) -> Array:
        """x_t = alpha x0 + sigma noise, [B, ...]."""
        alpha, sigma = (rows(c, x0) for c in self.levels(t))
        return alpha * x0 + sigma * noise

    def target(self, predicts: Prediction, x0: Array, noise: Array, t: Array) -> Array:
        """What a network that predicts `predicts` learns to give for corrupt(x0, noise, t)."""
        match predicts:
            case "x0":
                return x0
            case "noise":
                return noise
            case "velocity":
                d_alpha, d_sigma = (rows(c, x0) for c in self.rates(self.clock(t)))
                return d_alpha * x0 + d_sigma * noise
        return self.from_x0(predicts, x0, self.corrupt(x0, noise, t), t)

    def to_x0(self, predicts: Prediction, value: Array, x: Array, t: Array) -> Array:
        """x0-hat of a prediction at x = x_t, all [B, ...].

        noise: (x - sigma eps) / alpha. velocity dx/dc: sigma' x - sigma v. score, of log p_t:
        (x + sigma^2 score) / alpha. preconditioned, F: c_skip x + c_out F.
        """
        alpha, sigma = (rows(c, x) for c in self.levels(t))
        match predicts:
            case "x0":
                return value
            case "noise":
                return (x - sigma * value) / alpha
            case "score":
                return (x + sigma**2 * value) / alpha
            case "velocity":
                return rows(self.rates(self.clock(t))[1], x) * x - sigma * value
        skip, out, _ = self._preconditioning(alpha, sigma)
        return skip * x + out * value

    def from_x0(self, predicts: Prediction, x0: Array, x: Array, t: Array) -> Array:
        """The prediction that means x0-hat at x = x_t, all [B, ...]; the inverse of `to_x0`."""
        alpha, sigma = (rows(c, x) for c in self.levels(t))
        match predicts:
            case "x0":
                return x0
            case "noise":
                return (x - alpha * x0) / sigma
            case "score":
                return (alpha * x0 - x) / sigma**2
            case "velocity":
                return (rows(self.rates(self.clock(t))[1], x) * x - x0) / sigma
        skip, out, _ = self._preconditioning(alpha, sigma)
        return (x0 - skip * x) / out

    def convert(
        self, value: Array, source: Prediction, target: Prediction, x: Array, t: Array
    ) -> Array:
        """A prediction of one kind at x = x_t as another kind, [B, ...]."""
        return self.from_x0(target, self.to_x0(source, value, x, t), x, t)

    def inputs(self, predicts: Prediction, x: Array, t: Array) -> tuple[Array, Array]:
        """What a network sees: x, scaled by c_in if it is preconditioned, and `condition(t)`."""
        if predicts == "preconditioned":
            alpha, sigma = (rows(c, x) for c in self.levels(t))
            x = self._preconditioning(alpha, sigma)[2] * x
        return x, self.condition(t)

    def gain(self, predicts: Prediction, t: Array) -> Array:
        """|d prediction / d x0-hat| at a fixed x_t, [B]: how an error of x0-hat counts in it."""
        alpha, sigma = self.levels(t)
        match predicts:
            case "x0":
                return alpha * 0 + 1
            case "noise":
                return alpha / sigma
            case "velocity":
                return 1 / sigma
            case "score":
                return alpha / sigma**2
        return 1 / self._preconditioning(alpha, sigma)[1]

    def check(self, predicts: str) -> None:
        """Raises `UsageError` where no x0-hat follows from such a prediction."""
        if predicts not in get_args(Prediction):
            raise UsageError(
                f"unknown prediction {predicts!r}; there are: {', '.join(get_args(Prediction))}"
            )
        if predicts in ("noise", "score") and self.levels(self.grid(1))[0][0] == 0:
            raise UsageError(
                f"{type(self).__name__} starts at alpha = 0, where {predicts} does not tell x0; "
                "predict velocity, x0 or preconditioned"
            )

    def _preconditioning(self, alpha: Array, sigma: Array) -> tuple[Array, Array, Array]:
        """(c_skip, c_out, c_in) of Karras et al. (2022, arXiv 2206.00364, table 1), for any alpha:
        inputs and targets of a network have variance 1, and c_out is least."""
        variance = (alpha * self.data_std) ** 2 + sigma**2
        scale = variance**0.5
        return alpha * self.data_std**2 / variance, sigma * self.data_std / scale, 1 / scale


def rows(c: Array, x: Array) -> Array:
    """One coefficient per row, c [B], in the shape that multiplies x [B, ...]."""
    return c.reshape(c.shape + (1,) * (x.ndim - c.ndim))


def module_of(x: Any) -> Any:
    """NumPy of its arrays and numbers, else jax.numpy."""
    return np if isinstance(x, np.ndarray | np.generic) else jnp


def check_steps(steps: int) -> None:
    """Raises `UsageError` for a sampler without steps."""
    if steps < 1:
        raise UsageError(f"a sampler takes at least 1 step, got {steps}")
