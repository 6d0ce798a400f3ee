"""Checkpoints of the whole training state, by Orbax: asynchronous, atomic, checked when read.

A checkpoint holds three items: `agent` (all that evaluation needs), `rest` (replay, environment
states and their drawn starts, keys) and `meta` (counters, and a checksum of every array). Arrays
are stored under their path in the pytree, typed keys as their key data; nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import logging
import zlib
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
      keep: how many of the newest stay.
    """

    def __init__(self, path: Path, keep: int = 2):
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers as managers

        logging.getLogger("absl").setLevel(logging.ERROR)
        self._args = ocp.args
        policy = managers.AnyPreservationPolicy(
            [
                managers.LatestN(keep),
                managers.BestN(get_metric_fn=lambda m: m["return"], n=1),
            ]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(path.absolute(), options=options)
        self._path = path

    def steps(self) -> list[int]:
        """Steps of the checkpoints on disk, oldest first."""
        return sorted(self._manager.all_steps(read=True))

    def save(self, step: int, agent: Any, rest: Any, meta: dict, score: float | None) -> str | None:
        """Copies the state to the host and writes it in the background.

        Args:
          step: global step, names the checkpoint.
          agent: the agent's state.
          rest: everything else that a resume needs.
          meta: plain numbers and strings.
          score: evaluation return at this very step, if there was an evaluation.

        Returns:
          what went wrong, in one line, or None. The run can go on either way.
        """
        with contextlib.suppress(Exception):
            self._manager.wait_until_finished()  # reported by the call that began it or by `wait`
        items = {"agent": to_arrays(agent), "rest": to_arrays(rest)}
        sums = {
            item: {k: zlib.crc32(np.ascontiguousarray(v)) for k, v in arrays.items()}
            for item, arrays in items.items()
        }
        try:
            self._manager.save(
                step,
                args=self._args.Composite(
                    agent=self._args.StandardSave(items["agent"]),
                    rest=self._args.StandardSave(items["rest"]),
                    meta=self._args.JsonSave({**meta, "format": FORMAT, "crc32": sums}),
                ),
                metrics=None if score is None else {"return": score},
            )
        except Exception as error:  # a full disk, a lost mount: the run outlives it
            return _failure(step, error)
        return None

    def wait(self) -> str | None:
        """Waits for the background write; returns what went wrong, in one line, or None."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            return _failure(self._manager.latest_step(), error)
        return None

    def read(self, step: int, items: tuple[str, ...]) -> tuple[dict[str, Arrays], dict]:
        """The arrays of `items` and the meta of the checkpoint at `step`.

        Raises:
          Damaged: it is partial or an array differs from what was written; the array is named.
        """
        restore = {name: self._args.StandardRestore() for name in items}
        try:
            found = self._manager.restore(
                step, args=self._args.Composite(**restore, meta=self._args.JsonRestore())
            )
            meta = found["meta"]
            arrays = {i: {k: np.asarray(v) for k, v in found[i].items()} for i in items}
            sums = meta["crc32"]
        except Exception as error:
            raise Damaged(f"{self._path / str(step)}: {_line(error)}") from error
        if meta.get("format") != FORMAT:
            raise UsageError(
                f"{self._path / str(step)} has format {meta.get('format')}, this version reads {FORMAT}"
            )
        for item in items:
            if arrays[item].keys() != sums[item].keys():
                raise Damaged(f"{self._path / str(step)}: arrays are missing in {item}")
            for name, array in arrays[item].items():
                if zlib.crc32(np.ascontiguousarray(array)) != sums[item][name]:
                    raise Damaged(f"{self._path / str(step)}: {item}/{name} is not what was written")
        return arrays, meta

    def newest(
        self, items: tuple[str, ...], warn: Any, step: int | None = None
    ) -> tuple[int, dict[str, Arrays], dict]:
        """The newest readable checkpoint, or the one at `step`: (step, arrays, meta).

        Each damaged one is reported through `warn` (a function of one line).

        Raises:
          UsageError: there is none.
        """
        for candidate in [step] if step is not None else reversed(self.steps()):
            try:
                return candidate, *self.read(candidate, items)
            except Damaged as damage:
                warn(f"damaged checkpoint passed over: {damage}")
        raise UsageError(f"no readable checkpoint in {self._path}")

    def close(self) -> None:
        """Ends the background threads."""
        with contextlib.suppress(Exception):
            self._manager.close()


def _name(path: tuple) -> str:
    """The path as a string without dots: .env.obs -> env/obs."""
    return "/".join(jax.tree_util.keystr((part,), simple=True) for part in path)


def _plain(leaf: Any) -> Any:
    is_key = jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def _failure(step: int | None, error: Exception) -> str:
    return f"checkpoint at step {step} failed, the run goes on: {_line(error)}"


def _line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
