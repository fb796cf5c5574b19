"""The newest log lines of a run, each under a number of its own, so that filters, hits and scroll positions stay right.

Filters and draws nothing. A progress bar is one line however often its writer tells it. All but the newest lines are packed: a
log shrinks to a tenth of what Python's own objects take. Invariant: a line keeps its number for ever, memory is bounded by
lines and by bytes, and only the last BAR_REACH lines ever change.
"""

from __future__ import annotations

import marshal
import sys
import zlib
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import overload

from plt_tui.protocol.events import Logs
from plt_tui.views.progress_bar import Bar, bar_of, continues

MAX_LOG_LINES = 1_000_000
MAX_LOG_CHARS = 128_000_000
"""Characters of text kept; packed they take a few megabytes ..."""
MAX_PACKED_BYTES = 64_000_000
"""... and never more than this, whatever was written."""
PACK_LINES, PACK_CHARS = 1024, 256 * 1024
"""Lines that are packed together, or fewer where they are long."""
OPEN_PACKS = 4
"""Packs that stay unpacked as well, for whoever looks at their neighbours next."""
BAR_REACH = 64
"""A bar's next state takes the place of the one before only among this many newest lines: further up nobody would see it."""
_SLACK = 16
"""The oldest lines leave one part in this many at a time, so that a flood costs no move per line."""

Row = tuple[float, str, str, str]
"""Unix time, source ("hub", "rank 0", ...), level, and the text as it is shown: one line, tabs as blanks."""


@dataclass(frozen=True, slots=True)
class _Pack:
    """Lines that change no more."""

    start: int
    """Number of the first one."""
    count: int
    num_chars: int
    data: bytes

    @staticmethod
    def of(start: int, rows: list[Row]) -> _Pack:
        # Builtin values that this very process wrote: marshal is the fastest there is, and reads nobody else's bytes.
        data = zlib.compress(marshal.dumps(rows), 1)
        return _Pack(start, len(rows), sum(len(row[3]) for row in rows), data)

    def rows(self) -> list[Row]:
        found: list[Row] = marshal.loads(zlib.decompress(self.data))  # noqa: S302
        return found


class Rows(Sequence[Row]):
    """Lines in order, each under a number that it keeps; the place of a line is its number less `first`."""

    def __init__(self) -> None:
        self.first = 0
        """Number of the oldest line."""
        self.num_chars = 0
        self.packed_bytes = 0
        self._packed_chars = 0
        self._packs: deque[_Pack] = deque()
        self._starts: deque[int] = deque()
        """Number of the first line of each pack."""
        self._tail: list[Row] = []
        """The newest lines, as they are."""
        self._tail_start = 0
        self._opened: dict[int, list[Row]] = {}
        """Some packs as lines, by the number of their first one, the last used last."""

    def __len__(self) -> int:
        return self._tail_start + len(self._tail) - self.first

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            assert step == 1, "lines are read in order"
            return self._between(self.first + start, self.first + max(start, stop))
        number = self.first + (place if place >= 0 else place + len(self))
        if not self.first <= number < self.first + len(self):
            raise IndexError(place)
        return self._between(number, number + 1)[0]

    def append(self, row: Row) -> None:
        """Add the newest line."""
        self._tail.append(row)
        self.num_chars += len(row[3])

    def replace(self, number: int, row: Row) -> None:
        """Let `row` take the place of the line `number`, one of the last BAR_REACH."""
        place = number - self._tail_start
        self.num_chars += len(row[3]) - len(self._tail[place][3])
        self._tail[place] = row

    def pack(self) -> None:
        """Pack what changes no more."""
        if len(self._tail) < PACK_LINES + BAR_REACH and self.num_chars - self._packed_chars < PACK_CHARS:
            return
        place = 0
        while (rows := self._settled(place)) is not None:
            pack = _Pack.of(self._tail_start + place, rows)
            self._packs.append(pack)
            self._starts.append(pack.start)
            self.packed_bytes += len(pack.data)
            self._packed_chars += pack.num_chars
            place += len(rows)
        del self._tail[:place]
        self._tail_start += place

    def drop(self, *, max_lines: int, max_chars: int, max_bytes: int) -> None:
        """Let the oldest lines go until there are no more than that; of those that are packed together all."""
        while self._packs and (len(self) > max_lines or self.num_chars > max_chars or self.packed_bytes > max_bytes):
            pack = self._packs.popleft()
            self._opened.pop(self._starts.popleft(), None)
            self.num_chars -= pack.num_chars
            self._packed_chars -= pack.num_chars
            self.packed_bytes -= len(pack.data)
            self.first = pack.start + pack.count
        if self._packs:
            return
        surplus = 0
        while len(self._tail) - surplus > max_lines or self.num_chars > max_chars:
            self.num_chars -= len(self._tail[surplus][3])
            surplus += 1
        del self._tail[:surplus]
        self._tail_start += surplus
        self.first = self._tail_start

    def _settled(self, place: int) -> list[Row] | None:
        """The next lines of the tail that are to be packed, from `place` on; None: not yet."""
        num_settled = len(self._tail) - BAR_REACH - place
        if num_settled <= 0:
            return None
        chars, count = 0, 0
        for row in islice(self._tail, place, place + min(num_settled, PACK_LINES)):
            chars, count = chars + len(row[3]), count + 1
            if chars >= PACK_CHARS:
                break
        is_whole = count == PACK_LINES or chars >= PACK_CHARS
        return self._tail[place : place + count] if is_whole else None

    def _between(self, start: int, stop: int) -> list[Row]:
        """Lines by number."""
        found: list[Row] = []
        at = bisect_right(self._starts, start) - 1
        while start < min(stop, self._tail_start):
            pack = self._packs[at]
            found += self._open(pack)[start - pack.start : stop - pack.start]
            start, at = pack.start + pack.count, at + 1
        return found + self._tail[max(0, start - self._tail_start) : max(0, stop - self._tail_start)]

    def _open(self, pack: _Pack) -> list[Row]:
        rows = self._opened.pop(pack.start, None) or pack.rows()
        self._opened[pack.start] = rows
        if len(self._opened) > OPEN_PACKS:
            del self._opened[next(iter(self._opened))]
        return rows


