"""CFPI: closed forms against a constrained optimiser, what is chosen, learning on a bandit."""

from __future__ import annotations

import dataclasses

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from scipy import optimize, special, stats

from jaxrl.agents.cfpi import CFPI, Mixture, furthest, trust_regions
from jaxrl.agents.iql import IQL
from jaxrl.errors import UsageError
from tests.agents import bandit
from tests.agents.test_offline import STATISTICS
from tests.agents.test_sac import SIZE, A, batch
from tests.agents.values import spec

SMALL = {"widths": (16, 12), "proposals": 4}
AGENT = CFPI(**SMALL, components=3, pessimism=0.7, expectile=0.8, scale_rewards=False).canonical()
update = jax.jit(CFPI.update)
act = jax.jit(CFPI.act, static_argnames="explore")
regions_of, reach = jax.jit(trust_regions), jax.jit(furthest)
X = jax.tree.map(lambda x: np.asarray(x, np.float64), batch())


def fresh(agent=AGENT, seed: int = 0):
    """A state with random parameters, without compiling an initialisation."""
    rng = np.random.RandomState(seed)
    shapes = jax.eval_shape(lambda: agent.init(jax.random.key(0), spec(A, observation_size=SIZE)))
    state = jax.tree.map(lambda x: jnp.asarray(np.zeros(x.shape, x.dtype)), shapes)

    def draw(x):
        return jnp.asarray(rng.normal(size=x.shape) / np.sqrt(x.shape[-1]), jnp.float32)

    names = ("actor", "critic", "target_critic", "value")
    drawn = {n: jax.tree.map(draw, getattr(state, n)) for n in names}
    return agent.begin(state.replace(**drawn), STATISTICS)


def mixture(components: int, size: int, apart: float = 0.5, seed: int = 0) -> Mixture:
    """A random one, in float64."""
    rng = np.random.RandomState(seed)
    return Mixture(
        log_weight=special.log_softmax(rng.normal(size=components)),
        mean=apart * rng.normal(size=(components, size)),
        log_std=0.3 * rng.normal(size=(components, size)) - 0.5,
    )


def log_densities(m: Mixture, u: np.ndarray) -> np.ndarray:
    """log Normal_k(u), [K], by SciPy."""
    return np.array(
        [stats.norm.logpdf(u, mu, np.exp(s)).sum() for mu, s in zip(m.mean, m.log_std, strict=True)]
    )


def level(m: Mixture) -> float:
    """max_k log(w_k peak_k)."""
    peaks = [log_densities(m, mu)[k] for k, mu in enumerate(m.mean)]
    return float(np.max(np.asarray(m.log_weight) + peaks))


def optimum(g: np.ndarray, constraint, start: np.ndarray) -> np.ndarray:
    """argmax g . u where constraint(u) >= 0, by sequential quadratic programming."""
    found = optimize.minimize(
        lambda u: -g @ u,
        start,
        jac=lambda u: -g,
        constraints={"type": "ineq", "fun": constraint},
        method="SLSQP",
        options={"ftol": 1e-10, "maxiter": 300},
    )
    assert found.success
    return found.x


@pytest.mark.parametrize("delta", [0.2, 2.0])
def test_one_gaussian_is_improved_as_an_optimiser_does(delta):
    m = mixture(1, 3)
    g = np.array([[1.5, -0.4, 0.05]])
    found = reach(regions_of(m), jnp.float32(g), delta)
    expected = optimum(
        g[0], lambda u: log_densities(m, u)[0] - level(m) + delta, np.asarray(m.mean[0], np.float64)
    )
    np.testing.assert_allclose(found[0], expected, atol=1e-3)
    half_square = 0.5 * np.sum((found[0] - m.mean[0]) ** 2 / np.exp(2 * m.log_std[0]))
    np.testing.assert_allclose(half_square, delta, rtol=1e-4)  # on the boundary


