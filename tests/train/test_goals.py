"""Goal tasks through the public loop: learning, metrics of evaluation, and what is refused."""

from __future__ import annotations

import dataclasses
import shlex

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxrl import agents
from jaxrl.agents.crl import CRL
from jaxrl.cli import main
from jaxrl.cli.commands import parse_train
from jaxrl.envs import probe
from jaxrl.train.evaluate import GOAL_METRICS, Evaluator
from jaxrl.train.runlog import RunFolder
from tests.agents.goal_probe import GOAL, Square
from tests.train import runs

SQUARE = "probe-square"

OPTIONS = shlex.split(
    "--num-envs 8 --env-steps-per-update 4 --learning-starts 400 --capacity 12000 --chunk-steps "
    "2000 --eval-every 6000 --eval-episodes 100 --batch-size 64 --width 32 --representation 32 "
    "--discount 0.9 --critic-learning-rate 1e-3"
)
FAST = ("--actor-learning-rate", "1e-3")
SLOW = ("--width", "64", "--env-steps-per-update", "2")  # a fast policy without entropy: corners


@pytest.fixture(autouse=True)
def square(monkeypatch):
    """Registers the probe."""
    monkeypatch.setitem(probe.PROBES, SQUARE, Square)
    monkeypatch.setitem(probe.PROBES, "probe-one-goal", lambda: Square(single_goal=True))


@pytest.mark.parametrize(
    ("agent", "task", "steps", "pace"),
    [("crl", SQUARE, 12_000, FAST), ("sgcrl", "probe-one-goal", 24_000, SLOW)],
)
def test_it_learns_to_reach_goals(tmp_path, agent, task, steps, pace):
    """No reward is used: hindsight goals suffice. A policy that knows nothing reaches few."""
    options = [*OPTIONS, *pace, "--steps", str(steps)]
    run = runs.train(tmp_path / "run", *options, agent=agent, task=task)
    success = runs.column(run, "eval/success")
    assert list(success) == list(range(0, steps + 1, 6000))
    assert success[0] < 0.4
    assert success[steps] >= 0.9
    assert runs.column(run, "eval/final_distance")[steps] < 0.3
    assert runs.column(run, "losses/accuracy")[steps] > 3 / 64


@struct.dataclass
class Straight:
    """Goes straight to the goal, waits there, and leaves it after `leave` steps."""

    leave: int = struct.field(pytree_node=False, default=99)

    def act(self, state, obs, key, explore):
        step, away = state, obs[:, 3:5] - obs[:, 1:3]
        return jnp.where(step < self.leave, jnp.clip(away, -0.2, 0.2), 0.2)

    def decode(self, action, spec):
        return action


def test_metrics_of_episodes_by_hand():
    """The path of each episode in NumPy. No metric sees the next episode."""
    evaluator = Evaluator(Square(), episodes=64)
    key = jax.random.key(3)
    found = evaluator.returns(Straight(), jnp.float32(0.0), key)
    first = np.asarray(jax.vmap(Square().reset)(jax.random.split(key, 64)).obs, np.float64)
    position, goal = first[:, 1:3], first[:, 3:]
    near, easy = np.zeros(64), np.zeros(64)
    for _ in range(20):
        position = position + np.clip(goal - position, -0.2, 0.2)
        distance = np.linalg.norm(position - goal, axis=-1)
        near += distance < GOAL.radius
        easy += distance < 4 * GOAL.radius
    assert set(GOAL_METRICS) < found.keys()
    np.testing.assert_array_equal(found["time_near_goal"], near)
    np.testing.assert_array_equal(found["episode_return"], near)
    np.testing.assert_array_equal(found["success"], near > 0)
    np.testing.assert_array_equal(found["success_easy"], easy > 0)
    np.testing.assert_allclose(found["final_distance"], distance, atol=1e-5)


def test_success_is_any_step_and_the_distance_the_last():
    still = Evaluator(Square(), 200).returns(Straight(leave=0), jnp.float32(0.0), jax.random.key(0))
    success, easy = still["success"].mean(), still["success_easy"].mean()
    assert 0 < success < easy < 1
    passed = still["success"] > 0
    assert np.any(still["final_distance"][passed] > GOAL.radius)


