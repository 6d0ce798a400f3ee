"""Maps: what the text says is what is walled, reachable and drawn, and what it says otherwise."""

import jax
import mujoco
import numpy as np
import pytest
from scipy.sparse.csgraph import shortest_path

import jaxrl
from jaxrl.cli import main
from jaxrl.envs import taskfile
from jaxrl.envs.goal import mazes
from jaxrl.envs.goal.options import goal_tasks
from jaxrl.envs.mujoco_env import MujocoEnv
from jaxrl.envs.rendering import RenderingUnavailable
from jaxrl.errors import UsageError

MAPS = {
    name: mazes.parse(getattr(mazes, name), 2.0, cells="#.RGM")
    for name in ("U_MAZE", "BIG_MAZE", "HARDEST_MAZE", "SPIRAL", "PUSH_MAZE")
}


@pytest.mark.parametrize("name", MAPS)
def test_boxes_cover_the_walls_once_and_close_the_outside(name):
    maze = MAPS[name]
    size = np.array([len(maze.rows), len(maze.rows[0])])
    covered = np.zeros(size + 2, int)  # with the ring of cells around the map
    for first, last in maze.walls():
        covered[first[0] + 1 : last[0] + 2, first[1] + 1 : last[1] + 2] += 1
    for cell in np.ndindex(*size):
        assert covered[cell[0] + 1, cell[1] + 1] == (maze.rows[cell[0]][cell[1]] == "#")
    ring = covered.copy()
    ring[1:-1, 1:-1] = 0
    open_at_the_border = name in ("SPIRAL", "PUSH_MAZE")
    assert ring.sum() == open_at_the_border * (2 * size.sum() + 4)
    assert len(maze.walls()) < covered.sum() / 2


@pytest.mark.parametrize("name", MAPS)
def test_ways_are_the_shortest(name):
    maze = MAPS[name]
    apart = np.abs(maze.free[:, None] - maze.free[None]).sum(-1)
    ways = shortest_path((apart == 1).astype(float))
    for number, start in enumerate(maze.free):
        steps = maze.steps_from(start)
        np.testing.assert_array_equal(steps[tuple(maze.free.T)], ways[number])
        assert (steps[tuple(maze.where("#").T)] == -1).all()


def test_sgcrls_way_leads_through_54_cells():
    spiral = MAPS["SPIRAL"]
    np.testing.assert_array_equal(spiral.starts, [[5, 5]])
    np.testing.assert_array_equal(spiral.goals, [[10, 10]])
    assert spiral.steps_from(np.array([5, 5]))[10, 10] == 54


def test_positions_and_cells_are_inverse():
    maze = MAPS["U_MAZE"]
    np.testing.assert_array_equal(maze.centre(maze.goals[0]), [2.0, 4.0])
    random = np.random.RandomState(0)
    for cell in maze.free:
        drawn = np.array([maze.draw(cell[None], random, 1.0) for _ in range(50)])
        np.testing.assert_array_equal(maze.cell_of(drawn), np.broadcast_to(cell, (50, 2)))
        assert np.abs(drawn - maze.centre(cell)).max() > 0.7
    np.testing.assert_array_equal(maze.draw(maze.starts, random, 0.0), [2.0, 2.0])


