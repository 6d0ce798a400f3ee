"""Learning from a dataset through the public loop: closed forms, streaming, kills, seeds."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import signal
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import agents
from jaxrl.agents.bc import BC
from jaxrl.agents.cfpi import CFPI
from jaxrl.agents.diffusion_ql import DiffusionQL
from jaxrl.agents.eda import EDA
from jaxrl.agents.fql import FQL
from jaxrl.agents.idql import IDQL
from jaxrl.agents.iql import IQL
from jaxrl.agents.td3_bc import TD3BC
from jaxrl.cli import main
from jaxrl.data.files import open_dataset
from jaxrl.replay.ring import Rows
from jaxrl.replay.stored import gather
from jaxrl.train import offline, runner
from jaxrl.train.checkpoint import Checkpoints
from jaxrl.train.config import OfflineConfig
from jaxrl.train.offline import OfflineLoop, prepare_offline, statistics
from jaxrl.train.results import load
from tests.compiling import EMITTERS
from tests.train import probe_data, runs
from tests.train.test_interruption import interrupted
from tests.train.test_learning import returns_to_go

GAMMA = 0.9

SMALL = shlex.split(
    "--steps 600 --eval-every 250 --eval-episodes 2 --chunk-steps 110 --no-video --widths 16 16 "
    "--batch-size 32"
)
SHAPES = {
    "bc": ["--loss", "mse"],
    "iql": ["--no-scale-rewards"],
    "td3_bc": [],
    "cfpi": ["--no-scale-rewards"],
    "eda": shlex.split(
        "--no-scale-rewards --width 8 --blocks 1 --contrasted 4 --samples 2 --sampling-steps 3"
    ),
    "idql": shlex.split("--no-scale-rewards --width 16 --blocks 1 --samples 4"),
    "fql": ["--sampling-steps", "4"],
    "diffusion_ql": shlex.split("--samples 4 --average-start 100"),
}
"""One program for each agent in most tests, which so compile it once."""
SIZES = {"widths": (16, 16), "batch_size": 32}
CRITIC = {**SIZES, "critic_learning_rate": 1e-3, "actor_learning_rate": 1e-3}
EDA_SIZES = {"width": 8, "blocks": 1, "contrasted": 4, "sampling_steps": 3}
CRITIC |= {"tau": 0.05, "discount": GAMMA}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Files of probes by name; made when first asked for."""
    folder, made = tmp_path_factory.mktemp("datasets"), {}

    def get(probe: str, **options):
        name = "-".join([probe, *(f"{k}{v}" for k, v in options.items())])
        if name not in made:
            made[name] = probe_data.write(folder / f"{name}.npz", probe, **options)
        return made[name]

    return get


def command(out, agent, dataset, *options, task="probe-both"):
    words = ["train", agent, task, "--dataset", str(dataset), *SMALL, *SHAPES[agent]]
    return [*words, "--out", str(out), *options]


def train(out, agent, dataset, *options, task="probe-both"):
    assert main(command(out, agent, dataset, *options, task=task)) == 0
    return out


@dataclasses.dataclass(frozen=True)
class Learned:
    """An agent after 3,000 updates, and every situation of its task: observations and steps."""

    agent: Any
    state: Any
    obs: np.ndarray
    steps: np.ndarray


def learned(agent, dataset, task="probe-both", updates=3000) -> Learned:
    config = OfflineConfig(steps=updates, dataset=dataset)
    agent, loop, _ = prepare_offline(agent, task, jaxrl.make(task), config)
    state = loop.init(agent, jax.random.key(0))
    state, sums = loop.advance(agent, state, 0, updates, learn=True)
    assert sums["updates"] == updates
    return Learned(agent, state.agent, *probe_data.observations(task))


def greedy(trained, obs):
    key = jax.random.key(0)
    return np.asarray(trained.agent.act(trained.state, jnp.asarray(obs), key, explore=False))


