"""FQL: its losses and their gradients against twins in NumPy, learning on a bandit."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import diffusion
from jaxrl.agents import _offline
from jaxrl.agents.fql import FQL
from jaxrl.errors import UsageError
from tests.agents import bandit, twins
from tests.agents.test_offline import X, mean
from tests.agents.test_sac import A, B, batch
from tests.nets.test_denoise import gelu

AGENT = FQL(widths=(16, 12), sampling_steps=4, alpha=3.0, normalise=True).canonical()
KEY = jax.random.key(5)
update = jax.jit(FQL.update)
act = jax.jit(FQL.act, static_argnames="explore")
actor_loss = jax.jit(jax.value_and_grad(FQL.actor_loss, 1, has_aux=True))


def normal(key) -> np.ndarray:
    return np.asarray(jax.random.normal(key, (B, A)), np.float64)


def q(params, obs, action) -> np.ndarray:
    return twins.critics(params, obs, action, gelu, layer_norm=True)


def student(state, obs, z) -> np.ndarray:
    return twins.plain(state.actor["student"], z, None, obs, gelu)


@pytest.mark.parametrize("target", ["mean", "min"])
def test_critic_loss_equals_the_twin(target):
    agent, state = dataclasses.replace(AGENT, target=target), twins.fresh(AGENT)
    loss, _ = jax.jit(FQL.critic_loss)(agent, state.critic, state, batch(), KEY)
    action_t = student(state, X.obs_t, normal(KEY))
    assert 0.1 < np.mean(np.abs(action_t) > 1) < 0.9
    q_t = q(state.target_critic, X.obs_t, np.clip(action_t, -1, 1))
    y = X.reward_t + X.discount_t * (q_t.mean(0) if target == "mean" else q_t.min(0))
    expected = mean(((q(state.critic, X.obs_tm1, X.action_tm1) - y) ** 2).sum(0))
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def euler(state, obs, x) -> np.ndarray:
    """Four steps from noise at t = 1 to actions at t = 0, where v = z - a; x0-hat is clipped."""
    for t in (1.0, 0.75, 0.5, 0.25):
        velocity = twins.plain(state.actor["flow"], x, np.full(B, t), obs, gelu)
        guess = np.clip(x - t * velocity, -1, 1)
        x = x - 0.25 * (x - guess) / t
    return x


def parts(state) -> dict[str, np.ndarray]:
    """Of the policy's loss under `KEY`."""
    clone_key, distill_key = jax.random.split(KEY)
    time_key, noise_key = jax.random.split(clone_key)
    t = np.asarray(diffusion.uniform(time_key, (B,), diffusion.Flow()), np.float64)[:, None]
    noise = normal(noise_key)
    noised = (1 - t) * X.action_tm1 + t * noise
    velocity = twins.plain(state.actor["flow"], noised, t[:, 0], X.obs_tm1, gelu)
    z = normal(distill_key)
    chosen = student(state, X.obs_tm1, z)
    value = q(state.critic, X.obs_tm1, np.clip(chosen, -1, 1)).mean(0)
    return {
        "clone": mean(((velocity - (noise - X.action_tm1)) ** 2).mean(-1)),
        "distill": mean(((chosen - euler(state, X.obs_tm1, z)) ** 2).mean(-1)),
        "q": mean(value),
        "scale": mean(np.abs(value)),
    }


