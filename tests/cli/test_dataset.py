"""`jaxrl dataset`: what each quality holds, what a file says of itself, and what is refused."""

from __future__ import annotations

import json
import re
import shlex
import shutil

import numpy as np
import pytest
from scipy import stats

from jaxrl import agents
from jaxrl.agents.bc import BC
from jaxrl.agents.sac import SAC
from jaxrl.cli import main
from jaxrl.cli.commands import parse_train
from jaxrl.cli.dataset import DatasetOptions
from jaxrl.cli.options import parse
from jaxrl.data.files import open_dataset
from jaxrl.data.rows import HostRows
from jaxrl.errors import UsageError
from jaxrl.train import collect
from jaxrl.train.checkpoint import Checkpoints
from jaxrl.train.config import OfflineConfig, TrainConfig
from jaxrl.train.runner import train
from tests.train import runs

OPTIONS = shlex.split(
    "--steps 1600 --eval-every 100 --eval-episodes 20 --capacity 2048 --actor-learning-rate 1e-3 "
    "--critic-learning-rate 3e-3"
)
"""A run whose return grows slowly from 0 to 0.5."""
LINE = "jaxrl: "


@pytest.fixture(autouse=True)
def few_episodes(monkeypatch):
    monkeypatch.setattr(collect, "INSTANCES", 20)
    monkeypatch.setattr(collect, "STEPS", 100)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "run"
    return runs.train(path, *OPTIONS, "--keep-policies", agent="sac")


def make(run, out, *options) -> None:
    """Datasets that are made without complaint."""
    assert main(["dataset", str(run), "--layout", "ogbench", "--out", str(out), *options]) == 0


def read(path) -> tuple[HostRows, dict]:
    with open_dataset(path) as dataset:
        return dataset.rows(), dataset.about


