"""EDA: losses against twins, the alignment's gradient and optimum, the two stages of a run."""

from __future__ import annotations

import dataclasses

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxrl import diffusion
from jaxrl.agents.eda import EDA, PROCESS, contrast
from jaxrl.errors import UsageError
from tests.agents import bandit
from tests.agents.test_offline import STATISTICS
from tests.agents.test_sac import SIZE, A, batch
from tests.agents.values import spec

SMALL = {"widths": (16, 12), "width": 8, "blocks": 1, "contrasted": 4, "sampling_steps": 3}
AGENT = EDA(
    **SMALL, batch_size=32, normalise=True, run_updates=10.0, pretrain=0.3, beta=0.7
).canonical()
KEY = jax.random.key(3)
update = jax.jit(EDA.update)
act = jax.jit(EDA.act, static_argnames="explore")
alignment = jax.jit(jax.value_and_grad(EDA.alignment_loss, argnums=1, has_aux=True))
X = jax.tree.map(lambda x: np.asarray(x, np.float64), batch())


def fresh(agent=AGENT, seed: int = 0):
    """A state with random parameters, a policy unlike the behaviour; compiles nothing."""
    rng = np.random.RandomState(seed)
    shapes = jax.eval_shape(lambda: agent.init(KEY, spec(A, observation_size=SIZE)))
    state = jax.tree.map(lambda x: jnp.asarray(np.zeros(x.shape, x.dtype)), shapes)

    def draw(x):
        return jnp.asarray(rng.normal(size=x.shape) / np.sqrt(x.shape[-1]), jnp.float32)

    names = ("behaviour", "policy", "critic", "target_critic", "value")
    drawn = {n: jax.tree.map(draw, getattr(state, n)) for n in names}
    return agent.begin(state.replace(**drawn), STATISTICS)


def same(a, b) -> bool:
    return all(
        bool((x == y).all()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def length(tree) -> float:
    return float(np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(jax.device_get(tree)))))


def test_the_contrast_equals_the_twin_and_is_least_at_the_labels():
    rng = np.random.RandomState(0)
    label, logit = rng.normal(size=(2, 5, 7))
    twin = -(special.softmax(label, 0) * special.log_softmax(logit, 0)).sum(0)
    np.testing.assert_allclose(contrast(jnp.asarray(label), jnp.asarray(logit)), twin, rtol=1e-5)
    slope = jax.grad(lambda x: contrast(jnp.asarray(label), x).sum())
    np.testing.assert_allclose(slope(jnp.float32(label + 3)), 0, atol=1e-6)


def test_the_optimum_is_the_behaviour_times_exp_alpha_q_over_beta():
    """Of free energies of five actions, from sets of K = 4 drawn from the behaviour."""
    alpha, beta = 3.0, 2.0
    q = jnp.array([1.0, 0.4, -0.2, 0.7, 0.0])
    behaviour = jnp.array([0.1, 0.3, 0.3, 0.1, 0.2])
    drawn = jax.random.choice(KEY, 5, (4, 256), p=behaviour)

    @jax.jit
    def descend(log_ratio):
        def loss(log_ratio):
            return contrast(alpha * q[drawn], beta * log_ratio[drawn]).mean()

        def step(_, x):
            return x - 0.5 * jax.grad(loss)(x)

        return jax.lax.fori_loop(0, 2000, step, log_ratio)

    learned = behaviour * jnp.exp(descend(jnp.zeros(5)))
    expected = behaviour * jnp.exp(alpha * q / beta)
    np.testing.assert_allclose(learned / learned.sum(), expected / expected.sum(), rtol=1e-2)


def energies(params, state, noised, t):
    """f of each row; obs standardised by hand."""
    obs = (batch().obs_tm1[: len(t)] - STATISTICS.mean) / (STATISTICS.std + 1e-3)
    return AGENT._network().apply(params, noised, t, obs)


