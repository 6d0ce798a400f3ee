"""Bad input: exit code 2, one line on standard error that helps, nothing else, nothing on disk."""

from __future__ import annotations

import json
import shutil

import jax
import pytest

from jaxrl import agents
from jaxrl.cli import commands, main
from jaxrl.train import config
from jaxrl.train.online import OnlineLoop
from tests.train import runs

AGENTS, COMMANDS = ", ".join(agents.defaults()), ", ".join(commands.COMMANDS)
HELP = "(jaxrl train gqn --help says more)"
TRAIN = "train gqn probe-both"
SAC_HELP = HELP.replace("gqn", "sac")
NEAR = "did you mean 'walker-walk', 'walker-stand', 'walker-run'?"

DAMAGED = "run/config.json is damaged or of another version of jaxrl: "

TABLE = {
    # Names.
    "": f"COMMAND is missing; there are: {COMMANDS} (jaxrl --help says more)",
    "trian gqn walker-walk": f"unknown command 'trian'; there are: {COMMANDS}",
    "train qgn walker-walk": f"unknown agent 'qgn'; did you mean 'gqn'? There are: {AGENTS}",
    "train gqn walker-wlak": f"unknown task 'walker-wlak'; {NEAR}",
    "train": f"AGENT is missing: jaxrl train AGENT TASK [options]; there are: {AGENTS}",
    "train --steps 5": f"AGENT is missing: jaxrl train AGENT TASK [options]; there are: {AGENTS}",
    "train gqn": (
        "TASK is missing: Name of the task (`jaxrl envs` lists them), or FILE.py:TASK of your own "
        f"{HELP}"
    ),
    f"{TRAIN} --physics fast": (
        "unknown physics engine 'fast'; there are: auto, native, mjx, warp"
    ),
    # Options and their types.
    f"{TRAIN} --lrr 3": f"unrecognized options: --lrr, 3 {HELP}",
    f"{TRAIN} --num-env 3": (
        f"unrecognized options: --num-env, 3; did you mean --num-envs? {HELP}"
    ),
    f"{TRAIN} extra": f"unrecognized options: extra {HELP}",
    f"{TRAIN} --steps": f"missing value for argument '--steps'. Expected 1 values {HELP}",
    f"{TRAIN} --steps 1e5": f"--steps takes a whole number, got '1e5' {HELP}",
    f"{TRAIN} --steps=many": f"--steps takes a whole number, got 'many' {HELP}",
    f"{TRAIN} --learning-rate fast": f"--learning-rate takes a number, got 'fast' {HELP}",
    f"{TRAIN} --bins 2 x": f"--bins takes [INT [INT ...]], got '2' 'x' {HELP}",
    f"{TRAIN} --x---y": f"unrecognized options: --x---y {HELP}",
    f"{TRAIN} --growth quick": (
        "invalid choice 'quick' for argument '--growth'. Expected one of ('linear', 'adaptive') "
        f"{HELP}"
    ),
    # Numbers that cannot be.
    f"{TRAIN} --bins 2 4 9": (
        "the grid of 4 bins is no part of the grid of 9: 9 - 1 must be a multiple of 4 - 1, as in "
        f"2 3 5 9 or 9 17 33 65; got (2, 4, 9) {HELP}"
    ),
    f"{TRAIN} --bins 9 5": f"bins must grow from level to level, got (9, 5) {HELP}",
    f"{TRAIN} --bins 1": f"bins must be at least 2 on every level, got (1,) {HELP}",
    f"{TRAIN} --bins": f"bins must be at least 2 on every level, got () {HELP}",
    f"{TRAIN} --steps 0": f"--steps must be at least 1, got 0 {HELP}",
    f"{TRAIN} --steps -8": f"--steps must be at least 1, got -8 {HELP}",
    f"{TRAIN} --num-envs 0": f"--num-envs must be at least 1, got 0 {HELP}",
    f"{TRAIN} --keep 0": f"--keep must be at least 1, got 0 {HELP}",
    f"{TRAIN} --width 0": f"width must be at least 1, got 0 {HELP}",
    f"{TRAIN} --seed -1": f"--seed must be in [0, 2^32), got -1 {HELP}",
    f"{TRAIN} --checkpoint-minutes 0": f"--checkpoint-minutes must be positive, got 0.0 {HELP}",
    f"{TRAIN} --checkpoint-minutes nan": f"--checkpoint-minutes must be positive, got nan {HELP}",
    f"{TRAIN} --action-cost -1": "action cost must be at least 0, got -1.0",
    f"{TRAIN} --action-repeat 0": "action repeat must be at least 1, got 0",
    # Combinations that cannot be.
    f"{TRAIN} --overwrite --resume": (
        f"--overwrite deletes the run that --resume would go on with; give one {HELP}"
    ),
    f"{TRAIN} --steps 2003": (
        "--steps 2_003 is no multiple of 8 (num_envs 8, one update per 8 steps); the nearest are "
        "2_000 or 2_008"
    ),
    f"{TRAIN} --steps 1_100_001 --num-envs 6": (
        "--steps 1_100_001 is no multiple of 24 (num_envs 6, one update per 8 steps); the nearest "
        "are 1_099_992 or 1_100_016"
    ),
    f"{TRAIN} --capacity 100": (
        "--capacity 100 is below the batch of 256; give --capacity 256 or more, or a smaller "
        "--batch-size"
    ),
    f"{TRAIN} --capacity 3_000_000_000": (
        "--capacity 3_000_000_000 is more than the 2_147_483_647 rows that an index of 32 bits can "
        "tell apart"
    ),
    f"{TRAIN} --num-envs 64 --learning-starts 64": (
        "--capacity and --learning-starts must be at least 320 for 64 instances and 3-step "
        "returns, got 1_000_000 and 64"
    ),
    f"{TRAIN} --steps 2000 --learning-starts 2000": (
        "--steps 2_000 leaves nothing to learn: learning starts at 2_000; give more steps or a "
        "smaller --learning-starts"
    ),
    f"{TRAIN} --num-envs 512 --steps 3072 --learning-starts 2600": (
        "--steps 3_072 leaves nothing to learn: learning starts at 3_072; give more steps or a "
        "smaller --learning-starts"
    ),
    f"{TRAIN} --epsilon 1.5": f"epsilon must be within 0 and 1, got 1.5 {HELP}",
    f"{TRAIN} --discount 99": f"discount must be within 0 and 1, got 99.0 {HELP}",
    f"{TRAIN} --learning-rate -1": "learning_rate must be at least 0, got -1.0",
    f"{TRAIN} --huber-delta nan": "huber_delta must be finite, got nan",
    "train iql probe-both --dataset x --expectile 1.5": (
        f"expectile must be within 0 and 1, got 1.5 {HELP.replace('gqn', 'iql')}"
    ),
    "train td3_bc probe-both --dataset x --tau 7": (
        f"tau must be within 0 and 1, got 7.0 {HELP.replace('gqn', 'td3_bc')}"
    ),
    f"{TRAIN} --head c51 --value-low 100 --value-high -50": (
        f"value_low must be below value_high, got 100.0 and -50.0 {HELP}"
    ),
    "train sac probe-both --hindsight-share 8": (
        f"hindsight_share must be within 0 and 1, got 8.0 {SAC_HELP}"
    ),
    "train sac probe-both --initial-temperature -1": (
        f"initial_temperature must be above 0, got -1.0 {SAC_HELP}"
    ),
    "train sac probe-both --hindsight-dense": (
        "--hindsight-dense says nothing without --hindsight: give one"
    ),
    f"{TRAIN} --out /dev/null/run": (
        "cannot write the run folder /dev/null/run: [Errno 20] Not a directory: '/dev/null/run'"
    ),
    "train decqn probe-both --bins 2 3": (
        "decqn keeps one resolution, got --bins 2 3; gqn grows through several"
    ),
    # The other commands.
    "eval": "RUN is missing: Run folder (jaxrl eval --help says more)",
    "eval nowhere": "nowhere holds no run: there is no config.json in it",
    "render nowhere": "nowhere holds no run: there is no config.json in it",
    "export nowhere": "nowhere holds no run: there is no config.json in it",
    "eval nowhere --seed -1": "--seed must be in [0, 2^32), got -1",
    "render nowhere --seed 99999999999999999999": (
        "--seed must be in [0, 2^32), got 99999999999999999999"
    ),
    "report nowhere --out no/x.html": "there is no folder no to write x.html to",
    "report nowhere --figures /dev/null": "--figures /dev/null is no folder",
    "eval nowhere --episodes 0": "--episodes must be at least 1, got 0",
    "eval nowhere --episodes two": (
        "--episodes takes a whole number, got 'two' (jaxrl eval --help says more)"
    ),
    "envs all": "unrecognized options: all (jaxrl envs --help says more)",
    "doctor --fix": "unrecognized options: --fix (jaxrl doctor --help says more)",
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Runs land in ./runs unless --out says otherwise."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[]", "run/config.json is no run's: it has no env_id and no exp_name and no agent and no"),
        ('{"env_id": "x", "exp_name": "gqn"}', "run/config.json is no run's: it has no agent and"),
        (
            '{"env_id": "x", "exp_name": "gqn", "agent": {}, "run": {"steps": "9"}}',
            "run/config.json is damaged: run.steps should be int, got '9'",
        ),
        ("{", "run/config.json cannot be read: "),
    ],
)
@pytest.mark.parametrize("command", ["eval", "dataset"])
def test_a_damaged_configuration_is_one_line(capfd, tmp_path, command, text, line):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(text)
    assert refused(capfd, [command, "run"]).startswith(line)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"agent": {"learning_rate": "x"}}, DAMAGED),
        ({"agent": {"precision": "float8"}}, DAMAGED),
        ({"agent": {"gone": 1}, "versions": None}, DAMAGED),
        ({"run": {"action_cost": "abc"}}, DAMAGED),
        ({"agent": {"width": 0}}, "run/config.json: width must be at least 1, got 0"),
    ],
)
def test_a_configuration_that_no_agent_can_have_is_one_line(capfd, tmp_path, changes, line):
    about = {"env_id": "probe-both", "exp_name": "gqn", "agent": {}, "run": {}, **changes}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(about))
    assert refused(capfd, ["eval", "run"]).startswith(line)


