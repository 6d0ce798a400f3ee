"""Diffusion-QL: its losses against twins in NumPy, the gradient through all denoising steps, its
averages, and learning on a bandit."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import diffusion
from jaxrl.agents import _offline
from jaxrl.agents.diffusion_ql import DiffusionQL
from jaxrl.errors import UsageError
from tests.agents import bandit, twins
from tests.agents.test_offline import X, mean
from tests.agents.test_sac import A, B, batch
from tests.nets.test_denoise import mish

AGENT = DiffusionQL(
    widths=(16, 12), eta=0.7, samples=6, backup_samples=3, average_start=10, normalise=True
).canonical()
ONE_STEP = dataclasses.replace(AGENT, actor="one_step")
KEY = jax.random.key(5)
update = jax.jit(DiffusionQL.update)
act = jax.jit(DiffusionQL.act, static_argnames="explore")
actor_loss = jax.jit(jax.value_and_grad(DiffusionQL.actor_loss, 1, has_aux=True))


def noise_of(params, obs):
    return lambda x, time: twins.plain(params, x, time, obs, mish)


def sample(params, obs, key) -> np.ndarray:
    return twins.ddpm(key, noise_of(params, obs), (B, A))


def q(params, obs, action) -> np.ndarray:
    return twins.critics(params, obs, action, mish)


def test_critic_loss_equals_the_twin():
    """The best of three actions of the averaged policy, for each target critic; then the least."""
    state = twins.fresh(AGENT)
    _, metrics = update(AGENT, state, batch(), KEY)
    keys = jax.random.split(jax.random.split(KEY)[0], 3)
    actions = [sample(state.target_actor, X.obs_t, key) for key in keys]
    q_t = np.stack([q(state.target_critic, X.obs_t, action) for action in actions])
    assert 0 < np.mean(q_t.max(0).argmin(0)) < 1
    y = X.reward_t + X.discount_t * q_t.max(0).min(0)
    expected = mean(((q(state.critic, X.obs_tm1, X.action_tm1) - y) ** 2).sum(0))
    np.testing.assert_allclose(metrics["critic_loss"], expected, rtol=1e-4)


def noised(key) -> tuple[np.ndarray, ...]:
    """Times [B], alpha and sigma [B, 1], noise and noised actions [B, A] of the loss."""
    time_key, noise_key, *_ = jax.random.split(key, 4)
    t = np.asarray(diffusion.uniform(time_key, (B,), AGENT._sampler().process), np.float64)
    bar = twins.alpha_bars()[np.round(5 * t).astype(int)][:, None]
    noise = np.asarray(jax.random.normal(noise_key, (B, A)), np.float64)
    alpha, sigma = np.sqrt(bar), np.sqrt(1 - bar)
    return t, alpha, sigma, noise, alpha * X.action_tm1 + sigma * noise


def twin_loss(params, state, actor: str, scale: float | None = None) -> tuple[float, float]:
    """The policy's loss under `KEY`, and the scale of Q, which may be given."""
    t, alpha, sigma, noise, x = noised(KEY)
    predicted = noise_of(params, X.obs_tm1)(x, t)
    if actor == "chain":
        action = sample(params, X.obs_tm1, jax.random.split(KEY, 4)[2])
    else:
        action = np.clip((x - sigma * predicted) / alpha, -1, 1)
    value = q(state.critic, X.obs_tm1, action)
    i = int(jax.random.randint(jax.random.split(KEY, 4)[3], (), 0, 2))
    scale = mean(np.abs(value[1 - i])) if scale is None else scale
    return mean(((predicted - noise) ** 2).mean(-1) - 0.7 * value[i] / scale), scale


@pytest.mark.parametrize("agent", [AGENT, ONE_STEP], ids=["chain", "one step"])
def test_actor_loss_and_gradient_equal_the_twin(agent):
    """The twin's slope along random directions, by differences in float64 with Q's scale held: so
    the gradient passes through every denoising step, and the scale is a constant for it."""
    state = twins.fresh(agent)
    (loss, metrics), grads = actor_loss(agent, state.actor, state, batch(), KEY)
    expected, scale = twin_loss(state.actor, state, agent.actor)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    clone, _ = twin_loss(state.actor, state, agent.actor, np.inf)
    np.testing.assert_allclose(metrics["clone_loss"], clone, rtol=1e-4)
    np.testing.assert_allclose(metrics["policy_q"], (clone - expected) / 0.7 * scale, rtol=1e-3)
    rng = np.random.RandomState(0)
    for part in ("MLP_0", "TimeEmbedding_0", "out"):
        names = {**jax.tree.map(np.zeros_like, state.actor["params"])}
        names[part] = jax.tree.map(lambda x: rng.normal(size=x.shape), names[part])
        direction = {"params": names}
        ends = []
        for step in (-1e-6, 1e-6):
            moved = jax.tree.map(
                lambda x, d, step=step: np.asarray(x, np.float64) + step * d, state.actor, direction
            )
            ends.append(twin_loss(moved, state, agent.actor, scale)[0])
        slope = (ends[1] - ends[0]) / 2e-6
        products = jax.tree.map(lambda g, d: float(np.sum(np.asarray(g) * d)), grads, direction)
        found = sum(jax.tree.leaves(products))
        assert abs(slope) > 1e-2
        np.testing.assert_allclose(found, slope, rtol=5e-3, atol=1e-4)


