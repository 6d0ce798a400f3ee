"""Checkpoints: which ones stay, that damage is found, and that a failed write is survived."""

from __future__ import annotations

import json
import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.agents._common import weak_leaves
from jaxrl.errors import UsageError
from jaxrl.train.checkpoint import Checkpoints, _signed, from_arrays

ITEMS = ("agent", "rest")


def state(step):
    """Two pytrees with a typed key, an empty leaf and many numbers."""
    random = np.random.default_rng(step)
    agent = {"params": jnp.asarray(random.normal(size=(3, 5)), jnp.float32)}
    rest = {
        "key": jax.random.key(step),
        "replay": jnp.asarray(random.integers(0, 255, (100, 300)), jnp.uint8),
        "empty": jnp.zeros((0, 4)),
        "flag": jnp.asarray(True),
    }
    return agent, rest


def save(checkpoints, step, score=None):
    """Saves and waits; returns what went wrong."""
    return checkpoints.save(step, *state(step), {"step": step}, score) or checkpoints.wait()


@pytest.fixture
def folder(tmp_path):
    """Checkpoints at steps 10 and 20."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    assert save(checkpoints, 10) is None
    assert save(checkpoints, 20) is None
    checkpoints.close()
    return tmp_path / "checkpoints"


def read(folder):
    """Step of the newest readable checkpoint, and what was said of the others."""
    said: list[str] = []
    checkpoints = Checkpoints(folder)
    try:
        return checkpoints.newest(ITEMS, said.append)[0], said
    finally:
        checkpoints.close()


def test_every_leaf_comes_back(folder):
    checkpoints = Checkpoints(folder)
    step, arrays, meta = checkpoints.newest(ITEMS, pytest.fail)
    assert (step, meta["step"]) == (20, 20)
    for item, expected in zip(ITEMS, state(20), strict=True):
        found = from_arrays(jax.eval_shape(lambda tree=expected: tree), arrays[item])
        assert jax.tree.structure(found) == jax.tree.structure(expected)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            assert bool((a == b).all())
        assert not weak_leaves({k: v for k, v in found.items() if k != "key"})
    with pytest.raises(UsageError, match=r"params should be float32.3, 6. and is float32.3, 5."):
        from_arrays({"params": jnp.zeros((3, 6))}, arrays["agent"])
    with pytest.raises(UsageError, match=r"other should be .* and is nothing"):
        from_arrays({"other": jnp.zeros(3)}, arrays["agent"])


def test_the_newest_and_the_best_stay(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    stay = {}
    for step, score in enumerate([1.0, 5.0, 2.0, None, float("nan"), 3.0], start=1):
        assert save(checkpoints, step, score) is None
        stay[step] = checkpoints.steps()
    checkpoints.close()
    assert stay == {1: [1], 2: [1, 2], 3: [2, 3], 4: [2, 3, 4], 5: [2, 4, 5], 6: [2, 5, 6]}
    # Opened again, the best is known from the one that is read.
    checkpoints = Checkpoints(tmp_path, keep=1)
    assert checkpoints.newest(ITEMS, pytest.fail)[0] == 6
    save(checkpoints, 7, 4.0)
    assert checkpoints.steps() == [2, 7]
    save(checkpoints, 8, 5.0)
    assert checkpoints.steps() == [8]
    checkpoints.close()


def test_a_best_one_that_could_not_be_written_is_none(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep=1)
    assert save(checkpoints, 1, 5.0) is None
    assert save(checkpoints, 2, 9.0) is None
    wait = checkpoints._manager.wait_until_finished
    with monkeypatch.context() as patch:  # its background write fails

        def fail():
            wait()
            checkpoints._manager.delete(2)
            raise OSError("no space left")

        patch.setattr(checkpoints._manager, "wait_until_finished", fail)
        assert "checkpoint at step 2 failed" in checkpoints.wait()
    assert save(checkpoints, 3, 6.0) is None
    assert save(checkpoints, 4, 1.0) is None
    checkpoints.wait()
    assert checkpoints.steps() == [3, 4]  # 3 is the best that there is
    checkpoints.close()


def flip(data: bytes) -> bytes:
    return bytes(b ^ (255 if i == len(data) // 2 else 0) for i, b in enumerate(data))


DAMAGE = {
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path: path.write_bytes(b""),
    "deleted": lambda path: path.unlink(),
    "one byte flipped": lambda path: path.write_bytes(flip(path.read_bytes())),
}


# Orbax leaves futures to an event loop that an error has closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_and_the_previous_one_read(folder, tmp_path, damage):
    """Each file in turn: the checkpoint is refused, or what is read is what was written."""
    refused = set()
    for path in sorted(path for path in (folder / "20").rglob("*") if path.is_file()):
        name = str(path.relative_to(folder / "20"))
        shutil.copytree(folder, tmp_path / "copy")
        DAMAGE[damage](tmp_path / "copy" / "20" / name)
        step, said = read(tmp_path / "copy")  # checks every array against its checksum
        assert step in (10, 20)
        if step == 10:
            refused.add(name.split("/")[0])
            assert len(said) == 1
            assert said[0].startswith(f"damaged checkpoint passed over: {tmp_path}/copy/20: ")
            assert "\n" not in said[0]
        shutil.rmtree(tmp_path / "copy")
    assert refused == {"agent", "rest", "meta"}


def test_the_largest_file_counts(folder):
    largest = max((folder / "20").rglob("*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(flip(largest.read_bytes()))
    assert read(folder)[0] == 10


@pytest.mark.parametrize("change", [("step", 21), ("format", 1.5), ("crc32", {})])
def test_meta_that_was_edited_is_refused(folder, change):
    path = folder / "20" / "meta" / "metadata"
    meta = json.loads(path.read_text())
    path.write_text(json.dumps({**meta, change[0]: change[1]}))
    step, (said,) = read(folder)
    assert step == 10
    assert said.endswith("20: meta is not what was written")


def test_an_array_that_is_not_what_was_written_is_named(folder):
    path = folder / "20" / "meta" / "metadata"
    meta = json.loads(path.read_text())
    meta["crc32"]["rest"]["replay"] += 1
    path.write_text(json.dumps(_signed(meta)))
    assert read(folder)[1][0].endswith("20: rest/replay is not what was written")
    del meta["crc32"]["rest"]["replay"]
    path.write_text(json.dumps(_signed(meta)))
    assert read(folder)[1][0].endswith("20: arrays are missing in rest")


def test_a_damaged_one_does_not_block_its_successor(folder):
    (folder / "20" / "meta" / "metadata").unlink()
    checkpoints = Checkpoints(folder, keep=2)
    assert checkpoints.newest(ITEMS, lambda line: None)[0] == 10
    checkpoints.discard_after(10)
    assert checkpoints.steps() == [10]
    assert save(checkpoints, 20) is None
    checkpoints.close()
    assert read(folder) == (20, [])


def test_none_left_is_one_line(folder, tmp_path):
    for step in ("10", "20"):
        (folder / step / "meta" / "metadata").unlink()
    with pytest.raises(UsageError, match="no readable checkpoint in"):
        read(folder)
    with pytest.raises(UsageError, match="no readable checkpoint in"):
        read(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    checkpoints = Checkpoints(folder)
    with pytest.raises(UsageError, match=r"no checkpoint at step 15 in .*; there are: 10, 20"):
        checkpoints.newest(ITEMS, pytest.fail, step=15)
    checkpoints.close()


def test_reading_leaves_an_unfinished_write_alone(folder):
    """Another process evaluates a run that is being written."""
    unfinished = folder / "30.orbax-checkpoint-tmp"
    unfinished.mkdir()
    assert read(folder) == (20, [])
    assert unfinished.exists()
    checkpoints = Checkpoints(folder, keep=2)  # the run itself, resumed
    assert save(checkpoints, 40) is None  # waits until the rest is cleared away
    checkpoints.close()
    assert not unfinished.exists()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_told_and_survived(tmp_path):
    """Files may not grow beyond a few bytes for two saves, as on a full disk."""
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert save(checkpoints, 1, 1.0) is None
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
        assert checkpoints.save(2, *state(2), {}, None) is None  # it fails in the background
        told = [checkpoints.save(3, *state(3), {}, None), checkpoints.wait()]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    for step, line in zip((2, 3), told, strict=True):
        assert line is not None
        assert line.startswith(f"checkpoint at step {step} failed, the run goes on: ")
        assert "\n" not in line
    # What was half written may linger while Orbax's threads let go of it, but is no checkpoint.
    assert checkpoints.steps() == [1]
    assert save(checkpoints, 4) is None
    assert checkpoints.steps() == [1, 4]
    checkpoints.close()
    assert read(tmp_path) == (4, [])
