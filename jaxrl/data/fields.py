"""Fields of a dataset's file, checked: there, of one length, numbers, flags that are 0 or 1."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxrl.data.rows import Column, read_slice
from jaxrl.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Fields:
    """The arrays of one file by name."""

    path: Path
    columns: Mapping[str, Column]

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def matrix(self, name: str, length: int | None = None, size: int | None = None) -> Column:
        """Numbers [length, size].

        Raises:
          UsageError: it is missing, or has another length, size, shape or type.
        """
        column = self._column(name, 2, length)
        if column.shape[1] < 1:
            raise UsageError(f"{self.path}: {name} have no columns")
        if size is not None and column.shape[1] != size:
            raise UsageError(
                f"{self.path}: {name} have {column.shape[1]} columns, observations have {size}"
            )
        return column

    def vector(self, name: str, length: int) -> np.ndarray:
        """Finite numbers [length], float32; also from [length, 1].

        Raises:
          UsageError: it is missing, has another length, shape or type, or is not finite somewhere.
        """
        with np.errstate(over="ignore"):
            values = self._flat(name, length).astype(np.float32)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise UsageError(
                f"{self.path}: {name}[{bad[0]}] is {values[bad[0]]}, which is no number"
            )
        return values

    def bools(self, name: str, length: int) -> np.ndarray:
        """Zeros and ones [length], bool.

        Raises:
          UsageError: it is missing, has another length or shape, or another value somewhere.
        """
        values = self._flat(name, length)
        bad = np.flatnonzero((values != 0) & (values != 1))
        if len(bad):
            raise UsageError(f"{self.path}: {name}[{bad[0]}] = {values[bad[0]]} is neither 0 nor 1")
        return values.astype(bool)

    def _flat(self, name: str, length: int) -> np.ndarray:
        column = self._column(name, 1, length)
        return read_slice(self.path, name, column, slice(0, length)).reshape(length)

    def _column(self, name: str, ndim: int, length: int | None) -> Column:
        if name not in self.columns:
            there = ", ".join(sorted(self.columns)) or "nothing"
            raise UsageError(f"{self.path}: field {name!r} is missing; there are: {there}")
        column = self.columns[name]
        shape = tuple(column.shape)
        if np.dtype(column.dtype).kind not in "fiub":
            raise UsageError(f"{self.path}: {name} are of type {column.dtype}, and not numbers")
        single = ndim == 1 and len(shape) == 2 and shape[1] == 1
        if len(shape) != ndim and not single:
            wanted = "[rows, size]" if ndim == 2 else "[rows]"
            raise UsageError(f"{self.path}: {name} have shape {list(shape)}, and not {wanted}")
        if length is not None and shape[0] != length:
            raise UsageError(
                f"{self.path}: {name} have {shape[0]:,} rows, observations have {length:,}"
            )
        if shape[0] == 0:
            raise UsageError(f"{self.path}: {name} have no rows")
        return column