@pytest.mark.parametrize("delta", [1.0, 3.0])
def test_the_bounds_of_a_mixture_are_solved_as_an_optimiser_does(delta):
    """Each component's, and Jensen's; neither leaves where the mixture itself is likely enough."""
    m = mixture(3, 2)
    regions = regions_of(m)
    g = np.random.RandomState(1).normal(size=(4, 2))
    found = np.asarray(reach(regions, jnp.float32(g), delta))
    least, weight = level(m) - delta, np.exp(np.float64(m.log_weight))
    bounds = [lambda u, k=k: m.log_weight[k] + log_densities(m, u)[k] - least for k in range(3)]
    bounds.append(lambda u: weight @ log_densities(m, u) - least)
    slack = np.asarray(regions.slack + delta)
    assert np.sum(slack > 0) >= 3 and slack[3] > 0
    for r, bound in enumerate(bounds):
        centre = np.float64(regions.centre[r])
        np.testing.assert_allclose(bound(centre), slack[r], rtol=1e-4, atol=1e-5)
        if slack[r] > 0:
            expected = optimum(g[r], lambda u, b=bound: np.float64(b(u)), centre)
            np.testing.assert_allclose(found[r], expected, atol=2e-3)
            own = special.logsumexp(m.log_weight + log_densities(m, found[r]))
            assert own >= least - 1e-5


def test_jensens_region_joins_what_overlaps_and_leaves_what_does_not():
    """Of K equal Gaussians it is larger than each one's by log K; far apart it is empty, as is that
    of a component which is nowhere likely enough."""
    alike = Mixture(jnp.log(jnp.full(4, 0.25)), jnp.ones((4, 2)), jnp.zeros((4, 2)))
    np.testing.assert_allclose(regions_of(alike).slack, [0, 0, 0, 0, np.log(4)], atol=1e-6)
    far = alike._replace(mean=jnp.float32([[3, 3], [-3, 3], [3, -3], [-3, -3]]))
    slack = regions_of(far).slack
    np.testing.assert_allclose(slack, [0, 0, 0, 0, np.log(4) - 9], atol=1e-5)
    rare = alike._replace(log_weight=jnp.log(jnp.float32([0.001, 0.333, 0.333, 0.333])))
    np.testing.assert_allclose(regions_of(rare).slack[0], np.log(0.003), rtol=1e-2)


def test_the_length_of_the_gradient_does_not_matter():
    regions, g = regions_of(mixture(1, 3)), jnp.float32([[1.5, -0.4, 0.05]])
    found = reach(regions, g, 1.0)
    for scale in (1e-30, 1e30):
        np.testing.assert_allclose(reach(regions, scale * g, 1.0), found, rtol=1e-5)
    np.testing.assert_array_equal(reach(regions, 0 * g, 1.0), regions.centre)
    np.testing.assert_array_equal(reach(regions, g, 0.0), regions.centre)


@struct.dataclass
class Known(CFPI):
    """With a value that a test gives, of actions before the tanh."""

    q: object = struct.field(pytree_node=False, default=None)

    def lower_bound(self, state, obs, action):
        return self.q(jnp.arctanh(action))


def chosen(m: Mixture, q, **options) -> np.ndarray:
    """What is done where the behaviour is m, before the tanh, [A]."""
    agent = Known(components=len(m.mean), q=q, **{"delta": 2.0, **options})
    state = fresh().replace(action_size=m.mean.shape[-1])
    rows = jax.tree.map(lambda x: jnp.float32(x[None]), m)
    object.__setattr__(agent, "_behaviour", lambda *_: rows)
    run = jax.jit(lambda: agent.act(state, jnp.zeros((1, SIZE)), jax.random.key(0), False))
    return np.arctanh(np.float64(run()[0]))


