"""Goal tasks: slices are what they say, goals are drawn as described, rewards have their edge."""

import dataclasses

import jax
import mujoco
import numpy as np
import pytest

import jaxrl
from jaxrl.envs.goal import ant_objects, pusher
from jaxrl.envs.goal.common import easy_radius
from jaxrl.envs.goal.options import FrozenStarts, goal_tasks
from jaxrl.envs.mujoco_env import MujocoEnv
from jaxrl.envs.rendering import RenderingUnavailable
from jaxrl.envs.task import Sim
from jaxrl.errors import UsageError
from tests.envs.episodes import keys, random_actions

NAMES = sorted(goal_tasks())
ENVS = {}


def environment(name) -> MujocoEnv:
    """One of each, made once."""
    if name not in ENVS:
        ENVS[name] = MujocoEnv(goal_tasks()[name])
    return ENVS[name]


def body_position(name, data) -> np.ndarray:
    """Where the thing is that must reach the goal, by MuJoCo's kinematics."""
    if name.startswith("reacher"):
        return data.body("fingertip").xpos
    if name.startswith("pusher") or name == "ant-ball":
        return data.body("object").xpos
    return data.body("ball" if name.startswith("point") else "torso").xpos


SOME = ["ant-ball", "ant-push", "cheetah-goal", "humanoid-goal", "point-umaze"]
SOME += ["pusher-easy", "reacher-goal"]


@pytest.mark.parametrize("name", SOME)
def test_slices_are_what_they_say(name):
    """At every row: achieved = position of the body, commanded = the episode's goal = its mark;
    and the reward, received with the row, is that of the row."""
    env = environment(name)
    goal = env.spec.goal
    step = jax.jit(env.step)
    states = [env.reset(jax.random.key(0))]
    for action in random_actions(env, 12):
        states.append(step(states[-1], action))
    size = goal.achieved.stop - goal.achieved.start
    data = mujoco.MjData(env.model)
    for state in states:
        obs = np.asarray(state.obs)
        assert obs.shape == (goal.commanded.stop,)
        data.qpos[:], data.mocap_pos[:] = state.physics.qpos, state.physics.mocap_pos
        mujoco.mj_kinematics(env.model, data)
        position = body_position(name, data)[:size]
        np.testing.assert_allclose(obs[goal.achieved], position, atol=1e-5)
        np.testing.assert_array_equal(obs[goal.commanded], state.task["goal"])
        np.testing.assert_allclose(data.body("goal").xpos[:size], obs[goal.commanded], rtol=1e-6)
        reached = np.linalg.norm(position - obs[goal.commanded]) < goal.radius
        assert state.reward == float(reached and state.episode_step > 0)
    moved = np.abs(states[-1].obs - states[0].obs)[goal.achieved].max()
    assert moved > 1e-4 or name in ("ant-ball", "pusher-easy")


def draws(name, count=400):
    """Starts of `count` instances: (goals [N, G], Physics of arrays [N, ...])."""
    env = environment(name)
    both = [env._draw(np.array([7, i], np.uint32), 0) for i in range(count)]
    physics, tasks = (
        jax.tree.map(lambda *x: np.stack(x), *part) for part in zip(*both, strict=True)
    )
    return tasks["goal"], physics


def assert_uniform(x, low, high):
    """Within the interval, filling it evenly (Kolmogorov-Smirnov, p > 0.001)."""
    assert low <= x.min() and x.max() <= high
    levels = np.sort((x - low) / (high - low))
    assert np.abs(levels - (np.arange(len(x)) + 0.5) / len(x)).max() < 1.95 / np.sqrt(len(x))


def polar(goals):
    return np.linalg.norm(goals[:, :2], axis=1), np.arctan2(goals[:, 1], goals[:, 0])


