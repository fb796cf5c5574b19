"""What ranks print, read back from their log files: nothing a rank writes can block it, crash it or get lost with it.

The file is the truth; the hub follows its end a few times a second and turns new lines into log lines for the views. A flood is
cut: of more than MAX_READ_BYTES since the last look only the end is shown, and the rest is counted.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from plt_tui.protocol.events import LogLine, Logs
from plt_tui.protocol.text import safe_line

MAX_READ_BYTES = 256 * 1024
"""Most bytes of one file that are shown per look."""

TICK_S = 0.25
"""Seconds between two looks at the files."""

_LEVELLED = re.compile(r"^(?:\S+ )?(DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)$", re.DOTALL)
"""A line as the ranks' logging writes it: time, level, message."""


class LogTail:
    """Follows one growing file. `source` names it in the views."""

    def __init__(self, path: Path, source: str, *, from_end: bool) -> None:
        self._path = path
        self._source = source
        self._offset = path.stat().st_size if from_end and path.exists() else 0
        self._partial = b""

    def read(self, now: float, *, to_the_end: bool = False) -> tuple[list[LogLine], int]:
        """Whole lines written since the last call, stamped `now` (Unix seconds), and the number of lines left out.

        `to_the_end`: nobody writes any more, so a last line without its end counts too.
        """
        try:
            with self._path.open("rb") as file:
                dropped = self._skip_flood(file)
                file.seek(self._offset)
                grown = file.read(MAX_READ_BYTES)
        except OSError:
            return [], 0
        self._offset += len(grown)
        data = self._partial + grown
        dropped += data[:-MAX_READ_BYTES].count(b"\n")
        *lines, self._partial = data[-MAX_READ_BYTES:].split(b"\n")
        if to_the_end and self._partial:
            lines.append(self._partial)
        if to_the_end or len(self._partial) >= MAX_READ_BYTES:  # the other case is one endless line
            self._partial = b""
        return [parse_line(line, self._source, now) for line in lines], dropped

    def _skip_flood(self, file: BinaryIO) -> int:
        """Move on to the last MAX_READ_BYTES of what was written; the number of lines left out. Holds one piece at a time."""
        end = file.seek(0, os.SEEK_END) - MAX_READ_BYTES
        if end <= self._offset:
            return 0
        file.seek(self._offset)
        num_lines, self._partial = 0, b""
        while self._offset < end and (piece := file.read(min(MAX_READ_BYTES, end - self._offset))):
            num_lines += piece.count(b"\n")
            self._offset += len(piece)
        return num_lines


class LogFollower:
    """Follows the files of several sources and hands new lines to `publish`. In the hub's event loop."""

    def __init__(self, paths: Mapping[str, Path], publish: Callable[[Logs], None]) -> None:
        self._tails = [LogTail(path, source, from_end=True) for source, path in paths.items()]
        self._publish = publish

    async def follow(self) -> None:
        """Look at the files a few times a second, until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            self.read()

    def read(self, *, to_the_end: bool = False) -> None:
        """Publish what is new; `to_the_end` as in `LogTail.read`."""
        now = time.time()
        for tail in self._tails:
            lines, dropped = tail.read(now, to_the_end=to_the_end)
            if lines or dropped:
                self._publish(Logs(time=now, lines=lines, dropped=dropped))


def parse_line(line: bytes, source: str, now: float) -> LogLine:
    """One line of a log file as a log line; of a progress bar redrawn with carriage returns the last state is kept."""
    text = _last_state(line)
    match = _LEVELLED.match(text)
    level, message = match.groups() if match else ("INFO", text)
    return [now, source, "ERROR" if level == "CRITICAL" else level, safe_line(message)]


def last_lines(path: Path, count: int) -> list[str]:
    """The last `count` lines of a log file, through the escape filter; none when it cannot be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - MAX_READ_BYTES))
            data = file.read()
    except OSError:
        return []
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    return [safe_line(_last_state(line)) for line in lines[max(0, len(lines) - count) :]]


def _last_state(line: bytes) -> str:
    """What a terminal would show of `line` once it is whole: what follows the last carriage return."""
    return line.decode("utf-8", "backslashreplace").rstrip("\r").rpartition("\r")[2]