class LogRing:
    """The newest log lines: line i is `lines[i - first]`."""

    def __init__(self, max_lines: int = MAX_LOG_LINES, max_chars: int = MAX_LOG_CHARS) -> None:
        self.lines = Rows()
        self.dropped = 0
        """Lines that were lost on the way, between others: in a flood, or by a slow connection."""
        self.sources: set[str] = set()
        """Everybody who has written a line."""
        self._max_lines = max_lines
        self._max_chars = max_chars
        self._untold = 0
        """Lines before the first one that came here."""
        self._bars: dict[str, tuple[int, Bar]] = {}
        """By source: the number of its last line, where that is a bar."""
        self._open: dict[str, int] = {}
        """By source: the number of the line that it has not ended yet."""

    @property
    def first(self) -> int:
        """Number of the oldest line kept."""
        return self.lines.first

    @property
    def older(self) -> int:
        """How many lines there were before those that are here."""
        return self._untold + self.first

    @property
    def stop(self) -> int:
        """Number of the next line to come."""
        return self.first + len(self.lines)

    def extend(self, logs: Logs) -> None:
        """Add lines; the next state of a bar takes the place of the one before."""
        if self.stop:
            self.dropped += logs.dropped
        else:
            self._untold += logs.dropped
        for moment, source, level, text in logs.lines:
            self._add((float(moment), sys.intern(str(source)), sys.intern(str(level)), _as_shown(str(text))))
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
            self.lines.replace(number, row)
        else:
            number = self.stop
            self.lines.append(row)
            self.sources.add(row[1])
        return number

    def _make_room(self) -> None:
        self.lines.pack()
        is_long = len(self.lines) > self._max_lines + self._max_lines // _SLACK
        is_wide = self.lines.num_chars > self._max_chars + self._max_chars // _SLACK
        if is_long or is_wide or self.lines.packed_bytes > MAX_PACKED_BYTES:
            self.lines.drop(max_lines=self._max_lines, max_chars=self._max_chars, max_bytes=MAX_PACKED_BYTES)


def _as_shown(text: str) -> str:
    return text.replace("\n", " ⏎ ").expandtabs(4) if "\n" in text or "\t" in text else text
