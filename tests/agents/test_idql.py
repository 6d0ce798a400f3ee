"""IDQL: its losses and its choice among samples against twins in NumPy, learning on a bandit."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import diffusion
from jaxrl.agents import _offline
from jaxrl.agents.idql import IDQL
from jaxrl.errors import UsageError
from tests.agents import bandit, twins
from tests.agents.test_offline import X, mean, net, q
from tests.agents.test_sac import A, B, batch
from tests.nets.test_denoise import affine, block, embedded, mish

SMALL = {"widths": (16, 12), "width": 16, "blocks": 2, "samples": 6, "normalise": True}
AGENT = IDQL(**SMALL, dropout=0.0, expectile=0.8, scale_rewards=False).canonical()
DROPPING = dataclasses.replace(AGENT, dropout=0.5)
update = jax.jit(IDQL.update)
act = jax.jit(IDQL.act, static_argnames="explore")


def predicted(params, x, time, obs) -> np.ndarray:
    """The noise that a `ResidualMLP` sees."""
    p = twins.wide(params)
    parts = [x, embedded(p["TimeEmbedding_0"], np.asarray(time, np.float64)), twins.seen(obs)]
    hidden = affine(p["Dense_0"], np.concatenate(parts, -1))
    for i in range(2):
        hidden = block(p[f"ResidualBlock_{i}"], hidden, mish)
    return affine(p["out"], mish(hidden))


def test_losses_equal_the_twin():
    """IQL's for value and critics; the policy's is cloning, whatever they say."""
    state, key = twins.fresh(AGENT), jax.random.key(5)
    new, metrics = update(AGENT, state, batch(), key)
    error = (
        q(state.target_critic, X.obs_tm1, X.action_tm1).min(0) - net(state.value, X.obs_tm1)[:, 0]
    )
    expected = mean(np.where(error > 0, 0.8, 0.2) * error**2)
    np.testing.assert_allclose(metrics["value_loss"], expected, rtol=1e-4)
    target = X.reward_t + X.discount_t * net(new.value, X.obs_t)[:, 0]
    expected = mean(((q(state.critic, X.obs_tm1, X.action_tm1) - target) ** 2).sum(0))
    np.testing.assert_allclose(metrics["critic_loss"], expected, rtol=1e-4)

    time_key, noise_key = jax.random.split(jax.random.split(key)[0])
    t = np.asarray(diffusion.uniform(time_key, (B,), AGENT._sampler().process), np.float64)
    assert set(np.round(5 * t, 5)) == {1, 2, 3, 4, 5}
    noise = np.asarray(jax.random.normal(noise_key, (B, A)), np.float64)
    bar = twins.alpha_bars()[np.round(5 * t).astype(int)][:, None]
    noised = np.sqrt(bar) * X.action_tm1 + np.sqrt(1 - bar) * noise
    error = ((predicted(state.actor, noised, t, X.obs_tm1) - noise) ** 2).mean(-1)
    np.testing.assert_allclose(metrics["actor_loss"], mean(error), rtol=1e-4)
    triples = zip(
        *(jax.tree.leaves(x) for x in (state.target_actor, new.actor, new.target_actor)),
        strict=True,
    )
    for old, online, average in triples:
        np.testing.assert_allclose(average, 0.999 * old + 0.001 * online, rtol=1e-4, atol=1e-6)
        assert np.any(old != average)


def test_the_policys_step_size_falls():
    planned = AGENT.for_run(10).canonical()
    state = twins.fresh(AGENT).replace(updates=jnp.int32(5))
    new, _ = update(planned, state, batch(), jax.random.key(0))
    for name, rate in (("actor", 1.5e-4), ("value", 3e-4), ("critic", 3e-4)):
        pairs = zip(*(jax.tree.leaves(getattr(s, name)) for s in (new, state)), strict=True)
        moved = max(float(jnp.abs(a - b).max()) for a, b in pairs)
        assert moved == pytest.approx(rate, rel=0.02)


def candidates(state, obs, key) -> tuple[np.ndarray, np.ndarray]:
    """The samples that `act` chooses from, [N, B, A], and their values [N, B]."""
    _, key = jax.random.split(_offline.fresh_key(key, obs))

    def noise(x, time):
        return predicted(state.target_actor, x, time, obs)

    samples = np.stack([twins.ddpm(k, noise, (B, A)) for k in jax.random.split(key, 6)])
    return samples, np.stack([q(state.target_critic, obs, a).min(0) for a in samples])


def test_it_acts_by_the_best_sample_of_the_averaged_policy():
    state, obs, key = twins.fresh(AGENT), batch().obs_t, jax.random.key(3)
    samples, values = candidates(state, obs, key)
    chosen = act(AGENT, state, obs, key, explore=False)
    best = samples[values.argmax(0), np.arange(B)]
    np.testing.assert_allclose(chosen, best, atol=1e-4)
    assert (np.abs(chosen) <= 1).all() and np.any(np.abs(chosen) < 0.9)
    assert len(set(values.argmax(0))) > 2
    np.testing.assert_array_equal(chosen, act(DROPPING, state, obs, key, explore=False))
    other = act(AGENT, state, obs, jax.random.key(4), explore=False)
    assert np.abs(other - chosen).max() > 0.1


def test_exploring_it_prefers_samples_above_the_value():
    """In the odds expectile : 1 - expectile, here 999 : 1."""
    agent = dataclasses.replace(AGENT, expectile=jnp.float32(0.999))
    state, obs, key = twins.fresh(agent), batch().obs_t, jax.random.key(3)
    samples, values = candidates(state, obs, key)
    value = jax.tree.map(jnp.zeros_like, state.value)
    value["params"]["Dense_0"]["bias"] = jnp.full(1, np.median(values), jnp.float32)
    state = state.replace(value=value)
    better = values >= np.median(values)
    chosen = act(agent, state, obs, key, explore=True)
    distance = np.abs(samples - chosen).max(-1)
    np.testing.assert_allclose(distance.min(0), 0, atol=1e-4)
    index = distance.argmin(0)
    either = better.any(0) & ~better.all(0)
    assert either.sum() >= 3 and better[index, np.arange(B)][either].all()
    assert np.any(index != values.argmax(0))


def test_dropout_is_for_learning():
    state, key = twins.fresh(AGENT), jax.random.key(0)
    loss = jax.jit(lambda agent, key: agent.actor_loss(state.actor, state, batch(), key)[0])
    assert abs(loss(DROPPING, key) - loss(AGENT, key)) > 1e-3


def test_rows_without_weight_change_nothing():
    twins.assert_rows_without_weight_change_nothing(AGENT, update)


def test_bfloat16_computes_networks_only():
    twins.assert_bfloat16_stays_in_networks(dataclasses.replace(AGENT, precision="bfloat16"))


def test_it_takes_both_good_ways_of_a_bandit(optimised):
    """Half of the data is bad. Ten noise levels, since five leave samples between the modes."""
    rates = {"critic_learning_rate": 3e-3, "actor_learning_rate": 3e-3, "tau": 0.05}
    sizes = {"widths": (32, 32), "width": 32, "blocks": 1, "batch_size": 128, "samples": 16}
    agent = IDQL(
        **rates,
        **sizes,
        actor_tau=0.01,
        dropout=0.0,
        scale_rewards=False,
        train_steps=10,
        sampling_steps=10,
    )
    agent = agent.for_run(1500).canonical()
    state = bandit.learned(agent, 1500)
    obs = jax.random.normal(jax.random.key(5), (512, bandit.OBS))
    mode, gap = bandit.nearest(act(agent, state, obs, jax.random.key(3), explore=False))
    share = np.bincount(mode, minlength=3) / 512
    assert share[2] < 0.02 and share[:2].min() > 0.2
    assert np.mean(gap < 4 * bandit.STD) > 0.8
    mode, _ = bandit.nearest(act(agent, state, obs, jax.random.key(3), explore=True))
    # 0.7 : 0.3, where the data has 0.5 : 0.5
    assert np.mean(mode == 2) == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"widths": ()}, "widths must be at least 1, one per hidden layer, got ()"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1"),
        ({"sampling_steps": 0}, "a sampler takes at least 1 step, got 0"),
        (
            {"sampling_steps": 6},
            "6 sampling steps are more than the 5 train_steps of this process; take at most those, "
            "or train in continuous time",
        ),
        ({"train_steps": 0}, "the vp schedule takes at least 1 train_steps, got 0"),
    ],
)
def test_settings_that_cannot_be(options, line):
    with pytest.raises(UsageError) as error:
        IDQL(**options)
    assert str(error.value) == line