@pytest.mark.parametrize(
    "text, words",
    [
        ("###\n#x#\n###", ["line 2", "'x'"]),
        ("####\n#.#\n####", ["line 2 has 3 cells", "line 1 has 4"]),
        ("###\n###", ["no free cell"]),
        ("", ["no free cell"]),
        ("R#G", ["no way", "column 1", "column 3"]),
        (".#.", ["no way", "mark starts with R"]),
        ("R.M", ["line 1", "'M'"]),
    ],
)
def test_a_bad_map_is_one_line(text, words, tmp_path, capsys):
    path = tmp_path / "map.txt"
    path.write_text(text)
    for kind in ("point-map", "ant-map"):
        with pytest.raises(UsageError) as caught:
            jaxrl.make(f"{kind}:{path}")
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
        assert all(word in str(caught.value) for word in words)
    assert main(["train", "gqn", f"point-map:{path}"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_missing_map_is_one_line(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read the maze .*nowhere\.txt"):
        jaxrl.make(f"point-map:{tmp_path / 'nowhere.txt'}")


def test_a_map_of_ones_own(tmp_path):
    """The example of docs/goal_tasks.md."""
    path = tmp_path / "zigzag.txt"
    path.write_text("R.#..\n#...#\n#.#.G\n")
    ball, ant = jaxrl.make(f"point-map:{path}"), jaxrl.make(f"ant-map:{path}")
    assert ball.spec.name == f"point-map:{path}"
    state = jax.jit(ball.reset)(jax.random.key(0))
    np.testing.assert_allclose(state.obs[:2], [0, 0], atol=0.25)
    np.testing.assert_allclose(state.obs[4:], [2, 4], atol=0.25)
    state = jax.jit(ant.reset)(jax.random.key(0))
    np.testing.assert_array_equal(np.concatenate([state.obs[:2], state.obs[29:]]), [0, 0, 8, 16])


def test_a_map_that_has_changed_is_told_from_the_one_before(tmp_path, monkeypatch):
    """So that a resume notices: its path is absolute in config.json, and beside it are hashes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "maze.txt").write_text("R..G\n....\n")
    name = taskfile.absolute("point-map:maze.txt")
    assert name == f"point-map:{tmp_path / 'maze.txt'}"
    assert taskfile.short("point-map:maze.txt") == "point-map-maze"
    file, model = taskfile.hashes(name)
    (tmp_path / "maze.txt").write_text("R.#G\n....\n")
    changed = taskfile.hashes("point-map:maze.txt")
    assert changed[0] != file and changed[1] != model
    assert taskfile.hashes("point-umaze") is None and taskfile.short("point-umaze") == "point-umaze"


def environment(name):
    return MujocoEnv(goal_tasks()[name])


def maze_of(name):
    return goal_tasks()[name].model.args[0]


@pytest.mark.parametrize("name", ["point-umaze", "point-medium", "point-spiral-anywhere"])
def test_a_ball_at_full_force_stays_in_free_cells(name):
    model, maze = environment(name).model, maze_of(name)
    data = mujoco.MjData(model)
    cells = set()
    for start in maze.free:
        for angle in np.arange(0, 2 * np.pi, np.pi / 4):
            mujoco.mj_resetData(model, data)
            data.qpos[:] = maze.centre(start)
            data.ctrl[:] = np.sign(np.round([np.cos(angle), np.sin(angle)], 6))
            for _ in range(200):
                mujoco.mj_step(model, data)
            cell = tuple(int(x) for x in maze.cell_of(data.qpos))
            assert maze.steps_from(start)[cell] >= 0
            cells.add(cell)
    assert len(cells) > 4  # it did move


@pytest.mark.parametrize("direction", [(1, 0), (-1, 0), (0, -1)])
def test_a_flying_ant_stays_in_free_cells(direction):
    env, maze = environment("ant-umaze"), maze_of("ant-umaze")
    data = mujoco.MjData(env.model)
    env.task.start(env.model, data, np.random.RandomState(0))
    data.qvel[:2] = 15 * np.array(direction)
    furthest = 0.0
    for _ in range(200):
        mujoco.mj_step(env.model, data)
        assert tuple(maze.cell_of(data.qpos[:2])) in {(1, 1), (1, 2)}
        furthest = max(furthest, np.abs(data.qpos[:2] - 4.0).max())
    assert furthest > 1.0


def test_the_picture_shows_the_text():
    env, maze = environment("point-umaze"), maze_of("point-umaze")
    state = env.reset(jax.random.key(0))
    far = state.physics.mocap_pos.at[:].set(1e3)
    size = 200
    try:
        picture = env.render(
            state.replace(physics=state.physics.replace(mocap_pos=far)), size, size
        )
    except RenderingUnavailable as error:
        pytest.skip(str(error))
    camera = env.model.camera("scene")
    pixels = size / 2 / np.tan(np.radians(camera.fovy[0] / 2)) / (camera.pos[2] - 0.25)
    for i, j in np.ndindex(5, 5):
        if maze.rows[i][j] == "R":
            continue  # the ball is there
        row, column = (size / 2 + pixels * (np.array([i, j]) - camera.pos[:2])).astype(int)
        red, _, blue = picture[row, column].astype(int)
        assert (red - blue > 40) == (maze.rows[i][j] == "#"), (i, j, picture[row, column])