@pytest.mark.parametrize("levels", [1, 2])
def test_the_alignment_equals_the_twin_and_has_a_gradient(levels):
    """Finite differences of the loss, which move the policy's energies alone."""
    agent, state, rows = dataclasses.replace(AGENT, levels=levels), fresh(), 32 // levels
    (loss, _), slope = alignment(agent, state.policy, state, batch(), KEY)

    @jax.jit
    def parts(state):
        sample_key, time_key, noise_key = jax.random.split(KEY, 3)
        obs = batch().obs_tm1[:rows]
        action = agent._sample(state.behaviour, state, jnp.concatenate([obs] * 4), sample_key)
        action = action.reshape(4, 1, rows, A)
        noise = jax.random.normal(noise_key, (4 * 32, A)).reshape(4, levels, rows, A)
        t = diffusion.uniform(time_key, (32,), PROCESS).reshape(levels, rows)
        level, sigma = PROCESS.levels(t)
        noised = level[..., None] * action + sigma[..., None] * noise
        each = [
            [[energies(p, state, x[i], t[i]) for i in range(levels)] for x in noised]
            for p in (state.policy, state.behaviour)
        ]
        critics = [agent._q(state.target_critic, state, obs, a[0]) for a in action]
        return jnp.array(each), jnp.stack(critics).min(axis=1)[:, None], action

    (policy, behaviour), q, action = jax.device_get(parts(state))
    assert np.std(action, axis=0).mean() > 0.1 and np.abs(action).max() <= 1
    logit = 0.7 * np.float64(policy - behaviour)
    twin = -(special.softmax(3.0 * np.float64(q), 0) * special.log_softmax(logit, 0)).sum(0)
    np.testing.assert_allclose(loss, np.mean(X.weight[:rows] * twin), rtol=1e-3)

    norm = length(slope)
    assert norm > 1e-2
    far = 2e-2 / norm

    def moved(sign: int) -> float:
        params = jax.tree.map(lambda p, g: p + sign * far * g, state.policy, slope)
        return float(alignment(agent, params, state, batch(), KEY)[0][0])

    np.testing.assert_allclose((moved(1) - moved(-1)) / 4e-2, norm, rtol=0.03)


def test_the_behaviours_loss_equals_the_twin():
    """mean (sigma grad f + noise)^2, without dropout."""
    state = fresh()
    agent = dataclasses.replace(AGENT, dropout=0.0)

    @jax.jit
    def both(state):
        loss_key, _ = jax.random.split(KEY)
        time_key, noise_key = jax.random.split(loss_key)
        t = diffusion.uniform(time_key, X.weight.shape, PROCESS)
        noise = jax.random.normal(noise_key, X.action_tm1.shape)
        level, sigma = (c[:, None] for c in PROCESS.levels(t))
        noised = level * batch().action_tm1 + sigma * noise
        score = jax.grad(lambda x: energies(state.behaviour, state, x, t).sum())(noised)
        twin = jnp.mean((sigma * score + noise) ** 2, axis=-1)
        return jnp.mean(batch().weight * twin), agent.behaviour_loss(
            state.behaviour, state, batch(), KEY
        )[0]

    np.testing.assert_allclose(*both(state), rtol=1e-3)


def test_a_run_has_two_stages():
    """Behaviour and critics first, which the policy follows; then the policy alone."""
    state, stages = fresh(), []
    for i in range(5):
        new, metrics = update(AGENT, state, batch(), jax.random.fold_in(KEY, i))
        moved = [
            name
            for name in ("behaviour", "critic", "target_critic", "value", "policy")
            if not same(getattr(state, name), getattr(new, name))
        ]
        stages.append((moved, same(new.policy, new.behaviour), float(metrics["alignment_loss"])))
        state = new
    everything = ["behaviour", "critic", "target_critic", "value", "policy"]
    for moved, alike, loss in stages[:3]:
        assert moved == everything and alike
        np.testing.assert_allclose(loss, np.log(4), rtol=1e-5)
    for moved, alike, _ in stages[3:]:
        assert moved == ["policy"] and not alike
    assert stages[3][2] == pytest.approx(np.log(4), rel=1e-4)  # no dropout: they are still one
    assert stages[4][2] != pytest.approx(np.log(4), rel=1e-4)
    assert length(jax.tree.map(jnp.subtract, new.policy, new.behaviour)) > 1e-4


def test_the_first_stage_is_a_share_of_the_run():
    agent = EDA(**SMALL)
    assert agent.for_run(500).run_updates == 500
    assert AGENT.for_run(500).run_updates == 10
    for run, updates, expected in ((0, 10**6, True), (1000, 799, True), (1000, 800, False)):
        known = dataclasses.replace(AGENT, run_updates=jnp.float32(run), pretrain=jnp.float32(0.8))
        state = fresh().replace(updates=jnp.int32(updates))
        assert same(*_policies(update(known, state, batch(), KEY)[0])) == expected


