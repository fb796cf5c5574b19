"""`plt-tui` under a pseudo-terminal that reads what it draws as fast as it comes, and throws it away.

No emulator: a benchmark waits for bytes and counts them. Invariant: the view is gone when the context is left; the run that it
showed is not, `workplace.stop_hub` ends that.
"""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
import time
from types import TracebackType

from benchmarks.workplace import PLT_TUI, Workplace, end

KEPT_BYTES = 64 * 1024
"""Newest output kept for `wait_for`."""
PATIENCE_S = 60.0


class Terminal:
    """`plt-tui WORDS` in a terminal of `columns` x `rows`."""

    def __init__(self, place: Workplace, *words: str, columns: int = 140, rows: int = 45) -> None:
        self._outer, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        environment = {**place.environment, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        self.started_s = time.perf_counter()
        try:
            self.process = subprocess.Popen(
                [PLT_TUI, *words],
                cwd=place.folder,
                env=environment,
                stdin=inner,
                stdout=inner,
                stderr=inner,
                start_new_session=True,
            )
        finally:
            os.close(inner)
        self.num_bytes = 0
        """Read so far."""
        self._tail = b""
        self._is_closed = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, name="pty", daemon=True)
        self._reader.start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        end(self.process)
        self._reader.join(PATIENCE_S)
        os.close(self._outer)

    def wait_for(self, text: str) -> float:
        """Return `time.perf_counter()` of the moment when `text` had been drawn.

        Raises: TimeoutError after PATIENCE_S, or when the view ended first.
        """
        wanted = text.encode()
        with self._news:
            self._news.wait_for(lambda: wanted in self._tail or self._is_closed, PATIENCE_S)
            now = time.perf_counter()
            if wanted not in self._tail:
                raise TimeoutError(f"{text!r} was not drawn; the last that was: {self._tail[-500:]!r}")
            return now

    def press(self, key: str) -> None:
        """Type `key`."""
        os.write(self._outer, key.encode())

    def _read(self) -> None:
        while data := self._next():
            with self._news:
                self.num_bytes += len(data)
                self._tail = (self._tail + data)[-KEPT_BYTES:]
                self._news.notify_all()
        with self._news:
            self._is_closed = True
            self._news.notify_all()

    def _next(self) -> bytes:
        try:
            return os.read(self._outer, KEPT_BYTES)
        except OSError:  # EIO: the view has ended
            return b""
