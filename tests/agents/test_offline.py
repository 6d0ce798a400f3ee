"""Agents that learn from datasets: losses and steps against twins in NumPy."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxrl.agents import _offline
from jaxrl.agents.bc import BC
from jaxrl.agents.iql import IQL
from jaxrl.agents.td3_bc import TD3BC
from jaxrl.errors import UsageError
from jaxrl.nets.gaussian import Gaussian
from jaxrl.nets.policy import TanhGaussian
from tests.agents.test_sac import SIZE, A, batch, dense
from tests.agents.values import spec

STATISTICS = _offline.Statistics(
    mean=jnp.linspace(-1.0, 1.0, SIZE),
    std=jnp.linspace(0.5, 2.0, SIZE),
    returns=jnp.array([2, 42.0]),
)
SIZES = {"widths": (16, 12)}
AGENTS = {
    "bc": BC(**SIZES),
    "bc, mse": BC(**SIZES, loss="mse"),
    "iql": IQL(**SIZES, normalise=True, temperature=0.9, expectile=0.8),
    "td3_bc": TD3BC(**SIZES),
}
AGENTS = {name: agent.canonical() for name, agent in AGENTS.items()}


def fresh(name: str, seed: int = 0):
    """A state with random parameters, without compiling an initialisation."""
    agent, rng = AGENTS[name], np.random.RandomState(seed)
    shapes = jax.eval_shape(lambda: agent.init(jax.random.key(0), spec(A, observation_size=SIZE)))
    state = jax.tree.map(lambda x: jnp.asarray(np.zeros(x.shape, x.dtype)), shapes)

    def draw(x):
        return jnp.asarray(rng.normal(size=x.shape) / np.sqrt(x.shape[-1]), jnp.float32)

    names = ("actor", "critic", "target_actor", "target_critic", "value")
    drawn = {n: jax.tree.map(draw, getattr(state, n)) for n in names if hasattr(state, n)}
    return agent.begin(state.replace(**drawn), STATISTICS)


update = {name: jax.jit(type(agent).update) for name, agent in AGENTS.items()}
X = jax.tree.map(lambda x: np.asarray(x, np.float64), batch())
MEAN, STD = (np.asarray(x, np.float64) for x in (STATISTICS.mean, STATISTICS.std))


def layers(params) -> list:
    """The hidden layers of an `MLP` and what follows it."""
    head = params.get("Dense_0") or next(v for k, v in params.items() if k.endswith("Head_0"))
    return [*(params["MLP_0"][f"Dense_{i}"] for i in range(2)), head.get("Dense_0", head)]


def net(params, *inputs, member: int | None = None):
    """What an MLP with a head gives for standardised observations and perhaps actions."""
    params = params["params"]
    if member is not None:
        (inner,) = params.values()
        params = jax.tree.map(lambda x: np.asarray(x)[member], inner)
    obs, *rest = inputs
    return dense(layers(params), np.concatenate([(obs - MEAN) / (STD + 1e-3), *rest], axis=-1))


def q(params, obs, action) -> np.ndarray:
    """[2, B]."""
    return np.stack([net(params, obs, action, member=c)[:, 0] for c in range(2)])


def test_observations_are_standardised_as_td3_bc_does():
    """A dimension that never changes counts a thousandfold, not a millionfold."""
    constant = STATISTICS.replace(std=STATISTICS.std.at[0].set(0.0))
    x = constant.standardise(constant.mean + 0.5)
    np.testing.assert_allclose(x, 0.5 / (np.asarray(constant.std) + 1e-3), rtol=1e-5)
    assert x[0] == pytest.approx(500)


def mean(x) -> float:
    return float(np.mean(X.weight * x))


def test_bc_losses_equal_the_twin():
    for name in ("bc", "bc, mse"):
        state = fresh(name)
        middle, raw = np.split(net(state.actor, X.obs_tm1), 2, axis=-1)
        std = np.exp(-5 + 3.5 * (np.tanh(raw) + 1))
        before = np.arctanh(X.action_tm1)
        density = stats.norm.logpdf(before, middle, std) - np.log(1 - X.action_tm1**2)
        error = ((np.tanh(middle) - X.action_tm1) ** 2).sum(-1)
        expected = mean(-density.sum(-1)) if name == "bc" else mean(error)
        _, metrics = update[name](AGENTS[name], state, batch(), jax.random.key(0))
        np.testing.assert_allclose(metrics["actor_loss"], expected, rtol=1e-3)
        np.testing.assert_allclose(metrics["squared_error"], mean(error), rtol=1e-4)


def test_likelihoods_are_finite_at_the_bounds():
    """Actions of SAC are often exactly 1 in float32."""
    edge = jnp.array([[1.0, -1.0]])
    squashed = TanhGaussian(jnp.array([[0.3, 2.0]]), jnp.zeros((1, 2)))
    just_inside = np.arctanh(np.float64(np.float32(1 - 1e-6)))
    before = np.array([[just_inside, -just_inside]])
    expected = stats.norm.logpdf(before, squashed.mean, 1) - np.log(1 - np.tanh(before) ** 2)
    np.testing.assert_allclose(_offline.log_density(squashed, edge), expected.sum(-1), rtol=1e-3)
    gradient = jax.grad(
        lambda m: _offline.log_density(TanhGaussian(m, squashed.log_std), edge).sum()
    )
    assert np.isfinite(gradient(squashed.mean)).all()
    plain = Gaussian(jnp.array([[0.5, -0.9]]), jnp.log(jnp.array([[0.2, 3.0]])))
    expected = stats.norm.logpdf(edge, plain.mean, [[0.2, 3.0]]).sum(-1)
    np.testing.assert_allclose(plain.log_density(edge), expected, rtol=1e-5)


def test_iql_losses_equal_the_twin():
    """Each loss sees the value and the target critics as the step before left them (alg. 1)."""
    agent, state = AGENTS["iql"], fresh("iql")
    new, metrics = update["iql"](agent, state, batch(), jax.random.key(0))
    least = q(state.target_critic, X.obs_tm1, X.action_tm1).min(0)
    error = least - net(state.value, X.obs_tm1)[:, 0]
    expected = mean(np.where(error > 0, 0.8, 0.2) * error**2)
    np.testing.assert_allclose(metrics["value_loss"], expected, rtol=1e-4)

    advantage = least - net(new.value, X.obs_tm1)[:, 0]
    weight = np.minimum(np.exp(0.9 * advantage), 100)
    middle = np.tanh(net(state.actor, X.obs_tm1))
    log_std = np.asarray(state.actor["params"]["GaussianHead_0"]["log_std"])
    density = stats.norm.logpdf(X.action_tm1, middle, np.exp(log_std)).sum(-1)
    np.testing.assert_allclose(metrics["actor_loss"], -mean(weight * density), rtol=1e-3)
    np.testing.assert_allclose(metrics["advantage_weight"], mean(weight), rtol=1e-3)

    scale = 1000 / (42 - 2)  # of the trajectories' returns
    target = X.reward_t * scale + X.discount_t * net(new.value, X.obs_t)[:, 0]
    expected = mean(((q(state.critic, X.obs_tm1, X.action_tm1) - target) ** 2).sum(0))
    np.testing.assert_allclose(metrics["critic_loss"], expected, rtol=1e-4)
    pairs = zip(
        *(jax.tree.leaves(x) for x in (state.target_critic, new.critic, new.target_critic)),
        strict=True,
    )
    for old, online, target in pairs:
        np.testing.assert_allclose(target, 0.995 * old + 0.005 * online, rtol=1e-4, atol=1e-6)


def test_iql_weights_are_clipped_and_rewards_scaled():
    weights = _offline.advantage_weight(jnp.array([-1.0, 0.0, 1.0, 9.0]), 3.0)
    np.testing.assert_allclose(weights, [np.exp(-3), 1, np.exp(3), 100], rtol=1e-5)
    agent, state = AGENTS["iql"], fresh("iql")
    alike = state.replace(statistics=dataclasses.replace(STATISTICS, returns=jnp.array([7.0, 7.0])))
    assert agent.reward_scale(alike) == 1  # trajectories that tell nothing of a scale
    assert dataclasses.replace(agent, scale_rewards=False).reward_scale(state) == 1
    loss = _offline.expectile_loss(jnp.array([-2.0, 2.0]), 0.7)
    np.testing.assert_allclose(loss, [0.3 * 4, 0.7 * 4], rtol=1e-6)


def test_long_gradients_are_shortened():
    grads = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([[4.0]])}
    for most, scale in ((2.5, 0.5), (7.0, 1.0)):
        found = _offline.clipped(grads, most)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(grads), strict=True):
            np.testing.assert_allclose(a, scale * b, rtol=1e-5)
    assert not any(jnp.isnan(x).any() for x in jax.tree.leaves(_offline.clipped(grads, 0.0)))


def test_greedy_noise_is_new_at_every_observation():
    """Evaluation gives the same key at every step."""
    obs, key = batch().obs_t, jax.random.key(0)
    keys = [_offline.fresh_key(k, x) for k, x in ((key, obs), (key, obs + 1e-6), (key, obs))]
    data = [jax.random.key_data(k).tolist() for k in (*keys, _offline.fresh_key(keys[0], obs), key)]
    assert data[0] == data[2]
    assert len({tuple(x) for x in data}) == 4


def test_the_policys_step_size_falls_by_a_cosine():
    rates = [float(_offline.cosine(2.0, jnp.float32(u), jnp.float32(10))) for u in (0, 5, 10, 12)]
    np.testing.assert_allclose(rates, [2, 1, 0, 0], atol=1e-6)
    assert _offline.cosine(2.0, jnp.float32(5), jnp.float32(0)) == 2
    agent = AGENTS["iql"]
    assert agent.for_run(500).decay_updates == 500
    assert dataclasses.replace(agent, decay_updates=jnp.float32(7)).for_run(500).decay_updates == 7
    assert AGENTS["bc"].for_run(500) is AGENTS["bc"]
    # The first step of Adam is as long as its step size, in each entry.
    state = fresh("iql").replace(updates=jnp.int32(5))
    planned = agent.for_run(10).canonical()
    new, _ = update["iql"](planned, state, batch(), jax.random.key(0))
    moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), new.actor, state.actor)
    np.testing.assert_allclose(max(jax.tree.leaves(moved)), 1.5e-4, rtol=0.02)
    moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), new.value, state.value)
    np.testing.assert_allclose(max(jax.tree.leaves(moved)), 3e-4, rtol=0.02)


def act(params, obs) -> np.ndarray:
    return np.tanh(net(params, obs))


def test_td3_bc_losses_equal_the_twin():
    agent, state, key = AGENTS["td3_bc"], fresh("td3_bc"), jax.random.key(5)
    state = state.replace(target_actor=jax.tree.map(lambda x: 3 * x, state.target_actor))
    _, metrics = update["td3_bc"](agent, state, batch(), key)
    noise = np.asarray(jax.random.normal(key, X.action_tm1.shape), np.float64)
    noise = np.clip(0.2 * noise, -0.5, 0.5)
    assert np.abs(noise).max() == 0.5  # some of it is clipped
    action_t = act(state.target_actor, X.obs_t) + noise
    assert np.mean(np.abs(action_t) > 1.1) > 0.2
    action_t = np.clip(action_t, -1, 1)
    target = X.reward_t + X.discount_t * q(state.target_critic, X.obs_t, action_t).min(0)
    expected = mean(((q(state.critic, X.obs_tm1, X.action_tm1) - target) ** 2).sum(0))
    np.testing.assert_allclose(metrics["critic_loss"], expected, rtol=1e-4)

    even = state.replace(updates=jnp.int32(1))
    new, metrics = update["td3_bc"](agent, even, batch(), key)  # the policy's turn
    chosen = act(state.actor, X.obs_tm1)
    value = q(new.critic, X.obs_tm1, chosen)[0]
    error = ((chosen - X.action_tm1) ** 2).mean(-1)
    expected = mean(-2.5 / mean(np.abs(value)) * value + error)
    np.testing.assert_allclose(metrics["actor_loss"], expected, rtol=1e-3)
    np.testing.assert_allclose(metrics["squared_error"], mean(error), rtol=1e-4)


def test_td3_bc_treats_the_scale_of_q_as_a_constant():
    agent, state = AGENTS["td3_bc"], fresh("td3_bc")
    scale = 2.5 / mean(np.abs(q(state.critic, X.obs_tm1, act(state.actor, X.obs_tm1))[0]))

    def loss(params):
        chosen = agent._act(params, state, batch().obs_tm1)
        value = agent._q(state.critic, state, batch().obs_tm1, chosen)[0]
        error = jnp.mean((chosen - batch().action_tm1) ** 2, axis=-1)
        return jnp.mean(batch().weight * (error - scale * value))

    theirs = jax.jit(jax.grad(loss))(state.actor)
    ours = jax.jit(jax.grad(lambda params: agent.actor_loss(params, state, batch())[0]))(
        state.actor
    )
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    assert max(float(jnp.abs(x).max()) for x in jax.tree.leaves(ours)) > 1e-2


def test_td3_bc_delays_policy_and_targets():
    agent, state, key = AGENTS["td3_bc"], fresh("td3_bc"), jax.random.key(0)
    first, _ = update["td3_bc"](agent, state, batch(), key)
    second, _ = update["td3_bc"](agent, first, batch(), key)

    def moved(a, b, name) -> bool:
        pairs = zip(
            jax.tree.leaves(getattr(a, name)), jax.tree.leaves(getattr(b, name)), strict=True
        )
        return any(bool(jnp.any(x != y)) for x, y in pairs)

    for name in ("actor", "target_actor", "target_critic", "actor_opt"):
        assert not moved(state, first, name)
        assert moved(first, second, name)
    assert moved(state, first, "critic") and moved(first, second, "critic")
    for kind in ("actor", "critic"):
        triples = (
            getattr(first, f"target_{kind}"),
            getattr(second, kind),
            getattr(second, f"target_{kind}"),
        )
        for old, online, target in zip(*map(jax.tree.leaves, triples), strict=True):
            np.testing.assert_allclose(target, 0.995 * old + 0.005 * online, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", AGENTS)
def test_rows_without_weight_change_nothing(name):
    agent, state, transitions = AGENTS[name], fresh(name), batch()
    zero = transitions.weight == 0
    spoilt = transitions.replace(
        obs_tm1=jnp.where(zero[:, None], 1e3, transitions.obs_tm1),
        reward_t=jnp.where(zero, 1e3, transitions.reward_t),
    )
    state = state.replace(updates=jnp.int32(1))
    new, _ = update[name](agent, state, transitions, jax.random.key(0))
    other, _ = update[name](agent, state, spoilt, jax.random.key(0))
    for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    for a, b in zip(jax.tree.leaves(new.statistics), jax.tree.leaves(STATISTICS), strict=True):
        np.testing.assert_array_equal(a, b)  # the dataset's stay with the policy


@pytest.mark.parametrize("name", AGENTS)
def test_actions(name):
    agent, state = AGENTS[name], fresh(name)
    chosen = jax.jit(type(agent).act, static_argnames="explore")
    obs = batch().obs_t
    greedy = chosen(agent, state, obs, jax.random.key(0), explore=False)
    np.testing.assert_allclose(greedy, act(state.actor, X.obs_t)[:, :A], rtol=1e-3, atol=1e-5)
    drawn = chosen(agent, state, obs, jax.random.key(0), explore=True)
    assert (np.abs(drawn) <= 1).all()
    assert np.any(drawn != greedy) == (name != "td3_bc")
    bounds = spec(A, low=(-1.0, 0.0, -3.0), high=(1.0, 2.0, 1.0))
    np.testing.assert_allclose(agent.decode(jnp.full(A, -1.0), bounds), bounds.action_low)
    np.testing.assert_allclose(agent.decode(jnp.full(A, 0.5), bounds), [0.5, 1.5, 0.0])


@pytest.mark.parametrize("name", AGENTS)
def test_bfloat16_computes_networks_only(name):
    agent = dataclasses.replace(AGENTS[name], precision="bfloat16")
    state = fresh(name)
    new, metrics = jax.eval_shape(agent.update, state, batch(), jax.random.key(0))
    for leaf in jax.tree.leaves((new, metrics)):
        assert leaf.dtype in (jnp.float32, jnp.int32)
    obs = batch().obs_t
    exact, rough = (
        a.act(state, obs, jax.random.key(0), explore=False) for a in (AGENTS[name], agent)
    )
    assert np.any(exact != rough)
    np.testing.assert_allclose(exact, rough, atol=0.1)


@pytest.mark.parametrize(
    ("kind", "options", "line"),
    [
        (BC, {"batch_size": 0}, "batch_size must be at least 1, got 0"),
        (IQL, {"widths": ()}, "widths must be at least 1, one per hidden layer, got ()"),
        (IQL, {"n_step": 0}, "n_step must be at least 1, got 0"),
        (TD3BC, {"policy_delay": 0}, "policy_delay must be at least 1, got 0"),
    ],
)
def test_sizes_that_cannot_be(kind, options, line):
    with pytest.raises(UsageError) as error:
        kind(**options)
    assert str(error.value) == line
