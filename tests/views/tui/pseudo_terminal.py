"""The app in a process of its own under a real pseudo-terminal: what is typed, and every byte that comes out."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

DEADLINE_S = 60.0
SCRIPT = """
import fakes
from plt_tui.config.schema import UiSection
from plt_tui.views.tui.app import RunApp
source = fakes.FakeSource(fakes.training())
app = RunApp(source.connect, name="quickstart", ui=UiSection(), config=fakes.CONFIG)
result = app.run()
raise SystemExit(app.return_code or (3 if result is None else 0))
"""
TRUE_COLOR = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}


class Terminal:
    """The outer end of a pseudo-terminal, and everything it has received."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.received = b""
        self._attributes = termios.tcgetattr(fd)

    @property
    def is_restored(self) -> bool:
        """True when echo, line editing and all else are as they were before."""
        return termios.tcgetattr(self.fd) == self._attributes

    def read_until(self, text: bytes) -> None:
        """Read until `text` has come."""
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.received:
            assert time.monotonic() < deadline, f"{text!r} did not come; last: {self.received[-300:]!r}"
            self.read()

    def type(self, *texts: bytes) -> None:
        """Send what a keyboard, or the terminal itself, would."""
        for text in texts:
            os.write(self.fd, text)

    def read_for(self, seconds: float) -> None:
        """Take everything that comes in this time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.read()

    def read(self) -> None:
        """Take what there is, if anything comes soon."""
        if select.select([self.fd], [], [], 0.05)[0]:
            try:
                self.received += os.read(self.fd, 65536)
            except OSError:  # EIO: the other end is closed
                time.sleep(0.01)

    def wait(self, process: subprocess.Popen[bytes], deadline_s: float = DEADLINE_S) -> int:
        """The exit code of the app, whose last output is read."""
        deadline = time.monotonic() + deadline_s
        while process.poll() is None:
            assert time.monotonic() < deadline, "the app has not ended"
            self.read()
        return process.returncode

    def stop_reading(self) -> None:
        """Let the app write until nothing goes in any more: resized all the time it draws all the time."""
        waiting, deadline = [0], time.monotonic() + DEADLINE_S
        while len(waiting) < 4 or len({*waiting[-4:]}) > 1:
            assert time.monotonic() < deadline, "the app never filled its terminal"
            size = struct.pack("HHHH", 40, 81 + len(waiting) % 60, 0, 0)
            fcntl.ioctl(self.fd, termios.TIOCSWINSZ, size)
            time.sleep(0.05)
            waiting.append(struct.unpack("i", fcntl.ioctl(self.fd, termios.FIONREAD, bytes(4)))[0])

    def close(self) -> None:
        """Hang up, as a terminal emulator that is killed."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@contextmanager
def running(
    script: str = SCRIPT,
    *,
    environ: Mapping[str, str] = TRUE_COLOR,
    size: tuple[int, int] = (80, 24),
    seen: bytes = b"training",
    ignoring_hangup: bool = False,
) -> Iterator[tuple[subprocess.Popen[bytes], Terminal]]:
    """`script` in a process of its own session under a pseudo-terminal, once it has drawn `seen`; killed at the end if need be.

    environ: in place of this process's TERM, COLORTERM and NO_COLOR, and beside the rest.
    """
    outer, inner = pty.openpty()
    tests = Path(__file__).parents[1]
    root = tests.parents[1]
    kept = {name: value for name, value in os.environ.items() if name not in ("TERM", "COLORTERM", "NO_COLOR", "TMUX")}
    environment = {**kept, **environ, "PYTHONPATH": f"{Path(__file__).parent}:{tests}:{root}"}
    fcntl.ioctl(outer, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    terminal = Terminal(outer)

    def begin() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        if ignoring_hangup:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    try:
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env=environment,
            start_new_session=True,
            preexec_fn=begin,
        )
    finally:
        os.close(inner)
    try:
        terminal.read_until(seen)
        yield process, terminal
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        terminal.close()
