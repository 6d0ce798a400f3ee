"""What the host loop does and when, to the step; and what must not depend on it."""

from __future__ import annotations

import itertools

import pytest

from tests.train import runs

EVALUATIONS = ("agent/returns", "agent/evaluations")
"""The part of the agent's state that records evaluations, and so depends on their number."""


@pytest.mark.parametrize(("num_envs", "block"), [(1, 8), (8, 8), (64, 64)])
def test_steps_and_updates_are_exact(tmp_path, num_envs, block):
    """One update per 8 rows after the prefill, whatever the number of instances."""
    steps, prefill, length = 1984, 320, 5
    options = f"--steps {steps} --num-envs {num_envs} --env-steps-per-update 8"
    options += f" --learning-starts {prefill} --chunk-steps 300"
    run = runs.train(tmp_path / "run", *options.split(), task="probe-truncation")
    step, arrays, meta = runs.checkpoint(run)
    rows = steps // num_envs
    assert (step, meta["iteration"]) == (steps, rows)
    assert int(arrays["agent"]["updates"]) == (steps - prefill) // 8
    # Each episode is `length` transitions and one row that resets.
    assert meta["transitions"] == num_envs * (rows - rows // (length + 1))
    assert runs.records(run)[-1]["charts/transitions"] == meta["transitions"]
    # At step 0, at the first block past every 500 rows, and at the end.
    due = [-(-step // block) * block for step in (500, 1000, 1500)]
    assert list(runs.column(run, "eval/return_mean")) == [0, *due, steps]
    assert min(runs.column(run, "losses/loss")) > prefill
    lines = [row["global_step"] for row in runs.records(run)]
    assert prefill in lines
    longest = max(1, 300 // block) * block
    assert all(0 < b - a <= longest for a, b in itertools.pairwise(lines))


@pytest.mark.parametrize(
    ("options", "grows"),
    [
        ("", {400: 3, 800: 5, 1200: 9}),
        # Shares of a total that five does not divide: the first step past each.
        ("--steps 1002 --num-envs 1 --env-steps-per-update 1", {201: 3, 401: 5, 602: 9}),
    ],
)
def test_resolution_grows_at_its_share_of_the_steps(tmp_path, options, grows):
    run = runs.train(tmp_path / "run", "--chunk-steps", "150", *options.split())
    bins = runs.column(run, "agent/active_bins")
    seen, changes = 2, {}
    for step, now in bins.items():
        if now != seen:
            seen = changes[step] = now
    assert bins[0] == 2
    assert changes == grows
    # The chunk's length is not the reason: another one changes nothing.
    other = runs.train(tmp_path / "other", "--chunk-steps", "1000", *options.split())
    runs.assert_same_arrays(run, other)


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    return runs.train(tmp_path_factory.mktemp("small") / "run")


def test_checkpoints_do_not_touch_training(tmp_path, small_run):
    run = runs.train(tmp_path / "run", *runs.EACH_CHUNK)
    assert runs.steps(run) == [1800, 1900, 2000]
    assert runs.steps(small_run) == [2000]
    runs.assert_same_run(run, small_run)


@pytest.mark.parametrize("options", ["--eval-every 2000", "--eval-every 130 --eval-episodes 3"])
def test_evaluation_does_not_touch_training(tmp_path, small_run, options):
    run = runs.train(tmp_path / "run", *options.split())
    assert len(runs.column(run, "eval/episodes")) != len(runs.column(small_run, "eval/episodes"))
    runs.assert_same_arrays(run, small_run, but=EVALUATIONS)


def test_seeds_differ(tmp_path, small_run):
    run = runs.train(tmp_path / "run", "--seed", "1")
    with pytest.raises(AssertionError):
        runs.assert_same_arrays(run, small_run, only="agent/params")


def test_chunks_do_not_change_the_starts_of_episodes(tmp_path, monkeypatch):
    """Real physics with four episodes per instance: a long chunk needs several starts drawn. In
    processes with the compiler's fusion emitters, so that both programs round alike."""
    monkeypatch.delenv("XLA_FLAGS")
    options = "--action-repeat 20 --stagger --steps 800 --eval-every 800 --eval-episodes 1"
    short, long = tmp_path / "40", tmp_path / "800"
    for run in (short, long):
        chunk = ("--chunk-steps", run.name)
        ended = runs.child(runs.command(run, *chunk, *options.split(), task="cartpole-swingup"))
        assert ended.returncode == 0, ended.stderr
        assert runs.records(run)[-1]["charts/starts_reused"] == 0
    assert runs.arrays(long)["rest/env/start/used"].min() >= 4
    runs.assert_same_arrays(short, long, only="agent/")
    runs.assert_same_arrays(short, long, only="rest/replay/")
