"""The run folder: what is in it, who may write to it, and that it outlives a kill."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from types import SimpleNamespace

import jax
import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from jaxrl.agents.gqn import GQN
from jaxrl.cli import main
from jaxrl.errors import UsageError
from jaxrl.train import runlog
from jaxrl.train.config import TrainConfig
from jaxrl.train.runlog import MetricsWriter, RunFolder
from tests.train import runs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "deep" / "run"
    return runs.train(folder, "--seed", "3", "--video", "--action-cost", "0.5")


def tensorboard(folder):
    """{tag: {step: value}} of the events in a folder, checksums verified."""
    scalars: dict[str, dict[int, float]] = {}
    for path in sorted((folder / "tb").glob("events.out.tfevents.*")):
        data = path.read_bytes()
        at = 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            body = data[at + 12 : at + 12 + length]
            (checksum,) = struct.unpack_from("<I", data, at + 12 + length)
            assert checksum == masked_crc32c(body)
            at += length + 16
            event = Event.FromString(body)
            for value in event.summary.value:
                scalars.setdefault(value.tag, {})[event.step] = value.simple_value
    return scalars


def test_config_holds_all_that_it_takes_to_run_it_again(run):
    config = json.loads((run / "config.json").read_text())
    assert (config["env_id"], config["exp_name"], config["seed"]) == ("probe-both", "gqn", 3)
    assert config["agent"]["bins"] == [2, 3, 5, 9]
    assert config["agent"]["width"] == 32
    assert config["agent"]["learning_rate"] == pytest.approx(1e-4)
    assert config["run"]["steps"] == 2000
    assert config["run"]["action_cost"] == 0.5
    assert config["run"]["chunk_steps"] == 100
    assert config["run"]["out"] == str(run)
    assert config["versions"]["jax"] == jax.__version__
    assert {"python", "numpy", "mujoco", "flax", "optax"} <= config["versions"].keys()
    assert config["device"]["platform"] == jax.devices()[0].platform
    assert config["git_commit"]
    assert config["command"]


def test_the_command_is_recorded_as_typed(tmp_path):
    arguments = runs.command(tmp_path / "a run", "--steps", "200", "--eval-every", "200")
    assert runs.child(arguments).returncode == 0
    config = json.loads((tmp_path / "a run" / "config.json").read_text())
    assert config["command"].startswith("jaxrl train gqn probe-both --steps 2000 --num-envs 4 ")
    assert f"--out '{tmp_path}/a run' --steps 200" in config["command"]


def test_metrics_have_the_promised_names(run):
    first, *middle, last = runs.records(run)
    evaluation = {
        "eval/return_mean",
        "eval/return_std",
        "eval/return_unpenalised",
        "eval/episodes",
    }
    clock = {"global_step", "wall_time"}
    charts = {f"charts/{name}" for name in ("transitions", "episodic_return", "SPS")}
    assert clock | evaluation <= first.keys()
    assert clock | evaluation | charts | {"losses/loss", "agent/active_bins"} <= last.keys()
    assert last["eval/episodes"] == 2
    assert any(evaluation.isdisjoint(row) for row in middle)
    # The reward is signal * a, and the action costs a^2 / 2.
    assert 0 < last["eval/return_unpenalised"] - last["eval/return_mean"] <= 0.5
    assert last["eval/return_unpenalised"] <= 1
    times = [row["wall_time"] for row in runs.records(run)]
    assert times == sorted(times)


def test_tensorboard_tells_the_same(run):
    events = tensorboard(run)
    names = {name for row in runs.records(run) for name in row if "/" in name}
    assert events.keys() == names
    for name in names:
        assert events[name] == pytest.approx(runs.column(run, name), rel=1e-6)


def test_curve_video_and_checkpoint_are_there(run):
    assert (run / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert b"ftyp" in (run / "policy.mp4").read_bytes()[:16]
    assert runs.steps(run) == [2000]
    left = {path.name for path in run.iterdir()}
    shown = {"config.json", "metrics.jsonl", "tb", "checkpoints", "curve.png", "policy.mp4"}
    assert left == {*shown, ".lock"}


def test_nothing_in_a_run_is_a_pickle(run, monkeypatch):
    files = [path for path in run.rglob("*") if path.is_file()]
    assert len(files) > 15
    for path in files:
        data = path.read_bytes()
        assert not (data[:1] == b"\x80" and data[1:2] in b"\x02\x03\x04\x05"), path
        assert path.suffix not in (".pkl", ".pickle", ".npy", ".npz"), path

    def refuse(*arguments, **options):
        raise AssertionError("unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(f"pickle.{name}", refuse)
    assert main(["eval", str(run), "--episodes", "2"]) == 0


def test_a_run_is_never_overwritten_by_accident(run, capsys):
    before = (run / "metrics.jsonl").read_bytes()
    assert main(runs.command(run)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"jaxrl: {run} exists: give another --out, --overwrite to delete it, or --resume to go on "
        "with it\n"
    )
    assert (run / "metrics.jsonl").read_bytes() == before


def test_overwriting_deletes_a_run_and_nothing_else(tmp_path):
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"holds no run.*--overwrite spares it"):
        RunFolder.create(thesis, overwrite=True)
    assert (thesis / "chapter.tex").exists()
    old = tmp_path / "old"
    (old / "checkpoints" / "100").mkdir(parents=True)
    (old / "config.json").write_text("{}")
    RunFolder.create(old, overwrite=True).close()
    assert [path.name for path in old.iterdir()] == [".lock"]
    (old / ".config.7.json").write_text("{")  # a start that died while it wrote config.json
    assert RunFolder.create(old, overwrite=False).path == old  # an empty folder is free
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UsageError, match="exists"):
        RunFolder.create(file, overwrite=False)


def test_one_process_at_a_time_trains_a_run(tmp_path):
    first = RunFolder.create(tmp_path / "run", overwrite=False)
    first.write_config({"env_id": "x", "exp_name": "y"})
    taken = rf"is being trained by process {os.getpid()} on .*: wait"
    with pytest.raises(UsageError, match=taken):
        RunFolder.open(tmp_path / "run").lock()
    with pytest.raises(UsageError, match=taken):
        RunFolder.create(tmp_path / "run", overwrite=True)
    assert (tmp_path / "run" / "config.json").exists()
    first.close()
    RunFolder.open(tmp_path / "run").lock()


def test_an_overwriting_that_is_cut_short_leaves_a_run(tmp_path, monkeypatch):
    run = tmp_path / "run"
    (run / "checkpoints" / "100").mkdir(parents=True)
    (run / "config.json").write_text("{}")
    monkeypatch.setattr("shutil.rmtree", lambda *arguments: sys.exit("killed"))
    with pytest.raises(SystemExit):
        RunFolder.create(run, overwrite=True)
    monkeypatch.undo()
    folder = RunFolder.open(run)
    assert not folder.checkpoints.exists()  # which a resume would take up
    folder.lock()
    assert sorted(path.name for path in run.iterdir()) == [".lock", "config.json"]
    folder.close()
    RunFolder.create(run, overwrite=True).close()
    assert [path.name for path in run.iterdir()] == [".lock"]


def test_the_commit_is_that_of_our_sources_only(tmp_path, monkeypatch):
    """And not of a checkout of something else, in which an environment holds the package."""
    import shutil

    shutil.copy(runlog.__file__, tmp_path / "runlog.py")
    (tmp_path / "theirs.txt").write_text("")
    monkeypatch.setattr(runlog, "__file__", str(tmp_path / "runlog.py"))
    assert runlog.git_commit() == "unknown"
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["add", "theirs.txt"], [*who, "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    assert runlog.git_commit() == "unknown"
    for words in (["add", "runlog.py"], [*who, "commit", "-qm", "y"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    assert len(runlog.git_commit()) == 40


def test_a_script_is_recorded_by_its_content(run, tmp_path, monkeypatch):
    config = json.loads((run / "config.json").read_text())
    assert "script_hash" not in config
    script = tmp_path / "mine.py"
    found = []
    for text in ("x = 1\n", "x = 2\n"):
        script.write_text(text)
        monkeypatch.setattr(sys, "argv", [str(script)])
        described = runlog.describe("gqn", GQN(), "probe-both", TrainConfig())
        found.append(described["script_hash"])
    assert found[0] != found[1]


def test_a_folder_that_cannot_be_made_is_bad_input(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write the run folder"):
        RunFolder.create(tmp_path / "file" / "run", overwrite=False)


def test_a_line_cut_short_is_left_out(tmp_path):
    folder = RunFolder.create(tmp_path / "run", overwrite=False)
    writer = MetricsWriter(folder)
    rows = [{"global_step": step, "wall_time": 0.0, "losses/loss": 1.5} for step in (0, 8, 16)]
    for row in rows:
        writer.write(row)
    writer.close()
    path = tmp_path / "run" / "metrics.jsonl"
    whole = path.read_bytes()
    for cut in (1, 2, 30, len(whole) // 3 - 1):
        path.write_bytes(whole[:-cut])
        assert folder.metrics() == (rows if cut == 1 else rows[:2])
    # A resume from step 8 drops what came later and starts on a line of its own.
    writer = MetricsWriter(folder, after=8)
    writer.write(rows[2])
    writer.close()
    assert path.read_bytes() == whole


def test_a_resume_goes_on_with_the_same_run_at_weights_and_biases(tmp_path, monkeypatch):
    begun = []
    fake = SimpleNamespace(init=lambda **about: begun.append(about))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    folder = RunFolder.create(tmp_path / "run", overwrite=False)
    for after in (-1, 8):
        MetricsWriter(folder, after, wandb_config={})
    first, second = (about["id"] for about in begun)
    assert first == second and begun[1]["resume"] == "allow"
    folder.close()
    folder.write_config({})
    other = RunFolder.create(tmp_path / "run", overwrite=True)
    MetricsWriter(other, wandb_config={})
    assert begun[2]["id"] != first
