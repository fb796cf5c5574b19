"""Signs of life of a rank's main thread: that it moves, and whether it waits for other ranks.

Reads no clock and sends nothing: another thread (`status`) counts how long the main thread has stood still. Invariant: one
thread writes at a time, the main one or what it waits for, so a beat costs two assignments, which every part of every step can
afford.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class Pulse:
    """One per rank process. Written by the main thread, or by one that it waits for (`Ranks.alone`); read by any."""

    __slots__ = ("beats", "is_waiting")

    def __init__(self) -> None:
        self.beats = 0
        """Grows whenever the main thread moves."""
        self.is_waiting = False
        """The main thread waits for other ranks: where it stands still, they are the reason."""

    def beat(self, *, is_waiting: bool = False) -> None:
        """Say that the main thread has moved, and whether what it does now is to wait for other ranks."""
        self.beats += 1
        self.is_waiting = is_waiting

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """While inside, this rank waits for others."""
        self.beat(is_waiting=True)
        try:
            yield
        finally:
            self.beat()
