"""What is wrong with a file is one line that names file, field and row."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from jaxrl.data import files
from jaxrl.data.files import open_dataset
from jaxrl.errors import UsageError
from tests.agents.values import spec
from tests.data import samples

ROWS = samples.rows()
PLAIN = samples.d4rl_arrays(ROWS)
N = len(PLAIN["rewards"])


def changed(name: str, index, value) -> dict:
    """One entry of one field is another."""
    values = PLAIN[name].astype(np.float64)
    values[index] = value
    return {name: values}


D4RL = {
    "a field is missing": (
        {"actions": None},
        r"x\.hdf5: field 'actions' is missing; there are: next_observations, observations, "
        r"rewards, terminals, timeouts$",
    ),
    "another length": (
        {"rewards": PLAIN["rewards"][:-1]},
        rf"x\.hdf5: rewards have {N - 1} rows, observations have {N}$",
    ),
    "not a number": (
        changed("observations", (5, 2), np.nan),
        r"x\.hdf5: observations\[5, 2\] is nan, which is no number$",
    ),
    "not a number at an end": (
        changed("next_observations", (3, 0), np.inf),
        r"x\.hdf5: next_observations\[3, 0\] is inf, which is no number$",
    ),
    "too large for float32": (
        changed("observations", (6, 1), 1e300),
        r"x\.hdf5: observations\[6, 1\] is inf, which is no number$",
    ),
    "a reward that is none": (changed("rewards", 4, np.nan), r"x\.hdf5: rewards\[4\] is nan, "),
    "a reward too large for float32": (
        changed("rewards", 4, 1e300),
        r"x\.hdf5: rewards\[4\] is inf, which is no number$",
    ),
    "half an end": (
        changed("terminals", 7, 0.5),
        r"x\.hdf5: terminals\[7\] = 0\.5 is neither 0 nor 1$",
    ),
    "another type": (
        {"actions": np.array([[b"left", b"up"]] * N)},
        r"x\.hdf5: actions are of type .*, and not numbers$",
    ),
    "another shape": (
        {"observations": PLAIN["observations"][:, 0]},
        rf"x\.hdf5: observations have shape \[{N}\], and not \[rows, size\]$",
    ),
    "another size": (
        {"next_observations": PLAIN["next_observations"][:, :1]},
        r"x\.hdf5: next_observations have 1 columns, observations have 3$",
    ),
    "no rows": (
        {name: values[:0] for name, values in PLAIN.items()},
        r"x\.hdf5: observations have no rows$",
    ),
    "no timeouts and no next observations": (
        {"timeouts": None, "next_observations": None},
        r"x\.hdf5: field 'timeouts' is missing, and without next_observations nothing tells where ",
    ),
    "an action out of bounds": (
        changed("actions", (2, 1), 4.1),
        r"x\.hdf5: actions\[2, 1\] = 4\.1 is outside the bounds of none, 0 to 4$",
    ),
}


@pytest.mark.parametrize("case", D4RL)
def test_d4rl(tmp_path, case):
    pytest.importorskip("h5py")
    changes, line = D4RL[case]
    path = samples.hdf5(tmp_path / "x.hdf5", **{**PLAIN, **changes})
    with pytest.raises(UsageError, match=line) as error:
        samples.read(path, samples.TASK)
    assert "\n" not in str(error.value)


def test_the_plain_form_of_ogbench_has_next_observations_of_the_same_size(tmp_path):
    path = samples.npz(tmp_path / "x.npz", **{**PLAIN, **D4RL["another size"][0]})
    with pytest.raises(UsageError, match=r"next_observations have 1 columns, observations have 3$"):
        samples.read(path)


@pytest.mark.parametrize("field", ["observations", "rewards"])
def test_a_damaged_part_of_an_hdf5_file(tmp_path, field):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "x.hdf5"
    with h5py.File(path, "w") as file:
        for name, values in PLAIN.items():
            file.create_dataset(name, data=values, compression="gzip")
        at = file[field].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[at + 4 : at + 24] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(UsageError, match=rf"x\.hdf5: {field} cannot be read: \S") as error:
        samples.read(path)
    assert "\n" not in str(error.value)


def test_next_observations_are_compared_as_rows_are_kept(tmp_path):
    """Of float64 beside float32 no more episodes are cut."""
    exact = {"observations": PLAIN["observations"].astype(np.float64) * (1 + 1e-12)}
    path = tmp_path / "x.npz"
    _, notes = samples.read(samples.npz(path, **PLAIN))
    assert samples.read(samples.npz(path, **{**PLAIN, **exact}))[1] == notes


def test_another_task_is_told_by_its_sizes(tmp_path):
    path = samples.npz(tmp_path / "x.npz", **PLAIN)
    with pytest.raises(UsageError, match="observations have 3 columns, and none has 4: the datase"):
        samples.read(path, spec(2, samples.LOW, samples.HIGH, observation_size=4))
    with pytest.raises(UsageError, match="actions have 2 columns, and none has 1: the dataset is"):
        samples.read(path, spec(1))
    endless = spec(2, (-1.0, -np.inf), (1.0, np.inf))
    with pytest.raises(UsageError, match=r"none has no bounds for action 1 \(-inf to inf\)"):
        samples.read(path, endless)


def test_another_task_is_told_by_its_name_and_options(tmp_path):
    about = {"env_id": "walker-walk", "options": '{"action_repeat": 2, "goal": [8.0, 12.0]}'}
    path = samples.npz(tmp_path / "x.npz", **PLAIN, about=json.dumps(about))
    with open_dataset(path) as dataset:
        same = {"action_repeat": 2, "goal": (8.0, 12.0), "physics": "native"}
        dataset.check_task("walker-walk", same)
        with pytest.raises(UsageError, match=r"x\.npz is of walker-walk, and not of walker-run"):
            dataset.check_task("walker-run", {"action_repeat": 2})
        with pytest.raises(UsageError, match="made with --action-repeat 2, and now it is 1; give"):
            dataset.check_task("walker-walk", {"action_repeat": 1})


@pytest.mark.parametrize("low", [5.0, "n/a"])
def test_references_must_be_in_order(tmp_path, low):
    about = {"random_return": low, "expert_return": 5.0}
    path = samples.npz(tmp_path / "x.npz", **PLAIN, about=json.dumps(about))
    line = rf"random_return {low!r} must be a number below expert_return 5\.0"
    with open_dataset(path) as dataset, pytest.raises(UsageError, match=line):
        _ = dataset.reference


@pytest.mark.parametrize("about", ["no JSON", "[1]"])
def test_what_a_file_says_of_itself_must_be_an_object(tmp_path, about):
    path = samples.npz(tmp_path / "x.npz", **PLAIN, about=about)
    with pytest.raises(UsageError, match="about is no JSON object"), open_dataset(path):
        pass
    said = {"env_id": "x", "options": about}
    path = samples.npz(tmp_path / "y.npz", **PLAIN, about=json.dumps(said))
    with open_dataset(path) as dataset, pytest.raises(UsageError, match="options is no JSON obj"):
        dataset.check_task("x", {})


def test_files_that_are_no_datasets(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"nowhere\.hdf5 does not exist; `jaxrl dataset` makes"):
        files.layout_of(tmp_path / "nowhere.hdf5")
    (tmp_path / "text.csv").write_text("1,2,3\n")
    for path in (tmp_path / "text.csv", tmp_path):
        with pytest.raises(UsageError, match=r"is of no known layout: neither D4RL \(an HDF5 file"):
            files.layout_of(path)
    whole = samples.npz(tmp_path / "whole.npz", **PLAIN).read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "half.hdf5").write_bytes(files.HDF5 + b"and no more")
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, observations=np.array([{}], dtype=object))
    stream = bytearray(whole)
    at = whole.index(b"observations.npy") + len("observations.npy") + 40
    stream[at : at + 20] = bytes(20)
    (tmp_path / "scratched.npz").write_bytes(bytes(stream))
    damaged = [tmp_path / name for name in ("half.npz", "scratched.npz", "half.hdf5")]
    for path in (pickled, *damaged):
        if path.suffix == ".hdf5":
            pytest.importorskip("h5py")
        with (
            pytest.raises(UsageError, match=rf"{path.name} cannot be read: \S"),
            open_dataset(path),
        ):
            pass
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: None)
    with (
        pytest.raises(UsageError, match=re.escape("needs the extra: pip install 'jaxrl[data]'")),
        open_dataset(tmp_path / "half.hdf5"),
    ):
        pass


def minari(path, **changes):
    """A folder with two episodes of Minari's, one of them changed."""
    h5py = pytest.importorskip("h5py")
    path.mkdir()
    (path / "metadata.json").write_text("{}")
    with h5py.File(path / "main_data.hdf5", "w") as file:
        for name in ("episode_0", "episode_10", "episode_2"):
            episode = {
                "observations": np.zeros((4, 3)),
                "actions": np.zeros((3, 2)),
                "rewards": np.full(3, int(name.removeprefix("episode_"))),
                "terminations": np.zeros(3, bool),
                "truncations": np.array([False, False, True]),
            }
            for field, values in {**episode, **(changes if name == "episode_2" else {})}.items():
                if values is not None:
                    file[f"{name}/{field}"] = values
    return path


