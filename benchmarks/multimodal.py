"""A bandit with eight equally good ways, which each policy class learns from the same data.

Actions lie around eight points of a circle, where the reward is 1; a fifth of the data are uniform
in the square, where it is 0 unless they hit one of the points. A sample is *valid* within three
deviations of a point. A way is *kept* if it has at least half of its fair mass, an eighth of the
valid samples.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

from jaxrl import agents, diffusion
from jaxrl.agents import _offline
from jaxrl.agents.diffusion_ql import DiffusionQL
from jaxrl.agents.eda import EDA
from jaxrl.agents.fql import FQL
from jaxrl.agents.idql import IDQL
from jaxrl.envs.core import EnvSpec
from jaxrl.replay.ring import Batch

Array = jax.Array

WAYS = 8
ANGLES = np.arange(WAYS) * 2 * np.pi / WAYS
POINTS = np.float32(0.7 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1))
DEVIATION = 0.06
NOISE = 0.2
"""Share of the data that are uniform."""
UPDATES = 10_000
SAMPLES = 4096

PLAIN = {"widths": (128, 128)}
VALUED = {**PLAIN, "scale_rewards": False}
RESIDUAL = {**VALUED, "width": 128, "blocks": 2}
CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "bc": ("bc", PLAIN),
    "iql": ("iql", VALUED),
    "td3_bc": ("td3_bc", PLAIN),
    "cfpi, 1 Gaussian": ("cfpi", {**VALUED, "components": 1}),
    "cfpi, 12 Gaussians": ("cfpi", {**VALUED, "components": 12}),
    "cloning, 5 levels": ("idql", {**RESIDUAL, "samples": 1}),
    "cloning, 20 levels": (
        "idql",
        {**RESIDUAL, "samples": 1, "train_steps": 20, "sampling_steps": 20},
    ),
    "idql": ("idql", RESIDUAL),
    "diffusion_ql": ("diffusion_ql", {**PLAIN, "layer_norm": True}),
    "fql": ("fql", PLAIN),
    "eda": ("eda", {**RESIDUAL, "levels": 8}),
}
"""Agent and settings that differ from its defaults: small networks, rewards as they are."""

SPEC = EnvSpec("ways", 1, 2, (-1.0, -1.0), (1.0, 1.0), 1, 1.0)


def batch(key: Array, size: int) -> Batch:
    """Draws from the dataset without end; the observation says nothing."""
    way, near, far, uniform = jax.random.split(key, 4)
    points = jnp.asarray(POINTS)[jax.random.randint(way, (size,), 0, WAYS)]
    action = points + DEVIATION * jax.random.normal(near, (size, 2))
    anywhere = jax.random.uniform(far, (size, 2), minval=-1.0)
    action = jnp.where(jax.random.bernoulli(uniform, NOISE, (size, 1)), anywhere, action)
    gap = jnp.linalg.norm(action[:, None] - POINTS, axis=-1).min(axis=1)
    reward = (gap < 3 * DEVIATION).astype(jnp.float32)
    obs, ones = jnp.zeros((size, 1)), jnp.ones(size)
    return Batch(obs, action, reward, 0 * ones, obs, ones, jnp.arange(size, dtype=jnp.int32))


def learn(name: str) -> tuple[Any, Any, float]:
    """Agent and state of a policy class after UPDATES updates, and seconds that they took."""
    kind, settings = CLASSES[name]
    agent = dataclasses.replace(agents.default(kind), **settings).for_run(UPDATES).canonical()

    def update(i: Array, state: Any) -> Any:
        draw, step = jax.random.split(jax.random.fold_in(jax.random.key(1), i))
        state = agent.update(state, batch(draw, agent.batch_size), step)[0]
        return state

    @jax.jit
    def train(state: Any, begin: Array, end: Array) -> Any:
        return jax.lax.fori_loop(begin, end, update, state)

    told = _offline.Statistics(jnp.zeros(1), jnp.ones(1), jnp.array([0.0, 1.0]))
    state = agent.begin(jax.jit(lambda: agent.init(jax.random.key(0), SPEC))(), told)
    began, done = time.monotonic(), 0
    for share in (*agent.milestones(), 1.0):
        until = round(share * UPDATES)
        state = train(state, jnp.int32(done), jnp.int32(until))
        state, done = agent.on_progress(state, jnp.float32(share)), until
    jax.block_until_ready(state)
    return agent, state, time.monotonic() - began


def actions(agent: Any, state: Any, explore: bool) -> np.ndarray:
    """SAMPLES actions of the policy, [SAMPLES, 2]."""
    act = jax.jit(lambda state, obs, key: agent.act(state, obs, key, explore))
    return np.asarray(act(state, jnp.zeros((SAMPLES, 1)), jax.random.key(2)))


def judged(action: np.ndarray) -> dict[str, float]:
    """Share of ways kept and of samples that are valid of none."""
    gap = np.linalg.norm(action[:, None] - POINTS, axis=-1)
    valid = gap.min(axis=1) < 3 * DEVIATION
    mass = np.bincount(gap.argmin(axis=1)[valid], minlength=WAYS) / max(1, valid.sum())
    return {"kept": float((mass >= 0.5 / WAYS).mean()), "invalid": float(1 - valid.mean())}


def exact(name: str, **changes: Any) -> float | None:
    """Share of invalid samples that a class's sampler draws with the data's own denoiser, where
    nothing is left to learn; None for a class without denoising steps. `changes` are settings."""
    kind, settings = CLASSES[name]
    agent = dataclasses.replace(agents.default(kind), **{**settings, **changes}).for_run(UPDATES)
    if not isinstance(agent, IDQL | DiffusionQL | EDA):
        return None
    sampler = agent._sampler()

    def denoise(x: Array, t: Array) -> Array:
        alpha, sigma = (level[:, None] for level in sampler.process.levels(t))
        points, spread = jnp.asarray(POINTS), (alpha * DEVIATION) ** 2 + sigma**2  # [W, 2], [B, 1]
        off = x[:, None] - alpha[:, None] * points  # [B, W, 2]
        normal = jnp.exp(-0.5 * jnp.sum(off**2, axis=-1) / spread) / (2 * jnp.pi * spread)
        near = points + (alpha * DEVIATION**2 / spread)[:, None] * off
        mean, scale = x / alpha, sigma / alpha  # of x0 given x_t, but for its bounds
        low, high = (-1 - mean) / scale, (1 - mean) / scale
        inside = norm.cdf(high) - norm.cdf(low)  # [B, 2]
        slope = (norm.pdf(low) - norm.pdf(high)) / jnp.maximum(inside, 1e-12)
        anywhere = jnp.clip(mean + scale * slope, -1.0, 1.0)
        density = jnp.prod(inside / (2 * alpha), axis=-1)
        weight = jnp.concatenate(
            [(1 - NOISE) / WAYS * normal, NOISE * density[:, None]], axis=1
        )  # [B, W + 1]
        means = jnp.concatenate([near, anywhere[:, None]], axis=1)
        total = jnp.maximum(weight.sum(axis=1, keepdims=True), 1e-30)
        return jnp.einsum("bw,bwa->ba", weight / total, means)

    drawn = jax.jit(lambda key: sampler.sample(key, denoise, (SAMPLES, 2)))(jax.random.key(4))
    return judged(np.asarray(drawn))["invalid"]


def paths(agent: Any, state: Any, count: int = 60) -> np.ndarray | None:
    """Denoising paths [steps + 1, count, 2] of an agent's diffusion policy, None if it has none."""
    if isinstance(agent, IDQL | DiffusionQL):
        acting = state.actor if isinstance(agent, DiffusionQL) else state.target_actor
        network, predicts, params = agent._network, "noise", acting
    elif isinstance(agent, FQL):
        network, predicts, params = agent._flow, "velocity", state.actor["flow"]
    else:
        return None
    sampler = agent._sampler()
    key, start_key = jax.random.split(jax.random.key(3))
    start = sampler.process.prior(start_key, (count, 2))

    @jax.jit
    def walk(params: Any, state: Any, obs: Array) -> Array:
        denoise = diffusion.denoiser(sampler.process, predicts, network(params, state, obs))
        return sampler.path(key, denoise, start).x

    return np.asarray(walk(params, state, jnp.zeros((count, 1))))


