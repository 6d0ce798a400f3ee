"""The three processes: variance preserving with its schedules, EDM, flow matching."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.diffusion.process import MIN_TIME, Process, check_steps, module_of
from jaxrl.errors import UsageError

Array = jax.Array
Schedule = Literal["linear", "cosine", "vp"]
_BETAS = {"linear": (0.1, 20.0), "vp": (0.1, 10.0)}  # vp: IDQL's, whose largest is 10, not 20
_OFFSET, _END = 0.008, 0.9946  # cosine: offset of its paper; where DPM-Solver ends it
_START, _SPAN = (0.5 * np.pi * x / (1 + _OFFSET) for x in (_OFFSET, _END))


@dataclasses.dataclass(frozen=True)
class VariancePreserving(Process):
    """alpha^2 + sigma^2 = 1. Its velocity is Salimans and Ho's v (2022, arXiv 2202.00512).

    With `train_steps` T the times are i / T, i = 1 to T, and samplers visit some of them; without,
    time is continuous, and samplers take equal steps of the angle c.

    Schedules of alpha^2, T steps: linear, Ho et al. (2020, arXiv 2006.11239), betas 1e-4 to 0.02
    times 1000 / T; cosine, Nichol and Dhariwal (2021, arXiv 2102.09672), betas up to 0.999; vp,
    exp(-(0.1 t + 4.95 t^2)), as IDQL (2023, arXiv 2304.10573) has it for T = 5. Continuous: linear
    is its limit, exp(-(0.1 t + 9.95 t^2)); cosine ends where its argument is 0.9946 (Lu et al.,
    2022, arXiv 2206.00927, app. D.4), since there would be no signal at 1.
    """

    schedule: Schedule = "vp"
    train_steps: int | None = None

    def __post_init__(self) -> None:
        if self.schedule not in get_args(Schedule):
            raise UsageError(
                f"unknown schedule {self.schedule!r}; there are: {', '.join(get_args(Schedule))}"
            )
        least = 21 if self.schedule == "linear" else 1  # 20 / T is a probability
        if self.train_steps is not None and self.train_steps < least:
            raise UsageError(
                f"the {self.schedule} schedule takes at least {least} train_steps, got "
                f"{self.train_steps}" + "; vp takes fewer" * (least > 1)
            )

    def clock(self, t: Any) -> Any:
        """c = arctan(sigma / alpha)."""
        xp = module_of(t)
        if self.train_steps is not None:
            index = xp.round(t * self.train_steps).astype(int)
            return xp.asarray(_angles(self.schedule, self.train_steps), t.dtype)[index]
        if self.schedule == "cosine":
            gap = _SPAN * t
            square = xp.sin(gap) * xp.sin(gap + 2 * _START)  # (sigma cos(start))^2, exact near 0
            return xp.arctan2(xp.sqrt(square), xp.cos(gap + _START))
        least, most = _BETAS[self.schedule]
        log = -(least * t + 0.5 * (most - least) * t**2)
        return xp.arctan2(xp.sqrt(-xp.expm1(log)), xp.exp(0.5 * log))

    def path(self, clock: Any) -> tuple[Any, Any]:
        """(cos c, sin c)."""
        xp = module_of(clock)
        return xp.cos(clock), xp.sin(clock)

    def rates(self, clock: Any) -> tuple[Any, Any]:
        """(-sin c, cos c)."""
        alpha, sigma = self.path(clock)
        return -sigma, alpha

    def clock_of_ratio(self, ratio: np.ndarray) -> np.ndarray:
        """arctan(ratio)."""
        return np.arctan(ratio)

    def grid(self, steps: int) -> np.ndarray:
        """Some of the times of training, evenly; continuous: equal steps of the angle."""
        check_steps(steps)
        if self.train_steps is not None:
            if steps > self.train_steps:
                raise UsageError(
                    f"{steps} sampling steps are more than the {self.train_steps} train_steps of "
                    "this process; take at most those, or train in continuous time"
                )
            index = np.floor(np.linspace(self.train_steps, 0, steps + 1) + 0.5)
            return index / self.train_steps
        angle = np.linspace(self.clock(np.ones(())), 0, steps + 1)
        if self.schedule == "cosine":
            t = (np.arccos(np.cos(angle) * np.cos(_START)) - _START) / _SPAN
        else:
            least, most = _BETAS[self.schedule]
            log = -2 * np.log(np.cos(angle))
            t = 2 * log / (least + np.sqrt(least**2 + 2 * (most - least) * log))
        t[0], t[-1] = 1.0, 0.0
        return t

    def spread(self, u: Any) -> Any:
        """Continuous: [MIN_TIME, 1). Discrete: each i / T alike."""
        if self.train_steps is None:
            return MIN_TIME + (1 - MIN_TIME) * u
        xp = module_of(u)
        index = xp.floor(u * self.train_steps) + 1
        return xp.minimum(index, self.train_steps) / self.train_steps

    def nearest(self, t: Array) -> Array:
        """Of discrete times, the nearest but 0."""
        if self.train_steps is None:
            return t
        return jnp.maximum(jnp.round(t * self.train_steps), 1) / self.train_steps


@dataclasses.dataclass(frozen=True)
class EDM(Process):
    """Karras et al. (2022, arXiv 2206.00364): alpha = 1 and sigma = t, in [sigma_min, sigma_max].

    The grid is theirs (eq. 5), equal steps of sigma^(1/rho) and then 0; rho = 1 steps evenly. For
    actions within [-1, 1] a sigma_max of 1 is enough to imitate (BESO, 2023, arXiv 2304.02532).
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise UsageError(
                "sigma_min must be above 0 and below sigma_max, got sigma_min "
                f"{self.sigma_min:g} and sigma_max {self.sigma_max:g}"
            )
        if not self.rho > 0:
            raise UsageError(f"rho must be above 0, got {self.rho:g}")

    def clock(self, t: Any) -> Any:
        """c = sigma = t."""
        return t

    def path(self, clock: Any) -> tuple[Any, Any]:
        """(1, c)."""
        return clock * 0 + 1, clock

    def rates(self, clock: Any) -> tuple[Any, Any]:
        """(0, 1)."""
        return clock * 0, clock * 0 + 1

    def clock_of_ratio(self, ratio: np.ndarray) -> np.ndarray:
        """The ratio itself."""
        return ratio

    def grid(self, steps: int) -> np.ndarray:
        """sigma_max to sigma_min, and 0."""
        check_steps(steps)
        return np.append(self._warped(np.linspace(1, 0, steps)), 0.0)

    def spread(self, u: Any) -> Any:
        """[sigma_min, sigma_max), uniform in sigma^(1/rho)."""
        return self._warped(u)

    def condition(self, t: Array) -> Array:
        """log(sigma) / 4."""
        return 0.25 * jnp.log(t)

    @property
    def prior_std(self) -> float:
        """sigma_max."""
        return self.sigma_max

    def _warped(self, u: Any) -> Any:
        low, high = (s ** (1 / self.rho) for s in (self.sigma_min, self.sigma_max))
        return (low + u * (high - low)) ** self.rho


