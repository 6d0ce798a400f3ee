"""A trained policy in one line, and as a file that works where jaxrl cannot be imported."""

from __future__ import annotations

import subprocess
import sys

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl.agents.gqn import GQN
from jaxrl.cli import main
from jaxrl.errors import UsageError
from jaxrl.train.config import TrainConfig
from jaxrl.train.results import load
from jaxrl.train.runner import train

ALONE = """
import sys
sys.modules["jaxrl"] = None  # any import of it fails
import jax, numpy as np
policy = jax.jit(jax.export.deserialize(open(sys.argv[1], "rb").read()).call)
np.save(sys.argv[3], policy(np.load(sys.argv[2])))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run whose policy depends on the observation."""
    out = tmp_path_factory.mktemp("runs") / "run"
    config = TrainConfig(
        steps=2000, learning_starts=400, eval_every=2000, capacity=4000, out=out, video=False
    )
    train("gqn", GQN(width=32), "cartpole-swingup", config)
    return out


@pytest.fixture(scope="module")
def obs():
    return np.random.default_rng(0).normal(size=(1000, 5)).astype(np.float32)


def test_the_loaded_policy_is_the_greedy_agent(run, obs):
    policy = jaxrl.load_policy(run)
    trained = load(run, episodes=1)
    spec = trained.evaluator.env.spec
    index = trained.agent.act(trained.state, obs, jax.random.key(0), explore=False)
    expected = np.asarray(trained.agent.decode(index, spec))
    np.testing.assert_array_equal(policy(obs), expected)
    np.testing.assert_array_equal(policy(obs[3]), expected[3])
    assert len(np.unique(expected)) > 1


def test_a_wrong_observation_is_named(run):
    policy = jaxrl.load_policy(run)
    with pytest.raises(UsageError, match=r"obs must be \[5\] or \[B, 5\], got \[7\]"):
        policy(np.zeros(7, np.float32))


def test_the_exported_policy_needs_no_jaxrl(run, obs, tmp_path, capsys):
    path = tmp_path / "policy.jaxexport"
    assert main(["export", str(run), "--out", str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    np.save(tmp_path / "obs.npy", obs)
    files = [str(path), str(tmp_path / "obs.npy"), str(tmp_path / "actions.npy")]
    subprocess.run([sys.executable, "-c", ALONE, *files], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "actions.npy"), jaxrl.load_policy(run)(obs))
