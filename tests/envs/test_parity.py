"""Every task equals dm_control's: one step from the same state, the same action, the same result.

The comparison is teacher-forced: it starts each step anew from the same float32 state, so
that chaos cannot hide a difference and rounding cannot grow into one. States come from random play
that begins at the task's own starts and at poses of high reward (`poses.py`).
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import registry
from jaxrl.envs.core import EnvState
from jaxrl.envs.mujoco_env import MujocoEnv
from tests.envs import dmc

TASKS = sorted(registry.tasks())
INSTANCES = 96
ROUNDS, STEPS = 6, 30  # a round of states is taken every `STEPS` steps of play
FEWER_STEPS = {"dog": 4}  # it falls soon, and no domain takes longer to step


@dataclasses.dataclass(frozen=True)
class Case:
    """States that random play met, and the compiled step."""

    env: MujocoEnv
    step: Callable
    first: EnvState
    """First rows, [INSTANCES]."""
    rounds: list[tuple[EnvState, np.ndarray]]
    """States [INSTANCES] and an action [INSTANCES, A] for each."""


@functools.cache
def case(name: str) -> Case:
    """Random play from starts and poses of high reward; no state is an episode's end."""
    env = dmc.posed(name)
    reset, step = jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step))
    first = states = reset(jax.random.split(jax.random.key(2), INSTANCES))
    low, high = np.array(env.spec.action_low), np.array(env.spec.action_high)
    random = np.random.RandomState(0)
    bias = random.uniform(-1, 1, (INSTANCES, len(low)))

    def act():
        noise = np.clip(bias + random.uniform(-1, 1, bias.shape), -1, 1)
        return np.float32(low + (high - low) * (noise + 1) / 2)

    rounds, steps = [], FEWER_STEPS.get(name.split("-")[0], STEPS)
    for _ in range(ROUNDS):
        no = jnp.zeros(INSTANCES, bool)
        rounds.append((states.replace(terminated=no, truncated=no), act()))
        for _ in range(steps):
            states = step(states, act())
    return Case(env, step, first, rounds)


def assert_step_parity(play: Case) -> tuple[float, float, np.ndarray]:
    """Compares a step from each state; the largest errors of observation and reward, and
    dm_control's rewards."""
    env, name = play.env, play.env.task.name
    reference = dmc.load(name)
    ours, theirs = [], []
    for states, actions in play.rounds:
        stepped = play.step(states, actions)
        assert not stepped.unstable.any()
        ours.append((stepped.obs, stepped.reward))
        theirs.append(dmc.next_rows(reference, env, states.physics, actions))
    (obs, reward), (dm_obs, dm_reward, close) = (
        map(np.concatenate, zip(*x, strict=True)) for x in (ours, theirs)
    )
    assert len(obs) >= 500
    assert close.mean() < 0.01
    obs_error = dmc.assert_close(f"{name} observation", obs, dm_obs, dmc.tolerances(env))
    reward_error = dmc.assert_close(
        f"{name} reward", reward[~close], dm_reward[~close], dmc.TOLERANCE
    )
    return obs_error, reward_error, dm_reward


@pytest.mark.parametrize("name", TASKS)
def test_step(name):
    obs_error, reward_error, rewards = assert_step_parity(case(name))
    print(f"{name}: largest errors {obs_error:.1e} (observation), {reward_error:.1e} (reward)")
    low, high = (0.5, 0.5) if set(np.unique(rewards)) <= {0.0, 1.0} else (0.2, 0.9)
    few = 0.02 * len(rewards)  # both halves of the reward, and not by one lucky state
    assert (rewards > high).sum() >= few
    assert (rewards < low).sum() >= few


@pytest.mark.parametrize("name", TASKS)
def test_first_row(name):
    env, first = case(name).env, case(name).first
    obs = dmc.first_rows(dmc.load(name), env, first.physics)
    dmc.assert_close(f"{name} first row", first.obs, obs, dmc.tolerances(env))
    assert not first.reward.any()


@pytest.mark.parametrize("name", TASKS)
def test_clock_and_bounds(name):
    env, reference = MujocoEnv(registry.tasks()[name]), dmc.load(name)
    assert env.engine.substeps == round(reference.control_timestep() / reference.physics.timestep())
    assert env.spec.control_dt == pytest.approx(reference.control_timestep())
    assert env.spec.episode_length == np.ceil(reference._step_limit - 1e-9)
    bounds = reference.action_spec()
    np.testing.assert_array_equal(np.float32(env.spec.action_low), np.float32(bounds.minimum))
    np.testing.assert_array_equal(np.float32(env.spec.action_high), np.float32(bounds.maximum))


def before_last_substep(engine, sensors):
    """A mutant: every sensor as it was before the last substep."""
    return sensors[:, engine.substeps - 1]


def all_at_the_end(engine, sensors):
    """A mutant: acceleration sensors, too, from the row after the step."""
    return sensors[:, -1]


@pytest.mark.parametrize(
    "name, mutant",
    [
        ("walker-walk", before_last_substep),
        ("finger-spin", before_last_substep),
        ("swimmer-swimmer6", before_last_substep),
        ("fish-upright", before_last_substep),
        ("fish-swim", before_last_substep),
        ("hopper-hop", before_last_substep),
        ("humanoid-walk", before_last_substep),
        ("quadruped-run", before_last_substep),
        ("dog-stand", before_last_substep),
        ("finger-spin", all_at_the_end),
        ("finger-turn-hard", all_at_the_end),
        ("hopper-stand", all_at_the_end),
        ("quadruped-walk", all_at_the_end),
        ("dog-stand", all_at_the_end),
    ],
)
def test_wrong_moment_is_caught(name, mutant, monkeypatch):
    play = case(name)
    monkeypatch.setattr(play.env.engine, "_reading", functools.partial(mutant, play.env.engine))
    with pytest.raises(AssertionError, match=f"{name} (observation|reward): ours"):
        assert_step_parity(play)
