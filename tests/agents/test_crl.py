"""CRL: losses against a twin in NumPy, which gradient goes where, goals and exploration."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from jaxrl import agents
from jaxrl.agents.crl import CRL, SGCRL
from jaxrl.agents.peers import PEERS
from jaxrl.errors import UsageError
from jaxrl.replay.ring import Batch
from tests.agents.goal_probe import GOAL, Square
from tests.agents.values import spec

B, A, SIZE, C = 24, 2, 5, 2  # batch, action dimensions, observation size, critics

update = jax.jit(CRL.update)
actor_loss, critic_loss = jax.jit(CRL.actor_loss), jax.jit(CRL.critic_loss)
policy = jax.jit(CRL._policy)
act = jax.jit(CRL.act, static_argnames="explore")

AGENT = CRL(width=16, representation=4, logsumexp_penalty=0.3).bind(Square().spec).canonical()


def batch(seed: int = 0) -> Batch:
    """Random transitions; some of them are none."""
    rng = np.random.RandomState(seed)
    weight = (rng.rand(B) < 0.8).astype(np.float32)
    obs = jnp.asarray(rng.normal(size=(B, SIZE)), jnp.float32)
    return Batch(
        obs_tm1=obs,
        action_tm1=jnp.asarray(rng.uniform(-1, 1, (B, A)), jnp.float32),
        reward_t=jnp.zeros(B),
        discount_t=jnp.ones(B),
        obs_t=obs,
        weight=jnp.asarray(weight * B / weight.sum()),
        index=jnp.arange(B, dtype=jnp.int32),
    )


def fresh(agent: CRL = AGENT, seed: int = 0):
    """A state with random parameters, without compiling an initialisation."""
    rng = np.random.RandomState(seed)
    shapes = jax.eval_shape(lambda: agent.init(jax.random.key(0), Square().spec))
    state = jax.tree.map(lambda x: jnp.asarray(np.zeros(x.shape, x.dtype)), shapes)

    def draw(params):
        return jax.tree.map(lambda x: jnp.float32(rng.normal(size=x.shape) / x.shape[-1]), params)

    return state.replace(
        actor=draw(state.actor), critic=draw(state.critic), log_alpha=jnp.float32(-0.7)
    )


def numpy_encoder(params, x):
    """Two swish layers and a linear one, for each critic, [C, B, R]."""
    encoded = []
    for c in range(C):
        p = jax.tree.map(lambda leaf, c=c: np.asarray(leaf, np.float64)[c], params["params"])
        layers = [p["trunk"]["Layer_0"]["Dense_0"], p["trunk"]["Layer_1"]["Dense_0"], p["Dense_0"]]
        hidden = np.asarray(x, np.float64)
        for i, layer in enumerate(layers):
            hidden = hidden @ layer["kernel"] + layer["bias"]
            hidden = hidden / (1 + np.exp(-hidden)) if i < 2 else hidden
        encoded.append(hidden)
    return np.stack(encoded)


def l2(x, y):
    return -np.sqrt(((x - y) ** 2).sum(-1) + 1e-6)


def test_losses_equal_the_twin():
    """Symmetric InfoNCE of both critics over valid rows; the policy takes the lesser energy."""
    state, transitions, key = fresh(), batch(), jax.random.key(5)
    x = jax.tree.map(np.asarray, transitions)
    observed, goal, valid = x.obs_tm1[:, :3], x.obs_tm1[:, 3:], x.weight > 0
    phi = numpy_encoder(state.critic["phi"], np.concatenate([observed, x.action_tm1], -1))
    psi = numpy_encoder(state.critic["psi"], goal)
    expected = 0.0
    for c in range(C):
        logits = l2(phi[c][valid][:, None], psi[c][valid][None])
        for axis in (0, 1):
            lse = logsumexp(logits, axis=axis)
            expected += np.mean(lse - np.diag(logits) + 0.3 * lse**2)
    value, (found, metrics) = critic_loss(AGENT, state.critic, transitions)
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    np.testing.assert_allclose(found, psi, rtol=1e-3, atol=1e-4)
    every = l2(phi[:, :, None], psi[:, None])
    missed = logsumexp(every, axis=2) - np.diagonal(every, axis1=1, axis2=2)
    np.testing.assert_allclose(metrics["td_error"], missed.mean(0), rtol=1e-3, atol=1e-4)

    drawn = policy(AGENT, state.actor, state, transitions.obs_tm1)
    action, log_prob = drawn.sample(key)
    phi = numpy_encoder(state.critic["phi"], np.concatenate([observed, action], -1))
    value, metrics = actor_loss(AGENT, state.actor, state, transitions, found, key)
    public = AGENT.energies(state, transitions.obs_tm1, action)
    np.testing.assert_allclose(public, l2(phi, psi), rtol=1e-3, atol=1e-4)
    energies = l2(phi, psi).min(0)
    expected = np.mean(x.weight * (np.exp(-0.7) * log_prob - energies))
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    np.testing.assert_allclose(metrics["entropy"], -np.mean(x.weight * log_prob), rtol=1e-4)


def test_goals_count_by_their_share_of_the_future():
    """What replay tells of terminations reaches the loss; JaxGCRL's settings do not ask for it."""
    assert AGENT.replay(4, 2).mortal
    assert not dataclasses.replace(AGENT, mortal=False).replay(4, 2).mortal
    state, transitions = fresh(), batch()
    whole, _ = critic_loss(AGENT, state.critic, transitions)
    same, _ = critic_loss(AGENT, state.critic, transitions.replace(alive=jnp.ones(B)))
    np.testing.assert_allclose(same, whole, rtol=1e-5)
    share = jnp.linspace(0.05, 1.0, B)
    less, _ = critic_loss(AGENT, state.critic, transitions.replace(alive=share))
    assert abs(less - whole) > 1e-3