MINARI = {
    "a field is missing": (
        {"actions": None},
        "field 'episode_2/actions' is missing; there are: episode_2/observations, ",
    ),
    "no final observation": (
        {"observations": np.zeros((3, 3))},
        "episode_2/observations have 3 rows, and must have 4, one more than its actions",
    ),
    "an end in the middle": (
        {"terminations": np.array([False, True, False])},
        r"episode_2/terminations\[1\] = 1 before the episode's last step",
    ),
    "another size": (
        {"observations": np.zeros((4, 2))},
        "episode_2/observations have 2 columns, episode_0/observations have 3",
    ),
    "not a number": (
        {"actions": np.array([[0, 0], [0, 0], [0, np.nan]])},
        r"episode_2/actions\[2, 1\] is nan, which is no number",
    ),
}


@pytest.mark.parametrize("case", MINARI)
def test_minari(tmp_path, case):
    changes, line = MINARI[case]
    path = minari(tmp_path / "x", **changes)
    with pytest.raises(UsageError, match=line):
        samples.read(path, samples.TASK)


def test_a_minari_episode_that_is_no_group(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = minari(tmp_path / "x")
    with h5py.File(path / "main_data.hdf5", "w") as file:
        file["episode_0"] = np.zeros(3)
    with pytest.raises(UsageError, match="there is no group episode_0"), open_dataset(path):
        pass


def test_minari_episodes_come_in_the_order_of_their_numbers(tmp_path):
    found, _ = samples.read(minari(tmp_path / "x"))
    np.testing.assert_array_equal(found.reward[found.ends], [0, 2, 10])


def test_streaming_says_where_there_is_no_room(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    path = samples.npz(tmp_path / "x.npz", **PLAIN)
    monkeypatch.setattr(files.os, "posix_fallocate", full)
    with pytest.raises(UsageError, match=r"streaming takes .* No space left on device; set TMPDIR"):
        samples.read(path, on_disk=True)