def refused(capfd, arguments):
    assert main(arguments) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.startswith("jaxrl: ")
    assert said.err.endswith("\n")
    assert said.err.count("\n") == 1
    return said.err.removeprefix("jaxrl: ").removesuffix("\n")


@pytest.mark.parametrize("words", TABLE)
def test_one_line_says_what_is_wrong(capfd, tmp_path, words):
    assert refused(capfd, words.split()) == TABLE[words]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", ["walker-wlak", "cheeta-run", "cartpole_swingup", "x"])
def test_a_misspelt_task_gets_three_names(capfd, given):
    line = refused(capfd, ["train", "gqn", given])
    assert line.startswith(f"unknown task {given!r}; did you mean '")
    assert line.count("', '") == 2


def test_a_replay_that_does_not_fit_is_refused_with_one_that_does(capfd, monkeypatch, tmp_path):
    monkeypatch.setattr(config, "available_bytes", lambda: 2**30)
    too_many = ["train", "gqn", "walker-walk", "--capacity", "20_000_000", "--steps", "2000"]
    line = refused(capfd, too_many)
    assert line.startswith("--capacity 20_000_000 needs 2.")
    assert " GiB and 1.0 GiB are free; --capacity " in line
    assert list(tmp_path.iterdir()) == []
    fits = int(line.split("--capacity ")[2].split()[0].replace("_", ""))
    assert 5_000_000 < fits < 10_000_000
    needed = []
    monkeypatch.setattr(config, "check_memory", lambda options, size: needed.append(size))
    monkeypatch.setattr("jaxrl.train.results.open_or_create", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main([*too_many, "--capacity", str(fits)])
    assert 0.85 * 2**30 < needed[0] < 2**30


def test_an_engine_that_cannot_simulate_the_task_is_refused(capfd, tmp_path):
    line = refused(capfd, ["train", "gqn", "dog-run", "--physics", "mjx"])
    assert line.startswith("dog-run cannot run on mjx, which lacks: collision of ")
    assert "the noslip solver (4 iterations)" in line
    assert line.endswith("; use physics 'native'")
    assert list(tmp_path.iterdir()) == []


def test_instances_that_do_not_fit_are_refused_with_as_many_as_do(capfd, monkeypatch, tmp_path):
    monkeypatch.setattr(config, "available_bytes", lambda: 2**27)
    crowd = "--num-envs 1_000_000 --capacity 5_000_000 --learning-starts 5_000_000"
    steps = "--steps 8_000_000 --chunk-steps 1_000_000"
    line = refused(capfd, ["train", "gqn", "probe-both", *crowd.split(), *steps.split()])
    assert line.startswith("--num-envs 1_000_000 needs at least 0.")
    assert "are free beside the replay; --num-envs " in line
    assert list(tmp_path.iterdir()) == []


def test_memory_that_runs_out_at_the_start_is_one_line(capfd, monkeypatch, tmp_path):
    def exhausted(*arguments, learn=False):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

    where = ["--out", str(tmp_path / "run")]
    places = [(jax, "block_until_ready"), (OnlineLoop, "chunk")]
    for place in places:
        with monkeypatch.context() as patch:
            patch.setattr(*place, exhausted)
            assert main([*runs.command(tmp_path / "run"), *where, "--overwrite"]) == 2
        line = capfd.readouterr().err
        assert line.startswith("jaxrl: 4 instances and a replay of 1_024 rows do not fit in the")
        assert line.count("\n") == 1 and "--num-envs" in line and "--overwrite" in line


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("bad") / "run"
    return runs.train(path, "--steps", "200", "--eval-every", "200")


def test_a_run_is_not_overwritten_or_mistaken(capfd, run, tmp_path):
    capfd.readouterr()
    line = refused(capfd, runs.command(run))
    assert "exists: give another --out, --overwrite to delete it, or --resume" in line
    other = refused(capfd, ["eval", str(run), "--task", "probe-discount"])
    assert other == (
        f"the run in {run} is of probe-both with observation_size 2; probe-discount has 3"
    )
    other = refused(capfd, ["eval", str(run), "--task", "probe-action"])
    assert other == f"the run in {run} is of probe-both with action_size 1; probe-action has 2"
    assert "unknown task 'probe-bth'" in refused(capfd, ["eval", str(run), "--task", "probe-bth"])
    assert refused(capfd, ["eval", str(run), "--step", "7"]) == (
        f"no checkpoint at step 7 in {run}/checkpoints; there are: 200"
    )
    line = refused(capfd, ["render", str(run), "--out", str(tmp_path / "no" / "film.mp4")])
    assert line == f"there is no folder {tmp_path}/no to write film.mp4 to"
    bare = shutil.copytree(run, tmp_path / "bare", ignore=shutil.ignore_patterns("checkpoints"))
    assert refused(capfd, ["eval", str(bare)]) == f"no readable checkpoint in {bare}/checkpoints"
    assert not (bare / "checkpoints").exists()


def test_a_process_of_its_own_says_the_same():
    ended = runs.child(["train", "gqn", "probe-both", "--steps", "1e5"])
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr == f"jaxrl: --steps takes a whole number, got '1e5' {HELP}\n"