def test_each_loss_moves_its_own_networks():
    """The actor's gradient does not touch the critics, nor theirs the actor."""
    state, transitions, key = fresh(), batch(), jax.random.key(0)
    new, _ = update(AGENT, state, transitions, key)
    blind = dataclasses.replace(AGENT, actor_learning_rate=jnp.float32(0.0))
    deaf = dataclasses.replace(AGENT, critic_learning_rate=jnp.float32(0.0))
    only_critic, _ = update(blind, state, transitions, key)
    only_actor, _ = update(deaf, state, transitions, key)
    same(only_critic.critic, new.critic)
    same(only_critic.actor, state.actor)
    same(only_actor.actor, new.actor)
    same(only_actor.critic, state.critic)
    for a, b in zip(jax.tree.leaves(new.critic), jax.tree.leaves(state.critic), strict=True):
        assert np.any(a != b)
    # Another policy, the same gradient of the critics.
    other, _ = update(AGENT, state.replace(actor=fresh(seed=1).actor), transitions, key)
    same(other.critic, new.critic)


def same(left, right):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_rows_without_weight_change_nothing(share):
    """Nor does their goal reach the policy through another row."""
    agent = dataclasses.replace(AGENT, random_goals=jnp.float32(share))
    state, transitions = fresh(), batch()
    zero = transitions.weight == 0
    assert 0 < zero.sum() < B
    spoilt = transitions.replace(obs_tm1=jnp.where(zero[:, None], 9.0, transitions.obs_tm1))
    new, _ = update(agent, state, transitions, jax.random.key(0))
    other, _ = update(agent, state, spoilt, jax.random.key(0))
    for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("target", "rises"), [(2.0, True), (-8.0, False)])
def test_the_temperature_rises_when_the_policy_is_too_sure(target, rises):
    agent = dataclasses.replace(AGENT, entropy_per_action=jnp.float32(target))
    state = fresh()
    new, _ = update(agent, state, batch(), jax.random.key(0))
    assert (new.log_alpha > state.log_alpha) == rises
    assert np.isclose(abs(new.log_alpha - state.log_alpha), 3e-4, rtol=1e-2)