def test_the_ants_goals_lie_on_a_circle_and_its_pose_is_noisy():
    goals, physics = draws("ant-goal")
    distance, angle = polar(goals)
    np.testing.assert_allclose(distance, 10, rtol=1e-6)
    assert_uniform(angle, -np.pi, np.pi)
    for column, middle in ((0, 0.0), (2, 0.55), (7, 0.0), (8, 1.0), (10, -1.0)):
        assert_uniform(physics.qpos[:, column], middle - 0.1001, middle + 0.1001)
    np.testing.assert_allclose(np.linalg.norm(physics.qpos[:, 3:7], axis=1), 1, atol=1e-6)
    assert physics.qvel.std() == pytest.approx(0.1, rel=0.05)


def test_reachers_and_humanoids_goals_have_uniform_distances():
    for name, low, high, height in (
        ("reacher-goal", 0.0, 0.2, 0.01),
        ("humanoid-goal", 1.0, 5.0, 1.25),
    ):
        goals, _ = draws(name)
        distance, angle = polar(goals)
        assert_uniform(distance, low, high)
        assert_uniform(angle, -np.pi, np.pi)
        np.testing.assert_allclose(goals[:, 2], height, rtol=1e-6)


def test_the_ball_starts_clear_of_the_ant_and_goes_five_metres():
    goals, physics = draws("ant-ball")
    distance, angle = polar(goals)
    np.testing.assert_allclose(distance, 5, rtol=1e-6)
    ball = physics.qpos[:, 15:17]
    assert np.linalg.norm(ball - physics.qpos[:, :2], axis=1).min() > ant_objects.BALL_CLEARANCE
    np.testing.assert_allclose(ball[:, 1], 2 * np.sin(angle), atol=1e-5)
    assert np.abs(ball[:, 0] - np.cos(angle)).max() <= 1 + 1e-5


def test_goals_of_ant_push_lie_in_the_two_cells_behind_the_block():
    goals, _ = draws("ant-push")
    right = goals[:, 0] > goals[:, 1]
    assert 0.4 < right.mean() < 0.6
    for side, corner in ((goals[right], (16, 8)), (goals[~right], (8, 16))):
        for column in (0, 1):
            assert_uniform(side[:, column], corner[column], corner[column] + 2)


@pytest.mark.parametrize("kind", ["easy", "hard"])
def test_pushers_object_and_goal_lie_apart_on_the_table(kind):
    goals, physics = draws(f"pusher-{kind}")
    thing = physics.qpos[:, [8, 7]] + pusher.ORIGIN[:2]
    np.testing.assert_allclose(physics.sensordata[:, 3:5], thing, atol=1e-6)
    assert np.linalg.norm(thing - goals[:, :2], axis=1).min() >= 0.17 - 1e-6
    ranges = pusher.GOALS[kind]
    for column, axis in ((0, "x"), (1, "y")):
        slide = goals[:, column] - pusher.ORIGIN[column]
        low, high = ranges[axis]
        assert low - 1e-6 <= slide.min() < low + 0.05 and high - 0.05 < slide.max() <= high + 1e-6
    reached = np.linalg.norm(physics.sensordata[:, 3:6] - goals, axis=1) < pusher.RADIUS
    assert not reached.any()


def test_cheetahs_goal_is_five_metres_ahead():
    np.testing.assert_array_equal(draws("cheetah-goal", 5)[0], np.full((5, 1), 5.0))


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("point") or "maze" in n])
def test_maze_goals_and_starts_lie_in_their_cells(name):
    env, (goals, physics) = environment(name), draws(name, 300)
    maze = env.task.model.args[0]

    def cells(positions):
        return {tuple(int(x) for x in cell) for cell in maze.cell_of(positions)}

    assert cells(goals) == {tuple(map(int, cell)) for cell in maze.goals}
    assert cells(physics.qpos[:, :2]) == {tuple(map(int, cell)) for cell in maze.starts}
    if name.startswith("ant"):
        np.testing.assert_allclose(goals, maze.centre(maze.cell_of(goals)), atol=1e-6)
    data = mujoco.MjData(env.model)
    walls = {g for g in range(env.model.ngeom) if "wall" in env.model.geom(g).name}
    for qpos in physics.qpos:
        data.qpos[:] = qpos
        mujoco.mj_forward(env.model, data)
        assert not walls & set(data.contact.geom.ravel())


