"""Probe environments through the public training loop: learned values against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from jaxrl.envs.probe import REWARDS
from jaxrl.replay import ring
from jaxrl.train.results import load
from tests.train import runs

GAMMA = 0.9
TERMINATED, LAST = 1, 3  # bits of the stored flags

OPTIONS = (
    "--steps 4096 --num-envs 4 --capacity 8192 --learning-starts 128 --chunk-steps 4096 "
    "--eval-every 4096 --bins 2 3 --batch-size 64 --learning-rate 3e-3 --target-period 10 "
    f"--critics 2 --epsilon 0.5 --discount {GAMMA}"
).split()
"""1,000 updates; the resolution grows from 2 to 3 bins at a third of them."""


def visited(run):
    """Rows that were acted on and the values learned for them.

    Returns:
      signal [M], step in the episode [M], action [M, A] in [-1, 1], Q [M].
    """
    _, arrays, meta = runs.checkpoint(run)
    rows = {k: arrays["rest"][f"replay/rows/{k}"] for k in ("obs", "action", "flags")}
    rows = {name: x[: meta["iteration"]] for name, x in rows.items()}
    acted = rows["flags"] & LAST == 0
    trained = load(run, episodes=1)
    obs, action = rows["obs"][acted], rows["action"][acted]
    q = np.asarray(trained.agent._q(trained.state.params, trained.state, obs))  # [C, M, A, K]
    chosen = np.take_along_axis(q, action.astype(int)[None, ..., None], axis=-1)[..., 0]
    decoded = np.asarray(trained.agent.decode(action, trained.evaluator.env.spec))
    return obs[:, 0], obs[:, 1:].argmax(axis=1), decoded, chosen.mean(axis=(0, 2))


def returns_to_go():
    """sum_i gamma^i r_{t+i} of probe-nstep, by step."""
    steps = range(len(REWARDS))
    return np.array([sum(GAMMA**i * r for i, r in enumerate(REWARDS[step:])) for step in steps])


VALUES = {
    ("probe-constant", 3): lambda signal, step, action: np.ones(len(signal)),
    ("probe-observation", 3): lambda signal, step, action: signal,
    ("probe-discount", 1): lambda signal, step, action: GAMMA ** (1.0 - step),
    ("probe-action", 3): lambda signal, step, action: (action[:, 0] - action[:, 1]) / 2,
    ("probe-both", 3): lambda signal, step, action: signal * action[:, 0],
    ("probe-truncation", 3): lambda signal, step, action: np.full(len(signal), 1 / (1 - GAMMA)),
    ("probe-nstep", 3): lambda signal, step, action: returns_to_go()[step],
}
"""(probe, n of the n-step return) to Q(signal, step, action)."""


@pytest.mark.parametrize(("task", "n_step"), VALUES)
def test_values_reach_their_closed_form(tmp_path, task, n_step):
    run = runs.train(tmp_path / "run", *OPTIONS, "--n-step", str(n_step), task=task)
    signal, step, action, q = visited(run)
    expected = VALUES[task, n_step](signal, step, action)
    # All situations of the probe were met, with every bin in every dimension.
    assert len(np.unique(signal)) == (2 if task in ("probe-observation", "probe-both") else 1)
    for dimension in action.T:
        np.testing.assert_array_equal(np.unique(dimension), [-1, 0, 1])
    np.testing.assert_allclose(q, expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("head", "task", "n_step"), [("c51", "probe-discount", 1), ("hl_gauss", "probe-both", 3)]
)
def test_histograms_of_returns_learn_the_same_values(tmp_path, head, task, n_step):
    histogram = f"--head {head} --atoms 21 --value-low -2 --value-high 2 --n-step {n_step}"
    run = runs.train(tmp_path / "run", *OPTIONS, *histogram.split(), task=task)
    *situation, q = visited(run)
    expected = VALUES[task, n_step](*situation)
    np.testing.assert_allclose(q, expected, atol=0.05 * np.abs(expected).max())


def test_a_clock_that_counts_as_termination_is_found_out(tmp_path, monkeypatch):
    """The mutant that merges the two flags learns some 4, not 1 / (1 - gamma) = 10."""
    flags = ring.flags
    monkeypatch.setattr(ring, "flags", lambda end, clock, bad: flags(end | clock, clock, bad))
    run = runs.train(tmp_path / "run", *OPTIONS, "--n-step", "3", task="probe-truncation")
    assert visited(run)[-1].max() < 6
