"""Adaptive growth (GQN eq. 4) against a twin that keeps the whole history."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents.gqn import GQN
from tests.agents.values import fresh


def twin(returns, window: int, gap: int, top: int, margin=0.05, deviations=0.9) -> list[int]:
    """The level after each evaluation."""
    level, grown_at, found = 0, 0, []
    for i, newest in enumerate(returns):
        past = np.asarray(returns[max(0, i - window) : i], np.float64)
        if len(past) == window and i >= gap and i - grown_at >= gap and level < top:
            mean, std = past.mean(), past.std()
            if newest < (1 - margin * np.sign(mean)) * mean + deviations * std:
                level, grown_at = level + 1, i
        found.append(level)
    return found


def run(agent: GQN, returns: np.ndarray) -> np.ndarray:
    """Levels after each of the returns, [S, T] for [S, T] returns."""
    state = fresh(agent, 1)

    @jax.jit
    def go(returns):
        def evaluate(state, r):
            state = agent.on_evaluation(state, r, jnp.float32(0.5))
            return state, state.level

        return jax.lax.scan(evaluate, state, returns)[1]

    return np.asarray(jax.vmap(go)(jnp.asarray(returns, jnp.float32)))


def curves(length: int = 40) -> np.ndarray:
    """Learning curves: rising, falling, negative, around zero, sparse, noisy to nearly flat."""
    rng = np.random.RandomState(0)
    time = np.linspace(0, 1, length)
    shapes = [
        900 * time,
        900 - 500 * time,
        -300 + 200 * time,
        -100 * time,
        0 * time,
        400 + 0 * time,
    ]
    noise = [0.0, 1.0, 10.0, 40.0, 200.0]
    noisy = [s + n * rng.normal(size=length) for s in shapes for n in noise]
    sparse = [np.where(time > 0.4, 500 * rng.rand(length), 0.0)]
    return np.array(noisy + sparse)


@pytest.mark.parametrize(("window", "gap"), [(5, 5), (2, 1), (3, 8), (6, 2)])
def test_growth_follows_equation_4(window, gap):
    returns = curves()
    agent = GQN(growth="adaptive", growth_window=window, growth_gap=gap, width=4)
    expected = np.array([twin(r, window, gap, top=3) for r in returns])
    np.testing.assert_array_equal(run(agent, returns), expected)
    assert set(expected[:, -1]) >= {0, 3}, "the curves must tell schedules apart"
    assert not expected[:, : max(window, gap)].any()
    for levels in expected:
        assert np.all(np.diff(np.flatnonzero(np.diff(levels, prepend=0))) >= gap)


def test_other_margins_and_deviations():
    agent = GQN(growth="adaptive", growth_margin=0.2, growth_deviations=0.3, width=4)
    expected = np.array([twin(r, 5, 5, 3, margin=0.2, deviations=0.3) for r in curves()])
    assert not np.array_equal(expected, [twin(r, 5, 5, 3) for r in curves()])
    np.testing.assert_array_equal(run(agent, curves()), expected)


def test_nothing_but_zeros_never_grows():
    """Before a sparse reward is found, coarse bins explore best."""
    agent = GQN(growth="adaptive", width=4)
    assert not run(agent, np.zeros((1, 60))).any()


@pytest.mark.parametrize("mean", [500.0, -500.0])
def test_a_flat_return_grows_from_a_deviation_of_5_6_percent(mean):
    agent = GQN(growth="adaptive", growth_window=4, growth_gap=4, width=4)
    for share, grows in ((0.054, 0), (0.058, 1)):
        spread = share * abs(mean)
        returns = [mean - spread, mean + spread, mean - spread, mean + spread, mean]
        assert run(agent, np.array([returns]))[0, -1] == grows


def test_the_linear_schedule_ignores_evaluations():
    assert not run(GQN(width=4), curves()).any()
