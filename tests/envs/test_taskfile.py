"""Tasks of the user's own: found by file, tried out, and refused in one line that helps."""

import os
import re

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl.envs import taskfile
from jaxrl.errors import UsageError

FILE = """
import jax.numpy as jnp
import mujoco
from jaxrl.envs.task import Task

XML = '''
<mujoco>
  <worldbody><body>
    <joint name="hinge" axis="0 1 0" damping="1"/><geom size=".1" pos="0 0 -.5"/>
  </body></worldbody>
  <actuator><motor joint="hinge" ctrlrange="-2 3"/></actuator>
  <sensor><jointpos name="angle" joint="hinge"/></sensor>
</mujoco>'''

def model():
    return mujoco.MjSpec.from_string(XML)

def start(model, data, random):
    data.qpos[0] = random.uniform(1, 2)
    return {}

def observe(sim):
    return jnp.concatenate([sim.qpos, sim.qvel])

def angle(sim):
    return sim.sensor("angle")[0]

def reward(sim):
    return angle(sim)

def ended(sim):
    return sim.qvel[0] > 1e6

swing = Task(name="other", model=model, control_dt=0.02, time_limit=1.0, start=start,
             observe=observe, reward=reward, terminated=ended)
TASKS = [Task(name="listed", model=model, control_dt=0.04, time_limit=1.0, start=start,
              observe=observe, reward=reward)]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FILE)
    return tmp_path


def rewritten(folder, *changes: str) -> None:
    """Writes the file with each of (old, new), ..., some time after the last change."""
    text = FILE
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert text.count(old) >= 1
        text = text.replace(old, new)
    path = folder / "mine.py"
    then = path.stat().st_mtime + 1
    path.write_text(text)
    os.utime(path, (then, then))


def refused(name: str) -> str:
    with pytest.raises(UsageError) as caught:
        jaxrl.make(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["mine.py:listed", "./mine.py:listed", "{}/mine.py:listed"])
def test_a_task_of_a_file_runs(folder, name):
    env = jaxrl.make(name.format(folder))
    assert env.spec.name == "mine.py:listed"
    assert (env.spec.observation_size, env.spec.action_size) == (2, 1)
    assert (env.spec.action_low, env.spec.action_high) == ((-2.0,), (3.0,))
    assert (env.spec.episode_length, env.spec.control_dt) == (25, 0.04)
    state = jax.jit(env.reset)(jax.random.key(0))
    assert 1 < state.obs[0] < 2
    state = jax.jit(env.step)(state, np.zeros(1, np.float32))
    assert state.reward == state.obs[0] != 0


def test_a_variable_names_a_task_too(folder):
    assert jaxrl.make("mine.py:swing").spec.control_dt == 0.02
    assert "no task 'other'; there are: listed, swing" in refused("mine.py:other")


def test_two_files_of_one_name_are_two(folder):
    (folder / "b").mkdir()
    (folder / "b" / "mine.py").write_text(FILE.replace("control_dt=0.04", "control_dt=0.05"))
    assert jaxrl.make("mine.py:listed").spec.control_dt == 0.04
    assert jaxrl.make("b/mine.py:listed").spec.control_dt == 0.05


def test_a_changed_file_is_imported_again(folder):
    assert jaxrl.make("mine.py:listed").spec.control_dt == 0.04
    rewritten(folder, "control_dt=0.04", "control_dt=0.05")
    assert jaxrl.make("mine.py:listed").spec.control_dt == 0.05


def test_a_task_is_not_taken_for_one_of_the_suite(folder):
    """Whose solver iterations and missing features are in a table by name."""
    rewritten(folder, '"listed"', '"walker-walk"')
    env = jaxrl.make("mine.py:walker-walk")
    assert env.task.name == "mine.py:walker-walk"
    assert env.spec.observation_size == 2


def test_what_is_not_there_is_said(folder):
    assert refused("gone.py:x") == "there is no file gone.py to take the task 'x' from"
    mine = re.escape(f"{folder}/mine.py")
    assert re.fullmatch(
        f"{mine} defines no task 'x'; there are: listed, swing", refused("mine.py:x")
    )
    assert "defines its tasks by name, as in FILE.py:TASK; there are: listed" in refused("mine.py")
    (folder / "empty.py").write_text("")
    line = refused("empty.py:x")
    assert line.endswith("none; it needs a list TASKS, or a Task as a variable")
    for name in ("mine:listed", "mine.pyx:listed", ":listed"):
        assert refused(name).startswith(f"unknown task {name!r}")


FAILURES = {
    ("import mujoco\n", "import mujoko\n"): ("import mujoko", "ModuleNotFoundError: .*mujoko"),
    ("def reward(sim):", "def reward(sim:"): ("def reward", "SyntaxError: "),
    ("time_limit=1.0, ", ""): ("Task(name=", "TypeError: .*time_limit"),
    ("damping=", "dumping="): ("from_string(XML)", "ValueError: .*dumping"),
    ('sensor("angle")', 'sensor("angel")'): ("angel", "KeyError: 'angel'"),
    ("import mujoco\n", "import mujoco, sys; sys.exit(3)\n"): ("sys.exit", "SystemExit: 3"),
}
"""(old, new): (a part of the line to name, the reason)."""


@pytest.mark.parametrize("change", FAILURES)
def test_where_the_file_fails_is_said(folder, change):
    rewritten(folder, *change)
    line = refused("mine.py:swing")
    part, reason = FAILURES[change]
    found = re.match(rf"{folder}/mine.py, line (\d+): {reason}", line)
    assert found, line
    assert part in (folder / "mine.py").read_text().splitlines()[int(found[1]) - 1]


UNUSABLE = {
    ('sensor("angle")[0]', 'sensor("angle")'): (
        "reward must return an array [], got [1]; a sensor is [its dimension], so take [0]"
    ),
    ("jnp.concatenate([sim.qpos, sim.qvel])", "sim.qpos[0]"): (
        "observe must return an array [O], got []"
    ),
    ("jnp.concatenate([sim.qpos, sim.qvel])", "[sim.qpos]"): (
        "observe must return an array [O], got list"
    ),
    ("sim.qvel[0] > 1e6", "sim.qvel[0]"): "terminated must return bool, got float32",
    ("return {}", "pass"): "start must return a dict, {} if nothing is to keep, got None",
    ("control_dt=0.02", "control_dt=0.003"): (
        "ValueError: mine.py:swing: control_dt 0.003 s is not a multiple of the model's time step "
        "0.002 s"
    ),
    ("control_dt=0.02", "control_dt=-0.02"): "control_dt must be seconds above 0, got -0.02",
    ("control_dt=0.02, time_limit=1.0", "control_dt=0.02, time_limit=0.0"): (
        "time_limit must be seconds above 0, got 0.0"
    ),
    ("control_dt=0.02", "control_dt='fast'"): "control_dt must be seconds above 0, got 'fast'",
    ("return {}", "return {'x': random.uniform(size=random.randint(1, 9))}"): (
        "start must return the same shapes always: {'x': [7]}, then {'x': [6]}"
    ),
    ("TASKS = [", "TASKS = 1; rest = ["): "TASKS must be a list of Task, got 1",
    (' ctrlrange="-2 3"', ""): 'actuator 0 has no range; give it one: ctrlrange="-1 1"',
    ('<motor joint="hinge" ctrlrange="-2 3"/>', ""): "the model has no actuator",
}
"""(old, new): what is said."""


@pytest.mark.parametrize("change", UNUSABLE)
def test_what_cannot_be_used_is_said(folder, change):
    rewritten(folder, *change)
    assert refused("mine.py:swing") == f"{folder}/mine.py: {UNUSABLE[change]}"


def test_names_of_files_and_folders():
    assert taskfile.absolute("walker-walk") == taskfile.short("walker-walk") == "walker-walk"
    assert taskfile.absolute("../a.py:b") == f"{os.path.dirname(os.getcwd())}/a.py:b"
    assert taskfile.short("/some/where/mine.py:turn/fast") == "mine-turn-fast"
    assert taskfile.short("playground/Cart") == "playground-Cart"