def test_without_entropy_the_temperature_plays_no_part():
    agent = dataclasses.replace(AGENT, entropy=False)
    state, transitions, key = fresh(), batch(), jax.random.key(0)
    psi = critic_loss(agent, state.critic, transitions)[1][0]
    value, _ = actor_loss(agent, state.actor, state, transitions, psi, key)
    hot, metrics = actor_loss(
        agent, state.actor, state.replace(log_alpha=jnp.float32(5.0)), transitions, psi, key
    )
    assert value == hot
    with_entropy, _ = actor_loss(AGENT, state.actor, state, transitions, psi, key)
    np.testing.assert_allclose(with_entropy - value, -np.exp(-0.7) * metrics["entropy"], rtol=1e-4)
    assert agent.scalars(state) == {}


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_random_goals_are_other_rows_goals(share):
    """That share of the rows gets the goal of the row before it, in policy and energy alike."""
    agent = dataclasses.replace(AGENT, random_goals=jnp.float32(share))
    state, key = fresh(), jax.random.key(0)
    transitions = batch().replace(weight=jnp.ones(B))
    psi = critic_loss(agent, state.critic, transitions)[1][0]
    value, _ = actor_loss(agent, state.actor, state, transitions, psi, key)
    rolls = int(share * B)
    goal = np.asarray(transitions.obs_tm1[:, 3:])
    mixed = np.concatenate([np.roll(goal, 1, axis=0)[:rolls], goal[rolls:]])
    moved = transitions.replace(obs_tm1=transitions.obs_tm1.at[:, 3:].set(mixed))
    psi = critic_loss(AGENT, state.critic, moved)[1][0]
    expected, _ = actor_loss(AGENT, state.actor, state, moved, psi, key)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_commanded_goals_are_those_of_the_replay(share):
    """That share of the rows, the last, have the goal that was commanded, in policy and energy."""
    agent = dataclasses.replace(AGENT, commanded_goals=share)
    assert agent.replay(4, 2).tell and not AGENT.replay(4, 2).tell
    state, key = fresh(), jax.random.key(0)
    told = jnp.asarray(np.random.RandomState(1).normal(size=(B, 2)), jnp.float32)
    transitions = batch().replace(commanded=told)
    psi = critic_loss(agent, state.critic, transitions)[1][0]
    value, _ = actor_loss(agent, state.actor, state, transitions, psi, key)
    first = B - int(share * B)
    mixed = np.concatenate([np.asarray(transitions.obs_tm1[:first, 3:]), told[first:]])
    moved = transitions.replace(obs_tm1=transitions.obs_tm1.at[:, 3:].set(mixed))
    psi = critic_loss(AGENT, state.critic, moved)[1][0]
    expected, _ = actor_loss(AGENT, state.actor, state, moved, psi, key)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_critics_differ_and_pessimism_chooses():
    state, transitions, key = fresh(), batch(), jax.random.key(0)
    psi = critic_loss(AGENT, state.critic, transitions)[1][0]
    least, _ = actor_loss(AGENT, state.actor, state, transitions, psi, key)
    mean, _ = actor_loss(
        dataclasses.replace(AGENT, pessimism="mean"), state.actor, state, transitions, psi, key
    )
    assert mean < least - 1e-3
    started = jax.jit(lambda key: AGENT.init(key, Square().spec))(jax.random.key(0))
    for name in ("phi", "psi"):
        kernel = started.critic[name]["params"]["Dense_0"]["kernel"]
        assert np.mean(np.asarray(kernel[0] == kernel[1])) < 0.1


def test_layer_norm_reaches_policy_and_encoders():
    """JaxGCRL's option never arrives at the actor."""
    agent = dataclasses.replace(AGENT, layer_norm=True, depth=4)
    shapes = jax.eval_shape(lambda: agent.init(jax.random.key(0), Square().spec))
    for params in (shapes.actor, shapes.critic["phi"], shapes.critic["psi"]):
        names = {jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(params)}
        assert sum("LayerNorm" in name for name in names) == 2 * 5  # stem, block of four


def test_the_goal_is_no_input_of_the_state_encoder():
    """Or the critic would see the answer."""
    shapes = jax.eval_shape(lambda: AGENT.init(jax.random.key(0), Square().spec))
    first = {
        n: shapes.critic[n]["params"]["trunk"]["Layer_0"]["Dense_0"]["kernel"]
        for n in ["phi", "psi"]
    }
    assert first["phi"].shape == (C, 3 + A, 16)
    assert first["psi"].shape == (C, 2, 16)