def taken(dataset, obs):
    """The dataset's actions where it saw each of these observations."""
    with open_dataset(dataset) as opened:
        rows = opened.rows()
    there = [(rows.obs == x).all(axis=1) & ~rows.last for x in obs]
    return [rows.action[seen, 0].astype(np.float64) for seen in there]


def test_bc_learns_the_mean_action(datasets):
    """Actions are uniform between 0 and the signal."""
    data = datasets("probe-both", bias=1.0)
    found = learned(BC(**SIZES, loss="mse", learning_rate=1e-3), data)
    means = [actions.mean() for actions in taken(data, found.obs)]
    assert np.all(np.abs(means - 0.5 * found.obs[:, 0]) < 0.05)
    np.testing.assert_allclose(greedy(found, found.obs)[:, 0], means, atol=0.03)


def test_iql_learns_expectile_and_weighted_mean(datasets):
    """Q(s, a) = signal * a with a uniform in [-1, 1]: V is the expectile of what the dataset holds,
    and the policy the mean of a under exp(beta Q)."""
    data = datasets("probe-both")
    found = learned(IQL(**CRITIC, scale_rewards=False), data)
    v = np.asarray(found.agent._v(found.state.value, found.state, found.obs))
    chosen = greedy(found, found.obs)[:, 0]
    for i, actions in enumerate(taken(data, found.obs)):
        q = found.obs[i, 0] * actions
        values = probe_data.values(
            found, np.repeat(found.obs[i : i + 1], len(q), 0), actions[:, None]
        )
        np.testing.assert_allclose(values, q, atol=0.05)
        grid = np.linspace(-1, 1, 2001)[:, None]
        loss = np.where(q > grid, 0.7, 0.3) * (q - grid) ** 2
        np.testing.assert_allclose(v[i], grid[loss.mean(axis=1).argmin(), 0], atol=0.08)
        weight = np.exp(3 * q)
        expected = (weight * actions).sum() / weight.sum()
        np.testing.assert_allclose(chosen[i], expected, atol=0.08)


def test_td3_bc_takes_the_best_action(datasets):
    found = learned(TD3BC(**CRITIC), datasets("probe-both"))
    assert (greedy(found, found.obs)[:, 0] * found.obs[:, 0] > 0.9).all()


def test_a_time_limit_is_bootstrapped_through(datasets):
    """The clock is not the end of the world: 1 / (1 - gamma), from a truncated row's own
    observation."""
    found = learned(TD3BC(**CRITIC), datasets("probe-truncation"), "probe-truncation")
    q = probe_data.values(found, found.obs, np.zeros((len(found.obs), 1)))
    np.testing.assert_allclose(q, 1 / (1 - GAMMA), rtol=0.05)


def test_nothing_is_bootstrapped_from_an_end(datasets):
    """Three-step returns of an episode of four steps that terminates."""
    agent = IQL(**CRITIC, scale_rewards=False, n_step=3)
    found = learned(agent, datasets("probe-nstep"), "probe-nstep")
    q = probe_data.values(found, found.obs, np.zeros((len(found.obs), 1)))
    np.testing.assert_allclose(q, returns_to_go()[found.steps], rtol=0.05)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, datasets):
    """An uninterrupted run of each agent, made when first asked for."""
    folder, made = tmp_path_factory.mktemp("whole"), {}

    def get(agent: str):
        if agent not in made:
            made[agent] = train(folder / agent, agent, datasets("probe-both"), "--keep-policies")
        return made[agent]

    return get


def policies(run) -> dict[int, dict[str, np.ndarray]]:
    """Every array of each kept policy."""
    kept = Checkpoints(run / "policies")
    try:
        return {step: kept.read(step, ("agent",))[0]["agent"] for step in kept.steps()}
    finally:
        kept.close()