def draw(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Samples of every class beside the eight points, and denoising paths below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    walks = {name: f["paths"] for name, f in found.items() if f.get("paths") is not None}
    columns = 6
    rows = -(-(len(found) + len(walks)) // columns)
    figure = Figure(figsize=(2.1 * columns, 2.35 * rows), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(h_pad=0.08)
    axes = iter(figure.subplots(rows, columns, squeeze=False).flat)
    for name, about in found.items():
        axis = _square(next(axes), name)
        action = about["actions"][:800]
        axis.scatter(*action.T, s=2, color="#4c72b0", alpha=0.5, linewidths=0)
        axis.set_xlabel(f"{about['kept']:.0%} kept, {about['invalid']:.0%} invalid", fontsize=7)
    for name, walk in walks.items():
        axis = _square(next(axes), f"{name}: denoising paths")
        for i in range(walk.shape[1]):
            axis.plot(*walk[:, i].T, color="#55a868", alpha=0.35, linewidth=0.7)
        axis.scatter(*walk[-1].T, s=4, color="#c44e52", linewidths=0)
        axis.set_xlabel(f"{len(walk) - 1} steps", fontsize=7)
    for axis in axes:
        axis.axis("off")
    figure.savefig(path)


def _square(axis: Any, title: str) -> Any:
    axis.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), xticks=[], yticks=[], aspect="equal")
    axis.set_title(title, fontsize=8)
    axis.scatter(*POINTS.T, s=120, facecolors="none", edgecolors="0.6", linewidths=0.8)
    return axis


def data() -> np.ndarray:
    """Actions of the dataset itself."""
    return np.asarray(batch(jax.random.key(4), SAMPLES).action_tm1)
