"""A file of lines that is only appended to, on a disk that may be full for a while.

Knows nothing of what the lines mean. Invariant: a line is in the file whole or not at all, behind every line put before it.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections import deque
from itertools import islice
from pathlib import Path
from typing import BinaryIO

TAIL_BYTES = 64 * 1024
"""What is read at once of a file's end; for an overview all of the metrics that is read: some hundred steps."""
MAX_CHUNK_LINES = 512
"""Most waiting lines that are written at once."""


class LineFile:
    """A file of lines that is only appended to. What cannot be written waits, and is written before what comes after it."""

    def __init__(self, path: Path, *, is_synced: bool = False, max_waiting_bytes: float = math.inf) -> None:
        """is_synced: what was written is on disk; max_waiting_bytes: of more the oldest lines are lost. Raises: OSError."""
        self.path = path
        self.waiting: deque[bytes] = deque()
        self.num_lost = 0
        self._is_synced = is_synced
        self._max_waiting_bytes = max_waiting_bytes
        self._waiting_bytes = 0
        self._file: BinaryIO = path.open("ab+", buffering=0)
        os.fchmod(self._file.fileno(), 0o600)
        end = self._file.seek(0, os.SEEK_END)
        self._size = _end_of_last_line(self._file, end)
        if self._size < end:  # the piece of a line that a killed writer left: the next line must not glue itself to it
            self._file.truncate(self._size)
        self._is_torn = False

    def put(self, line: bytes) -> None:
        """Let `line` wait behind those that wait already."""
        self.waiting.append(line)
        self._waiting_bytes += len(line)
        while self._waiting_bytes > self._max_waiting_bytes:
            self._waiting_bytes -= len(self.waiting.popleft())
            self.num_lost += 1

    def flush(self) -> None:
        """Write what waits, a little at first: while the disk is full, trying costs one small write. Raises: OSError."""
        count = 1
        while self.waiting:
            chunk = list(islice(self.waiting, count))
            self.write(b"".join(chunk))
            for line in chunk:
                self.waiting.popleft()
                self._waiting_bytes -= len(line)
            count = min(2 * count, MAX_CHUNK_LINES)

    def write(self, lines: bytes) -> None:
        """Append whole lines. Raises: OSError, and the file has no piece of them, or loses it before the next write."""
        if self._is_torn:
            self._cut()
        try:
            rest = memoryview(lines)
            while rest:
                rest = rest[self._file.write(rest) :]  # a disk that is nearly full takes a part
            if self._is_synced:
                self.sync()
        except OSError:
            self._is_torn = True
            with contextlib.suppress(OSError):
                self._cut()
            raise
        self._size += len(lines)

    def sync(self) -> None:
        """Force what was written to disk. Raises: OSError."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _cut(self) -> None:
        self._file.truncate(self._size)
        self._is_torn = False


def _end_of_last_line(file: BinaryIO, end: int) -> int:
    """Size of the part of a file of `end` bytes that is whole lines."""
    while end:
        start = max(0, end - TAIL_BYTES)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