@pytest.mark.parametrize("agent", agents.offline())
def test_a_killed_run_resumes_bit_for_bit(tmp_path, datasets, whole, agent):
    """While batches are fetched, at a moment that is random but for the agent's name. The policies
    of its evaluations come again, too, where a checkpoint is lost."""
    path, options = tmp_path / "run", (*runs.EACH_CHUNK, "--keep-policies")
    arguments = command(path, agent, datasets("probe-both"), *options)
    count = 5 + zlib.crc32(agent.encode()) % 2
    ended = interrupted("SIGKILL", "piece", count, arguments)
    assert ended.returncode == -signal.SIGKILL, f"{count}: {ended.stdout}{ended.stderr}"
    assert list(policies(path)) == [0, 250]
    for step in [step for step in runs.steps(path) if step >= 250]:
        (path / "checkpoints" / str(step) / "meta" / "metadata").unlink()
    assert main([*arguments, "--resume"]) == 0
    runs.assert_same_run(path, whole(agent))
    ours, theirs = policies(path), policies(whole(agent))
    assert list(ours) == list(theirs) == [0, 250, 500, 600]
    newest = runs.arrays(path)
    for name, x in ours[600].items():
        assert x.tobytes() == newest[f"agent/{name}"].tobytes()
    for step, arrays in theirs.items():
        assert {k: x.tobytes() for k, x in arrays.items()} == {
            k: x.tobytes() for k, x in ours[step].items()
        }
    assert load(path, episodes=1, step=250).step == 250


def test_a_streamed_run_equals_a_resident_one(tmp_path, datasets, whole, monkeypatch):
    """Bit for bit; nor does it matter how many updates' batches are sent together."""
    resident = whole("td3_bc")  # before anything is replaced
    monkeypatch.setattr(offline, "PIECE", 7)
    opened = []

    class Watched(runner.Run):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            opened.append(self.loop)

    monkeypatch.setattr(runner, "Run", Watched)
    path = train(tmp_path / "run", "td3_bc", datasets("probe-both"), "--stream")
    runs.assert_same_run(path, resident)
    (loop,) = opened
    assert isinstance(loop._rows.obs, np.memmap) and loop._loop.piece == 7
    assert [f._cache_size() for f in (loop._init, loop._draw, loop._learn)] == [1, 1, 1]


def test_a_dataset_that_does_not_fit_is_streamed(tmp_path, datasets, whole, monkeypatch, capsys):
    resident = whole("td3_bc")
    monkeypatch.setattr(offline, "available_bytes", lambda: 1000)
    path = train(tmp_path / "run", "td3_bc", datasets("probe-both"))
    assert (
        "which do not fit in memory: its batches are sent ahead of time" in capsys.readouterr().out
    )
    runs.assert_same_run(path, resident)


def test_what_a_run_records(whole, datasets, capsys):
    path, data = whole("iql"), datasets("probe-both")
    config = json.loads((path / "config.json").read_text())
    with open_dataset(data) as dataset:
        expected = {"checksum": dataset.checksum, "rows": dataset.size, "path": str(data)}
    recorded = config["dataset"]
    assert {k: recorded[k] for k in expected} == expected
    assert (recorded["random_return"], recorded["expert_return"]) == (0, 2)
    assert recorded["transitions"] == recorded["rows"] // 2
    assert config["run"]["dataset"] == str(data)
    assert config["agent"]["decay_updates"] == 600  # the run's length
    returns = runs.column(path, "eval/return_mean")
    assert list(returns) == [0, 250, 500, 600]
    normalised = runs.column(path, "eval/return_normalised")
    assert normalised == {step: value / 2 for step, value in returns.items()}
    assert {"losses/critic_loss", "losses/value_loss", "losses/actor_loss"} <= {
        key for line in runs.records(path) for key in line
    }
    # Nothing of the dataset is in a checkpoint, but for its statistics, which stay with the policy.
    arrays = runs.arrays(path)
    assert sum(x.nbytes for x in arrays.values()) < 50_000
    with open_dataset(data) as dataset:
        rows = dataset.rows()
    acted = rows.obs[~rows.last].astype(np.float64)
    np.testing.assert_allclose(arrays["agent/statistics/mean"], acted.mean(0), atol=1e-6)
    np.testing.assert_allclose(arrays["agent/statistics/std"], acted.std(0), atol=1e-6)
    capsys.readouterr()
    assert main(["eval", str(path), "--episodes", "3"]) == 0
    assert "probe-both, checkpoint at step 600, 3 greedy" in capsys.readouterr().out
    obs = jnp.ones((4, 2))
    action = jaxrl.load_policy(path)(obs)
    np.testing.assert_allclose(action, greedy(load(path, 1), obs), atol=1e-6)


