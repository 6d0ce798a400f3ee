"""The hash of what a run computes: blind to words, and to nothing that changes a number."""

from __future__ import annotations

import importlib

import jax
import jax.numpy as jnp
import pytest

from jaxrl.agents import gqn
from tests.train.runs import ROOT, SMALL, SMALL_AGENT

ARGUMENTS = ("gqn", "cartpole-swingup", *SMALL, *SMALL_AGENT["gqn"])


@pytest.fixture
def run_hash(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    programs = importlib.import_module("programs")

    def fresh(*more: str, arguments: tuple[str, ...] = ARGUMENTS) -> str:
        programs.run_hash.cache_clear()
        jax.clear_caches()  # the same functions are traced again
        return programs.run_hash((*arguments, *more))

    return fresh


def test_every_change_of_a_number_shows_and_nothing_else(run_hash, monkeypatch):
    before = run_hash()
    assert before.startswith(f"jax {jax.__version__} ")
    assert run_hash("--out", "elsewhere", "--keep", "5") == before
    changes = {
        "a hyperparameter": ("--learning-rate", "0.1"),
        "the reward": ("--action-cost", "0.1"),
        "the seed": ("--seed", "1"),
        "the schedule": ("--eval-every", "250"),
    }
    found = {name: run_hash(*more) for name, more in changes.items()}
    assert len({before, *found.values()}) == 1 + len(changes), found

    original = gqn.GQN.update

    def other_words(self, state, batch, key):
        answer = original(self, state, batch, key)
        return answer

    monkeypatch.setattr(gqn.GQN, "update", other_words)
    assert run_hash() == before

    def other_numbers(self, state, batch, key):
        state, metrics = original(self, state, batch, key)
        return state, {**metrics, "loss": metrics["loss"] + jnp.float32(1e-6)}

    monkeypatch.setattr(gqn.GQN, "update", other_numbers)
    assert run_hash() != before


def test_the_host_side_is_hashed_as_source(run_hash, monkeypatch):
    programs = importlib.import_module("programs")
    assert programs.host_code("walker-walk") != programs.host_code("cartpole-swingup")
    assert programs.host_code("cheetah-run") != programs.host_code("cheetah-goal")
    assert programs.host_code("walker-walk") == programs.host_code("walker-run")


@pytest.mark.parametrize(
    ("task", "files"),
    [
        ("point-umaze", "common mazes options point"),
        ("ant-goal", "ant common options"),
        ("ant-umaze", "ant ant_maze common mazes options"),
        ("reacher-goal", "common options reacher"),
    ],
)
def test_the_source_of_a_goal_task_is_what_it_is_made_of(run_hash, task, files):
    """A change of the ants leaves the runs of the point mazes."""
    programs = importlib.import_module("programs")
    assert [path.stem for path in programs.goal_files(task)] == files.split()
    assert programs.host_code("point-umaze") != programs.host_code("ant-goal")


def test_learning_from_a_dataset_is_hashed_too(run_hash):
    sizes = ("--widths", "8", "8", "--batch-size", "8", "--eval-episodes", "2")
    arguments = ("bc", "cartpole-swingup", "--dataset", "not-there.hdf5", *sizes)
    before = run_hash(arguments=arguments)
    assert run_hash("--out", "elsewhere", "--stream", arguments=arguments) == before
    changes = (("--loss", "mse"), ("--seed", "1"), ("--steps", "77"), ("--learning-rate", "0.1"))
    found = {run_hash(*more, arguments=arguments) for more in changes}
    assert len(found | {before}) == 1 + len(changes)