def test_actor_loss_equals_the_twin():
    state = twins.fresh(AGENT)
    (loss, metrics), _ = actor_loss(AGENT, state.actor, state, batch(), KEY)
    twin = parts(state)
    np.testing.assert_allclose(metrics["clone_loss"], twin["clone"], rtol=1e-4)
    np.testing.assert_allclose(metrics["distill_loss"], twin["distill"], rtol=1e-4)
    expected = twin["clone"] + 3 * twin["distill"] - twin["q"] / twin["scale"]
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_what_each_part_of_the_loss_teaches():
    """Cloning the flow alone; distance and Q the one-step policy alone, with Q's scale a constant;
    and none of them the critics."""
    state = twins.fresh(AGENT)
    plain = dataclasses.replace(AGENT, normalise_q=False)
    grads, losses = {}, {}
    for name, agent in {
        "3": AGENT,
        "0": dataclasses.replace(AGENT, alpha=jnp.float32(0)),
        "plain 3": plain,
        "plain 0": dataclasses.replace(plain, alpha=jnp.float32(0)),
    }.items():
        (losses[name], _), grads[name] = actor_loss(agent, state.actor, state, batch(), KEY)
    twin = parts(state)
    expected = twin["clone"] + 3 * twin["distill"] - twin["q"]
    np.testing.assert_allclose(losses["plain 3"], expected, rtol=1e-4)

    def leaves(name, part):
        return jax.tree.leaves(grads[name][part])

    for name in ("0", "plain 3", "plain 0"):
        for a, b in zip(leaves("3", "flow"), leaves(name, "flow"), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert max(float(jnp.abs(x).max()) for x in leaves("3", "flow")) > 1e-2
    for scaled, bare in zip(leaves("0", "student"), leaves("plain 0", "student"), strict=True):
        np.testing.assert_allclose(scaled * twin["scale"], bare, rtol=1e-3, atol=1e-6)
    columns = [leaves(name, "student") for name in ("3", "0", "plain 3", "plain 0")]
    for a, b, c, d in zip(*columns, strict=True):
        np.testing.assert_allclose(a - b, c - d, rtol=1e-3, atol=1e-5)
    assert max(float(jnp.abs(x).max()) for x in leaves("plain 0", "student")) > 1e-2
    new, _ = update(AGENT, state, batch(), KEY)
    other, _ = update(dataclasses.replace(AGENT, alpha=jnp.float32(99)), state, batch(), KEY)
    for a, b in zip(jax.tree.leaves(new.critic), jax.tree.leaves(other.critic), strict=True):
        np.testing.assert_array_equal(a, b)
    triples = (state.target_critic, new.critic, new.target_critic)
    for old, online, target in zip(*map(jax.tree.leaves, triples), strict=True):
        np.testing.assert_allclose(target, 0.995 * old + 0.005 * online, rtol=1e-4, atol=1e-6)
        assert np.any(old != online)


def test_it_acts_by_one_pass():
    state, obs = twins.fresh(AGENT), batch().obs_t
    for explore in (False, True):
        chosen = act(AGENT, state, obs, KEY, explore=explore)
        expected = student(state, obs, normal(_offline.fresh_key(KEY, obs)))
        np.testing.assert_allclose(chosen, np.clip(expected, -1, 1), atol=1e-4)
    other = act(AGENT, state, obs, jax.random.key(0), explore=False)
    assert np.abs(other - chosen).max() > 0.1


def test_rows_without_weight_change_nothing():
    twins.assert_rows_without_weight_change_nothing(AGENT, update)


def test_bfloat16_computes_networks_only():
    twins.assert_bfloat16_stays_in_networks(dataclasses.replace(AGENT, precision="bfloat16"))


def test_it_keeps_both_good_ways_of_a_bandit():
    rates = {"critic_learning_rate": 3e-3, "actor_learning_rate": 3e-3, "tau": 0.05}
    agent = FQL(**rates, widths=(64, 64), batch_size=128).canonical()
    state = bandit.learned(agent, 1000, bandit.noisy_batch)
    obs = jax.random.normal(jax.random.key(5), (512, bandit.OBS))
    mode, gap = bandit.nearest(act(agent, state, obs, KEY, explore=False))
    share = np.bincount(mode, minlength=3) / 512
    assert share[2] < 0.02 and share[:2].min() > 0.25
    assert np.mean(gap < 4 * bandit.STD) > 0.9


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"sampling_steps": 0}, "a sampler takes at least 1 step, got 0"),
        ({"critics": 0}, "critics must be at least 1, got 0"),
        ({"widths": (64, 0)}, "widths must be at least 1, one per hidden layer, got (64, 0)"),
    ],
)
def test_settings_that_cannot_be(options, line):
    with pytest.raises(UsageError) as error:
        FQL(**options)
    assert str(error.value) == line