@struct.dataclass
class Wanderer:
    """Takes steps at random to explore, and stays where it is if greedy."""

    def act(self, state, obs, key, explore):
        steps = jax.random.uniform(key, (len(obs), 2), minval=-0.2, maxval=0.2)
        return steps if explore else jnp.zeros_like(steps)

    def decode(self, action, spec):
        return action


def test_exploring_draws_anew_at_every_step():
    """For 2,000 steps, in several compiled pieces: who walks at random passes its goal sooner or
    later; the same step again and again ends at a wall."""
    evaluator = Evaluator(Square(length=2000), episodes=64)
    key, nothing = jax.random.key(4), jnp.float32(0.0)
    greedy = evaluator.returns(Wanderer(), nothing, key)
    found = evaluator.returns(Wanderer(), nothing, key, explore=True)
    assert greedy["success"].mean() < 0.2
    assert found["success"].mean() > 0.9
    again = evaluator.returns(Wanderer(), nothing, key, explore=True)
    np.testing.assert_array_equal(again["final_distance"], found["final_distance"])


def test_tasks_without_goals_have_no_such_metrics(tmp_path):
    run = runs.train(tmp_path / "run")
    assert not any("success" in name for row in runs.records(run) for name in row)


def test_eval_prints_them(tmp_path, capsys):
    out = tmp_path / "run"
    small = ("--steps", "1000", "--eval-every", "1000")
    run = runs.train(out, *small, agent="crl", task=SQUARE)
    capsys.readouterr()
    assert main(["eval", str(run), "--episodes", "20"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[1:])
    assert set(GOAL_METRICS) < lines.keys()
    assert 0 <= float(lines["success"].split()[0]) <= 1


def test_sizes_of_a_peer_follow_the_instances_however_they_are_written():
    for instances in ("1024", "1_024"):
        words = ["crl", "ant-goal", "--peer-settings", "code", "--num-envs", instances]
        *_, run = parse_train(words)
        assert (run.num_envs, run.capacity, run.learning_starts) == (1024, 10_240_000, 1_024_000)


def test_settings_of_a_peer(tmp_path, capsys):
    """Options beside them win; sizes follow the number of instances."""
    out = tmp_path / "run"
    options = ["--peer-settings", "script", "--num-envs", "2", "--width", "8", "--steps", "2400"]
    rest = ["--batch-size", "16", "--eval-episodes", "2", "--no-video", "--out", str(out)]
    assert main(["train", "crl", SQUARE, *options, *rest]) == 0
    assert "num_envs=2 capacity=20000 learning_starts=2000" in capsys.readouterr().out
    trained = RunFolder.open(out).config()
    expected = {"num_envs": 2, "capacity": 20_000, "learning_starts": 2000}
    assert expected.items() <= trained["run"].items()
    assert trained["run"]["env_steps_per_update"] == 16
    own = {"loss": "backward", "critics": 1, "width": 8, "initial_random": False}
    assert own.items() <= trained["agent"].items()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("crl probe-both", "crl learns to reach goals, and probe-both has none; goal tasks are: "),
        ("sgcrl probe-square", "the agent is after a single goal, and probe-square commands anoth"),
        ("crl probe-square --peer-settings codes", "invalid choice 'codes' for argument '--peer-"),
        ("crl probe-square --goal 1 x", "--goal takes "),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, capfd, command, said):
    assert main(["train", *command.split(), "--out", str(tmp_path / "run")]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"jaxrl: {said}")
    assert not (tmp_path / "run").exists()


def test_a_sweep_compiles_once():
    """Float hyperparameters are leaves: other values are the same program."""
    update = jax.jit(lambda *arguments: CRL.update(*arguments))  # with a cache of its own
    agent = agents.bound(CRL(width=8, representation=4, batch_size=8), Square().spec).canonical()
    state = agent.init(jax.random.key(0), Square().spec)
    replay = agent.replay(20, 2)
    row = jax.eval_shape(lambda: _row(agent, state))
    batch = replay.sample(replay.init(row), jnp.int32(0), jax.random.key(0))
    for value in (0.0, 0.5):
        other = dataclasses.replace(agent, random_goals=value, logsumexp_penalty=value).canonical()
        state, _ = update(other, state, batch, jax.random.key(0))
    assert update._cache_size() == 1


def _row(agent, state):
    from jaxrl.train.online import _row as row

    env = jax.vmap(Square().reset)(jax.random.split(jax.random.key(0), 2))
    return row(env, agent.act(state, env.obs, jax.random.key(0), explore=True))
