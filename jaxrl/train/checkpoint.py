"""Checkpoints of the whole training state, by Orbax: asynchronous, atomic, checked when read.

A checkpoint holds three items: `agent` (all that evaluation needs), `rest` (replay, environment
states and their drawn starts, keys) and `meta` (counters, and a checksum of every array). Arrays
are stored under their path in the pytree, typed keys as their key data; nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl.errors import UsageError

FORMAT = 1
"""Version of this layout; a checkpoint of another one is refused."""

Arrays = dict[str, np.ndarray]


class Damaged(Exception):
    """A checkpoint that cannot be read back as it was written."""


def to_arrays(tree: Any) -> Arrays:
    """Host copies of all leaves by their path, but for empty ones, which Orbax cannot store.

    Copies, because a live view of a donated array silently disables donation.
    """
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_name(path): np.array(_plain(leaf)) for path, leaf in flat if leaf.size}


def from_arrays(template: Any, arrays: Arrays) -> Any:
    """The pytree shaped like `template` (arrays or shapes) with the given leaves.

    Raises:
      UsageError: a leaf is missing or has another shape or type; it is named.
    """
    flat, treedef = jax.tree_util.tree_flatten_with_path(template)
    leaves = []
    for path, leaf in flat:
        name = _name(path)
        expected = jax.eval_shape(_plain, leaf)
        found = arrays.get(name) if expected.size else np.zeros(expected.shape, expected.dtype)
        if found is None or (found.shape, found.dtype) != (expected.shape, expected.dtype):
            has = "nothing" if found is None else f"{found.dtype}{list(found.shape)}"
            raise UsageError(
                f"the checkpoint is of another task, agent or setting: {name} should be "
                f"{expected.dtype}{list(expected.shape)} and is {has}"
            )
        array = jax.numpy.array(found)
        is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        leaves.append(jax.random.wrap_key_data(array) if is_key else array)
    return jax.tree_util.tree_unflatten(treedef, leaves)


class Checkpoints:
    """The checkpoints of one run: the newest `keep` and the best one.

    Args:
      path: the run's `checkpoints` folder.
      keep: how many of the newest stay; None only reads, and leaves alone what another process
        may be writing.
    """

    def __init__(self, path: Path, keep: int | None = None):
        import orbax.checkpoint as ocp

        logging.getLogger("absl").setLevel(logging.CRITICAL)  # what fails is raised, too
        self._args = ocp.args
        if keep is None:
            options = ocp.CheckpointManagerOptions(
                read_only=True, create=False, save_interval_steps=0
            )
        else:
            options = ocp.CheckpointManagerOptions(
                preservation_policy=self, cleanup_tmp_directories=True
            )
        self._manager = ocp.CheckpointManager(path.absolute(), options=options)
        self._path = path
        self._keep = keep
        self._best: tuple[int, float] | None = None  # step and score
        self._saving: int | None = None
        self._best_before: tuple[int, float] | None = None  # that save

    def steps(self) -> list[int]:
        """Steps of the checkpoints on disk, oldest first."""
        return sorted(self._manager.all_steps(read=True))

    def save(self, step: int, agent: Any, rest: Any, meta: dict, score: float | None) -> str | None:
        """Copies the state to the host and writes it in the background.

        Args:
          step: global step, names the checkpoint.
          agent: the agent's state.
          rest: everything else that a resume needs; None for a checkpoint that only acts.
          meta: plain numbers and strings.
          score: evaluation return at this very step, if there was an evaluation.

        Returns:
          what went wrong with this save or the one before, in one line, or None. The run can go
          on either way.
        """
        problem = self.wait()
        self._saving = step
        items = {"agent": to_arrays(agent)} | ({} if rest is None else {"rest": to_arrays(rest)})
        free = shutil.disk_usage(self._path).free
        needed = sum(array.nbytes for arrays in items.values() for array in arrays.values())
        if needed > free:
            room = f"it takes up to {needed / 2**20:,.0f} MiB, {free / 2**20:,.0f} MiB are free"
            return _failure(step, OSError(f"the disk of {self._path} is full ({room})"))
        sums = {i: {k: _checksum(v) for k, v in arrays.items()} for i, arrays in items.items()}
        best = self._best_before = self._best
        if score is not None and not math.isnan(score) and (best is None or score >= best[1]):
            self._best = (step, score)
        try:
            self._manager.save(
                step,
                args=self._args.Composite(
                    **{item: self._args.StandardSave(arrays) for item, arrays in items.items()},
                    meta=self._args.JsonSave(_signed({**meta, "crc32": sums, "best": self._best})),
                ),
            )
        except Exception as error:  # a full disk, a lost mount: the run outlives it
            self._best = best
            return _failure(step, error)
        return problem

    def wait(self) -> str | None:
        """Waits for the background write; returns what went wrong, in one line, or None."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self._best = self._best_before  # what failed is no best one
            for part in self._path.glob(f"{self._saving}.*"):  # what fills the disk, most likely
                shutil.rmtree(part, ignore_errors=True)
            return _failure(self._saving, error)
        return None

    def read(self, step: int, items: tuple[str, ...]) -> tuple[dict[str, Arrays], dict]:
        """The arrays of `items` and the meta of the checkpoint at `step`.

        Raises:
          Damaged: it is partial or an array differs from what was written; the array is named.
        """
        where = self._path / str(step)
        restore = {name: self._args.StandardRestore() for name in items}
        try:
            found = self._manager.restore(
                step, args=self._args.Composite(**restore, meta=self._args.JsonRestore())
            )
            meta = found["meta"]
            arrays = {i: {k: np.asarray(v) for k, v in found[i].items()} for i in items}
        except Exception as error:
            raise Damaged(f"{where}: {_line(error)}") from error
        if _signed(meta) != meta:
            raise Damaged(f"{where}: meta is not what was written")
        if meta["format"] != FORMAT:
            raise UsageError(f"{where} has format {meta['format']}, this version reads {FORMAT}")
        for item in items:
            sums = meta["crc32"][item]
            if arrays[item].keys() != sums.keys():
                raise Damaged(f"{where}: arrays are missing in {item}")
            for name, array in arrays[item].items():
                if _checksum(array) != sums[name]:
                    raise Damaged(f"{where}: {item}/{name} is not what was written")
        self._best = meta["best"]
        return arrays, meta

    def newest(
        self, items: tuple[str, ...], warn: Any, step: int | None = None
    ) -> tuple[int, dict[str, Arrays], dict]:
        """The newest readable checkpoint, or the one at `step`: (step, arrays, meta).

        Each damaged one is reported through `warn` (a function of one line).

        Raises:
          UsageError: there is none.
        """
        if step is not None and step not in self.steps():
            there = ", ".join(f"{found:_}" for found in self.steps()) or "none"
            raise UsageError(f"no checkpoint at step {step:_} in {self._path}; there are: {there}")
        for candidate in [step] if step is not None else reversed(self.steps()):
            try:
                return candidate, *self.read(candidate, items)
            except Damaged as damage:
                warn(f"damaged checkpoint passed over: {damage}")
        raise UsageError(f"no readable checkpoint in {self._path}")

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Orbax asks which checkpoints stay. Its own policies read a file of scores that, damaged,
        keeps it from opening the folder at all."""
        assert self._keep is not None
        stay = {found.step for found in checkpoints[-self._keep :]} | {self._best and self._best[0]}
        return [found.step in stay for found in checkpoints]

    def discard_after(self, step: int) -> None:
        """Deletes what is newer than `step`: Orbax saves nothing that is older than its newest."""
        for newer in [found for found in self.steps() if found > step]:
            self._manager.delete(newer)

    def close(self) -> None:
        """Ends the background threads."""
        with contextlib.suppress(Exception):
            self._manager.close()


def _name(path: tuple) -> str:
    """The path as a string without dots: .env.obs -> env/obs."""
    return "/".join(jax.tree_util.keystr((part,), simple=True) for part in path)


def _checksum(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _signed(meta: dict) -> dict:
    """`meta` with its format and a checksum of itself."""
    signed = {"format": FORMAT, **{k: v for k, v in meta.items() if k != "sum"}}
    return {**signed, "sum": zlib.crc32(json.dumps(signed, sort_keys=True).encode())}


def _plain(leaf: Any) -> Any:
    is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def _failure(step: int | None, error: Exception) -> str:
    return f"checkpoint at step {step} failed, the run goes on: {_line(error)}"


def _line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
