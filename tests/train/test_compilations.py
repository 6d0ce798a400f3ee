"""One compilation per compiled function in a run, and none after the first chunk that learns."""

from __future__ import annotations

import itertools

import jax
import pytest

from jaxrl.train import runner
from tests.train import runs

COMPILING = "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def compilations():
    """Names of the functions compiled so far, in order."""
    names: list[str] = []

    def listen(event, duration, **about):
        if event == COMPILING:
            names.append(about.get("fun_name", "?"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


def test_nothing_compiles_twice(tmp_path, monkeypatch, compilations):
    """A prefill, many chunks of learning, five evaluations, three growths and checkpoints."""
    opened, at_step = [], {}

    class Watched(runner.Run):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            opened.append(self)

        def _checkpoint_if_due(self):
            super()._checkpoint_if_due()
            at_step[self.step] = list(compilations)

    monkeypatch.setattr(runner, "Run", Watched)
    jax.clear_caches()  # `jit`s of one function share their cache, with those of other tests too
    run = runs.train(
        tmp_path / "run", *runs.EACH_CHUNK, "--chunk-steps", "120", task="cartpole-swingup"
    )
    assert list(runs.column(run, "eval/return_mean")) == [0, 500, 1000, 1500, 2000]
    assert set(runs.column(run, "agent/active_bins").values()) == {2, 3, 5, 9}
    (watched,) = opened
    # The prefill and learning are two programs by design: `learn` is static.
    sizes = {name: function._cache_size() for name, function in compiled(watched)}
    assert sizes == {
        "loop._init": 1,
        "loop._chunk": 2,
        "loop._refill": 1,
        "_on_progress": 1,
        "_on_evaluation": 1,
        "evaluator._reset": 1,
        "evaluator._advance": 1,
        "evaluator._record": 0,
    }
    prefilled, *later = sorted(at_step)
    assert prefilled == 100
    lengths = {b - a for a, b in itertools.pairwise([prefilled, *later])}
    assert lengths == {20, 60, 80, 100, 120}  # a chunk's length is an argument
    assert at_step[later[-1]] == at_step[later[0]]
    assert sum("chunk" in name for name in at_step[later[0]]) == 2


def compiled(watched: runner.Run):
    """Every jitted function of a run, of its loop and of its evaluator, by name."""
    owners = {"": watched, "loop.": watched.loop, "evaluator.": watched.evaluator}
    for prefix, owner in owners.items():
        for name, value in vars(owner).items():
            if hasattr(value, "_cache_size"):
                yield prefix + name, value
