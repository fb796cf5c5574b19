"""The newest log lines of a run, each under a number of its own, so that filters, hits and scroll positions stay right.

Filters and draws nothing. A progress bar is one line however often its writer tells it. Invariant: a line keeps its number for
ever, memory is bounded by lines and by characters, and only the last BAR_REACH lines ever change.
"""

from __future__ import annotations

import sys
from bisect import bisect_left

from plt_tui.protocol.events import Logs
from plt_tui.views.progress_bar import Bar, bar_of, continues

MAX_LOG_LINES = 200_000
MAX_LOG_CHARS = 32_000_000
"""Characters of text kept: 32 MB of plain ASCII, 128 MB at worst."""
BAR_REACH = 64
"""A bar's next state takes the place of the one before only among this many newest lines: further up nobody would see it."""
_SLACK = 16
"""The oldest lines leave one part in this many at a time, so that a flood costs no move per line."""

Row = tuple[float, str, str, str]
"""Unix time, source ("hub", "rank 0", ...), level, and the text as it is shown: one line, tabs as blanks."""


class LogRing:
    """The newest log lines: line i is `lines[i - first]`."""

    def __init__(self, max_lines: int = MAX_LOG_LINES, max_chars: int = MAX_LOG_CHARS) -> None:
        self.lines: list[Row] = []  # of tuples: the collector forgets those, and need not walk through 200 000 lists
        self.first = 0
        """Number of the oldest line kept."""
        self.dropped = 0
        """Lines that a slow connection lost."""
        self.sources: set[str] = set()
        """Everybody who has written a line."""
        self._max_lines = max_lines
        self._max_chars = max_chars
        self._num_chars = 0
        self._bars: dict[str, tuple[int, Bar]] = {}
        """By source: the number of its last line, where that is a bar."""
        self._open: dict[str, int] = {}
        """By source: the number of the line that it has not ended yet."""

    @property
    def stop(self) -> int:
        """Number of the next line to come."""
        return self.first + len(self.lines)

    def extend(self, logs: Logs) -> None:
        """Add lines; the next state of a bar takes the place of the one before."""
        for moment, source, level, text in logs.lines:
            self._add((float(moment), sys.intern(str(source)), sys.intern(str(level)), _as_shown(str(text))))
        self.dropped += logs.dropped
        self._make_room()

    def draw(self, moment: float, source: str, text: str) -> None:
        """Show a line that `source` has not ended yet as far as it is; its end takes its place. Empty: there is none."""
        number = self._open.pop(source, None)
        if text:
            self._open[source] = self._put((moment, sys.intern(source), "INFO", _as_shown(text)), number)
            self._make_room()

    def number_at(self, unix_s: float) -> int:
        """Number of the first line written at `unix_s` or later; `stop` when there is none."""
        return self.first + bisect_left(self.lines, unix_s, key=lambda row: row[0])

    def _add(self, row: Row) -> None:
        source = row[1]
        bar, known, number = bar_of(row[3]), self._bars.pop(source, None), self._open.pop(source, None)
        if number is None and bar is not None and known is not None and continues(known[1], bar):
            number = known[0]
        number = self._put(row, number)
        if bar is not None:
            self._bars[source] = number, bar

    def _put(self, row: Row, number: int | None) -> int:
        """Let `row` take the place of line `number` if that is among the newest, else stand behind all; its number."""
        if number is not None and number >= max(self.first, self.stop - BAR_REACH):
            self._num_chars -= len(self.lines[number - self.first][3])
            self.lines[number - self.first] = row
        else:
            number = self.stop
            self.lines.append(row)
            self.sources.add(row[1])
        self._num_chars += len(row[3])
        return number

    def _make_room(self) -> None:
        is_long = len(self.lines) > self._max_lines + self._max_lines // _SLACK
        if not is_long and self._num_chars <= self._max_chars + self._max_chars // _SLACK:
            return
        surplus = 0
        while len(self.lines) - surplus > self._max_lines or self._num_chars > self._max_chars:
            self._num_chars -= len(self.lines[surplus][3])
            surplus += 1
        del self.lines[:surplus]
        self.first += surplus


def _as_shown(text: str) -> str:
    return text.replace("\n", " ⏎ ").expandtabs(4) if "\n" in text or "\t" in text else text
