"""Reading runs: what counts, what is marked, what is refused, and what may be pooled."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest

from jaxrl.errors import UsageError
from jaxrl.report import runs, tracked
from jaxrl.report.runs import collect
from jaxrl.report.summary import Summary
from tests.report import samples

TEN = [float(i) for i in range(11)]


def one(path, **more):
    """A complete run of walker-walk in `path`."""
    described = samples.config("walker-walk", "gqn", more.pop("seed", 0), 1000, **more)
    return samples.folder(path, described, samples.lines(TEN))


def test_reads_evaluations_and_nothing_else(tmp_path):
    (run,) = collect([one(tmp_path / "a")])
    np.testing.assert_array_equal(run.steps, np.arange(11) * 100)
    np.testing.assert_array_equal(run.values, TEN)
    np.testing.assert_allclose(run.hours, (1 + 10 * np.arange(11)) / 3600)
    assert (run.agent, run.task, run.seed, run.score) == ("gqn", "walker-walk", 0, 10.0)
    assert run.left_out is None and run.notes == ()


def test_a_tracked_run_says_the_same_as_its_folder(tmp_path):
    folder = one(tmp_path / "a")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    config = json.loads((folder / "config.json").read_text())
    tracked.write(tmp_path / "b.jsonl", config, lines, code="c")
    (a,), (b,) = collect([folder]), collect([tmp_path / "b.jsonl"])
    np.testing.assert_array_equal(a.steps, b.steps)
    np.testing.assert_array_equal(a.values, b.values)
    assert (a.agent, a.task, a.left_out) == (b.agent, b.task, b.left_out)


def test_finds_runs_below_a_folder_once(tmp_path):
    one(tmp_path / "all" / "a")
    one(tmp_path / "all" / "deep" / "b", seed=1)
    (tmp_path / "all" / "config.json.d").mkdir()
    (tmp_path / "all" / "other").mkdir()
    (tmp_path / "all" / "other" / "config.json").write_text("{}")  # of another program
    found = collect([tmp_path / "all", tmp_path / "all" / "a"])
    assert [run.path.name for run in found] == ["a", "b"]


@pytest.mark.parametrize(
    ("tail", "note"),
    [
        ('{"global_step": 1100, "eval/ret', "last line of metrics.jsonl cut short"),
        ("\x00\x00\n17\n", "2 damaged lines of metrics.jsonl left out, the first is 22"),
    ],
)
def test_damaged_lines_are_left_out_and_said(tmp_path, tail, note):
    described = samples.config("walker-walk", "gqn", 0, 1000)
    samples.folder(tmp_path / "a", described, samples.lines(TEN), tail)
    (run,) = collect([tmp_path / "a"])
    assert run.notes == (note,)
    assert len(run.steps) == 11 and run.left_out is None


def test_one_damaged_line_in_the_middle_is_no_line_cut_short(tmp_path):
    path = one(tmp_path / "a") / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:4], lines[4][:9], *lines[5:]]) + "\n")
    (run,) = collect([tmp_path / "a"])
    assert run.notes == ("1 damaged line of metrics.jsonl left out, line 5",)
    assert len(run.steps) == 10


def test_runs_of_files_that_differ_are_no_seeds_of_one_task(tmp_path):
    """A task of the user's own that was changed in between, or two datasets of one name."""
    hashes = [{"task_file_hash": f"{i}{'a' * 15}", "task_model_hash": "b" * 16} for i in range(2)]
    for seed, more in enumerate(hashes):
        one(tmp_path / "own" / str(seed), seed=seed, **more)
    names = [run.task for run in collect([tmp_path / "own"])]
    assert names == ["walker-walk, file 0aaaaaaa", "walker-walk, file 1aaaaaaa"]
    data = [("w.hdf5", "c" * 16), ("/far/w.hdf5", "c" * 16), ("w.hdf5", "d" * 16)]
    for seed, (path, checksum) in enumerate(data):
        more = {"dataset": {"path": path, "checksum": checksum}, "run": {"dataset": path}}
        one(tmp_path / "data" / str(seed), seed=seed, **more)
    names = [run.task for run in collect([tmp_path / "data"])]
    assert names == [f"walker-walk, dataset w.hdf5 {x * 8}" for x in "ccd"]


