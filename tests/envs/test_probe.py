"""Probe environments: their rows are what their closed-form values assume."""

import functools

import numpy as np
import pytest

from jaxrl.envs import registry
from jaxrl.envs.probe import REWARDS
from tests.envs.episodes import random_actions, rows

COUNT = 16


@functools.cache
def play(name: str, episodes: int = 3):
    """The probe, actions [T, N, A] and the rows [T + 1, N] that they lead to."""
    env = registry.make(name)
    actions = random_actions(env, episodes * (env.spec.episode_length + 1), COUNT)
    return env, actions, rows(env, actions)


@pytest.mark.parametrize("name", sorted(registry.probes()))
def test_rows(name):
    env, _, seen = play(name)
    length = env.spec.episode_length
    step = np.arange(len(seen.reward)) % (length + 1)
    np.testing.assert_array_equal(seen.episode_step, np.tile(step[:, None], COUNT))
    ends = np.tile((step == length)[:, None], COUNT)
    ended, other = seen.terminated, seen.truncated
    if name == "probe-truncation":
        ended, other = other, ended
    np.testing.assert_array_equal(ended, ends)
    assert not other.any()
    assert not seen.reward[step == 0].any()
    assert seen.obs.shape[-1] == env.spec.observation_size
    np.testing.assert_allclose(
        seen.metrics["episode_return"][length], seen.reward[: length + 1].sum(axis=0), rtol=1e-6
    )


def test_rewards():
    first = {name: play(name) for name in registry.probes()}
    rewards = {name: seen.reward for name, (_, _, seen) in first.items()}
    signal = first["probe-observation"][2].obs[:, :, 0]
    assert (rewards["probe-constant"][1] == 1).all()
    np.testing.assert_array_equal(rewards["probe-observation"][1], signal[0])
    np.testing.assert_array_equal(rewards["probe-discount"][1:3, 0], [0, 1])
    np.testing.assert_array_equal(rewards["probe-nstep"][1:5, 0], REWARDS)
    assert (rewards["probe-truncation"][1:6] == 1).all()
    _, actions, seen = first["probe-action"]
    np.testing.assert_allclose(seen.reward[1], (actions[0, :, 0] - actions[0, :, 1]) / 2)
    _, actions, seen = first["probe-both"]
    np.testing.assert_allclose(seen.reward[1], seen.obs[0, :, 0] * actions[0, :, 0])


def test_signals_differ_between_episodes_and_instances():
    _, _, seen = play("probe-observation", episodes=20)
    signal = seen.obs[::2, :, 0]  # first rows
    assert set(np.unique(signal)) == {-1.0, 1.0}
    assert (np.abs(signal.mean(axis=0)) < 1).all()  # each instance meets both
    assert (np.abs(signal.mean(axis=1)) < 1).all()  # each episode, too
