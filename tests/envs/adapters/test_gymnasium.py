"""Gymnasium's own checks, Gymnasium-Robotics' form for goals, and the rows of our own interface."""

import warnings

import jax
import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium")

import jaxrl  # noqa: E402
from jaxrl.envs.adapters.gymnasium import to_gymnasium  # noqa: E402
from jaxrl.envs.rendering import RenderingUnavailable  # noqa: E402
from jaxrl.errors import UsageError  # noqa: E402


@pytest.mark.parametrize("name", ["point-umaze", "reacher-goal", "ant-goal", "cartpole-swingup"])
def test_gymnasium_accepts_it(name):
    from gymnasium.utils.env_checker import check_env

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for harmless in ("minimum value is -inf", "maximum value is inf", "symmetric and norm"):
            warnings.filterwarnings("ignore", message=f".*{harmless}")
        warnings.filterwarnings("ignore", message=".*spec.*")
        check_env(to_gymnasium(name), skip_render_check=True)


@pytest.fixture(scope="module")
def reacher():
    return to_gymnasium("reacher-goal", dense_reward=True)


def rows(env, steps, seed=0):
    """`steps` rows of random actions, each (obs, reward, terminated, truncated, info)."""
    env.reset(seed=seed)
    env.action_space.seed(seed)
    return [env.step(env.action_space.sample()) for _ in range(steps)]


def test_goals_come_apart_from_the_state(reacher):
    obs, info = reacher.reset(seed=3)
    assert {name: value.shape for name, value in obs.items()} == {
        "observation": (10,),
        "achieved_goal": (3,),
        "desired_goal": (3,),
    }
    np.testing.assert_array_equal(obs["observation"][4:7], obs["achieved_goal"])
    assert set(info) == {"unstable", "is_success"}
    again, _ = reacher.reset(seed=3)
    np.testing.assert_array_equal(again["desired_goal"], obs["desired_goal"])
    other, _ = reacher.reset()
    assert np.abs(other["desired_goal"] - obs["desired_goal"]).max() > 1e-3


@pytest.mark.parametrize("dense", [False, True])
def test_compute_reward_is_the_reward_of_the_step_and_of_many_rows(dense):
    env = to_gymnasium("point-umaze", dense_reward=dense)
    steps = rows(env, 60)
    rewards = np.array([reward for _, reward, *_ in steps])
    for obs, reward, _, _, info in steps:
        one = env.compute_reward(obs["achieved_goal"], obs["desired_goal"], info)
        assert isinstance(one, float) and one == pytest.approx(reward, abs=1e-6)
    achieved = np.stack([obs["achieved_goal"] for obs, *_ in steps])
    desired = np.stack([obs["desired_goal"] for obs, *_ in steps])
    infos = np.array([info for *_, info in steps])
    np.testing.assert_allclose(env.compute_reward(achieved, desired, infos), rewards, atol=1e-6)
    hindsight = env.compute_reward(achieved.reshape(6, 10, 2), achieved.reshape(6, 10, 2), None)
    np.testing.assert_array_equal(hindsight, np.full((6, 10), 0.0 if dense else 1.0))


@pytest.mark.parametrize("options", [{"action_cost": 0.5}, {"action_repeat": 10}])
def test_rewards_of_more_than_goals_are_not_computed(options):
    env = to_gymnasium("point-umaze", **options)
    with pytest.raises(UsageError, match="compute_reward is of goals alone: leave action_cost"):
        env.compute_reward(np.zeros(2), np.ones(2), None)


def test_rows_are_those_of_our_own_interface_until_the_end():
    env = to_gymnasium("point-umaze", dense_reward=True, action_repeat=10)
    ours = jaxrl.make("point-umaze", dense_reward=True, action_repeat=10)
    obs, _ = env.reset(seed=5)
    seed = np.random.default_rng(5).integers(2**31)
    state = jax.jit(ours.reset)(jax.random.key(int(seed)))
    step = jax.jit(ours.step)
    env.action_space.seed(0)
    for count in range(1, 11):
        together = np.concatenate([obs["observation"], obs["desired_goal"]])
        np.testing.assert_array_equal(together, state.obs)
        action = env.action_space.sample()
        state = step(state, action)
        obs, reward, terminated, truncated, _ = env.step(action)
        assert reward == pytest.approx(float(state.reward))
        assert (terminated, truncated) == (False, count == 10)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(action)
    env.reset()
    env.step(action)


def test_a_plain_task_observes_a_vector():
    env = to_gymnasium("cartpole-swingup")
    obs, info = env.reset(seed=0)
    assert obs.shape == (5,) and obs.dtype == np.float32
    assert env.observation_space.contains(obs)
    assert info == {"unstable": False}
    assert not hasattr(env, "compute_reward")


def test_pictures_come_in_the_mode_for_them():
    env = to_gymnasium("point-umaze", render_mode="rgb_array")
    env.reset(seed=0)
    try:
        picture = env.render()
    except RenderingUnavailable as error:
        pytest.skip(str(error))
    assert picture.shape == (360, 480, 3) and picture.std() > 10
    assert to_gymnasium("point-umaze").render() is None
    with pytest.raises(ValueError, match=r"'human'.*'rgb_array'"):
        to_gymnasium("point-umaze", render_mode="human")
