"""Episodes start as dm_control's do, each afresh, whatever the chunk length."""

import jax
import mujoco
import numpy as np
import pytest
from scipy.stats import ks_2samp

from jaxrl.envs import registry
from jaxrl.envs.mujoco_env import MujocoEnv
from jaxrl.envs.suite.common import randomize_joints
from tests.envs import dmc
from tests.envs.episodes import assert_equal, keys, plain, random_actions, short

DRAWS = 2000
FEWER_DRAWS = {"quadruped": 500}  # dm_control tries its heights one by one
LEVEL = 0.001  # of a task's test; at 0.01, one of some thirty tasks fails by chance
LENGTH = 3  # steps of a short episode


def number_of_draws(name: str) -> int:
    """Starts to compare."""
    return FEWER_DRAWS.get(name.split("-")[0], DRAWS)


def our_starts(name: str) -> np.ndarray:
    """Coordinates of the first two starts of each of draws / 2 instances, [draws, coordinates]."""
    env = MujocoEnv(registry.tasks()[name])
    state = jax.jit(jax.vmap(env.reset))(keys(number_of_draws(name) // 2))
    first, second = state.physics, jax.tree.map(lambda x: x[:, 0], state.start.physics)
    return np.concatenate(
        [
            np.concatenate([p.qpos, p.qvel, p.act, p.mocap_pos.reshape(len(p.qpos), -1)], axis=1)
            for p in (first, second)
        ]
    )


def dm_control_starts(name: str) -> np.ndarray:
    """The same coordinates of dm_control's starts."""
    reference, model = dmc.load(name, seed=1), MujocoEnv(registry.tasks()[name]).model
    physics, drawn = reference.physics, []
    for _ in range(number_of_draws(name)):
        with physics.reset_context():
            reference.task.initialize_episode(physics)
        targets = [array[target] for _, target, array in dmc.targets(reference, model)]
        state = (physics.data.qpos, physics.data.qvel, physics.data.act)
        drawn.append(np.concatenate([*state, *targets]))
    return np.asarray(drawn, np.float32)


@pytest.mark.parametrize("name", sorted(registry.tasks()))
def test_distribution_is_dm_controls(name):
    ours, theirs = our_starts(name), dm_control_starts(name)
    draws = number_of_draws(name)
    assert ours.shape == theirs.shape == (draws, ours.shape[1])
    p_values = np.array([ks_2samp(a, b).pvalue for a, b in zip(ours.T, theirs.T, strict=True)])
    assert p_values.min() > LEVEL / len(p_values), np.round(p_values, 5)
    varies = (np.ptp(ours, axis=0) > 0) & (np.ptp(theirs, axis=0) > 0)
    together = [np.corrcoef(starts[:, varies].T) for starts in (ours, theirs)]
    assert np.abs(together[0] - together[1]).max() < 6 * np.sqrt(2 / draws)


@pytest.mark.parametrize("name", ["hopper-hop", "quadruped-run", "humanoid-walk", "dog-trot"])
def test_starts_are_dm_controls_draw_by_draw(name):
    """From equal random numbers come equal starts; these tasks draw in dm_control's order."""
    env, reference = MujocoEnv(registry.tasks()[name]), dmc.load(name)
    data, physics = mujoco.MjData(env.model), reference.physics
    for seed in range(20):
        mujoco.mj_resetData(env.model, data)
        mujoco.mj_forward(env.model, data)
        env.task.start(env.model, data, np.random.RandomState(seed))
        reference.task._random = np.random.RandomState(seed)
        with physics.reset_context():
            reference.task.initialize_episode(physics)
        for kind in ("qpos", "qvel", "act"):
            ours, theirs = getattr(data, kind), getattr(physics.data, kind)
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12, err_msg=kind)


@pytest.mark.parametrize("name", ["pendulum-swingup", "acrobot-swingup"])
def test_angles_cover_the_whole_circle(name):
    env = MujocoEnv(registry.tasks()[name])
    angles = our_starts(name)[:, : env.model.nq]
    np.testing.assert_allclose(np.abs(angles).max(axis=0), np.pi, rtol=0.01)
    np.testing.assert_allclose(np.ptp(angles, axis=0), 2 * np.pi, rtol=0.01)


def first_rows(env: MujocoEnv, episodes: int, per_refill: int, round_trip: bool = False):
    """First rows of the episodes [episodes, N]; refills every `per_refill` of them."""
    step, refill = jax.jit(jax.vmap(env.step)), jax.jit(jax.vmap(env.refill))
    state = jax.jit(jax.vmap(env.reset))(keys(3))
    firsts = [plain(state)]
    for episode in range(1, episodes):
        for actions in random_actions(env, LENGTH + 1, 3):
            assert not (state.last & (state.episode_step != LENGTH)).any()
            state = step(state, actions)
        assert (state.episode_step == 0).all()
        firsts.append(plain(state))
        if episode % per_refill == 0:
            state = refill(state)
        if round_trip:
            saved = plain(state)
            key = jax.random.wrap_key_data(saved.key)
            state = jax.tree.map(jax.numpy.asarray, saved).replace(key=key)
    return firsts


@pytest.mark.parametrize("name", ["walker-walk", "finger-turn-easy"])
def test_starts_do_not_depend_on_the_chunk(name):
    every = first_rows(short(name, LENGTH, 1), 7, per_refill=1)
    third = first_rows(short(name, LENGTH, 3), 7, per_refill=3)
    resumed = first_rows(short(name, LENGTH, 2), 7, per_refill=2, round_trip=True)
    for a, b, c in zip(every, third, resumed, strict=True):
        assert not a.metrics["starts_reused"].any()
        assert_same_start(a, b)
        assert_same_start(a, c)


def assert_same_start(a, b):
    assert_equal(*(x.replace(start=(), key=jax.random.key(0)) for x in (a, b)))


@pytest.mark.parametrize("name", ["cartpole-balance", "cheetah-run", "finger-spin", "walker-run"])
def test_every_episode_and_instance_has_its_own(name):
    firsts = first_rows(short(name, LENGTH), 3, per_refill=1)
    qpos = np.concatenate([first.physics.qpos for first in firsts])  # 3 episodes of 3 instances
    assert len(np.unique(qpos, axis=0)) == len(qpos) == 9


@pytest.mark.parametrize(
    "name", ["reacher-easy", "finger-turn-hard", "swimmer-swimmer6", "fish-swim"]
)
def test_every_episode_and_instance_has_its_own_target(name):
    firsts = first_rows(short(name, LENGTH), 3, per_refill=1)
    targets = np.concatenate([first.physics.mocap_pos[:, 0] for first in firsts])
    assert len(np.unique(targets, axis=0)) == len(targets) == 9


@pytest.mark.parametrize("slots, reused", [(1, [0, 0, 1, 2]), (2, [0, 0, 0, 1])])
def test_a_slot_used_twice_is_counted(slots, reused):
    firsts = first_rows(short("reacher-easy", LENGTH, slots), 4, per_refill=100)
    counted = np.stack([first.metrics["starts_reused"] for first in firsts])
    np.testing.assert_array_equal(counted, np.tile(np.array(reused)[:, None], 3))
    np.testing.assert_array_equal(firsts[1].obs, firsts[1 + slots].obs)


def test_refill_redraws_only_used_slots():
    env = short("walker-walk", LENGTH, 2)
    step, refill = jax.jit(jax.vmap(env.step)), jax.jit(jax.vmap(env.refill))
    state = jax.jit(jax.vmap(env.reset))(keys(3))
    assert_equal(refill(state), state)
    state = state.replace(truncated=jax.numpy.array([False, True, False]))
    used = step(state, random_actions(env, 3))
    full = refill(used)
    assert_equal(refill(full), full)
    np.testing.assert_array_equal(full.start.number, [[2, 1], [2, 3], [2, 1]])
    changed = (full.start.physics.qpos != used.start.physics.qpos).any(axis=-1)
    np.testing.assert_array_equal(changed, [[False, False], [False, True], [False, False]])


@pytest.mark.parametrize("name", ["finger-spin", "finger-turn-easy", "finger-turn-hard"])
def test_finger_starts_do_not_collide(name):
    env = MujocoEnv(registry.tasks()[name])
    data, random = mujoco.MjData(env.model), np.random.RandomState(0)

    def contacts(pose) -> int:
        mujoco.mj_resetData(env.model, data)
        pose()
        mujoco.mj_forward(env.model, data)
        return data.ncon

    starts = np.float64(jax.jit(jax.vmap(env.reset))(keys(300)).physics.qpos)
    ours = [contacts(lambda q=q: np.copyto(data.qpos, q)) for q in starts]
    anywhere = [contacts(lambda: randomize_joints(env.model, data, random)) for _ in starts]
    assert np.count_nonzero(ours) == 0
    assert np.count_nonzero(anywhere) > 10  # so the test would see a start that collides


def test_ball_in_cup_starts_do_not_collide():
    env = MujocoEnv(registry.tasks()["ball_in_cup-catch"])
    data, random = mujoco.MjData(env.model), np.random.RandomState(0)

    def contacts(ball) -> int:
        mujoco.mj_resetData(env.model, data)
        data.qpos[2:] = ball
        mujoco.mj_forward(env.model, data)
        return data.ncon

    balls = np.float64(jax.jit(jax.vmap(env.reset))(keys(300)).physics.qpos[:, 2:])
    anywhere = random.uniform((-0.2, 0.2), (0.2, 0.5), balls.shape)
    assert sum(map(contacts, balls)) == 0
    assert sum(map(contacts, anywhere)) > 10


def test_one_target_of_a_swimmer_in_five_is_near():
    """Both its coordinates are within 0.3 m, or both anywhere within 2 m."""
    targets = our_starts("swimmer-swimmer6")[:, -3:-1]
    near = (np.abs(targets) < 0.3).all(axis=1).mean()
    expected = 0.2 + 0.8 * (0.3 / 2) ** 2
    assert near == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / DRAWS))