def test_the_best_delta_is_taken():
    m = Mixture(jnp.zeros(1), jnp.array([[0.2, -0.3]]), jnp.log(jnp.array([[0.4, 0.2]])))
    regions, g = trust_regions(m), jnp.float32([[1.0, 0.5]])
    linear = chosen(m, lambda u: u @ g[0])
    np.testing.assert_allclose(linear, furthest(regions, g, 2.0)[0], atol=1e-4)
    part = np.asarray(furthest(regions, g, 0.6)[0])  # the third of ten
    hill = chosen(m, lambda u: -jnp.sum((u @ g[0] - part @ g[0]) ** 2, axis=-1, keepdims=False))
    # A function of g . u alone has this gradient's direction everywhere.
    np.testing.assert_allclose(hill, part, atol=1e-3)
    flat = chosen(m, lambda u: 0.0 * u[..., 0])
    np.testing.assert_allclose(flat, m.mean[0], atol=1e-4)
    trap = chosen(m, lambda u: jnp.where(jnp.abs(u - m.mean[0]).max(-1) < 1e-3, 0.0, -u[..., 0]))
    np.testing.assert_allclose(trap, m.mean[0], atol=1e-4)  # delta = 0 is among the proposals


def test_the_best_region_is_taken_if_it_is_likely_enough():
    apart = Mixture(
        jnp.log(jnp.float32([0.6, 0.3, 0.1])),
        jnp.float32([[-1, 0], [1, 0], [0, 1]]),
        jnp.full((3, 2), jnp.log(0.1)),
    )
    to_the_right = chosen(apart, lambda u: u[..., 0])
    radius = np.sqrt(2 * (2 + np.log(0.5)))
    np.testing.assert_allclose(to_the_right, [1 + 0.1 * radius, 0], atol=1e-3)
    left = chosen(apart, lambda u: u[..., 0], delta=0.5)  # log(1/2) is too much less
    np.testing.assert_allclose(left, [-1 + 0.1, 0], atol=1e-3)
    both = Mixture(jnp.log(jnp.full(2, 0.5)), jnp.float32([[0.1], [-0.1]]), jnp.zeros((2, 1)))
    jensen = np.sqrt(2 * (2 + np.log(2)) - 0.1**2)  # spreads by 0.1^2
    np.testing.assert_allclose(chosen(both, lambda u: u[..., 0]), [jensen], atol=1e-3)
    assert jensen > 0.1 + np.sqrt(2 * 2)  # than a component's


def test_the_gradient_is_that_before_the_tanh():
    """Where the tanh is flat a dimension counts for little."""
    m = Mixture(jnp.zeros(1), jnp.array([[0.0, 1.5]]), jnp.zeros((1, 2)))
    found = chosen(m, lambda u: jnp.tanh(u).sum(-1), proposals=1, delta=0.02)
    slope = np.array([1.0, 1 - np.tanh(1.5) ** 2])
    np.testing.assert_allclose(
        found - m.mean[0], 0.2 * slope / np.linalg.norm(slope), rtol=1e-2, atol=1e-4
    )


def test_the_lower_bound_of_the_critics():
    """With two critics and pessimism 1 it is the lesser; alike, they have no deviation, and yet a
    gradient."""
    state, obs, action = fresh(), batch().obs_tm1, batch().action_tm1

    @jax.jit
    def bound(critics, pessimism, action):
        agent = dataclasses.replace(AGENT, pessimism=pessimism)
        return agent.lower_bound(state.replace(target_critic=critics), obs, action)

    first, second = (
        jax.tree.map(lambda x, c=c: jnp.stack([x[c], x[c]]), state.target_critic) for c in (0, 1)
    )
    one, two = (np.asarray(bound(critics, 1.0, action)) for critics in (first, second))
    assert np.abs(one - two).min() > 0.1
    lesser = bound(state.target_critic, 1.0, action)
    np.testing.assert_allclose(lesser, np.minimum(one, two), rtol=1e-3, atol=1e-5)
    half = bound(state.target_critic, 0.5, action)
    expected = 0.5 * (one + two) - 0.25 * np.abs(one - two)
    np.testing.assert_allclose(half, expected, rtol=1e-3, atol=1e-5)
    slope = jax.jit(jax.grad(lambda a: bound(first, 1.0, a).sum()))(action)
    assert np.isfinite(slope).all() and np.abs(slope).max() > 1e-3


