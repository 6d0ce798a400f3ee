"""SAC: densities against SciPy, losses against a twin in NumPy, what moves the temperature."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from jaxrl.agents._common import RunningStatistics
from jaxrl.agents.sac import SAC, soft_target
from jaxrl.nets.policy import TanhGaussian
from jaxrl.replay.ring import Batch
from tests.agents.values import spec

B, A, SIZE = 32, 3, 5  # batch, action dimensions, observation size

update = jax.jit(SAC.update)
critic_loss, actor_loss = jax.jit(SAC.critic_loss), jax.jit(SAC.actor_loss)
act = jax.jit(SAC.act, static_argnames="explore")


def batch(seed: int = 0, scale: float = 1.0) -> Batch:
    """Random transitions; some end the MDP, some are no transitions at all."""
    rng = np.random.RandomState(seed)
    weight = (rng.rand(B) < 0.8).astype(np.float32)
    return Batch(
        obs_tm1=jnp.asarray(scale * rng.normal(size=(B, SIZE)), jnp.float32),
        action_tm1=jnp.asarray(rng.uniform(-1, 1, (B, A)), jnp.float32),
        reward_t=jnp.asarray(rng.normal(size=B), jnp.float32),
        discount_t=jnp.asarray(0.9 * (rng.rand(B) < 0.7), jnp.float32),
        obs_t=jnp.asarray(scale * rng.normal(size=(B, SIZE)), jnp.float32),
        weight=jnp.asarray(weight * B / weight.sum()),
        index=jnp.arange(B, dtype=jnp.int32),
    )


AGENT = SAC(widths=(16, 12), normalise=True).canonical()
"""One static configuration for most tests, so that they share their compilations."""


def fresh(agent: SAC = AGENT, seed: int = 0):
    """A state with random parameters, without compiling an initialisation."""
    rng = np.random.RandomState(seed)
    size = spec(A, observation_size=SIZE)
    shapes = jax.eval_shape(lambda: agent.init(jax.random.key(0), size))
    state = jax.tree.map(lambda x: jnp.asarray(np.zeros(x.shape, x.dtype)), shapes)

    def draw(params):
        return jax.tree.map(
            lambda x: jnp.asarray(rng.normal(size=x.shape) / np.sqrt(x.shape[-1]), jnp.float32),
            params,
        )

    networks = {n: draw(getattr(state, n)) for n in ("actor", "critic", "target_critic")}
    statistics = RunningStatistics.zeros(SIZE)
    return state.replace(**networks, statistics=statistics, log_alpha=jnp.float32(-0.7))


def test_the_density_integrates_to_one():
    policy = TanhGaussian(jnp.array([0.8]), jnp.array([-0.3]))

    action = np.linspace(-1, 1, 100_001)[1:-1]
    before = jnp.asarray(np.arctanh(action)[:, None])
    density = np.exp(policy._log_density(before, (before - 0.8) / np.exp(-0.3)))
    assert integrate.trapezoid(density, action) == pytest.approx(1, abs=1e-3)


def test_samples_and_their_log_density_equal_scipy():
    mean = jnp.array([0.5, -1.0, 8.0])  # tanh(8) rounds to 1: the naive formula gives infinity
    log_std = jnp.array([-1.0, 0.5, -2.0])
    policy = TanhGaussian(jnp.tile(mean, (2000, 1)), jnp.tile(log_std, (2000, 1)))
    actions, log_prob = policy.sample(jax.random.key(0))
    before = np.asarray(mean) + np.exp(log_std) * jax.random.normal(jax.random.key(0), (2000, 3))
    before = np.asarray(before, np.float64)
    slope = np.log(4) - 2 * np.logaddexp(before, -before)  # log(1 - tanh^2) = -2 log cosh
    twin = stats.norm.logpdf(before, mean, np.exp(log_std)) - slope
    np.testing.assert_allclose(log_prob, twin.sum(-1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(actions, np.tanh(before), atol=1e-6)
    for j in range(2):
        normal = (np.arctanh(np.asarray(actions[:, j], np.float64)) - mean[j]) / np.exp(log_std[j])
        assert stats.kstest(normal, "norm").pvalue > 1e-3


def test_target_by_hand():
    target = soft_target(
        jnp.array([[3.0, 1.0], [2.0, 5.0]]),  # the least: 2 and 1
        jnp.array([-1.5, 0.5]),
        jnp.array(0.2),
        jnp.array([1.0, -1.0]),
        jnp.array([0.9, 0.0]),
    )
    np.testing.assert_allclose(target, [1 + 0.9 * (2 + 0.3), -1.0], rtol=1e-6)


def dense(layers, x):
    """Dense -> ReLU for each layer but the last, in float64."""
    for i, layer in enumerate(layers):
        x = x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64)
        x = np.maximum(x, 0) if i < len(layers) - 1 else x
    return x


def numpy_q(params, obs, action):
    """[C, B]."""
    columns = []
    for c in range(2):
        p = jax.tree.map(lambda x, c=c: np.asarray(x)[c], params["params"])
        layers = [*(p["MLP_0"][f"Dense_{i}"] for i in range(2)), p["Dense_0"]]
        columns.append(dense(layers, np.concatenate([obs, action], -1))[:, 0])
    return np.stack(columns)


def numpy_policy(params, obs):
    """Mean and standard deviation before the tanh."""
    p = params["params"]
    layers = [*(p["MLP_0"][f"Dense_{i}"] for i in range(2)), p["PolicyHead_0"]["Dense_0"]]
    mean, raw = np.split(dense(layers, np.asarray(obs, np.float64)), 2, axis=-1)
    return mean, np.exp(-5 + 3.5 * (np.tanh(raw) + 1))


def numpy_sample(params, obs, key):
    """Action and log-density."""
    mean, std = numpy_policy(params, obs)
    noise = np.asarray(jax.random.normal(key, mean.shape), np.float64)
    before = mean + std * noise
    slope = np.log(1 - np.tanh(before) ** 2)
    return np.tanh(before), (stats.norm.logpdf(before, mean, std) - slope).sum(-1)


def test_losses_equal_the_twin():
    agent, key = AGENT, jax.random.key(5)
    state, transitions = fresh(), batch()
    alpha, x = np.exp(-0.7), jax.tree.map(np.asarray, transitions)
    action, log_prob = numpy_sample(state.actor, x.obs_t, key)
    soft = numpy_q(state.target_critic, x.obs_t, action).min(0) - alpha * log_prob
    error = x.reward_t + x.discount_t * soft - numpy_q(state.critic, x.obs_tm1, x.action_tm1)
    expected = np.mean(x.weight * 0.5 * (error**2).sum(0))
    value, metrics = critic_loss(agent, state.critic, state, transitions, key)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    np.testing.assert_allclose(metrics["td_error"], np.abs(error).mean(0), rtol=1e-3, atol=1e-4)

    action, log_prob = numpy_sample(state.actor, x.obs_tm1, key)
    q = numpy_q(state.critic, x.obs_tm1, action).min(0)
    value, metrics = actor_loss(agent, state.actor, state, transitions, key)
    np.testing.assert_allclose(value, np.mean(x.weight * (alpha * log_prob - q)), rtol=1e-4)
    np.testing.assert_allclose(metrics["entropy"], -np.mean(x.weight * log_prob), rtol=1e-4)


def test_no_gradient_passes_from_one_loss_to_the_other_networks():
    agent = AGENT
    state, transitions, key = fresh(), batch(), jax.random.key(0)

    def loss(actor, target, log_alpha):
        other = state.replace(actor=actor, target_critic=target, log_alpha=log_alpha)
        return agent.critic_loss(state.critic, other, transitions, key)[0]

    arguments = (state.actor, state.target_critic, state.log_alpha)
    for gradient in jax.tree.leaves(jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*arguments)):
        assert not np.any(gradient)


@pytest.mark.parametrize(("target", "rises"), [(2.0, True), (-8.0, False)])
def test_the_temperature_rises_when_the_policy_is_too_sure(target, rises):
    agent = dataclasses.replace(AGENT, entropy_per_action=jnp.float32(target))
    state = fresh()
    new, _ = update(agent, state, batch(), jax.random.key(0))
    assert (new.log_alpha > state.log_alpha) == rises


def test_target_critics_follow_slowly():
    agent = dataclasses.replace(AGENT, tau=jnp.float32(0.1))
    state = fresh()
    new, _ = update(agent, state, batch(), jax.random.key(0))
    leaves = (jax.tree.leaves(x) for x in (state.target_critic, new.critic, new.target_critic))
    for old, online, target in zip(*leaves, strict=True):
        np.testing.assert_allclose(target, 0.9 * old + 0.1 * online, rtol=1e-4, atol=1e-6)


def test_rows_without_weight_change_nothing():
    agent, state, transitions = AGENT, fresh(), batch()
    zero = transitions.weight == 0
    assert 0 < zero.sum() < B
    spoilt = transitions.replace(
        obs_tm1=jnp.where(zero[:, None], 1e3, transitions.obs_tm1),
        reward_t=jnp.where(zero, 1e3, transitions.reward_t),
    )
    new, _ = update(agent, state, transitions, jax.random.key(0))
    other, _ = update(agent, state, spoilt, jax.random.key(0))
    for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_actions_before_learning_are_uniform_and_bounds_are_kept():
    agent, state = AGENT, fresh()
    obs = jnp.tile(batch().obs_t, (100, 1))
    actions = np.asarray(act(agent, state, obs, jax.random.key(1), explore=True))
    assert stats.kstest(actions.ravel(), "uniform", args=(-1, 2)).pvalue > 1e-3
    learned = state.replace(updates=jnp.int32(1))
    drawn = np.asarray(act(agent, learned, obs, jax.random.key(1), explore=True))
    assert stats.kstest(drawn.ravel(), "uniform", args=(-1, 2)).pvalue < 1e-3
    greedy = act(agent, learned, obs, jax.random.key(1), explore=False)
    np.testing.assert_allclose(greedy, np.tanh(numpy_policy(state.actor, obs)[0]), atol=1e-5)
    bounds = spec(A, low=(-1.0, 0.0, -3.0), high=(1.0, 2.0, 1.0))
    np.testing.assert_allclose(agent.decode(jnp.full(A, -1.0), bounds), bounds.action_low)
    np.testing.assert_allclose(agent.decode(jnp.full(A, 1.0), bounds), bounds.action_high)
    np.testing.assert_allclose(agent.decode(jnp.zeros(A), bounds), [0, 1, -1])


def test_running_statistics_equal_numpy():
    rng = np.random.RandomState(0)
    seen, x = RunningStatistics.zeros(SIZE), []
    np.testing.assert_allclose(seen.normalise(jnp.ones(SIZE)), np.ones(SIZE), rtol=1e-5)
    for size in (1, 7, 30):
        rows, valid = 5 + 3 * rng.normal(size=(size, SIZE)), rng.rand(size) < 0.7
        valid[0] = True
        seen = seen.add(jnp.asarray(rows, jnp.float32), jnp.asarray(valid))
        x.append(rows[valid])
    x = np.concatenate(x)
    np.testing.assert_allclose(seen.mean, x.mean(0), rtol=1e-4)
    np.testing.assert_allclose(seen.variance, x.var(0), rtol=1e-3)
    unchanged = seen.add(jnp.zeros((3, SIZE)), jnp.zeros(3, bool))
    np.testing.assert_allclose(unchanged.mean, seen.mean, rtol=1e-6)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_bfloat16_computes_networks_only(layer_norm):
    agent = SAC(widths=(16, 12), precision="bfloat16", layer_norm=layer_norm).canonical()
    state, transitions = fresh(agent), batch()
    new, metrics = jax.eval_shape(agent.update, state, transitions, jax.random.key(0))
    for leaf in jax.tree.leaves((new, metrics)):
        assert leaf.dtype in (jnp.float32, jnp.int32)
    single = dataclasses.replace(agent, precision="float32")
    loss, loss32 = (
        float(critic_loss(a, state.critic, state, transitions, jax.random.key(0))[0])
        for a in (agent, single)
    )
    assert loss != loss32 and loss == pytest.approx(loss32, rel=0.05)
