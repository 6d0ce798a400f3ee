"""Each command on a run made here: what it prints, writes and returns."""

from __future__ import annotations

import dataclasses
import importlib.util
import re

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl import agents
from jaxrl.cli import commands, main
from jaxrl.envs.probe import Probe
from jaxrl.envs.registry import make, names
from jaxrl.envs.rendering import RenderingUnavailable
from jaxrl.train import media
from jaxrl.train.config import OfflineConfig, TrainConfig
from tests.train import runs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trained long enough to have learned to take the signal for the action."""
    return runs.train(tmp_path_factory.mktemp("commands") / "run", *runs.EACH_CHUNK)


def printed(capsys, *arguments, code=0):
    """Lines on standard output; there are none on the other."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == code
    said = capsys.readouterr()
    assert said.err == ""
    return said.out.splitlines()


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"jaxrl {jaxrl.__version__}\n"


def test_help_names_every_command(capsys):
    told = "\n".join(printed(capsys, "--help"))
    for command in commands.COMMANDS:
        assert re.search(rf"^  {command} ", told, re.MULTILINE)
    assert printed(capsys, "train", "--help")[-1] == f"agents: {', '.join(agents.defaults())}"


@pytest.mark.parametrize("agent", agents.defaults())
def test_help_documents_every_option(capsys, monkeypatch, agent):
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as exit:
        main(["train", agent, "--help"])
    assert exit.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    config = OfflineConfig if agent in agents.offline() else TrainConfig
    for fields in (dataclasses.fields(config), dataclasses.fields(agents.default(agent))):
        for field in fields:
            option = f"--{field.name.replace('_', '-')}"
            if field.type in ("_goals.Slice", "_goals.Radius"):  # the task says them, not a person
                assert not re.search(rf"{option}(?![\w-])", told), option
                continue
            assert re.search(rf"{option}(?![\w-]).+?\w+.+?\(default: ", told), option


def test_envs_lists_every_task_with_its_sizes(capsys):
    head, *lines, empty, note = printed(capsys, "envs")
    assert head.split()[0] == "task"
    assert empty == "" and note.startswith("The speed of warp is unmeasured")
    assert [line.split()[0] for line in lines] == names()
    for line in lines:
        name, observations, actions, period, steps, engines = line.split(maxsplit=5)
        spec = make(name).spec
        able = ("native, mjx, warp", "native, warp", "-")
        assert engines.split("; no ")[0] in (("spring (brax)",) if "/" in name else able), name
        assert ("no mjx: " in engines) == (engines.startswith("native, warp")), name
        assert (int(observations), int(actions)) == (spec.observation_size, spec.action_size)
        assert (float(period), int(steps)) == (spec.control_dt, spec.episode_length)


def test_doctor_tells_what_a_run_would_use(capsys):
    told = dict(line.split(maxsplit=1) for line in printed(capsys, "doctor"))
    assert told["jax"] == jax.__version__
    assert told["jaxrl"] in (jaxrl.__version__, "source tree")
    assert jax.default_backend() in told["devices"]
    assert int(told["threads"]) >= 1
    expected = {"processor", "instructions", "physics", "cache", "commit", "python", "mujoco"}
    assert expected <= told.keys()


def test_eval_is_a_function_of_run_seed_and_step(capsys, run):
    lines = printed(capsys, "eval", run, "--episodes", "5")
    assert lines[0] == "probe-both, checkpoint at step 2,000, 5 greedy episodes"
    assert lines[1].split() == ["return", "1.0", "±", "0.0"]
    assert printed(capsys, "eval", run, "--episodes", "5") == lines
    assert "step 1,900" in printed(capsys, "eval", run, "--step", "1900")[0]
    assert printed(capsys, "eval", run, "--explore")[0].endswith("10 exploring episodes")


def test_eval_of_another_task_of_the_same_sizes(capsys, run):
    """The signal is +-1, and five episodes of one seed hold both."""
    lines = printed(capsys, "eval", run, "--task", "probe-observation", "--episodes", "20")
    assert lines[0].startswith("probe-observation, ")
    mean, deviation = (float(lines[1].split()[i]) for i in (1, 3))
    assert abs(mean) < 1
    assert deviation == pytest.approx(np.sqrt(1 - mean**2), abs=0.06)


def test_render_films_the_policy(capsys, run, tmp_path):
    assert printed(capsys, "render", run) == [f"video    {run / 'policy.mp4'}"]
    assert b"ftyp" in (run / "policy.mp4").read_bytes()[:16]
    film = tmp_path / "film.mp4"
    assert printed(capsys, "render", run, "--out", film, "--seed", "1") == [f"video    {film}"]
    assert film.stat().st_size > 500


@pytest.mark.parametrize("reason", ["no OpenGL: install libegl1", "ffmpeg failed"])
def test_a_film_that_cannot_be_made_is_one_line(capsys, run, tmp_path, monkeypatch, reason):
    """`render` fails; a finished training does not."""

    def fail(*arguments, **options):
        raise RenderingUnavailable(reason) if "OpenGL" in reason else RuntimeError(reason)

    owner, name = (Probe, "render") if "OpenGL" in reason else (media, "save_video")
    monkeypatch.setattr(owner, name, fail)
    film = tmp_path / "film.mp4"
    line = f"video    not written: {reason}"
    assert printed(capsys, "render", run, "--out", film, code=1) == [line]
    assert not film.exists()
    arguments = runs.command(tmp_path / "run", "--steps", "200", "--eval-every", "200", "--video")
    assert line in printed(capsys, *arguments)


def test_training_tells_where_everything_lies(capsys, tmp_path):
    path = tmp_path / "run"
    first, *lines = printed(capsys, *runs.command(path))
    assert first.startswith("gqn on probe-both: 2,000 steps, physics none, replay ")
    assert first.endswith(f" MiB, run folder {path}")
    steps = [int(line.split()[1].replace(",", "")) for line in lines if line.startswith("step")]
    assert steps == [0, 500, 1000, 1500, 2000]
    assert lines[-3:] == [
        "return   1.0 at the last evaluation",
        f"curve    {path / 'curve.png'}",
        f"metrics  {path / 'metrics.jsonl'}",
    ]


def test_wandb_without_the_extra_is_refused_before_anything_is_made(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(runs.command(tmp_path / "run", "--wandb")) == 2
    said = capsys.readouterr()
    assert said.err == "jaxrl: --wandb needs the extra: pip install 'jaxrl[wandb]'\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (BrokenPipeError, 141)])
def test_an_interruption_outside_of_training_is_no_traceback(capfd, monkeypatch, error, code):
    def stop(arguments):
        raise error

    monkeypatch.setitem(commands.COMMANDS, "envs", stop)
    monkeypatch.setattr("os.dup2", lambda *descriptors: None)  # pytest needs its standard output
    assert main(["envs"]) == code
    assert capfd.readouterr().err == ("jaxrl: interrupted\n" if code == 130 else "")
