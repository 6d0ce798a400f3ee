"""The ladder of action grids: which bins are active, what they mean, when they grow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents._decoupled import levels
from jaxrl.agents.gqn import GQN
from jaxrl.errors import UsageError
from tests.agents.values import act, fresh, spec, with_values


def test_the_published_ladder():
    columns = [list(np.flatnonzero(mask)) for mask in levels((2, 3, 5, 9))]
    assert columns == [[0, 8], [0, 4, 8], [0, 2, 4, 6, 8], list(range(9))]


@pytest.mark.parametrize("bins", [(9, 17, 33, 65), (2,), (2, 3, 5, 9), (2, 4, 10), (3, 9, 257)])
def test_ladders_are_nested_and_keep_the_ends(bins):
    masks = levels(bins)
    assert masks.shape == (len(bins), bins[-1]) and masks.dtype == bool
    assert tuple(masks.sum(axis=1)) == bins
    assert masks[:, [0, -1]].all() and masks[-1].all()
    assert not np.any(masks[:-1] & ~masks[1:])


@pytest.mark.parametrize(
    "bins",
    [(), (1,), (0, 2), (-1,), (1, 2), (2, 2), (3, 2), (3, 4), (2, 4, 9), (2, 3, 5, 8), (2, 65537)],
)
def test_bad_ladders_are_refused(bins):
    with pytest.raises(UsageError, match="bins"):
        GQN(bins=bins)


LOW, HIGH = (-1.0, -0.3, 2.0, -0.1), (1.0, 0.7, 5.5, 0.3)


@pytest.mark.parametrize("bins", [(2, 3, 5, 9), (9, 17, 33, 65), (2, 4, 10), (3, 9, 257)])
def test_each_level_is_the_linspace_of_its_bins(bins):
    """Exactly, in every dimension's own bounds: index i always means the same action."""
    agent, where = GQN(bins=bins), spec(4, LOW, HIGH)
    dtype = np.uint8 if bins[-1] <= 256 else np.uint16
    index = np.tile(np.arange(bins[-1], dtype=dtype)[:, None], 4)
    action = np.asarray(agent.decode(jnp.asarray(index), where))
    assert action.dtype == np.float32
    np.testing.assert_array_equal(action[0], np.array(LOW, np.float32))
    np.testing.assert_array_equal(action[-1], np.array(HIGH, np.float32))
    for mask, count in zip(levels(bins), bins, strict=True):
        # In float64 and rounded once; a level's own step may round differently in float64.
        grid = np.linspace(LOW, HIGH, count).astype(np.float32)
        np.testing.assert_allclose(action[mask], grid, rtol=2e-7, atol=1e-8)
    np.testing.assert_array_equal(action, np.linspace(LOW, HIGH, bins[-1]).astype(np.float32))


@pytest.mark.parametrize(("bins", "dtype"), [((2, 256), jnp.uint8), ((2, 257), jnp.uint16)])
def test_stored_indices_hold_the_finest_bin(bins, dtype):
    agent = GQN(bins=bins, width=4)
    q = np.zeros((2, 1, bins[-1]))
    q[..., -1] = 1.0
    state = with_values(fresh(agent, 1, level=1), q)
    action = act(agent, state, jnp.zeros((5, 3)), jax.random.key(0), explore=False)
    assert action.dtype == dtype
    np.testing.assert_array_equal(action, bins[-1] - 1)
    np.testing.assert_array_equal(agent.decode(action, spec(1)), 1.0)


def test_stored_actions_mean_the_same_after_a_growth():
    agent, where, key = GQN(width=4, epsilon=1.0), spec(6), jax.random.key(0)
    state, obs = fresh(agent, 6), jnp.zeros((50, 3))
    stored = act(agent, state, obs, key, explore=True)
    before = np.asarray(agent.decode(stored, where))
    assert set(before.ravel()) == {-1.0, 1.0}
    grown = agent.on_progress(state, jnp.float32(1.0))
    assert int(grown.level) == 3
    np.testing.assert_array_equal(agent.decode(stored, where), before)
    finer = np.asarray(agent.decode(act(agent, grown, obs, key, explore=True), where))
    assert set(finer.ravel()) == set(np.linspace(-1, 1, 9))


def test_two_bins_always_cost_the_same():
    """Sum of a^2 / A = 1: the action cost of a bang-bang policy is a constant."""
    agent, where = GQN(bins=(2,), width=4, epsilon=0.5), spec(6)
    for explore in (False, True):
        action = act(agent, fresh(agent, 6), jnp.ones((99, 3)), jax.random.key(0), explore)
        np.testing.assert_array_equal(np.square(agent.decode(action, where)), 1.0)


def test_milestones():
    assert GQN().milestones() == (0.2, 0.4, 0.6)
    assert GQN(bins=(2, 3, 5)).milestones() == (0.25, 0.5)
    assert GQN(bins=(2,)).milestones() == () == GQN(growth="adaptive").milestones()


@pytest.mark.parametrize("total", [1_000_000, 160_000, 48_000, 100_008])
@pytest.mark.parametrize("bins", [(2, 3, 5, 9), (2, 3, 5)])
def test_linear_growth_is_exact(total, bins):
    """Level = how many i have step >= i * total / (L + 1), in integers, at every block of 8."""
    agent = GQN(bins=bins, width=4)
    state = fresh(agent, 1)
    step = np.arange(0, total + 1, 8)
    progress = np.array([np.float32(s / total) for s in step])
    level = jax.vmap(lambda p: agent.on_progress(state, p).level)(progress)
    parts = len(bins) + 1
    expected = sum((step * parts >= i * total).astype(int) for i in range(1, len(bins)))
    np.testing.assert_array_equal(level, expected)
    first = [step[np.argmax(level == i)] for i in range(1, len(bins))]
    assert first == [-(-i * total // (8 * parts)) * 8 for i in range(1, len(bins))]


def test_only_the_linear_schedule_grows_with_progress():
    agent = GQN(growth="adaptive", width=4)
    assert int(agent.on_progress(fresh(agent, 1, level=1), jnp.float32(0.9)).level) == 1
