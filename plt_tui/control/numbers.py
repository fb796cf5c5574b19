"""The record numbers of a run's steps, without keeping one for each: only where they jump, because something came between.

Knows neither steps nor files. Invariant: the numbers of later rows are greater, so a number is found by bisection; rows that
were never recorded have number 0, all of them or none.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right


class Numbers:
    """A number for each row of a table, rows counted from 0. Used by one thread."""

    def __init__(self) -> None:
        self._num_rows = 0
        self._rows = array("q")
        """Rows whose number is not the one before plus 1."""
        self._firsts = array("q")
        """Their numbers."""

    def __len__(self) -> int:
        return self._num_rows

    @property
    def num_jumps(self) -> int:
        """How many places are kept: 16 bytes each."""
        return len(self._rows)

    def append(self, first: int, count: int = 1) -> None:
        """Add `count` rows with the numbers `first`, `first` + 1, ..."""
        if not self._rows or first != self._firsts[-1] + self._num_rows - self._rows[-1]:
            self._rows.append(self._num_rows)
            self._firsts.append(first)
        self._num_rows += count

    def cut(self, num_rows: int) -> None:
        """Forget every row but the first `num_rows`."""
        self._num_rows = min(self._num_rows, num_rows)
        keep = bisect_left(self._rows, self._num_rows)
        del self._rows[keep:], self._firsts[keep:]

    def at(self, row: int) -> int:
        """The number of a row."""
        place = bisect_right(self._rows, row) - 1
        return self._firsts[place] + row - self._rows[place]

    def before(self, number: int) -> int:
        """How many rows have a number smaller than `number`."""
        place = bisect_left(self._firsts, number) - 1
        if place < 0:
            return 0
        stop = self._rows[place + 1] if place + 1 < len(self._rows) else self._num_rows
        return min(stop, self._rows[place] + number - self._firsts[place])
