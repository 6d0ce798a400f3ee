"""What is written comes back, peers read what we write, and we read what they write."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest

from jaxrl.data import rows as rows_module
from jaxrl.data.files import layout_of, open_dataset, write_dataset
from jaxrl.errors import UsageError
from tests.data import samples

ROWS = samples.rows()
TRANSITIONS = samples.transitions(ROWS)


def written(path, layout):
    """Our file of `ROWS`; skips where the layout's package is not installed."""
    if layout != "ogbench":
        pytest.importorskip("h5py")
    about = {"env_id": "none", "quality": "expert", "random_return": 1.5, "expert_return": 9.0}
    write_dataset(path / samples.LAYOUTS[layout], layout, ROWS, about, samples.BOUNDS)
    return path / samples.LAYOUTS[layout]


@pytest.mark.parametrize("layout", samples.LAYOUTS)
@pytest.mark.parametrize("on_disk", [False, True])
def test_what_is_written_comes_back(tmp_path, monkeypatch, layout, on_disk):
    monkeypatch.setattr(rows_module, "BLOCK", 7)  # many blocks, across episodes
    path = written(tmp_path, layout)
    assert layout_of(path) == layout
    found, notes = samples.read(path, on_disk=on_disk)
    samples.assert_same_rows(found, ROWS)
    assert notes == ()
    assert isinstance(found.obs, np.memmap) == on_disk
    with open_dataset(path) as dataset:
        assert (dataset.reference.low, dataset.reference.high) == (1.5, 9.0)
        assert dataset.about["quality"] == "expert"
        assert dataset.shortest()[0] == 1
        checksum = dataset.checksum
    other = tmp_path / "other"
    other.mkdir()
    with open_dataset(written(other, layout)) as dataset:
        assert dataset.checksum == checksum


def test_actions_are_scaled_to_the_bounds(tmp_path):
    found, _ = samples.read(written(tmp_path, "ogbench"), samples.TASK)
    acted = ~ROWS.last
    low, high = samples.BOUNDS
    expected = 2 * (ROWS.action[acted] - low) / (high - low) - 1
    np.testing.assert_allclose(found.action[acted], expected, atol=1e-6)
    assert not found.action[~acted].any()
    np.testing.assert_array_equal(found.obs, ROWS.obs)


def test_d4rl_opens_in_h5py_as_its_loader_expects(tmp_path):
    h5py = pytest.importorskip("h5py")
    expected = samples.d4rl_arrays(ROWS)
    with h5py.File(written(tmp_path, "d4rl")) as file:
        assert file.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(file[name][:], values, err_msg=name, strict=True)


def test_d4rl_without_next_observations(tmp_path):
    """The last transition of a truncated episode led nowhere that the file tells; none may lead
    into the next episode, as D4RL's own `qlearning_dataset` has it for a terminal one."""
    pytest.importorskip("h5py")
    arrays = samples.d4rl_arrays(ROWS)
    path = samples.hdf5(tmp_path / "x.hdf5", **{**arrays, "next_observations": None})
    found, notes = samples.read(path)
    expected = []
    for i, (o, a, r, _, terminated, last) in enumerate(TRANSITIONS):
        if last and not terminated:
            continue  # dropped
        following = o if terminated else arrays["observations"][i + 1]
        ends = terminated or bool(arrays["timeouts"][i + 1])
        expected.append((o, a, r, following, terminated, ends))
    samples.assert_same_transitions(found, expected)
    assert "the last transition of each of 3 truncated episodes is dropped" in notes[0]
    assert "2 terminal observations are missing" in notes[1]


def test_d4rl_that_ends_in_the_middle_of_an_episode(tmp_path):
    pytest.importorskip("h5py")
    arrays = {k: x[:6] for k, x in samples.d4rl_arrays(ROWS).items()}  # 2 of 3 steps
    found, _ = samples.read(samples.hdf5(tmp_path / "x.hdf5", **arrays))
    samples.assert_same_transitions(found, [*TRANSITIONS[:5], (*TRANSITIONS[5][:5], True)])
    arrays["next_observations"] = None
    found, _ = samples.read(samples.hdf5(tmp_path / "y.hdf5", **arrays))
    assert len(samples.transitions(found)) == 5
    samples.assert_same_transitions(
        found,
        [
            *TRANSITIONS[:3],
            (*TRANSITIONS[3][:3], TRANSITIONS[3][0], True, True),
            (*TRANSITIONS[4][:5], True),
        ],
    )


