"""A real pseudo-terminal with `plt-tui` in it, and a VT emulator that knows what is on its screen."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import pyte

from tests.end_to_end.runs import PLT_TUI, environment

LEAVE_ALTERNATE_SCREEN = b"\x1b[?1049l"


class Terminal:
    """`plt-tui WORDS` in a terminal of `columns` x `rows`; leaving the context ends it."""

    def __init__(self, folder: Path, *words: str, columns: int = 120, rows: int = 40) -> None:
        self.output = b""
        """Every byte that was written to the terminal."""
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        variables = {**environment(), "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        self.process = subprocess.Popen(
            [*PLT_TUI, *words],
            cwd=folder,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=variables,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self._read_for(lambda: self.process.poll() is not None, 10.0)
        self.process.wait(10)
        os.close(self._master)

    @property
    def text(self) -> str:
        """What a person sees now."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    def press(self, *keys: str) -> None:
        """Type keys or text."""
        for key in keys:
            os.write(self._master, key.encode())

    def wait_for(self, *wanted: str, deadline_s: float = 40.0) -> None:
        """Return once every one of `wanted` is on the screen."""
        seen = self._read_for(lambda: all(text in self.text for text in wanted), deadline_s)
        assert seen, f"not on the screen in {deadline_s} s: {wanted}\n{self.text}"

    def wait_for_exit(self, deadline_s: float = 40.0) -> int:
        """The exit code of the command."""
        assert self._read_for(lambda: self.process.poll() is not None, deadline_s), self.text
        self._read_for(lambda: False, 0.2)
        return int(self.process.returncode)

    def _read_for(self, condition: Callable[[], bool], deadline_s: float) -> bool:
        give_up_at = time.monotonic() + deadline_s
        while not condition():
            if time.monotonic() > give_up_at:
                return False
            if select.select([self._master], [], [], 0.05)[0]:
                try:
                    data = os.read(self._master, 65536)
                except OSError:  # the other side is closed; the process may need a moment more to end
                    time.sleep(0.02)
                    continue
                self.output += data
                self._stream.feed(data)
        return True