@pytest.mark.parametrize("step", [None, "5"])
def test_lines_without_a_step_are_damaged(tmp_path, step):
    line = json.dumps({"global_step": step, "eval/return_mean": 3.0})
    described = samples.config("walker-walk", "gqn", 0, 1000)
    samples.folder(tmp_path / "a", described, samples.lines(TEN), line)
    (run,) = collect([tmp_path / "a"])
    assert run.notes == ("last line of metrics.jsonl cut short",) and len(run.steps) == 11


def test_a_run_that_is_not_finished_counts_only_if_asked_for(tmp_path):
    described = samples.config("walker-walk", "gqn", 0, 5000)
    samples.folder(tmp_path / "a", described, samples.lines(TEN))
    (run,) = collect([tmp_path / "a"])
    assert run.left_out == "unfinished: 1,000 of 5,000 steps"
    (run,) = collect([tmp_path / "a"], count_unfinished=True)
    assert run.left_out is None and run.notes == ("unfinished: 1,000 of 5,000 steps",)


@pytest.mark.parametrize("last", [float("nan"), float("inf"), None])
def test_a_run_that_diverged_has_no_score(tmp_path, last):
    described = samples.config("walker-walk", "gqn", 0, 1000)
    samples.folder(tmp_path / "a", described, samples.lines([*TEN[:-1], last]))
    (run,) = collect([tmp_path / "a"])
    assert run.score is None and run.left_out == "last evaluation not finite"


def test_a_run_without_evaluations_is_marked_beside_others_and_refused_alone(tmp_path):
    one(tmp_path / "a")
    samples.folder(tmp_path / "b", samples.config("walker-walk", "gqn", 1, 1000), [])
    marks = {run.path.name: run.left_out for run in collect([tmp_path])}
    assert marks == {"a": None, "b": "no evaluation"}
    with pytest.raises(UsageError, match="none of the 1 runs has an evaluation"):
        collect([tmp_path / "b"])
    with pytest.raises(UsageError, match="eval/success"):
        collect([tmp_path / "a"], metric="eval/success")


def test_origins_that_nobody_can_go_back_to_are_noted(tmp_path):
    one(tmp_path / "a", git_commit="unknown", command="")
    one(tmp_path / "b", git_commit="abc+", seed=1)
    notes = {run.path.name: run.notes for run in collect([tmp_path])}
    assert notes == {
        "a": ("command unknown", "commit unknown"),
        "b": ("uncommitted changes",),
    }


def test_settings_that_differ_split_agents_and_as_few_as_needed_name_them(tmp_path):
    one(tmp_path / "a", agent={"width": 64, "bins": [2, 3]})
    one(tmp_path / "b", agent={"width": 128, "bins": [2, 9]}, seed=1)
    one(tmp_path / "c", agent={"width": 128, "bins": [2, 5]}, seed=1)
    names = {run.path.name: run.agent for run in collect([tmp_path])}
    assert names == {"a": "gqn, bins 2 3", "b": "gqn, bins 2 9", "c": "gqn, bins 2 5"}


def test_two_settings_name_what_one_cannot(tmp_path):
    for i, (width, rate) in enumerate([(64, 0.1), (64, 0.2), (128, 0.1)]):
        one(tmp_path / str(i), agent={"width": width, "learning_rate": rate}, seed=i)
    names = {run.agent for run in collect([tmp_path])}
    assert names == {
        "gqn, learning_rate 0.1, width 64",
        "gqn, learning_rate 0.2, width 64",
        "gqn, learning_rate 0.1, width 128",
    }


