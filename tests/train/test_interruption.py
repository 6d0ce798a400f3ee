"""Runs that end early: a signal, a kill, an exception. Resumed, they equal one that was not."""

from __future__ import annotations

import shlex
import signal
import zlib

import pytest

from jaxrl import agents
from jaxrl.cli import INTERRUPTED, main
from jaxrl.envs.physics.native import Native
from jaxrl.train import runner
from tests.train import runs

PHYSICS = shlex.split(
    "--steps 600 --num-envs 2 --learning-starts 100 --chunk-steps 40 --eval-every 300 "
    "--eval-episodes 1 --action-repeat 4"
)
"""A run of 600 rows on the C engine; each of the three evaluations calls it 1,000 times."""

CALLS = 4 * (300 + 3 * 250)
"""Calls of the engine in such a run: evaluations step 250 times."""


def interrupted(number: str, moment: str, count: int, arguments: list[str]):
    """The run, ended by a signal at the `count`-th call at a moment."""
    return runs.child([number, moment, str(count), *arguments], module="tests.train.killed")


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    return runs.train(tmp_path_factory.mktemp("whole") / "run", *runs.EACH_CHUNK)


@pytest.mark.parametrize(("number", "count"), [("SIGINT", 5), ("SIGTERM", 1)])
def test_a_signal_ends_a_run_cleanly(tmp_path, whole_run, number, count):
    """At the very first line, too: the evaluation at step 0 must not happen twice."""
    path = tmp_path / "run"
    ended = interrupted(number, "metrics", count, runs.command(path, *runs.EACH_CHUNK))
    assert ended.returncode == INTERRUPTED == 75
    assert ended.stderr == ""
    stopped = runs.steps(path)[-1]
    said = f"{number}: stopped at step {stopped:,} with a checkpoint; --resume goes on"
    assert said in ended.stdout.splitlines()
    assert stopped == runs.records(path)[-1]["global_step"] == 100 * (count - 1)
    assert (path / "curve.png").exists()
    assert not (path / "policy.mp4").exists()
    assert main(["eval", str(path)]) == 0
    runs.train(path, *runs.EACH_CHUNK, "--resume")
    runs.assert_same_run(path, whole_run)


@pytest.mark.parametrize(("moment", "count"), [("metrics", 1), ("writing", 9)])
def test_a_killed_run_resumes_bit_for_bit(tmp_path, whole_run, moment, count):
    """Before its first checkpoint, and while one is being written."""
    path = tmp_path / "run"
    ended = interrupted("SIGKILL", moment, count, runs.command(path, *runs.EACH_CHUNK))
    assert ended.returncode == -signal.SIGKILL
    runs.train(path, *runs.EACH_CHUNK, "--resume")
    runs.assert_same_run(path, whole_run)


@pytest.mark.parametrize("agent", agents.online())
def test_every_agent_survives_a_kill_at_a_random_moment(tmp_path, agent):
    """A moment inside a compiled program, random but for the agent's name."""
    names = {"agent": agent, "task": runs.PHYSICS_TASK.get(agent, "cartpole-swingup")}
    whole = runs.train(tmp_path / "whole", *PHYSICS, **names)
    path = tmp_path / "killed"
    arguments = runs.command(path, *PHYSICS, *runs.EACH_CHUNK, **names)
    count = 1 + zlib.crc32(agent.encode()) % CALLS
    ended = interrupted("SIGKILL", "physics", count, arguments)
    assert ended.returncode == -signal.SIGKILL, f"{count} of {CALLS}: {ended.stdout}{ended.stderr}"
    assert main([*arguments, "--resume"]) == 0
    runs.assert_same_run(path, whole)


def test_a_run_that_cannot_begin_closes_its_checkpoints(tmp_path, monkeypatch):
    """Or Orbax's threads complain when the interpreter shuts down."""
    closed = []
    monkeypatch.setattr(runner, "weak_leaves", lambda tree: ["env.task"])
    monkeypatch.setattr(runner.Checkpoints, "close", lambda self: closed.append(self))
    with pytest.raises(AssertionError, match=r"recompile silently: \['env.task'\]"):
        main(runs.command(tmp_path / "run"))
    assert len(closed) == 1


def test_an_exception_in_a_callback_leaves_the_run_whole(tmp_path, monkeypatch, capfd):
    roll, calls = Native._roll, []

    def break_down(self, *arguments):
        calls.append(None)
        if len(calls) == CALLS * 3 // 4:
            raise RuntimeError("the simulator broke")
        return roll(self, *arguments)

    path = tmp_path / "run"
    arguments = runs.command(path, *PHYSICS, *runs.EACH_CHUNK, task="cartpole-swingup")
    monkeypatch.setattr(Native, "_roll", break_down)
    assert main(arguments) == 1
    monkeypatch.undo()
    (line,) = [x for x in capfd.readouterr().err.splitlines() if x.startswith("jaxrl: ")]
    last = runs.steps(path)[-1]
    assert line.startswith("jaxrl: the run failed after step ")
    assert "the simulator broke" in line
    said = f"; the last checkpoint is at step {last:,} in {path}, the traceback in error.txt"
    assert line.endswith(said)
    assert "in break_down" in (path / "error.txt").read_text()
    assert runs.records(path)[-1]["global_step"] >= last > 100
    assert main(["eval", str(path), "--episodes", "1"]) == 0
