"""What ranks print, read back from their log files: nothing a rank writes can block it, crash it or get lost with it.

The file is the truth; the hub follows its end a few times a second and turns new lines into log lines for the views. A flood is
cut: of more than MAX_READ_BYTES or MAX_LINES since the last look only the end is shown, and the rest is counted; of one that
goes on less is shown, for nobody reads along and the hub shares its cores with the ranks. Invariant: a
look takes a bounded time (10 ms), and every line is shown or counted once, also when its file is put aside for a new one.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from plt_tui.protocol.events import Event, LogLine, Logs, OpenLine
from plt_tui.protocol.rank import ASIDE_SUFFIX
from plt_tui.protocol.text import MAX_LINE_CHARS, safe_line

MAX_READ_BYTES = 64 * 1024
"""Most bytes of one file that are shown per look: 50 ms where every character is one to be made visible."""
FLOOD_BYTES = 16 * 1024
"""The same while a flood goes on: at TICK_S some 64 KiB a second."""
MAX_RECORDED_BYTES = 4 * 1024 * 1024
"""Most bytes of one file that are shown of a run that has ended."""
MAX_COUNTED_BYTES = 256 * 1024 * 1024
"""Most bytes of one file in which lines are counted that are not shown: a view waits for it."""
MAX_LINES = 5000
"""Most lines of one file that are shown per look."""
MAX_LINE_BYTES = 4 * MAX_LINE_CHARS
"""What is kept of a line that does not end: all of it that is ever shown."""
MAX_SKIP_BYTES = 8 * 1024 * 1024
"""Most bytes of one file that are only counted per look: of a longer flood the rest is left to the looks after it."""

TICK_S = 0.25
"""Seconds between two looks at the files."""
OPEN_LINE_S = 1.0
"""A line that has no end yet is told this often: every time is a redraw in every view."""

_LEVELLED = re.compile(r"^(?:\S+ )?(DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)$", re.DOTALL)
"""A line as the ranks' logging writes it: time, level, message."""
_DATED = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d ")


class LogTail:
    """Follows one growing file. `source` names it in the views."""

    def __init__(self, path: Path, source: str, *, from_end: bool) -> None:
        self._path = path
        self._source = source
        self._offset = path.stat().st_size if from_end and path.exists() else 0
        self._partial = b""
        self._is_flooded = False
        """Of what came before the last look only the end was shown."""
        self._identity = _identity(path)
        self.is_behind = False
        """There was more to read at the last look than one look takes on."""
        self.open_text = ""
        """How far a line is that has no end yet and is redrawn with carriage returns; empty when there is none."""

    def read(self, now: float, *, to_the_end: bool = False) -> tuple[list[LogLine], int]:
        """Whole lines written since the last call, stamped `now` (Unix seconds), and the number of lines left out.

        `to_the_end`: nobody writes any more, so a last line without its end counts too.
        """
        self.is_behind = False
        try:
            path = self._current()
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                shown_bytes = FLOOD_BYTES if self._is_flooded else MAX_READ_BYTES
                dropped = self._skip_flood(file, size, shown_bytes)
                grown = file.read(shown_bytes)
        except OSError:
            return [], 0
        self._offset += len(grown)
        self.is_behind = self._offset < size or path != self._path
        *lines, self._partial = (self._partial + grown).split(b"\n")
        if to_the_end and self._partial:
            lines.append(self._partial)
        if to_the_end:
            self._partial = b""
        self.open_text = safe_line(_last_state(self._partial[-MAX_LINE_BYTES:])) if b"\r" in self._partial else ""
        if len(self._partial) >= MAX_READ_BYTES:
            self._partial = self._partial[:MAX_LINE_BYTES]
        dropped += len(lines[:-MAX_LINES])
        return [parse_line(line, self._source, now) for line in lines[-MAX_LINES:]], dropped

    def _current(self) -> Path:
        """The file to read from: one that was put aside for a new one is read to its end first. Raises: OSError."""
        identity, aside = _identity(self._path), self._path.with_name(self._path.name + ASIDE_SUFFIX)
        if identity == self._identity:
            return self._path
        if self._identity is not None and self._identity == _identity(aside) and aside.stat().st_size > self._offset:
            return aside
        if self._identity != _identity(aside):  # else a line may go on from the one file to the other
            self._partial = b""
        self._identity, self._offset = identity, 0
        return self._path

    def _skip_flood(self, file: BinaryIO, size: int, shown_bytes: int) -> int:
        """Move `file` on to the last `shown_bytes` that this look takes on; the number of lines left out. Holds one piece."""
        if size < self._offset:  # somebody cut it
            self._offset, self._partial = 0, b""
        end = min(size, self._offset + MAX_SKIP_BYTES) - shown_bytes
        file.seek(self._offset)
        self._is_flooded = end > self._offset
        if not self._is_flooded:
            return 0
        num_lines, self._partial = 0, b""
        while self._offset < end and (piece := file.read(min(MAX_READ_BYTES, end - self._offset))):
            num_lines += piece.count(b"\n")
            self._offset += len(piece)
        return num_lines


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells the file at `path` from another one of that name; None when there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