def test_sgcrls_spiral_has_one_hard_goal():
    goals, physics = draws("point-spiral", 5)
    np.testing.assert_array_equal(goals, np.full((5, 2), 10.0))
    np.testing.assert_array_equal(physics.qpos, np.full((5, 2), 5.0))
    assert environment("point-spiral").spec.episode_length == 100


@pytest.mark.parametrize("kind", [MujocoEnv, FrozenStarts])
def test_goals_change_with_each_episode_unless_frozen(kind):
    """Three episodes of four steps, of three instances; starts are redrawn in between."""
    task = dataclasses.replace(goal_tasks()["point-spiral-anywhere"], time_limit=0.4)
    env = kind(task, start_slots=2)
    states = jax.jit(jax.vmap(env.reset))(keys(3))
    step, refill = jax.jit(jax.vmap(env.step)), jax.jit(jax.vmap(env.refill))
    seen = []
    for t in range(15):
        seen.append(np.asarray(states.obs))
        states = step(states, np.zeros((3, 2), np.float32))
        states = refill(states) if t % 5 == 4 else states
    obs = np.stack(seen).reshape(3, 5, 3, 6)  # episode, row, instance
    goals = obs[..., 4:]
    assert (goals == goals[:, :1]).all()  # constant within an episode
    first = obs[:, 0][..., [0, 1, 4, 5]]  # start and goal
    for i in range(3):
        assert (first[:, i] != first[:, (i + 1) % 3]).any(-1).all()  # instances differ
    changes = (first[1:] != first[:-1]).any(-1)
    assert changes.all() if kind is MujocoEnv else not changes.any()


@pytest.mark.parametrize("name, sizes", [("point-umaze", 2), ("humanoid-goal", 3)])
def test_the_reward_has_its_edge_at_the_radius(name, sizes):
    env = environment(name)
    radius = env.spec.goal.radius
    goals = np.random.RandomState(0).randn(50, sizes).astype(np.float32)
    away = np.random.RandomState(1).randn(50, sizes)
    away = (away / np.linalg.norm(away, axis=1, keepdims=True)).astype(np.float32)
    between = env.task.reward.between
    np.testing.assert_array_equal(between(goals, goals + 0.999 * radius * away), 1)
    np.testing.assert_array_equal(between(goals, goals + 1.001 * radius * away), 0)
    dense = jaxrl.make(name, dense_reward=True, physics="native").task.reward.between
    np.testing.assert_allclose(dense(goals, goals + 3 * away), -3, rtol=1e-5)
    assert easy_radius(env.spec.goal) == pytest.approx(4 * radius)


def test_one_goal_can_be_commanded():
    env = jaxrl.make("ant-umaze", goal=[8, 12], dense_reward=True)
    state = jax.jit(env.reset)(jax.random.key(0))
    np.testing.assert_array_equal(state.obs[29:], [8, 12])
    np.testing.assert_array_equal(state.physics.mocap_pos[0, :2], [8, 12])
    state = jax.jit(env.step)(state, np.zeros(8, np.float32))
    assert state.reward == pytest.approx(-np.hypot(8 - state.obs[0], 12 - state.obs[1]), rel=1e-5)


@pytest.mark.parametrize("goal", [[1.0], [1.0, 2.0, 3.0], [np.nan, 0.0], 3.0])
def test_a_goal_of_the_wrong_size_is_one_line(goal):
    with pytest.raises(UsageError, match=r"ant-umaze takes a goal of 2 finite numbers \(m\)"):
        jaxrl.make("ant-umaze", goal=goal)


@pytest.mark.parametrize("options", [{"goal": [0.0]}, {"dense_reward": True}])
def test_goal_options_are_for_goal_tasks(options):
    with pytest.raises(UsageError, match="goal tasks, and walker-walk is none"):
        jaxrl.make("walker-walk", **options)


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("ant-goal", {0.19: True, 0.21: False, 3.0: False}),
        ("humanoid-goal", {0.99: True, 1.01: False, 1.99: False, 2.01: True}),
    ],
)
def test_a_fall_ends_the_episode_unless_told_otherwise(name, ends):
    """By the height of the torso."""
    state = environment(name).reset(jax.random.key(0))
    endless = jaxrl.make(name, terminate=False, physics="native").task
    for height, terminated in ends.items():
        qpos = state.physics.qpos.at[2].set(height)
        sim = Sim(state.physics.replace(qpos=qpos), {}, {})
        assert bool(environment(name).task.terminated(sim)) == terminated
        assert not endless.terminated(sim)


