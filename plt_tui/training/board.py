"""A board in shared memory on which the ranks of one machine leave each other a few numbers.

A sum through gloo wakes threads and crosses the loopback device on every rank, on cores that train; memory that all ranks have
mapped needs neither (docs/LOG.md has the numbers). Knows no process group. Invariant: every rank adds the same numbers in the
same order, so all ranks get the same bits.

Each rank has two rows and writes them in turn. Nobody writes a row before everybody has read it: who posts the next but one has
waited for all others to post the next, and they do that after they have read this one.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import tempfile
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108  (tmpfs of Linux)
MAX_VALUES = 8
"""Most numbers in a row."""
_PREFIX = "plt-tui-board-"
"""Begins the name of a board's file; then comes the process that made it."""
_ROW = struct.Struct(f"<Q{MAX_VALUES}d")
_CHECK = struct.Struct("<I")
_ROW_BYTES = 128
"""Two cache lines: ranks that write do not take each other's line away."""
_SPINS = 100
"""Looks without a sleep: ranks come to a board within microseconds of each other when their gradients have just met."""
_FIRST_SLEEP_S = 1e-4
_LONGEST_SLEEP_S = 2e-2


class Board:
    """One rank's place at a board. Main thread only; all ranks post in the same order, and wait for a sum before the next."""

    def __init__(self, path: Path, rank: int, num_ranks: int, *, patience_s: float) -> None:
        """`path`: a file of `size(num_ranks)` bytes. Raises: OSError, ValueError when it cannot be mapped."""
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), size(num_ranks))
        self._rank = rank
        self._num_ranks = num_ranks
        self._patience_s = patience_s
        self._posts = 0

    def post(self, values: Sequence[float]) -> Posted:
        """Write this rank's `values`, at most MAX_VALUES."""
        self._posts += 1
        row = _ROW.pack(self._posts, *values, *(0.0,) * (MAX_VALUES - len(values)))
        start = self._start(self._rank, self._posts)
        self._memory[start : start + _ROW.size + _CHECK.size] = row + _CHECK.pack(zlib.crc32(row))
        return Posted(self, self._posts, len(values))

    def row(self, rank: int, post: int) -> tuple[float, ...] | None:
        """What `rank` has written as its `post`-th row; None before all of it is there."""
        start = self._start(rank, post)
        content = self._memory[start : start + _ROW.size + _CHECK.size]
        row = content[: _ROW.size]
        if _CHECK.unpack(content[_ROW.size :])[0] != zlib.crc32(row):  # half written
            return None
        number, *values = _ROW.unpack(row)
        return tuple(values) if number == post else None

    def wait(self, post: int, count: int) -> list[float]:
        """The first `count` values of all ranks' `post`-th rows, added in the order of the ranks.

        Raises: TimeoutError naming the rank that did not come.
        """
        sums = [0.0] * count
        give_up_at = time.monotonic() + self._patience_s
        for rank in range(self._num_ranks):
            values = self._awaited(rank, post, give_up_at)
            sums = [total + value for total, value in zip(sums, values, strict=False)]
        return sums

    def _awaited(self, rank: int, post: int, give_up_at: float) -> tuple[float, ...]:
        sleep_s, looks = _FIRST_SLEEP_S, 0
        while (values := self.row(rank, post)) is None:
            looks += 1
            if looks < _SPINS:
                os.sched_yield()
                continue
            if time.monotonic() > give_up_at:
                raise TimeoutError(f"rank {rank} did not come to the ranks' meeting within {self._patience_s:g} s")
            time.sleep(sleep_s)
            sleep_s = min(2 * sleep_s, _LONGEST_SLEEP_S)
        return values

    def _start(self, rank: int, post: int) -> int:
        return (2 * rank + post % 2) * _ROW_BYTES


@dataclass(frozen=True, slots=True)
class Posted:
    """A row that was written, and the sum that it belongs to."""

    board: Board
    post: int
    count: int

    def wait(self) -> list[float]:
        """The sums over all ranks. Raises: TimeoutError."""
        return self.board.wait(self.post, self.count)


def size(num_ranks: int) -> int:
    """Bytes of a board."""
    return 2 * _ROW_BYTES * num_ranks


def fresh_file(num_ranks: int) -> Path:
    """A file for a new board, in memory where the system has a place for such files; those of dead processes are removed.

    Raises: OSError.
    """
    folder = MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    _clear_leftovers(folder)
    descriptor, name = tempfile.mkstemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(bytes(size(num_ranks)))  # really there: to touch memory that a full disk cannot give is a bus error
    except OSError:
        os.unlink(name)  # noqa: PTH108  (no more room, so nothing may be left)
        raise
    return Path(name)


def _clear_leftovers(folder: Path) -> None:
    """Remove the boards of processes that were killed before all had mapped them; those of other users stay."""
    with contextlib.suppress(OSError):
        for left in folder.glob(f"{_PREFIX}*"):
            maker = left.name.removeprefix(_PREFIX).partition("-")[0]
            if maker.isdecimal() and not _is_alive(int(maker)):
                left.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True