def test_d4rl_of_loose_transitions(tmp_path):
    """Where a next observation is not the next row's, an episode is cut and bootstraps from it."""
    pytest.importorskip("h5py")
    arrays = samples.d4rl_arrays(ROWS)
    order = np.random.default_rng(1).permutation(len(TRANSITIONS))
    path = samples.hdf5(tmp_path / "x.hdf5", **{k: x[order] for k, x in arrays.items()})
    found, notes = samples.read(path)
    walked = samples.transitions(found)
    for i, (o, a, r, n, terminated, _) in zip(order, walked, strict=True):
        for ours, theirs in zip((o, a, r, n, terminated), TRANSITIONS[i][:5], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert "do not lead to the next row's observation; episodes are cut there" in notes[0]


def test_ogbench_of_loose_transitions(tmp_path):
    """The same in its plain form, whose terminals do not mark the cuts."""
    o, a, r, n, terminated, ends = (np.array(x) for x in zip(*TRANSITIONS, strict=True))
    arrays = {
        **{"observations": o, "actions": a, "rewards": r, "next_observations": n},
        **{"terminals": ends, "masks": ~terminated},
    }
    order = np.random.default_rng(1).permutation(len(TRANSITIONS))
    path = samples.npz(tmp_path / "x.npz", **{k: x[order] for k, x in arrays.items()})
    found, notes = samples.read(path)
    for i, walked in zip(order, samples.transitions(found), strict=True):
        for ours, theirs in zip(walked[:5], TRANSITIONS[i][:5], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert "do not lead to the next row's observation; episodes are cut there" in notes[0]


def stored(**changes):
    """The fields of OGBench's files, as it stores them, by walking."""
    last = ROWS.last
    received = np.append(ROWS.reward[1:], 0).astype(np.float32)
    masks = 1.0 - np.append(ROWS.flags[1:] & 1, 0)
    arrays = {
        "observations": ROWS.obs,
        "actions": ROWS.action + 0.5 * last[:, None],  # what a last row holds is of no use
        "terminals": last.astype(np.float32),
        "rewards": np.where(last, 7, received).astype(np.float32),
        "masks": np.where(last, 1, masks).astype(np.float32),
    }
    return {**arrays, **changes}


def test_ogbench_opens_in_its_loader(tmp_path):
    ogbench = pytest.importorskip("ogbench")
    path = written(tmp_path, "ogbench")
    plain = ogbench.load_dataset(str(path))
    o, a, _, n, _, last = (np.array(x) for x in zip(*TRANSITIONS, strict=True))
    for name, values in {
        "observations": o,
        "actions": a,
        "next_observations": n,
        "terminals": last,
    }.items():
        np.testing.assert_array_equal(plain[name], values, err_msg=name)
    # And back: what its loader makes of a file, in both forms, is read here.
    arrays = stored()
    rewards = np.array([x[2] for x in TRANSITIONS])
    masks = 1.0 - np.array([x[4] for x in TRANSITIONS])
    again = samples.npz(tmp_path / "plain.npz", **plain, rewards=rewards, masks=masks)
    samples.assert_same_transitions(samples.read(again)[0], TRANSITIONS)
    compact = ogbench.load_dataset(str(path), compact_dataset=True)
    again = samples.npz(
        tmp_path / "compact.npz", **compact, rewards=arrays["rewards"], masks=arrays["masks"]
    )
    samples.assert_same_rows(samples.read(again)[0], ROWS)


def test_ogbench_in_each_form(tmp_path):
    """Without its package: the three forms as its loader documents them."""
    samples.assert_same_rows(samples.read(samples.npz(tmp_path / "a.npz", **stored()))[0], ROWS)
    last = ROWS.last.astype(np.float32)
    double = np.minimum(last + np.append(last[1:], 1), 1)
    compact = stored(terminals=double, valids=1 - last)
    samples.assert_same_rows(samples.read(samples.npz(tmp_path / "b.npz", **compact))[0], ROWS)
    o, a, r, n, terminated, ends = (np.array(x) for x in zip(*TRANSITIONS, strict=True))
    plain = {
        **{"observations": o, "actions": a, "rewards": r, "next_observations": n},
        **{"terminals": ends, "masks": ~terminated},
    }
    found, _ = samples.read(samples.npz(tmp_path / "c.npz", **plain))
    samples.assert_same_rows(found, ROWS)


def test_ogbench_as_published_has_no_rewards_and_no_masks(tmp_path):
    path = samples.npz(tmp_path / "x.npz", **stored(rewards=None, masks=None))
    with open_dataset(path) as dataset:
        assert not dataset.has_rewards
        assert "every episode counts as ended by the clock" in dataset.plan.notes[0]
        found = dataset.rows()
    np.testing.assert_array_equal(found.flags, 2 * ROWS.last)
    np.testing.assert_array_equal(found.obs, ROWS.obs)


@pytest.mark.parametrize("final", [{"terminals": 0}, {"terminals": 0, "valids": 1}])
def test_ogbench_that_ends_in_the_middle_of_an_episode(tmp_path, final):
    """The last row is the newest observation; its action leads nowhere."""
    arrays = {k: x[:-3] for k, x in stored().items()}
    if "valids" in final:
        arrays["valids"] = 1 - arrays["terminals"]
    for name, value in final.items():
        arrays[name][-1] = value
    found, _ = samples.read(samples.npz(tmp_path / "x.npz", **arrays))
    expected = TRANSITIONS[:13]
    samples.assert_same_transitions(found, [*expected[:-1], (*expected[-1][:5], True)])


def test_ogbench_masks_within_a_trajectory_end_it_for_the_value(tmp_path):
    """Its single-task data go on behind a success, from which nothing is bootstrapped."""
    arrays = stored()
    arrays["masks"][1] = 0  # the second transition of the first episode
    found, _ = samples.read(samples.npz(tmp_path / "x.npz", **arrays))
    expected = list(TRANSITIONS)
    expected[1] = (*TRANSITIONS[1][:4], True, True)
    samples.assert_same_transitions(found, expected)


def test_minari_opens_what_we_write(tmp_path):
    minari = pytest.importorskip("minari")
    pytest.importorskip("h5py")
    path = written(tmp_path, "minari")
    dataset = minari.MinariDataset(path / "data")
    assert (dataset.total_episodes, dataset.total_steps) == (5, sum(samples.LENGTHS))
    np.testing.assert_array_equal(dataset.action_space.high, samples.HIGH)
    assert dataset.storage.metadata["ref_max_score"] == 9.0
    at = 0
    for episode in dataset.iterate_episodes():
        length = len(episode.rewards)
        own = slice(at, at + length + 1)
        np.testing.assert_array_equal(episode.observations, ROWS.obs[own])
        np.testing.assert_array_equal(episode.actions, ROWS.action[own][:-1])
        np.testing.assert_array_equal(episode.rewards, ROWS.reward[own][1:])
        np.testing.assert_array_equal(episode.terminations, ROWS.flags[own][1:] == 1)
        np.testing.assert_array_equal(episode.truncations, ROWS.flags[own][1:] == 2)
        at += length + 1


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_we_open_what_minari_writes(tmp_path, monkeypatch):
    minari = pytest.importorskip("minari")
    pytest.importorskip("h5py")
    from gymnasium.spaces import Box
    from minari.data_collector import EpisodeBuffer

    buffers = []
    for number, (start, end) in enumerate(zip(ROWS.starts, ROWS.ends, strict=True)):
        ended = ROWS.flags[start + 1 : end + 1]
        buffers.append(
            EpisodeBuffer(
                id=number,
                observations=ROWS.obs[start : end + 1],
                actions=ROWS.action[start:end],
                rewards=ROWS.reward[start + 1 : end + 1],
                terminations=ended == 1,
                truncations=ended == 2,
            )
        )
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    with contextlib.redirect_stdout(io.StringIO()):
        minari.create_dataset_from_buffers(
            "ours/test-v0",
            buffers,
            observation_space=Box(-np.inf, np.inf, (3,), np.float32),
            action_space=Box(*samples.BOUNDS.astype(np.float32), dtype=np.float32),
        )
    found, notes = samples.read(tmp_path / "ours" / "test-v0")
    samples.assert_same_rows(found, ROWS)
    assert notes == ()


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError):
        written(tmp_path, "ogbench")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    path = written(tmp_path, "ogbench")
    with pytest.raises(UsageError, match=r"data\.npz exists; give another --out, or delete it"):
        written(tmp_path, "ogbench")
    assert path.exists()