def test_settings_of_the_task_name_the_task_and_those_of_the_machine_nothing(tmp_path):
    one(tmp_path / "a", run={"action_cost": 0.5, "physics": "mjx"})
    one(tmp_path / "b", run={"action_cost": 0.1, "physics": "mjx"}, seed=1)
    one(tmp_path / "c", run={"action_cost": 0.1, "physics": "native"}, seed=2)
    names = {run.path.name: (run.agent, run.task) for run in collect([tmp_path])}
    assert names == {
        "a": ("gqn", "walker-walk, action_cost 0.5"),
        "b": ("gqn", "walker-walk, action_cost 0.1"),
        "c": ("gqn", "walker-walk, action_cost 0.1"),
    }


def test_settings_may_differ_from_task_to_task(tmp_path):
    one(tmp_path / "a")
    other = samples.config("finger-spin", "gqn", 0, 500, agent={"width": 256})
    samples.folder(tmp_path / "b", other, samples.lines(TEN[:6]))
    assert {run.agent for run in collect([tmp_path])} == {"gqn"}


def test_the_same_seed_twice_counts_once(tmp_path):
    one(tmp_path / "a")
    one(tmp_path / "b")
    one(tmp_path / "c", seed=1)
    marks = {run.path.name: run.left_out for run in collect([tmp_path])}
    assert marks == {"a": None, "b": "same seed as a", "c": None}


def test_settings_of_the_task_are_those_of_training():
    config = pytest.importorskip("jaxrl.train.config")
    assert set(runs.TASK_SETTINGS) == set(config.ENV_OPTIONS) - {"physics"} | {"dataset"}


def test_settings_of_the_task_are_those_of_make():
    config, jaxrl = pytest.importorskip("jaxrl.train.config"), pytest.importorskip("jaxrl")
    taken = inspect.signature(jaxrl.make).parameters
    ours = config.TrainConfig()
    assert {n: getattr(ours, n) for n in config.ENV_OPTIONS} == {
        n: taken[n].default for n in config.ENV_OPTIONS
    }


def test_runs_of_other_datasets_are_apart_and_count_updates(tmp_path):
    for name, dataset in (("a", "medium.hdf5"), ("b", "expert.hdf5")):
        more = {"run": {"dataset": dataset, "stream": name == "a"}}
        described = samples.config("walker-walk", "iql", 0, 500, **more)
        samples.folder(tmp_path / name, described, samples.lines(TEN[:6]))
    found = collect([tmp_path])
    assert {run.agent for run in found} == {"iql"}
    assert [run.task for run in found] == [
        "walker-walk, dataset expert.hdf5",
        "walker-walk, dataset medium.hdf5",
    ]
    assert Summary(tuple(found)).unit == "gradient updates"
    samples.folder(tmp_path / "c", samples.config("walker-walk", "sac", 0, 500), samples.lines(TEN))
    found = collect([tmp_path])
    assert Summary(tuple(found[:1])).unit == "environment steps"
    assert Summary(tuple(found)).unit == "environment steps or gradient updates"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "nowhere does not exist"),
        ("empty", "empty holds no run"),
        ("text.txt", r"text\.txt is no run"),
        ("bad.jsonl", r"bad\.jsonl is no tracked run"),
        ("number.jsonl", r"number\.jsonl is no tracked run: line 2 is no JSON object"),
        ("nothing.jsonl", r"nothing\.jsonl is no tracked run: it is empty"),
        ("no_commit.jsonl", "needs its git_commit"),
        ("broken", r"broken/config\.json cannot be read"),
        ("foreign", r"foreign/config\.json is no run's: it has no env_id and no exp_name"),
    ],
)
def test_what_is_no_run_is_named(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("x")
    (tmp_path / "bad.jsonl").write_text("{")
    (tmp_path / "number.jsonl").write_text('{"command": "x", "git_commit": "y"}\n5\n')
    (tmp_path / "nothing.jsonl").write_text("")
    (tmp_path / "no_commit.jsonl").write_text('{"command": "x"}\n')
    for folder, text in (("broken", "{"), ("foreign", "{}")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        collect([tmp_path / name])


def test_no_paths_at_all():
    with pytest.raises(UsageError, match="RUN is missing"):
        collect([])
