"""Resuming with other settings is refused, from a damaged checkpoint it works all the same."""

from __future__ import annotations

import json
import shutil

import pytest

from jaxrl.cli import main
from tests.train import runs


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with its checkpoints at steps 1,800, 1,900 and 2,000."""
    return runs.train(tmp_path_factory.mktemp("finished") / "run", *runs.EACH_CHUNK)


@pytest.fixture
def run(finished, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(finished, tmp_path / "run")


def refused(capfd, arguments):
    """The one line on standard error; nothing else is said."""
    assert main(arguments) == 2
    said = capfd.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("jaxrl: ")
    return line


@pytest.mark.parametrize(
    ("options", "field", "stored", "now"),
    [
        ("--steps 4000", "run.steps", "2000", "4000"),
        ("--num-envs 8", "run.num_envs", "4", "8"),
        ("--chunk-steps 200", "run.chunk_steps", "100", "200"),
        ("--seed 1", "run.seed", "0", "1"),
        ("--learning-rate 2e-4", "agent.learning_rate", "9.99", "0.000199"),
        ("--bins 2 3 5", "agent.bins", "[2, 3, 5, 9]", "(2, 3, 5)"),
        ("--bins 2 3 5 17", "agent.bins", "[2, 3, 5, 9]", "(2, 3, 5, 17)"),
        ("--precision bfloat16", "agent.precision", "'float32'", "'bfloat16'"),
        ("--action-cost 0.1", "run.action_cost", "0.0", "0.1"),
    ],
)
def test_other_settings_are_refused_by_name(run, capfd, options, field, stored, now):
    line = refused(capfd, runs.command(run, "--resume", *options.split()))
    assert f"was run with {field} = {stored}" in line
    assert f", now it is {now}" in line
    assert "resume with the same, or start a new run with another --out" in line
    assert runs.steps(run) == [1800, 1900, 2000]


def test_another_task_or_agent_is_refused_by_name(run, capfd):
    line = refused(capfd, [*runs.command(run, task="probe-constant"), "--resume"])
    assert "was run with env_id = 'probe-both', now it is 'probe-constant'" in line
    line = refused(capfd, [*runs.command(run, agent="decqn"), "--resume"])
    assert "was run with exp_name = 'gqn', now it is 'decqn'" in line


def test_another_commit_is_said_and_kept(run, capfd):
    """The code may change between the two; config.json tells from which step on."""
    config = json.loads((run / "config.json").read_text())
    now, config["git_commit"] = config["git_commit"], "deadbeef" * 5
    (run / "config.json").write_text(json.dumps(config))
    for _ in range(2):
        assert main(runs.command(run, *runs.EACH_CHUNK, "--resume")) == 0
    said = capfd.readouterr().out
    assert said.count(f"the code is of commit {now[:9]}, and was of deadbeefd until here") == 1
    found = json.loads((run / "config.json").read_text())
    assert found == {**config, "resumed": [{"global_step": 2000, "git_commit": now}]}


def test_damaged_lines_are_said_before_they_are_dropped(run, capfd):
    path = run / "metrics.jsonl"
    path.write_text("{garbage\n" + path.read_text())
    assert main(runs.command(run, *runs.EACH_CHUNK, "--resume")) == 0
    assert "1 damaged line of metrics.jsonl left out, line 1" in capfd.readouterr().out
    path.unlink()
    assert main(runs.command(run, *runs.EACH_CHUNK, "--resume")) == 0  # only the curve is missing
    assert "curve    not written: no curve to draw" in capfd.readouterr().out


@pytest.mark.parametrize("group", ["versions", "device"])
def test_another_version_or_device_is_refused_by_name(run, capfd, group):
    config = json.loads((run / "config.json").read_text())
    name, other = {"versions": ("jax", "0.3.25"), "device": ("kind", "abacus")}[group]
    config[group][name] = other
    (run / "config.json").write_text(json.dumps(config))
    line = refused(capfd, runs.command(run, "--resume"))
    assert f"was run with {group}.{name} = '{other}', now it is" in line


def test_a_damaged_config_is_one_line(run, capfd):
    (run / "config.json").write_text('{"env_id": "probe-b')
    for arguments in (runs.command(run, "--resume"), ["eval", str(run)], ["render", str(run)]):
        assert f"{run}/config.json cannot be read" in refused(capfd, arguments)
    (run / "config.json").write_text('{"env_id": "probe-both"}')
    for arguments in (["eval", str(run)], ["export", str(run)]):
        said = "config.json is no run's: it has no exp_name and no agent and no run"
        assert said in refused(capfd, arguments)
    config = {"env_id": "probe-both", "exp_name": "gqn", "agent": {"hue": 1}, "run": {}}
    (run / "config.json").write_text(json.dumps(config))
    for arguments in (["eval", str(run)], ["export", str(run)]):
        assert "is damaged or of another version of jaxrl: TypeError: " in refused(capfd, arguments)
    (run / "config.json").write_text('{"env_id": "probe-both"}')
    assert "exp_name" in refused(capfd, runs.command(run, "--resume"))


def test_what_is_not_computed_may_change(run, finished):
    moved = run.rename(run.parent / "moved")
    runs.train(moved, "--keep", "1", "--checkpoint-minutes", "60", "--resume")
    runs.assert_same_run(moved, finished)


# Orbax leaves futures to an event loop that an error has closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", [1, 2])
def test_damaged_checkpoints_are_named_and_passed_over(run, finished, capfd, number):
    """The newest one or two: the run goes on from the one before, and ends the same."""
    newest = list(reversed(runs.steps(run)))
    for step in newest[:number]:
        agent = run / "checkpoints" / str(step) / "agent"  # evaluation reads nothing else
        files = [path for path in agent.rglob("*") if path.is_file()]
        largest = max(files, key=lambda path: path.stat().st_size)
        largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    assert main(["eval", str(run)]) == 0
    told = capfd.readouterr().out
    assert f"checkpoint at step {newest[number]:,}" in told
    assert told.count("damaged checkpoint passed over: ") == number
    runs.train(run, *runs.EACH_CHUNK, "--resume")
    told = capfd.readouterr().out
    for step in newest[:number]:
        assert f"damaged checkpoint passed over: {run}/checkpoints/{step}: " in told
    assert f"resuming from step {newest[number]:,}" in told
    assert runs.steps(run) == [1800, 1900, 2000]
    runs.assert_same_run(run, finished)


def test_no_readable_checkpoint_is_one_line(run, capfd):
    for step in runs.steps(run):
        (run / "checkpoints" / str(step) / "meta" / "metadata").write_text("")
    assert main(["eval", str(run)]) == 2
    said = capfd.readouterr()
    assert said.err == f"jaxrl: no readable checkpoint in {run}/checkpoints\n"
    assert said.out.count("damaged checkpoint passed over") == 3


def test_a_checkpoint_of_another_task_is_refused(run, tmp_path, capfd):
    """Its config.json says otherwise, but the arrays do not fit."""
    other = runs.train(
        tmp_path / "other", "--steps", "200", "--eval-every", "200", task="probe-discount"
    )
    capfd.readouterr()
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(other / "checkpoints", run / "checkpoints")
    line = refused(capfd, ["eval", str(run)])
    assert "the checkpoint is of another task, agent or setting: params/params/" in line
    assert "should be float32[1, 2, 32] and is float32[1, 3, 32]" in line


def test_resuming_nothing_is_a_start(finished, tmp_path):
    """So that a scheduler can send the same command every time."""
    run = runs.train(tmp_path / "new", *runs.EACH_CHUNK, "--resume")
    runs.assert_same_run(run, finished)
    shutil.rmtree(run / "checkpoints")
    runs.train(run, *runs.EACH_CHUNK, "--resume")
    runs.assert_same_run(run, finished)