@pytest.fixture(scope="module")
def made(run, tmp_path_factory):
    """Every quality of the run."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collect, "INSTANCES", 20)
        patch.setattr(collect, "STEPS", 100)
        names = ("random", "medium", "medium-replay", "expert", "mixed")
        replay = ("--quality", "medium-replay", "--out", str(folder / "medium-replay.npz"))
        make(run, folder / "unused", *replay)
        others = [name for name in names if name != "medium-replay"]
        make(run, folder / "{quality}.npz", "--rows", "1000", "--quality", *others)
    return {name: read(folder / f"{name}.npz") for name in names}, folder


def rewards(rows: HostRows) -> np.ndarray:
    return rows.reward[np.flatnonzero(~rows.last) + 1]


def test_policies_and_their_returns(run, made):
    files, _ = made
    evaluated = runs.column(run, "eval/return_mean")
    best = max(evaluated, key=lambda step: evaluated[step])
    about = files["random"][1]
    assert about["expert_step"] == best
    assert about["expert_return"] == pytest.approx(evaluated[best], abs=0.05)
    assert about["random_return"] == pytest.approx(0, abs=0.15)  # a mean of 100 of deviation 0.58
    low, high = about["random_return"], about["expert_return"]
    share = {step: (value - low) / (high - low) for step, value in evaluated.items()}
    medium = files["medium"][1]["policy_step"]
    assert medium == min(step for step in share if share[step] >= 1 / 3)
    assert share[medium] <= 2 / 3
    assert files["expert"][1]["policy_step"] == best
    for name, (rows, said) in files.items():
        assert (said["random_return"], said["expert_return"]) == (low, high)
        assert said["env_id"] == "probe-both"
        # Every other row of each of the 4 instances leads to one that was seen by then.
        assert rows.transitions == (4 * (medium // 8) if name == "medium-replay" else 1000)
        expected = (rewards(rows).mean() - low) / (high - low)
        assert said["tq"] == pytest.approx(expected, abs=1e-5)
    tq = {name: said["tq"] for name, (_, said) in files.items()}
    assert tq["random"] < tq["medium"] < tq["mixed"] < tq["expert"]
    assert files["mixed"][1]["quality"] == "mixed (medium expert)"


def test_a_lucky_evaluation_makes_no_expert(run, monkeypatch):
    kept = collect.Source._kept
    honest = collect.Source(run)
    worst = min(honest.evaluations, key=honest.evaluations.__getitem__)
    monkeypatch.setattr(collect.Source, "_kept", lambda self: {**kept(self), worst: 100.0})
    fooled = collect.Source(run)
    assert (fooled.expert_step, fooled.reference) == (honest.expert_step, honest.reference)


def test_what_the_datasets_hold(run, made):
    files, _ = made
    for rows, _ in files.values():
        acted = ~rows.last
        np.testing.assert_allclose(
            rewards(rows), rows.obs[acted, 0] * rows.action[acted, 0], atol=1e-6
        )
    actions = files["random"][0].action[~files["random"][0].last, 0]
    assert stats.kstest(actions, "uniform", args=(-1, 2)).pvalue > 1e-3
    both = rewards(files["mixed"][0])
    first, second = (rewards(files[name][0]).mean() for name in ("medium", "expert"))
    assert both[:500].mean() == pytest.approx(first, abs=0.12)
    assert both[500:].mean() == pytest.approx(second, abs=0.12)
    # The first rows of the replay, in the task's units, one instance after the other.
    _, arrays, _ = runs.checkpoint(run)
    replay = {k: arrays["rest"][f"replay/{k}"] for k in ("obs", "action", "reward", "flags")}
    seen = files["medium-replay"][1]["policy_step"] // 4
    obs, action, flags = (replay[k][:seen] for k in ("obs", "action", "flags"))
    acted = flags[:-1] == 0
    expected = np.concatenate([obs[:-1, i][acted[:, i]] for i in range(4)])
    rows = files["medium-replay"][0]
    np.testing.assert_array_equal(rows.obs[~rows.last], expected)
    expected = np.concatenate([action[:-1, i][acted[:, i]] for i in range(4)])
    np.testing.assert_allclose(rows.action[~rows.last], expected, atol=1e-6)


def test_a_part_that_comes_up_again_in_a_mixture_is_drawn_anew(run, made, tmp_path):
    mix = ("--quality", "mixed", "--mix", "random", "expert", "random", "--rows", "900")
    make(run, tmp_path / "mixed.npz", *mix)
    rows, _ = read(tmp_path / "mixed.npz")
    acted = ~rows.last
    pairs = np.concatenate([rows.obs[acted], rows.action[acted]], axis=1)
    assert len(np.unique(pairs[:600], axis=0)) == 600  # the random ones
    assert rows.transitions == 900


def test_what_cannot_be_made_is_refused_before_anything_is_written(run, made, tmp_path, capsys):
    out = ("--layout", "ogbench", "--out", str(tmp_path / "{quality}.npz"))
    options = (*out, "--rows", "1_000_000")
    assert main(["dataset", str(run), "--quality", "random", "medium-replay", *options]) == 2
    assert "the run had seen" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_same_command_makes_the_same_file(run, made, tmp_path, capsys):
    files, _ = made
    options = ("--quality", "random", "--rows", "1000")
    capsys.readouterr()
    make(run, tmp_path / "again.npz", *options)
    head, titles, line, *note = capsys.readouterr().out.splitlines()
    assert head.startswith("probe-both: random ") and "means of 100 episodes" in head
    assert titles.split()[4:] == ["transitions", "episodes", "return", "TQ", "SACo", "file"]
    about = files["random"][1]
    cells = [*line.split()]
    assert cells[:4] == ["random", "-", "1,000", "1,000"]
    assert cells[-3:] == [f"{about['tq']:.2f}", f"{about['saco']:.2f}", str(tmp_path / "again.npz")]
    assert "TQ: mean return" in note[0]
    again, _ = read(tmp_path / "again.npz")
    assert again.obs.tobytes() == files["random"][0].obs.tobytes()
    assert again.action.tobytes() == files["random"][0].action.tobytes()
    make(run, tmp_path / "other.npz", *options, "--seed", "1")
    other, _ = read(tmp_path / "other.npz")
    assert np.mean(other.action[:1000] != again.action[:1000]) > 0.4


def test_a_policy_learns_from_what_was_made(made, tmp_path):
    _, folder = made
    words = "train bc probe-both --steps 200 --eval-every 200 --no-video --widths 16 16"
    path = tmp_path / "run"
    dataset = folder / "expert.npz"
    assert main([*words.split(), "--dataset", str(dataset), "--out", str(path)]) == 0
    assert set(runs.column(path, "eval/return_normalised")) == {0, 200}
    config = json.loads((path / "config.json").read_text())
    assert config["dataset"]["quality"] == "expert"


def refused(capfd, *arguments) -> str:
    capfd.readouterr()
    assert main([str(word) for word in arguments]) == 2
    said = capfd.readouterr()
    assert said.err.startswith(LINE) and said.err.count("\n") == 1
    return said.err.removeprefix(LINE).removesuffix("\n")


def dataset(capfd, run, *options) -> str:
    return refused(capfd, "dataset", run, "--layout", "ogbench", *options)


def test_what_a_run_cannot_give_is_one_line(run, made, tmp_path, capfd, monkeypatch):
    """And says what to do."""
    monkeypatch.chdir(tmp_path)
    assert dataset(capfd, tmp_path / "no") == (
        f"{tmp_path / 'no'} holds no run: there is no config.json in it"
    )
    both = ("--quality", "random", "expert", "--out", "one.npz")
    assert dataset(capfd, run, *both) == (
        "--out one.npz is one place for 2 datasets; put {quality} in it"
    )
    (tmp_path / "there.npz").touch()
    line = dataset(capfd, run, "--out", "there.npz")
    assert line == "there.npz exists; give another --out, or delete it"
    line = dataset(capfd, run, "--out", "x.hdf5")
    assert line == "x.hdf5: a file of layout ogbench ends in .npz"
    assert dataset(capfd, run, "--rows", "0") == "--rows must be at least 1, got 0"
    replay = ("--quality", "medium-replay", "--out", "x.npz", "--rows", "1500")
    line = dataset(capfd, run, *replay)
    assert line.startswith("the run had seen ")
    assert line.endswith(" or fewer, or leave it out")
    # Of its policies, only those of the last and the best evaluation.
    copy = shutil.copytree(run, tmp_path / "copy")
    shutil.rmtree(copy / "policies")
    line = dataset(capfd, copy, "--out", "x.npz")
    assert line.startswith(f"{copy} kept no medium policy: the first of ")
    assert line.endswith("train again with --keep-policies and a smaller --eval-every")
    shutil.rmtree(copy / "checkpoints")
    line = dataset(capfd, copy)
    assert line == f"{copy} kept no policy that it evaluated; train with --keep-policies"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "there.npz"]
    line = dataset(capfd, run, "--out", "nowhere/x.npz")
    assert line == "there is no folder nowhere to write x.npz to"
    assert main(["dataset", str(run), "--layout", "ogbench", "--rows", "50"]) == 0
    assert read(tmp_path / "datasets" / "probe-both-medium.npz")[0].transitions == 50


def test_a_replay_that_forgot_its_beginning(run, tmp_path, capfd, monkeypatch):
    """As of a run with room for 125 rows of each instance: a ring whose oldest row is its first."""
    newest = Checkpoints.newest

    def wrapped(self, items, warn, step=None):
        found, arrays, meta = newest(self, items, warn, step)
        if "rest" in arrays:
            rows = {
                k: np.roll(x[275:400], 25, axis=0) for k, x in arrays["rest"].items() if "/" in k
            }
            arrays = {**arrays, "rest": {**arrays["rest"], **rows}}
        return found, arrays, meta

    _, arrays, _ = runs.checkpoint(run)
    expected = {k: arrays["rest"][f"replay/{k}"][275:400] for k in ("obs", "flags")}
    monkeypatch.setattr(Checkpoints, "newest", wrapped)
    line = dataset(capfd, run, "--quality", "medium-replay", "--out", tmp_path / "x.npz")
    assert line == (
        f"{run} kept its newest 500 rows of 1_600, and the first are gone; train with a --capacity "
        "of at least the steps"
    )
    whole = collect.Source(run).replay  # SACo is beside what there is, in order
    acted = expected["flags"][:-1] == 0
    obs = np.concatenate([expected["obs"][:-1, i][acted[:, i]] for i in range(4)])
    np.testing.assert_array_equal(whole.obs[~whole.last], obs)


def test_training_from_a_dataset_is_refused_in_one_line(made, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, folder = made
    expert = folder / "expert.npz"
    assert refused(capfd, "train", "bc", "probe-both") == (
        "--dataset is missing: bc learns from a file that D4RL, Minari or OGBench can read; "
        "`jaxrl dataset RUN` makes one from a run"
    )
    assert refused(capfd, "train", "sac", "probe-both", "--dataset", expert) == (
        "sac learns from what it does and takes no --dataset; agents that learn from one are: "
        + ", ".join(agents.offline())
    )
    bc = ("train", "bc", "probe-both", "--dataset")
    line = "nowhere.hdf5 does not exist; `jaxrl dataset` makes datasets"
    assert refused(capfd, *bc, "nowhere.hdf5") == line
    line = refused(capfd, "train", "bc", "probe-action", "--dataset", expert)
    assert line == f"{expert} is of probe-both, and not of probe-action"
    line = refused(capfd, *bc, expert, "--action-repeat", "2")
    assert line == (f"{expert} was made with --action-repeat 1, and now it is 2; give the same")
    line = refused(capfd, *bc, expert, "--num-envs", "3")
    assert line.startswith("unrecognized options: --num-envs, 3")
    line = refused(capfd, "train", "iql", "probe-both", "--dataset", expert, "--n-step", "2")
    assert line == (
        f"{expert}: the agent looks 2 steps ahead, and the trajectory from observations[0] has 1; "
        "give a smaller --n-step"
    )
    arrays = dict(np.load(expert))
    del arrays["rewards"]
    np.savez(tmp_path / "silent.npz", **arrays)
    line = refused(capfd, "train", "td3_bc", "probe-both", "--dataset", "silent.npz")
    assert line == (
        "silent.npz: field 'rewards' is missing, and the agent learns from rewards; bc does not"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["silent.npz"]
    assert main([*map(str, bc), "silent.npz", "--steps", "100", "--no-video"]) == 0
    # A run that learned from a dataset is no source of datasets.
    line = refused(capfd, "dataset", "runs/bc_probe-both_s0", "--layout", "ogbench")
    assert line == (
        "runs/bc_probe-both_s0 learned from a dataset; give a run that learned by acting"
    )


def test_in_python_agent_and_config_go_together(tmp_path):
    with pytest.raises(
        UsageError, match="bc learns from a dataset: its config is an OfflineConfig"
    ):
        train("bc", BC(), "probe-both", TrainConfig(out=tmp_path / "run"))
    for agent, data in ((SAC(), tmp_path / "x.npz"), (BC(), None)):
        config = OfflineConfig(out=tmp_path / "run", dataset=data)
        with pytest.raises(UsageError, match="needs its dataset and one of the agents that learn"):
            train("any", agent, "probe-both", config)
    assert not (tmp_path / "run").exists()


def test_the_commands_of_the_page_are_commands(capsys):
    """Of docs/offline.md; where they were run is written there."""
    page = (runs.ROOT / "docs" / "offline.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    words = [shlex.split(line) for line in lines]
    assert [line[:2] for line in words] == [["jaxrl", x] for x in ("train", "dataset", "train")]
    for line in words:
        if line[1] == "train":
            parse_train(line[2:])
        else:
            parse(DatasetOptions, line[2:], "", "")


def test_options_of_a_run_belong_to_its_datasets(run, tmp_path):
    """An action cost is part of the reward that is written."""
    copy = shutil.copytree(run, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    config["run"]["action_cost"] = 0.5
    (copy / "config.json").write_text(json.dumps(config))
    out = tmp_path / "x.npz"
    make(copy, out, "--quality", "random", "--rows", "200")
    rows, about = read(out)
    acted = ~rows.last
    expected = rows.obs[acted, 0] * rows.action[acted, 0] - 0.5 * rows.action[acted, 0] ** 2
    np.testing.assert_allclose(rewards(rows), expected, atol=1e-6)
    assert json.loads(about["options"])["action_cost"] == 0.5
