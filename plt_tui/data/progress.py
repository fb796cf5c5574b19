"""How far a long piece of work is, told to whoever wants to know, a few times a second.

Does not draw anything. Invariant: `report` is called with the whole at the end, and otherwise at most once in INTERVAL_S.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

Report = Callable[[str, float, float, str], None]
"""Called with task, done, total (0: unknown) and unit; only in the process that does the work."""

INTERVAL_S = 0.1


class Meter:
    """Bytes done of one task. `add` may be called by any thread, the others only by the one that began it."""

    def __init__(self, task: str, total_bytes: int, report: Report) -> None:
        """Reports the beginning. `total_bytes` 0: unknown."""
        self._task, self._total_bytes, self._report = task, total_bytes, report
        self._done_bytes = 0
        self._lock = threading.Lock()
        self._told_at = 0.0
        self.tell()

    def add(self, num_bytes: int) -> None:
        """Count `num_bytes` more as done."""
        with self._lock:
            self._done_bytes += num_bytes

    def tell(self) -> None:
        """Report, unless the last time was a moment ago."""
        now = time.monotonic()
        if now - self._told_at >= INTERVAL_S:
            self._told_at = now
            done = min(self._done_bytes, self._total_bytes) if self._total_bytes else self._done_bytes
            self._report(self._task, done, self._total_bytes, "bytes")

    def finish(self) -> None:
        """Report that all is done."""
        total = self._total_bytes or self._done_bytes
        self._report(self._task, total, total, "bytes")