def test_actions_before_learning():
    """Uniform, or the initial policy's; bounds are the environment's."""
    state = fresh()
    obs = jnp.tile(batch().obs_t, (200, 1))
    actions = np.asarray(act(AGENT, state, obs, jax.random.key(1), explore=True))
    assert stats.kstest(actions.ravel(), "uniform", args=(-1, 2)).pvalue > 1e-3
    peer = dataclasses.replace(AGENT, initial_random=False)
    own = np.asarray(act(peer, state, obs, jax.random.key(1), explore=True))
    assert stats.kstest(own.ravel(), "uniform", args=(-1, 2)).pvalue < 1e-6
    learned = state.replace(updates=jnp.int32(1))
    np.testing.assert_array_equal(act(AGENT, learned, obs, jax.random.key(1), explore=True), own)
    greedy = act(AGENT, state, obs, jax.random.key(1), explore=False)
    mean = policy(AGENT, state.actor, state, obs).mean
    np.testing.assert_allclose(greedy, np.tanh(mean), rtol=1e-5)
    decoded = AGENT.decode(jnp.array([-1.0, 1.0]), spec(2, (-3.0, 0.0), (1.0, 5.0)))
    np.testing.assert_allclose(decoded, [-3.0, 5.0])


def test_networks_of_sgcrl_start_as_its_code_starts_them():
    """Haiku's VarianceScaling(1, "fan_avg" or "fan_in", "uniform"); deviations near softplus(0)."""
    agent = dataclasses.replace(AGENT, networks="sgcrl", width=256)
    state = jax.jit(lambda key: agent.init(key, Square().spec))(jax.random.key(0))
    phi = jax.tree.map(lambda x: x[0], state.critic["phi"]["params"])
    for layer in (phi["trunk"]["Layer_1"]["Dense_0"]["kernel"], phi["Dense_0"]["kernel"]):
        reach = np.sqrt(3.0 / np.mean(layer.shape))
        assert 0.98 * reach < jnp.abs(layer).max() <= reach
    actor = state.actor["params"]
    head = actor["SoftplusHead_0"]["Dense_0"]["kernel"]
    for layer in (actor["trunk"]["Layer_0"]["Dense_0"]["kernel"], head):
        reach = np.sqrt(3.0 / layer.shape[0])
        assert 0.98 * reach < jnp.abs(layer).max() <= reach
    drawn = policy(agent, state.actor, state, batch().obs_tm1)
    hidden = batch().obs_tm1
    for i in range(2):
        dense = actor["trunk"][f"Layer_{i}"]["Dense_0"]
        hidden = np.asarray(hidden @ dense["kernel"] + dense["bias"])
        hidden = hidden / (1 + np.exp(-hidden))
    out = hidden @ head
    np.testing.assert_allclose(drawn.mean, 10 * np.tanh(out[:, :A] / 10), rtol=1e-4, atol=1e-5)
    std = np.log1p(np.exp(out[:, A:])) + 1e-6
    np.testing.assert_allclose(np.exp(drawn.log_std), std, rtol=1e-4)
    assert 0.6 < std.mean() < 0.85


def test_binding_takes_the_slices_of_the_task():
    assert (AGENT.achieved, AGENT.commanded) == ((1, 3), (3, 5))
    replay = AGENT.replay(10, 2)
    assert (replay.achieved, replay.commanded) == ((1, 3), (3, 5))
    assert replay.share == 1.0 and replay.strategy == "future" and replay.law == "geometric"
    for agent, name in ((CRL(), "crl"), (SGCRL, "sgcrl")):
        with pytest.raises(UsageError, match=f"{name} learns to reach goals, and none has none; "):
            agents.bound(agent, spec(2))
    assert agents.bound(agents.default("gqn"), spec(2)) == agents.default("gqn")
    assert GOAL.commanded == slice(*AGENT.commanded)


def test_peers_name_every_hyperparameter():
    """So that a default of ours that changes does not change theirs."""
    ours = {f.name for f in dataclasses.fields(CRL)} - {"achieved", "commanded"}
    for name, peers in PEERS.items():
        for peer in peers.values():
            agent = dataclasses.replace(agents.default(name), **peer.agent)
            assert ours - peer.agent.keys() <= {"pessimism", "precision"}
            assert agent.critics == 1  # so pessimism plays no part
            assert peer.run(7)["capacity"] == 7 * peer.capacity


@pytest.mark.parametrize(
    "options",
    [
        {"critics": 0},
        {"batch_size": 1},
        {"depth": 5},
        {"discount": 1.5},
        {"random_goals": 50.0},
        {"commanded_goals": -0.5},
    ],
)
def test_what_cannot_be(options):
    ((name, value),) = options.items()
    with pytest.raises(UsageError, match=f"{name} must be .*got {value}"):
        CRL(**options)
