"""Rows that grow at their end, as numpy arrays by column.

Does not know what the columns mean, but for `step`, which grows from row to row. Invariant: an array that was handed out never
changes again, whatever is added or cut afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

MIN_ROWS = 1024
"""Rows that the first buffers hold; each larger ones hold twice as many as were needed."""

Kinds: TypeAlias = Mapping[str, type[np.float64] | type[np.int64]]
"""The type of each column's values, by its name."""


class Table:
    """The rows. Arrays are handed out as views of buffers whose rows behind them are written once."""

    def __init__(self, kinds: Kinds, columns: Mapping[str, npt.ArrayLike] | None = None) -> None:
        """columns: the first rows, all of one length; where the types agree they are kept as they are, and not copied."""
        start: Mapping[str, npt.ArrayLike] = dict.fromkeys(kinds, ()) if columns is None else columns
        self._buffers: dict[str, npt.NDArray[Any]] = {name: np.asarray(start[name], kind) for name, kind in kinds.items()}
        self._rows = self._written = len(self._buffers["step"])

    def __len__(self) -> int:
        return self._rows

    def extend(self, columns: Mapping[str, npt.ArrayLike]) -> None:
        """Add rows, their steps growing; they replace the rows from their first step on."""
        added = {name: np.asarray(columns[name]) for name in self._buffers}
        count = len(added["step"])
        if not count:
            return
        self.cut(int(added["step"][0]) - 1)
        end = self._rows + count
        if self._rows < self._written or end > len(self._buffers["step"]):
            self._move(max(MIN_ROWS, 2 * end))
        for name, buffer in self._buffers.items():
            buffer[self._rows : end] = added[name]
        self._rows = self._written = end

    def cut(self, last_step: int) -> None:
        """Forget every row after `last_step`."""
        self._rows = int(np.searchsorted(self._buffers["step"][: self._rows], last_step, side="right"))

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Every column, read-only, each as long as the table."""
        return {name: _read_only(buffer[: self._rows]) for name, buffer in self._buffers.items()}

    def _move(self, capacity: int) -> None:
        """Go on in new buffers of `capacity` rows: the old ones are full, or hold rows that somebody may still look at."""
        for name, buffer in self._buffers.items():
            larger = np.empty(capacity, buffer.dtype)
            larger[: self._rows] = buffer[: self._rows]
            self._buffers[name] = larger


def _read_only(view: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view.flags.writeable = False
    return view