def _policies(state):
    return state.policy, state.behaviour


def test_a_bandit_is_aligned(optimised):
    """Half of the behaviour's actions are bad: as many of the policy's as exp(alpha Q) leaves."""
    agent = EDA(
        width=32,
        blocks=1,
        dropout=0.0,
        widths=(32, 32),
        batch_size=128,
        actor_learning_rate=3e-3,
        critic_learning_rate=3e-3,
        alignment_learning_rate=1e-3,
        tau=0.05,
        scale_rewards=False,
        sampling_steps=8,
        pretrain=0.7,
        run_updates=1500.0,
    ).canonical()
    state = bandit.learned(agent, 1500)
    obs = jax.random.normal(jax.random.key(5), (1024, bandit.OBS))
    sample = jax.jit(lambda params: agent._sample(params, state, obs, KEY))
    expected = bandit.SHARE * np.exp(3 * bandit.REWARD)
    shares = []
    for params in (state.behaviour, state.policy):
        mode, far = bandit.nearest(sample(params))
        assert np.mean(far > 0.3) < 0.15
        shares.append(np.bincount(mode, minlength=3) / len(mode))
    np.testing.assert_allclose(shares[0], bandit.SHARE, atol=0.1)
    np.testing.assert_allclose(shares[1], expected / expected.sum(), atol=0.1)
    assert shares[1][2] < 0.15
    best = act(agent, state, obs, KEY, explore=False)
    mode, far = bandit.nearest(best)
    assert bandit.REWARD[mode].mean() > 0.99


def test_actions():
    """Exploring one sample, else the best of four, with noise of its own for other states."""
    state, obs = fresh(), batch().obs_t
    one = act(AGENT, state, obs, KEY, explore=True)
    best = act(AGENT, state, obs, KEY, explore=False)
    assert one.shape == (len(obs), A) and (np.abs(np.stack([one, best])) <= 1).all()
    q = [jnp.min(AGENT._q(state.target_critic, state, obs, a), axis=0).mean() for a in (one, best)]
    assert q[1] > q[0]
    alike = jnp.stack([obs, obs + 1e-6])
    two = jnp.stack([act(AGENT, state, o, KEY, explore=True) for o in alike])
    assert jnp.abs(two[0] - two[1]).mean() > 0.05
    rough = act(dataclasses.replace(AGENT, precision="bfloat16"), state, obs, KEY, explore=True)
    assert np.any(rough != one) and np.mean(np.abs(rough - one)) < 0.1


def test_actions_for_any_number_of_observations():
    """As an exported policy takes them."""
    (rows,) = jax.export.symbolic_shape("rows")
    obs = jax.ShapeDtypeStruct((rows, SIZE), jnp.float32)
    exported = jax.export.export(jax.jit(lambda obs: AGENT.act(fresh(), obs, KEY, False)))(obs)
    assert exported.out_avals[0].shape == (rows, A)


def test_bfloat16_and_rows_without_weight():
    """Losses and parameters stay float32; a row that is no transition teaches nothing."""
    rough = dataclasses.replace(AGENT, precision="bfloat16")
    for leaf in jax.tree.leaves(jax.eval_shape(rough.update, fresh(), batch(), KEY)):
        assert leaf.dtype in (jnp.float32, jnp.int32)
    transitions = batch()
    zero = (transitions.weight == 0)[:, None]
    spoilt = transitions.replace(obs_tm1=jnp.where(zero, 1e3, transitions.obs_tm1))
    for updates in (0, 5):
        state = fresh().replace(updates=jnp.int32(updates))
        pair = [update(AGENT, state, b, KEY)[0] for b in (transitions, spoilt)]
        for a, b in zip(*map(jax.tree.leaves, pair), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"contrasted": 1}, "contrasted must be at least 2, to contrast one with another, got 1"),
        ({"pretrain": 0.0}, "pretrain must be above 0 and at most 1, got 0"),
        ({"beta": 0.0}, "beta must be above 0, got 0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1"),
        ({"sampling_steps": 0}, "a sampler takes at least 1 step, got 0"),
        ({"levels": 3}, "batch_size must be a multiple of levels, got 256 and 3"),
        ({"samples": 0}, "samples must be at least 1, got 0"),
    ],
)
def test_settings_that_cannot_be(options, line):
    with pytest.raises(UsageError) as error:
        EDA(**options)
    assert str(error.value) == line