class LogFollower:
    """Follows the files of several sources and hands new lines to `publish`. In the hub's event loop."""

    def __init__(self, paths: Mapping[str, Path], publish: Callable[[Event], None]) -> None:
        self._tails = {source: LogTail(path, source, from_end=True) for source, path in paths.items()}
        self._publish = publish
        self._open: dict[str, tuple[str, float]] = {}
        """The open line that was last told of a source, and when."""

    async def follow(self) -> None:
        """Look at the files a few times a second, until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            for source in self._tails:
                self._look(source)
                await asyncio.sleep(0)  # many files at once are many short turns of the loop

    def read(self, *, to_the_end: bool = False) -> None:
        """Publish what is new; `to_the_end`: all that is left, as nobody writes any more."""
        for source, tail in self._tails.items():
            self._look(source)
            while to_the_end and tail.is_behind:
                self._look(source)
            if to_the_end:
                self._look(source, to_the_end=True)

    def _look(self, source: str, *, to_the_end: bool = False) -> None:
        now, tail = time.time(), self._tails[source]
        lines, dropped = tail.read(now, to_the_end=to_the_end)
        if lines or dropped:
            self._publish(Logs(time=now, lines=lines, dropped=dropped))
        told, told_at = self._open.get(source, ("", 0.0))
        if tail.open_text != told and (not tail.open_text or not 0 <= now - told_at < OPEN_LINE_S):
            self._open[source] = tail.open_text, now
            self._publish(OpenLine(time=now, source=source, text=tail.open_text))


def parse_line(line: bytes, source: str, now: float) -> LogLine:
    """One line of a log file as a log line; of a progress bar redrawn with carriage returns the last state is kept."""
    text = _last_state(line)
    match = _LEVELLED.match(text)
    level, message = match.groups() if match else ("INFO", text)
    return [now, source, "ERROR" if level == "CRITICAL" else level, safe_line(message)]


def last_lines(path: Path, count: int) -> list[str]:
    """The last `count` lines of a log file, through the escape filter; none when it cannot be read."""
    return [safe_line(_last_state(line)) for line in _tail(path, count, MAX_READ_BYTES)]


def recorded_lines(path: Path, source: str, count: int) -> list[LogLine]:
    """The last `count` lines of a log file that nobody writes any more, as log lines; none when it cannot be read.

    Each has the time that it gives itself, else that of the line before it; a file without times has that of its last change.
    """
    lines = _tail(path, count, MAX_RECORDED_BYTES)
    times = [_moment(line) for line in lines]
    moment = next(filter(None, times), 0.0) or (path.stat().st_mtime if lines else 0.0)
    told = []
    for line, known in zip(lines, times, strict=True):
        moment = known or moment
        told.append(parse_line(line, source, moment))
    return told


def lines_before(path: Path, shown: int) -> int:
    """How many lines a log file has before its last `shown` ones, as far as MAX_COUNTED_BYTES from its end tell."""
    num_lines, last = 0, b"\n"
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_COUNTED_BYTES))
            while piece := file.read(MAX_RECORDED_BYTES):
                num_lines, last = num_lines + piece.count(b"\n"), piece[-1:]
    except OSError:
        return 0
    return max(0, num_lines + (last != b"\n") - shown)


def _tail(path: Path, count: int, max_bytes: int) -> list[bytes]:
    """The last `count` lines within the last `max_bytes` of a file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - max_bytes))
            data = file.read()
    except OSError:
        return []
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    return lines[max(0, len(lines) - count) :]


def _moment(line: bytes) -> float:
    """Unix seconds of a line that begins with its local time, as the ranks' logging writes it; 0 for all others."""
    if _DATED.match(line) is None:
        return 0.0
    try:
        return datetime.fromisoformat(line[:19].decode()).timestamp()
    except (ValueError, OverflowError, OSError):  # no date at all, or one that this system cannot count
        return 0.0


def _last_state(line: bytes) -> str:
    """What a terminal would show of `line` once it is whole: what follows the last carriage return."""
    return line.decode("utf-8", "backslashreplace").rstrip("\r").rpartition("\r")[2]