def test_losses_equal_the_twin():
    """The behaviour's likelihood by SciPy; IQL's losses, that of the critics after the value's
    step."""
    state = fresh()
    new, metrics = update(AGENT, state, batch(), jax.random.key(0))
    m = jax.jit(AGENT._behaviour)(state.actor, state, batch().obs_tm1)
    action = X.action_tm1[:, None]
    each = stats.norm.logpdf(np.arctanh(action), m.mean, np.exp(m.log_std))
    density = (each - np.log(1 - action**2)).sum(-1)
    density = special.logsumexp(np.asarray(m.log_weight) + density, axis=-1)
    np.testing.assert_allclose(metrics["actor_loss"], -np.mean(X.weight * density), rtol=1e-3)
    assert m.mean.shape == (len(action), 3, A) and m.log_std.min() >= -5 and m.log_std.max() <= 2

    iql = IQL(widths=(16, 12), expectile=0.8, scale_rewards=False, normalise=True).canonical()

    @jax.jit
    def theirs(state, value):
        before = iql.value_loss(state.value, state, batch())[1]
        return before | iql.critic_loss(state.critic, state.replace(value=value), batch())[1]

    for name, expected in theirs(state, new.value).items():
        np.testing.assert_allclose(metrics[name], expected, rtol=1e-4)
    triples = (state.target_critic, new.critic, new.target_critic)
    for old, online, target in zip(*map(jax.tree.leaves, triples), strict=True):
        np.testing.assert_allclose(target, 0.995 * old + 0.005 * online, rtol=1e-4, atol=1e-6)


def test_a_mixture_finds_the_good_modes():
    """Half of the data is at a bad action; one Gaussian can but stand between all three."""
    agent = CFPI(
        components=6,
        delta=2.0,  # a good mode is half as likely as the bad one
        widths=(32, 32),
        batch_size=128,
        actor_learning_rate=3e-3,
        critic_learning_rate=3e-3,
        tau=0.05,
        scale_rewards=False,
    )
    state = bandit.learned(agent.canonical(), 400)
    obs = jax.random.normal(jax.random.key(5), (64, bandit.OBS))
    mode, far = bandit.nearest(act(agent, state, obs, jax.random.key(0), explore=False))
    assert bandit.REWARD[mode].min() == 1 and far.max() < 0.3
    cautious = dataclasses.replace(agent, delta=0.0)
    mode, far = bandit.nearest(act(cautious, state, obs, jax.random.key(0), explore=False))
    assert far.max() < 0.15  # a mean of a component


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_actions_and_precision(precision):
    agent = dataclasses.replace(AGENT, precision=precision)
    state = fresh()
    for leaf in jax.tree.leaves(jax.eval_shape(agent.update, state, batch(), jax.random.key(0))):
        assert leaf.dtype in (jnp.float32, jnp.int32)
    action = act(agent, state, batch().obs_t, jax.random.key(0), explore=False)
    other = act(agent, state, batch().obs_t, jax.random.key(1), explore=False)
    np.testing.assert_array_equal(action, other)  # no chance in it
    assert action.shape == (len(X.weight), A) and (np.abs(action) <= 1).all()


def test_actions_for_any_number_of_observations():
    """As an exported policy takes them."""
    (rows,) = jax.export.symbolic_shape("rows")
    obs = jax.ShapeDtypeStruct((rows, SIZE), jnp.float32)
    key = jax.random.key(0)
    exported = jax.export.export(jax.jit(lambda obs: AGENT.act(fresh(), obs, key, False)))(obs)
    assert exported.out_avals[0].shape == (rows, A)


def test_rows_without_weight_change_nothing():
    state, transitions = fresh(), batch()
    zero = (transitions.weight == 0)[:, None]
    spoilt = transitions.replace(obs_tm1=jnp.where(zero, 1e3, transitions.obs_tm1))
    pair = [update(AGENT, state, b, jax.random.key(0))[0] for b in (transitions, spoilt)]
    for a, b in zip(*map(jax.tree.leaves, pair), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"components": 0}, "components must be at least 1, got 0"),
        ({"proposals": 0}, "proposals must be at least 1, got 0"),
        ({"delta": -0.5}, "delta must be at least 0, got -0.5"),
    ],
)
def test_settings_that_cannot_be(options, line):
    with pytest.raises(UsageError) as error:
        CFPI(**options)
    assert str(error.value) == line
