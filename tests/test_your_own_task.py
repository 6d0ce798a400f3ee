"""docs/your_own_task.md does what it says: its code is run as it stands there."""

from __future__ import annotations

import functools
import json
import re
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl.cli import main
from jaxrl.envs.physics import warp
from jaxrl.envs.rendering import RenderingUnavailable
from jaxrl.errors import UsageError
from tests.envs.episodes import keys, random_actions
from tests.train import runs

PAGE = Path(__file__).parents[1] / "docs" / "your_own_task.md"
RUN = Path("runs", "gqn_balancer-balance_s0")
CUT_SHORT = ("--steps", "400", "--eval-every", "400", "--chunk-steps", "200")


@functools.cache
def blocks(language: str) -> list[str]:
    """The page's code in that language, "" for none, block by block."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [code for kind, code in found if kind == language]


def write_files(folder: Path, *changes: str) -> None:
    """The page's two files, with `new` for `old` in either for each (old, new)."""
    for name, text in (("balancer.xml", blocks("xml")[0]), ("balancer.py", blocks("python")[0])):
        for old, new in zip(changes[::2], changes[1::2], strict=True):
            text = text.replace(old, new)
        (folder / name).write_text(text)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with the two files."""
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    return tmp_path


def command(line: str) -> int:
    """Runs `jaxrl ...`; training is cut short."""
    program, *words = shlex.split(line)
    assert program == "jaxrl"
    if words[0] == "train":
        words += [*runs.SMALL, *CUT_SHORT]
    return main(words)


def test_the_task_is_about_thirty_lines():
    code = blocks("python")[0].split("def model")[1]
    assert 25 <= len([line for line in code.splitlines() if line.strip()]) <= 45


def test_a_look_at_it(folder):
    names: dict = {}
    try:
        exec(blocks("python")[1], names)
    except RenderingUnavailable as error:
        pytest.skip(str(error))
    assert names["env"].spec.name == "balancer.py:balance"
    assert names["env"].spec.episode_length == 500
    assert names["pixels"].std() > 10


def test_upright_is_rewarded_and_a_fall_ends_the_episode(folder):
    env = jaxrl.make("balancer.py:balance")
    step = jax.jit(env.step)
    state = jax.jit(env.reset)(jax.random.key(0))
    rewards, tilts = [], []
    while not state.last:
        state = step(state, np.zeros(2, np.float32))
        rewards.append(float(state.reward))
        tilts.append(float(state.obs[0]))
    assert state.terminated and not state.truncated
    assert len(rewards) < 100
    assert rewards[0] > 0.9 > 0.1 > rewards[-1]
    assert tilts[-1] < 0.5 <= tilts[-2]
    drive = jaxrl.make("balancer.py:drive")
    assert jax.jit(drive.step)(drive.reset(jax.random.key(0)), np.zeros(2)).reward < 0.2


def test_the_commands(folder, tmp_path, monkeypatch, capsys):
    """In the order of the page; then the run is used from another folder."""
    train, others = blocks("sh")[0].splitlines(), blocks("sh")[1].splitlines()
    assert [command(line) for line in train] == [0]
    config = json.loads((RUN / "config.json").read_text())
    assert config["env_id"] == f"{tmp_path}/balancer.py:balance"
    # Episodes end at a fall, several of an instance in a chunk, and each starts anew.
    episodes = 400 - runs.column(RUN, "charts/transitions")[400]
    assert episodes > 4 * 400 / 200
    assert set(runs.column(RUN, "charts/starts_reused").values()) == {0}
    said = {}
    for line in others:
        capsys.readouterr()
        code, word = command(line), line.split()[1]
        said[word] = capsys.readouterr().out
        assert code == 0 or (word == "render" and "OpenGL" in said["render"])
    assert said["eval"].startswith("balancer.py:balance, checkpoint at step 400, 10 greedy")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert command(f"jaxrl eval {tmp_path / RUN}") == 0
    assert capsys.readouterr().out == said["eval"]
    monkeypatch.chdir(tmp_path)
    assert_changes_are_noticed(train[0], capsys)


def assert_changes_are_noticed(train: str, capsys) -> None:
    def refused(line: str) -> str:
        capsys.readouterr()
        assert command(line) == 2
        return capsys.readouterr().err

    write_files(Path(), '"""A robot', '"""The robot')
    assert command(f"{train} --resume") == 0
    write_files(Path(), "margin=0.5", "margin=0.4")
    assert f"{RUN} was run with task_file_hash = '" in refused(f"{train} --resume")
    write_files(Path(), 'mass="2"', 'mass="3"')
    assert f"{RUN} was run with task_model_hash = '" in refused(f"{train} --resume")
    Path("balancer.py").unlink()
    missing = f"there is no file {Path.cwd()}/balancer.py to take the task 'balance' from"
    for words in ("eval", "render", "export"):
        assert refused(f"jaxrl {words} {RUN}") == f"jaxrl: {RUN}/config.json: {missing}\n"


def test_mistakes_are_said_as_on_the_page(folder):
    mistakes = [
        ('"velocity")[0] -', '"velocty")[0] -'),
        ('"up")[2], (0.95', '"up")[2:], (0.95'),
        (' name="left" joint="left" ctrlrange="-1 1"', ' name="left" joint="left"'),
    ]
    told = blocks("")[0].splitlines()
    for (old, new), expected in zip(mistakes, told, strict=True):
        write_files(folder, old, new)
        with pytest.raises(UsageError) as caught:
            jaxrl.make("./balancer.py:balance")
        assert str(caught.value) == f"{folder}/{expected}"


@pytest.mark.parametrize("engine", ["mjx", "warp"])
def test_other_engines(folder, engine):
    """A step of theirs is a step of native's; mjx is asked for as on the page."""
    names = {"jaxrl": jaxrl}
    if engine == "warp" and not warp.installed():
        pytest.skip("warp-lang is not installed (extra cuda)")
    exec(blocks("python")[2].replace("mjx", engine), names)
    ours, native = names["env"], jaxrl.make("balancer.py:balance")
    assert engine in type(ours.engine if engine == "mjx" else ours.env.engine).__name__.lower()
    states = jax.jit(jax.vmap(ours.reset))(keys(8))
    actions = random_actions(native, 8)
    stepped = jax.jit(jax.vmap(ours.step))(states, actions)
    expected = jax.jit(jax.vmap(native.step))(states, actions)
    np.testing.assert_allclose(stepped.obs, expected.obs, atol=2e-3)
    np.testing.assert_allclose(stepped.reward, expected.reward, atol=2e-3)
    assert np.abs(stepped.obs - states.obs).max() > 0.1
