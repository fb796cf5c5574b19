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

from tests.end_to_end.runs import DEADLINE_S, PLT_TUI, environment

LEAVE_ALTERNATE_SCREEN = b"\x1b[?1049l"
TAKES_KEYS = b"\x1b[?2004h"
"""What a view sends when it begins to read keys, and again when it goes on after it was stopped."""


class Terminal:
    """`plt-tui WORDS` in a terminal of `columns` x `rows`; leaving the context ends it."""

    def __init__(self, folder: Path, *words: str, columns: int = 120, rows: int = 40, ignoring_hangup: bool = False) -> None:
        self.output = b""
        """Every byte that was written to the terminal."""
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._attributes = termios.tcgetattr(slave)
        variables = {**environment(), "TERM": "xterm-256color", "COLORTERM": "truecolor"}

        def begin() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            if ignoring_hangup:
                signal.signal(signal.SIGHUP, signal.SIG_IGN)

        self.process = subprocess.Popen(
            [*PLT_TUI, *words],
            cwd=folder,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=variables,
            start_new_session=True,
            preexec_fn=begin,
        )
        os.close(slave)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGCONT)
            self._read_for(lambda: self.process.poll() is not None, 10.0)
        self.process.wait(10)
        self.hang_up()

    @property
    def text(self) -> str:
        """What a person sees now."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    @property
    def is_restored(self) -> bool:
        """True when echo, line editing and all else are as they were before."""
        return termios.tcgetattr(self._master) == self._attributes

    def hang_up(self) -> None:
        """Close the terminal, as when its window is gone."""
        if self._master >= 0:
            os.close(self._master)
        self._master = -1

    def press(self, *keys: str) -> None:
        """Type keys or text."""
        for key in keys:
            os.write(self._master, key.encode())

    def wait_for(self, *wanted: str, deadline_s: float = DEADLINE_S) -> None:
        """Return once every one of `wanted` is on the screen."""
        seen = self._read_for(lambda: all(text in self.text for text in wanted), deadline_s)
        assert seen, f"not on the screen in {deadline_s} s: {wanted}\n{self.text}"

    def wait_until(self, happens: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
        """Return once `happens()` is true of what is on the screen."""
        assert self._read_for(lambda: bool(happens()), deadline_s), self.text

    def wait_until_gone(self, text: str, deadline_s: float = DEADLINE_S) -> None:
        """Return once `text` is on the screen no more."""
        assert self._read_for(lambda: text not in self.text, deadline_s), self.text

    def stop_reading(self) -> None:
        """Let the command write until nothing goes in any more: resized all the time it draws all the time."""
        waiting, give_up_at = [0], time.monotonic() + DEADLINE_S
        while len(waiting) < 4 or len({*waiting[-4:]}) > 1:
            assert time.monotonic() < give_up_at, "the command never filled its terminal"
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 81 + len(waiting) % 60, 0, 0))
            time.sleep(0.05)
            waiting.append(struct.unpack("i", fcntl.ioctl(self._master, termios.FIONREAD, bytes(4)))[0])

    def wait_for_exit(self, deadline_s: float = DEADLINE_S) -> int:
        """The exit code of the command."""
        assert self._read_for(lambda: self.process.poll() is not None, deadline_s), self.text
        self.read_what_waits()
        return int(self.process.returncode)

    def read_what_waits(self) -> None:
        """Take in what the command has written so far, until it is quiet."""
        while self._master >= 0 and select.select([self._master], [], [], 0.2)[0]:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # the other side is closed
                return
            self._take(data)

    def _read_for(self, condition: Callable[[], bool], deadline_s: float) -> bool:
        give_up_at = time.monotonic() + deadline_s
        while not condition():
            if time.monotonic() > give_up_at:
                return False
            if self._master < 0:
                time.sleep(0.02)
            elif select.select([self._master], [], [], 0.05)[0]:
                try:
                    data = os.read(self._master, 65536)
                except OSError:  # the other side is closed; the process may need a moment more to end
                    time.sleep(0.02)
                    continue
                self._take(data)
        return True

    def _take(self, data: bytes) -> None:
        self.output += data
        self._stream.feed(data)
