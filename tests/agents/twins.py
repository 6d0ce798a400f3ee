"""What tests of offline diffusion agents share: random states, and samplers in NumPy."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from tests.agents.test_offline import STATISTICS
from tests.agents.test_sac import SIZE, A, batch
from tests.agents.values import spec
from tests.nets.test_denoise import affine, embedded, normed

PARAMETERS = ("actor", "target_actor", "critic", "target_critic", "value")
TIMES = 5  # noise levels of the policies


def fresh(agent, seed: int = 0):
    """A state with random parameters, without compiling an initialisation."""
    rng = np.random.RandomState(seed)
    shapes = jax.eval_shape(lambda: agent.init(jax.random.key(0), spec(A, observation_size=SIZE)))
    state = jax.tree.map(lambda x: jnp.asarray(np.zeros(x.shape, x.dtype)), shapes)

    def draw(x):
        return jnp.asarray(rng.normal(size=x.shape) / np.sqrt(x.shape[-1]), jnp.float32)

    names = [n for n in PARAMETERS if hasattr(state, n)]
    drawn = {n: jax.tree.map(draw, getattr(state, n)) for n in names}
    return agent.begin(state.replace(**drawn), STATISTICS)


def seen(obs) -> np.ndarray:
    """Standardised observations in float64."""
    mean, std = (np.asarray(x, np.float64) for x in (STATISTICS.mean, STATISTICS.std))
    return (np.asarray(obs, np.float64) - mean) / (std + 1e-3)


def wide(params):
    """In float64."""
    return jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"])


def plain(params, x, time, obs, activation) -> np.ndarray:
    """A `PlainMLP`; time is embedded if the network embeds it, and None for a student."""
    p = wide(params)
    parts = [np.asarray(x, np.float64)]
    if time is not None:
        time = np.asarray(time, np.float64)
        found = "TimeEmbedding_0" in p
        parts.append(embedded(p["TimeEmbedding_0"], time) if found else time[:, None])
    hidden = np.concatenate([*parts, seen(obs)], -1)
    for i in range(len(p["MLP_0"])):
        hidden = activation(affine(p["MLP_0"][f"Dense_{i}"], hidden))
    return affine(p["out"], hidden)


def critics(params, obs, action, activation, layer_norm: bool = False) -> np.ndarray:
    """A `CriticEnsemble` of two, [2, B]."""
    (inner,) = wide(params).values()
    values = []
    for c in range(2):
        p = jax.tree.map(lambda x, c=c: x[c], inner)
        hidden = np.concatenate([seen(obs), np.asarray(action, np.float64)], -1)
        for i in range(sum(name.startswith("Dense") for name in p["MLP_0"])):
            hidden = affine(p["MLP_0"][f"Dense_{i}"], hidden)
            hidden = activation(
                normed(hidden, p["MLP_0"][f"LayerNorm_{i}"]) if layer_norm else hidden
            )
        values.append(affine(p["Dense_0"], hidden)[:, 0])
    return np.stack(values)


def alpha_bars() -> np.ndarray:
    """alpha^2 of IDQL's schedule at i / 5, i = 0 to 5: the product of 1 - beta_i of its code."""
    i = np.arange(1, TIMES + 1)
    return np.append(1.0, np.cumprod(np.exp(-0.1 / TIMES - 0.5 * 9.9 * (2 * i - 1) / TIMES**2)))


def ddpm(key, noise_of: Callable, shape) -> np.ndarray:
    """Ancestral sampling in betas, x0-hat clipped, with the noise that a `Sampler` draws."""
    start_key, key = jax.random.split(key)
    x = np.asarray(jax.random.normal(start_key, shape), np.float64)
    keys, bars = jax.random.split(key, TIMES), alpha_bars()
    for key, i in zip(keys, range(TIMES, 0, -1), strict=True):
        bar, before = bars[i], bars[i - 1]
        beta = 1 - bar / before
        noise = noise_of(x, np.full(shape[0], i / TIMES))
        x0 = np.clip((x - np.sqrt(1 - bar) * noise) / np.sqrt(bar), -1, 1)
        mean = np.sqrt(before) * beta * x0 + np.sqrt(1 - beta) * (1 - before) * x
        z = np.asarray(jax.random.normal(key, shape), np.float64)
        x = (mean + np.sqrt(beta * (1 - before) * (1 - bar)) * z) / (1 - bar)
    return x


def assert_rows_without_weight_change_nothing(agent, update) -> None:
    state, transitions = fresh(agent), batch()
    zero = transitions.weight == 0
    assert zero.any()
    spoilt = transitions.replace(
        obs_tm1=jnp.where(zero[:, None], 1e3, transitions.obs_tm1),
        action_tm1=jnp.where(zero[:, None], -transitions.action_tm1, transitions.action_tm1),
        reward_t=jnp.where(zero, 1e3, transitions.reward_t),
    )
    new, other = (update(agent, state, x, jax.random.key(0))[0] for x in (transitions, spoilt))
    for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def assert_bfloat16_stays_in_networks(agent) -> None:
    """`agent` has that precision."""
    state = fresh(agent)
    traced = jax.make_jaxpr(lambda: agent.update(state, batch(), jax.random.key(0)))()
    assert "bf16" in str(traced)
    new = jax.eval_shape(agent.update, state, batch(), jax.random.key(0))
    assert {x.dtype.name for x in jax.tree.leaves(new)} == {"float32", "int32"}
    acted = jax.eval_shape(lambda: agent.act(state, batch().obs_t, jax.random.key(0), True))
    assert acted.dtype == jnp.float32