def test_q_in_the_policys_loss_does_not_teach_the_critics():
    state = twins.fresh(AGENT)
    new, _ = update(AGENT, state, batch(), KEY)
    other, _ = update(dataclasses.replace(AGENT, eta=jnp.float32(9)), state, batch(), KEY)
    for a, b in zip(jax.tree.leaves(new.critic), jax.tree.leaves(other.critic), strict=True):
        np.testing.assert_array_equal(a, b)
    pairs = zip(jax.tree.leaves(new.actor), jax.tree.leaves(other.actor), strict=True)
    assert any(np.any(a != b) for a, b in pairs)
    triples = (state.target_critic, new.critic, new.target_critic)
    for old, online, target in zip(*map(jax.tree.leaves, triples), strict=True):
        np.testing.assert_allclose(target, 0.995 * old + 0.005 * online, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("updates", "moves"), [(0, False), (5, False), (10, True), (11, False)])
def test_the_policys_average_starts_late_and_moves_every_fifth_update(updates, moves):
    state = twins.fresh(AGENT).replace(updates=jnp.int32(updates))
    new, _ = update(AGENT, state, batch(), KEY)
    triples = (state.target_actor, new.actor, new.target_actor)
    for old, online, average in zip(*map(jax.tree.leaves, triples), strict=True):
        if moves:
            np.testing.assert_allclose(average, 0.995 * old + 0.005 * online, rtol=1e-4, atol=1e-6)
            assert np.any(average != old)
        else:
            np.testing.assert_array_equal(average, old)


def test_gradients_are_clipped_and_both_step_sizes_fall():
    state = twins.fresh(AGENT).replace(updates=jnp.int32(5))
    short = dataclasses.replace(AGENT, gradient_norm=jnp.float32(0.25)).for_run(10).canonical()
    new, _ = update(short, state, batch(), KEY)
    free, _ = update(
        dataclasses.replace(AGENT, gradient_norm=jnp.float32(1e9)), state, batch(), KEY
    )
    for name in ("actor", "critic"):
        norms = [
            np.sqrt(
                sum(np.sum(np.square(m)) for m in jax.tree.leaves(getattr(s, f"{name}_opt")[0].mu))
            )
            for s in (new, free)
        ]
        np.testing.assert_allclose(norms[0], 0.1 * 0.25, rtol=1e-3)  # Adam keeps a tenth
        assert norms[1] > 0.05
        for after, rate in ((new, 1.5e-4), (free, 3e-4)):
            pairs = zip(*(jax.tree.leaves(getattr(s, name)) for s in (after, state)), strict=True)
            moved = max(float(jnp.abs(a - b).max()) for a, b in pairs)
            assert moved == pytest.approx(rate, rel=0.02)


def test_it_acts_by_the_best_of_its_samples():
    """Of the online policy, by the target critics; exploring, not always by the best."""
    state, obs = twins.fresh(AGENT), batch().obs_t
    _, key = jax.random.split(_offline.fresh_key(KEY, obs))
    samples = np.stack([sample(state.actor, obs, k) for k in jax.random.split(key, 6)])
    values = np.stack([q(state.target_critic, obs, a).min(0) for a in samples])
    chosen = act(AGENT, state, obs, KEY, explore=False)
    np.testing.assert_allclose(chosen, samples[values.argmax(0), np.arange(B)], atol=1e-4)
    assert (np.abs(chosen) <= 1).all()
    drawn = act(AGENT, state, obs, KEY, explore=True)
    distance = np.abs(samples - drawn).max(-1)
    np.testing.assert_allclose(distance.min(0), 0, atol=1e-4)
    best = distance.argmin(0) == values.argmax(0)
    assert 0.1 < best.mean() < 0.9
    chance = np.exp(values) / np.exp(values).sum(0)
    likely = np.log(chance[distance.argmin(0), np.arange(B)]).mean()
    assert likely > np.log(chance).mean() + 0.1


def test_rows_without_weight_change_nothing():
    twins.assert_rows_without_weight_change_nothing(AGENT, update)


def test_bfloat16_computes_networks_only():
    twins.assert_bfloat16_stays_in_networks(dataclasses.replace(AGENT, precision="bfloat16"))


def test_it_takes_a_good_way_of_a_bandit(optimised):
    """Or both: Q is as great on either, and the gradient may leave one for the other."""
    rates = {"critic_learning_rate": 3e-3, "actor_learning_rate": 3e-3, "tau": 0.05}
    sizes = {"widths": (64, 64), "layer_norm": True, "batch_size": 128, "samples": 16}
    agent = DiffusionQL(**rates, **sizes, average_start=100).for_run(800).canonical()
    state = bandit.learned(agent, 800, bandit.noisy_batch)
    obs = jax.random.normal(jax.random.key(5), (512, bandit.OBS))
    mode, gap = bandit.nearest(act(agent, state, obs, KEY, explore=False))
    assert np.mean(mode == 2) < 0.02
    assert np.mean(gap < 4 * bandit.STD) > 0.9


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"backup_samples": 0}, "backup_samples must be at least 1, got 0"),
        ({"average_every": 0}, "average_every must be at least 1, got 0"),
        (
            {"train_steps": 3},
            "5 sampling steps are more than the 3 train_steps of this process; take at most those, "
            "or train in continuous time",
        ),
    ],
)
def test_settings_that_cannot_be(options, line):
    with pytest.raises(UsageError) as error:
        DiffusionQL(**options)
    assert str(error.value) == line
