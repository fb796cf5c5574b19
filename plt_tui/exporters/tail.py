"""The record of a run read as it grows: every recorded event once, in the order in which it was recorded.

The record lies in three files, each in order. They are merged by the numbers of the events; where a number is missing (a line
that waits for a full disk, or was lost with the machine), what follows is given after GAP_S, and the missing line when it
comes. Does not write, and asks no hub. Invariant: of each file every whole line is given once, however often and wherever
reading begins again.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from plt_tui.control.folder import RunFolder
from plt_tui.errors import StorageError
from plt_tui.protocol.events import Event
from plt_tui.protocol.framing import decode

READ_BYTES = 256 * 1024
"""Read of one file at once."""
BATCH_EVENTS = 1000
"""Most events that one `read` gives."""
GAP_S = 2.0
"""How long an event waits for one of a lower number that is not to be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The last line of a file that was given."""

    seq: int
    time: float
    """Unix seconds, of the event."""
    end: int
    """Where the next line begins."""
    length: int
    sha256: str
    """Of the line: says whether it is still there."""


Marks = Mapping[str, Mark]
"""How far each file was given, by its name; those of which nothing was given are not in it."""


@dataclass(frozen=True, slots=True)
class _Line:
    event: Event
    end: int
    raw: bytes


class RecordTail:
    """Reads the record of `folder` behind `marks`. From one thread. Raises: StorageError, also from `read`."""

    def __init__(self, folder: RunFolder, marks: Marks | None = None) -> None:
        marks = marks or {}
        paths = (folder.journal, folder.metrics, folder.samples)
        self._files = [_FileTail(path, marks.get(path.name)) for path in paths]
        self._next = max((mark.seq for mark in marks.values()), default=0) + 1
        self._gap_since: float | None = None

    def read(self, now: float, *, to_the_end: bool = False) -> list[Event]:
        """What comes next, at most BATCH_EVENTS; empty when nothing is new. `now`: seconds of a clock that is never set.

        to_the_end: nobody writes any more, so what is missing will not come.
        """
        out: list[Event] = []
        while len(out) < BATCH_EVENTS:
            heads = [(line.event.seq, file) for file in self._files if (line := file.head()) is not None]
            if not heads:
                break
            seq, file = min(heads, key=lambda head: head[0])
            if seq > self._next and not to_the_end and not self._has_waited(now):
                break
            self._gap_since = None
            self._next = max(self._next, seq + 1)
            out.append(file.take())
        return out

    def marks(self) -> Marks:
        """How far everything that `read` has returned goes."""
        return {file.name: mark for file in self._files if (mark := file.mark()) is not None}

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def _has_waited(self, now: float) -> bool:
        if self._gap_since is None:
            self._gap_since = now
        return now - self._gap_since >= GAP_S


class _FileTail:
    """One file of lines, read from behind a mark."""

    def __init__(self, path: Path, mark: Mark | None) -> None:
        self.name = path.name
        self._path = path
        self._descriptor: int | None = None
        self._lines: deque[_Line] = deque()
        self._rest = b""
        """What was read behind the last whole line."""
        self._offset = 0
        """Where reading goes on: behind `_rest`."""
        self._mark = mark
        self._last: _Line | None = None
        self._is_known = False
        """Lines are skipped that were given before: the mark was not found where it was."""
        if mark is not None:
            self._go_to(mark)

    def head(self) -> _Line | None:
        """The next whole line; None when there is none yet."""
        while not self._lines:
            if not self._fill():
                return None
        return self._lines[0]

    def take(self) -> Event:
        """The event of `head`, which goes."""
        self._last = self._lines.popleft()
        self._mark = None
        return self._last.event

    def mark(self) -> Mark | None:
        """The last line that was taken."""
        if self._mark is None and self._last is not None:
            self._mark = _mark(self._last)
        return self._mark

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _fill(self) -> bool:
        """Read on; False when nothing more is there."""
        try:
            grown = self._read()
        except OSError as error:
            raise StorageError(f"{self._path}: cannot be read: {error.strerror}; make it readable again") from None
        if not grown:
            return False
        begin = self._offset - len(self._rest)
        self._offset += len(grown)
        *whole, self._rest = (self._rest + grown).split(b"\n")
        self._lines.extend(self._decoded(whole, begin))
        return True

    def _read(self) -> bytes:
        if self._descriptor is None:
            try:
                self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return b""
        if os.fstat(self._descriptor).st_size < self._offset:  # a write that failed was taken back
            self._begin_again()
        return os.pread(self._descriptor, READ_BYTES, self._offset)

    def _begin_again(self) -> None:
        """Find the place again in a file that was cut: what was given and is there again is not given twice."""
        mark = self.mark()
        self._lines.clear()
        self._rest, self._offset, self._is_known = b"", 0, False
        if mark is not None:
            self._go_to(mark)

    def _go_to(self, mark: Mark) -> None:
        """Go on behind `mark`; where that line is gone, from the beginning, past what was given before."""
        if self._is_there(mark):
            self._offset = mark.end
        else:
            self._is_known = True
        self._mark = mark

    def _is_there(self, mark: Mark) -> bool:
        try:
            with self._path.open("rb") as file:
                file.seek(mark.end - mark.length - 1)
                line = file.read(mark.length + 1)
        except OSError:
            return False
        return line.endswith(b"\n") and hashlib.sha256(line[:-1]).hexdigest() == mark.sha256

    def _decoded(self, whole: list[bytes], begin: int) -> Iterator[_Line]:
        for raw in whole:
            begin += len(raw) + 1
            try:
                event = decode(raw)
            except ValueError as error:
                hint = "move the file away to export the rest"
                raise StorageError(f"{self._path}: broken before byte {begin} ({error}); {hint}") from None
            if not self._was_given(event):
                yield _Line(event, begin, raw)

    def _was_given(self, event: Event) -> bool:
        """True for what lies at or before a mark whose line has gone: numbers that were lost are given to other events
        later.
        """
        mark = self._mark
        return self._is_known and mark is not None and event.seq <= mark.seq and event.time <= mark.time


def _mark(line: _Line) -> Mark:
    return Mark(
        seq=line.event.seq,
        time=line.event.time,
        end=line.end,
        length=len(line.raw),
        sha256=hashlib.sha256(line.raw).hexdigest(),
    )