@pytest.mark.parametrize("name", NAMES)
def test_pictures_show_the_goal(name):
    env = environment(name)
    state = env.reset(jax.random.key(1))
    hidden = state.replace(
        physics=state.physics.replace(mocap_pos=state.physics.mocap_pos.at[0, 2].set(-50.0))
    )
    try:
        picture, without = (env.render(s, 160, 120).astype(int) for s in (state, hidden))
    except RenderingUnavailable as error:
        pytest.skip(str(error))
    changed = np.abs(picture - without).max(-1) > 30
    assert 4 < changed.sum() < 0.1 * changed.size
    assert picture[changed][:, 1].mean() > picture[changed][:, 0].mean() + 30  # green
    grey = np.abs(picture - np.median(picture, axis=(0, 1))).max(-1)
    assert (grey > 40).sum() > changed.sum()  # the body, and walls


@pytest.mark.parametrize("name, at, speed", [("ant-ball", (1.4, 0), 6), ("ant-push", (5.6, 8), 6)])
def test_an_ant_moves_the_object_that_it_runs_into(name, at, speed):
    """Towards +x; the object does not move while the ant is away from it."""
    model, data = environment(name).model, mujoco.MjData(environment(name).model)
    for touching in (False, True):
        mujoco.mj_resetData(model, data)
        environment(name).task.start(model, data, np.random.RandomState(0))
        data.qpos[:3] = (at[0] - 2.3, at[1], 0.7)
        data.qpos[3:7] = 1, 0, 0, 0
        data.qvel[:] = 0
        data.qvel[0] = speed * touching
        if name == "ant-ball":
            data.qpos[15:18] = *at, 0
        mujoco.mj_forward(model, data)
        before = data.body("object").xpos.copy()
        mujoco.mj_step(model, data, 60)
        moved = data.body("object").xpos - before
        assert moved[0] > 0.1 if touching else np.abs(moved[:2]).max() < 1e-3
        assert abs(moved[2]) < 0.05  # not lifted


def test_the_ball_stops_by_friction_with_the_floor():
    """v^2 / (2 mu g) with mu = 1, as measured in brax's spring physics: 0.2 m at 2 m/s."""
    model, data = environment("ant-ball").model, mujoco.MjData(environment("ant-ball").model)
    environment("ant-ball").task.start(model, data, np.random.RandomState(0))
    data.qpos[15:18] = 10, 10, 0
    mujoco.mj_step(model, data, 100)
    data.qvel[14] = 2.0
    mujoco.mj_step(model, data, 100)
    way = data.qpos[15:17] - 10
    assert np.linalg.norm(way) == pytest.approx(4 / (2 * 9.81), rel=0.1)
    assert np.abs(data.qvel[14:17]).max() < 0.01


def test_a_start_that_depends_on_the_goal_keeps_to_the_one_that_is_asked_for():
    """The object of the pusher is never at its goal already; the ball lies towards its goal."""
    goal = [0.45, -0.2, -0.323]
    env = jaxrl.make("pusher-easy", goal=goal)
    obs = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 64)).obs
    away = np.linalg.norm(obs[:, env.spec.goal.achieved][:, :2] - np.array(goal)[:2], axis=1)
    assert away.min() > 0.17 - 1e-3
    env = jaxrl.make("ant-ball", goal=[-4.0, 3.0])
    obs = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 64)).obs
    ball = obs[:, env.spec.goal.achieved]
    offset = ball - 0.2 * np.array([-4.0, 3.0])
    np.testing.assert_allclose(offset[:, 1], 0.6, atol=1e-3)  # the sine of the goal's angle
    assert np.abs(offset[:, 0]).max() <= 1 + 1e-3 and offset[:, 0].std() > 0.3