@dataclasses.dataclass(frozen=True)
class Flow(Process):
    """Flow matching on straight lines, x_t = (1 - t) x0 + t eps, velocity eps - x0.

    Lipman et al. (2023, arXiv 2210.02747), Liu et al. (2023, arXiv 2209.03003), with t reversed.
    """

    def clock(self, t: Any) -> Any:
        """c = t."""
        return t

    def path(self, clock: Any) -> tuple[Any, Any]:
        """(1 - c, c)."""
        return 1 - clock, clock

    def rates(self, clock: Any) -> tuple[Any, Any]:
        """(-1, 1)."""
        return clock * 0 - 1, clock * 0 + 1

    def clock_of_ratio(self, ratio: np.ndarray) -> np.ndarray:
        """ratio / (1 + ratio)."""
        return ratio / (1 + ratio)

    def grid(self, steps: int) -> np.ndarray:
        """Equal steps from 1 to 0."""
        check_steps(steps)
        return np.linspace(1, 0, steps + 1)

    def spread(self, u: Any) -> Any:
        """[MIN_TIME, 1)."""
        return MIN_TIME + (1 - MIN_TIME) * u


@functools.lru_cache
def _angles(schedule: Schedule, train_steps: int) -> np.ndarray:
    """The clock at i / T, i = 0 to T, [T + 1] float64."""
    t = np.arange(train_steps + 1) / train_steps
    if schedule == "linear":
        betas = np.linspace(1e-4, 0.02, train_steps) * 1000 / train_steps
    elif schedule == "cosine":
        square = np.cos(0.5 * np.pi * (t + _OFFSET) / (1 + _OFFSET)) ** 2
        betas = np.minimum(1 - square[1:] / square[:-1], 0.999)
    else:
        return VariancePreserving(schedule).clock(t)
    alpha_square = np.append(1.0, np.cumprod(1 - betas))
    return np.arctan2(np.sqrt(1 - alpha_square), np.sqrt(alpha_square))