def test_another_dataset_is_refused_by_name(tmp_path, datasets, whole, capfd):
    run = shutil.copytree(whole("bc"), tmp_path / "run")
    capfd.readouterr()
    other = datasets("probe-both", bias=1.0)
    assert main([*command(run, "bc", other), "--resume"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert f"{run} was run with dataset.checksum = '" in line
    moved = shutil.copy(datasets("probe-both"), tmp_path / "moved.npz")
    assert main([*command(run, "bc", moved), "--resume"]) == 0


SEEDED = {
    "bc": BC(widths=(16, 16), batch_size=16),
    "iql": IQL(widths=(16, 16), batch_size=16, scale_rewards=False),
    "td3_bc": TD3BC(widths=(16, 16), batch_size=16),
    "cfpi": CFPI(widths=(16, 16), batch_size=16, scale_rewards=False),
    "eda": EDA(**EDA_SIZES, widths=(16, 16), batch_size=16, scale_rewards=False),
    "idql": IDQL(widths=(16, 16), width=16, blocks=1, batch_size=16, scale_rewards=False),
    "diffusion_ql": DiffusionQL(widths=(16, 16), batch_size=16, average_start=0),
    "fql": FQL(widths=(16, 16), sampling_steps=4, batch_size=16),
}


def test_every_agent_is_tried_with_many_seeds():
    assert set(SEEDED) == set(agents.offline())


@pytest.mark.parametrize("name", SEEDED)
def test_many_seeds_do_what_each_does_alone(datasets, name):
    """Vmapped: the same rows, bit for bit, and networks within 1e-5. One after another: all of it
    bit for bit, for the agent with a branch."""
    env = jaxrl.make("probe-both")
    agent = SEEDED[name].for_run(20).canonical()
    with open_dataset(datasets("probe-both")) as dataset:
        host = dataset.rows(env.spec)
    rows = jax.tree.map(jnp.asarray, Rows(host.obs, host.action, host.reward, host.flags))
    loop, told = OfflineLoop(env.spec, len(host), piece=20), statistics(host)

    def run(state):
        first = jnp.int32(0)
        index = loop.draw(agent, state.key, first)
        windows = gather(rows, index, 2)
        sums = loop.zero_sums(agent, state, windows)
        learned = loop.learn(agent, state, sums, windows, index, first, first, jnp.int32(20))
        return learned[0].agent, learned[1], index

    keys = jax.random.split(jax.random.key(7), 3)
    states = jax.jit(jax.vmap(lambda key: loop.init(agent, key, told)))(keys)
    single = jax.jit(run, compiler_options=EMITTERS)
    alone = [jax.device_get(single(jax.tree.map(lambda x, i=i: x[i], states))) for i in range(3)]
    alone = jax.tree.map(lambda *x: np.stack(x), *alone)
    vmapped = jax.device_get(jax.jit(jax.vmap(run))(states))
    assert (alone[1]["updates"] == 20).all()
    assert np.mean(alone[2][0] != alone[2][1]) > 0.9
    np.testing.assert_array_equal(alone[2], vmapped[2])
    for a, b in zip(jax.tree.leaves(alone[0]), jax.tree.leaves(vmapped[0]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    if name == "td3_bc":
        one_by_one = jax.jit(lambda states: jax.lax.map(run, states), compiler_options=EMITTERS)
        mapped = jax.device_get(one_by_one(states))
        for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(mapped), strict=True):
            np.testing.assert_array_equal(a, b)
