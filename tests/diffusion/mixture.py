"""A shifted, correlated mixture of Gaussians in the plane, of which everything is known.

Noised by any process it stays a mixture, so density, score and E[x0 | x_t] are closed forms. For
NumPy (float64) and jax alike, and without this package's code.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp


@dataclasses.dataclass(frozen=True)
class Mixture:
    """sum_k shares_k Normal(means_k, covariances_k)."""

    shares: np.ndarray  # [K]
    means: np.ndarray  # [K, D]
    covariances: np.ndarray  # [K, D, D]

    def _parts(self, x, alpha, sigma):
        """Of each component: its log share of p(x_t) [..., K] and E[x0 | x_t, k] [..., K, D]."""
        xp = jnp if isinstance(x, jax.Array) else np
        alpha, sigma = (xp.asarray(c, x.dtype)[..., None, None] for c in (alpha, sigma))
        values, vectors = np.linalg.eigh(self.covariances)  # [K, D], [K, D, D]
        values, vectors, means = (xp.asarray(c, x.dtype) for c in (values, vectors, self.means))
        gap = x[..., None, :] - alpha * means
        along = xp.einsum("kde,...kd->...ke", vectors, gap)
        variance = alpha**2 * values + sigma**2
        log = -0.5 * xp.sum(along**2 / variance + xp.log(2 * np.pi * variance), axis=-1)
        shift = xp.einsum("kde,...ke->...kd", vectors, alpha * values / variance * along)
        return log + xp.asarray(np.log(self.shares), x.dtype), means + shift

    def log_density(self, x, alpha=1.0, sigma=0.0):
        """log p(alpha x0 + sigma eps = x), [...] for x [..., D] and levels [] or [...]."""
        log, _ = self._parts(x, alpha, sigma)
        return (jax.nn.logsumexp if isinstance(x, jax.Array) else logsumexp)(log, axis=-1)

    def x0(self, x, alpha, sigma):
        """E[x0 | alpha x0 + sigma eps = x], [..., D]."""
        xp = jnp if isinstance(x, jax.Array) else np
        log, means = self._parts(x, alpha, sigma)
        share = xp.exp(log - xp.max(log, axis=-1, keepdims=True))
        share = share / xp.sum(share, axis=-1, keepdims=True)
        return xp.sum(share[..., None] * means, axis=-2)

    def score(self, x, alpha, sigma):
        """grad log p(x_t), [..., D], by Tweedie's formula."""
        return (alpha * self.x0(x, alpha, sigma) - x) / sigma**2

    def denoiser(self, process):
        """E[x0 | x_t] as solvers take it."""
        return lambda x, t: self.x0(x, *process.levels(t))

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """[n, D]."""
        which = rng.choice(len(self.shares), size=n, p=self.shares)
        roots = np.linalg.cholesky(self.covariances)[which]
        noise = rng.normal(size=(n, self.means.shape[1]))
        return self.means[which] + np.einsum("nde,ne->nd", roots, noise)

    @property
    def mean(self) -> np.ndarray:
        return self.shares @ self.means

    @property
    def covariance(self) -> np.ndarray:
        gap = self.means - self.mean
        return np.einsum("k,kde->de", self.shares, self.covariances) + np.einsum(
            "k,kd,ke->de", self.shares, gap, gap
        )


PLANE = Mixture(
    shares=np.array([0.35, 0.65]),
    means=np.array([[1.3, -0.4], [-0.6, 0.9]]),
    covariances=np.array([[[0.30, 0.18], [0.18, 0.20]], [[0.16, -0.10], [-0.10, 0.36]]]),
)
