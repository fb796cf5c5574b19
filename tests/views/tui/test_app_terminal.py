"""The app under a real pseudo-terminal: what signals and a lost terminal do to it."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

DEADLINE_S = 20.0
SCRIPT = """
import fakes
from plt_tui.config.schema import UiSection
from plt_tui.views.tui.app import RunApp
source = fakes.FakeSource(fakes.training())
app = RunApp(source.connect, name="quickstart", ui=UiSection(), config=fakes.CONFIG)
result = app.run()
raise SystemExit(app.return_code or (3 if result is None else 0))
"""
ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"


class Terminal:
    """The outer end of a pseudo-terminal, and everything it has received."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.received = b""

    def read_until(self, text: bytes) -> None:
        """Read until `text` has come."""
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.received:
            assert time.monotonic() < deadline, f"{text!r} did not come; last: {self.received[-300:]!r}"
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.received += os.read(self.fd, 65536)
                except OSError:  # EIO: the other end is closed
                    assert text in self.received
                    return


@contextmanager
def running(*, ignoring_hangup: bool = False) -> Iterator[tuple[subprocess.Popen[bytes], Terminal]]:
    """The app in a process of its own session under a pseudo-terminal, drawn once; killed at the end if need be."""
    outer, inner = pty.openpty()
    tests = Path(__file__).parents[1]
    root = tests.parents[1]
    environment = {**os.environ, "TERM": "xterm-256color", "LINES": "24", "COLUMNS": "80", "PYTHONPATH": f"{tests}:{root}"}
    before = signal.getsignal(signal.SIGHUP)
    if ignoring_hangup:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT], stdin=inner, stdout=inner, stderr=inner, env=environment, start_new_session=True
        )
    finally:
        signal.signal(signal.SIGHUP, before)
        os.close(inner)
    terminal = Terminal(outer)
    try:
        terminal.read_until(b"training")
        yield process, terminal
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if terminal.fd >= 0:
            os.close(terminal.fd)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_restores_the_terminal_and_exits(number: int, code: int) -> None:
    """The alternate screen is left and the exit code tells the signal."""
    with running() as (process, terminal):
        assert ENTER in terminal.received
        process.send_signal(number)
        terminal.read_until(LEAVE)
        assert process.wait(DEADLINE_S) == code


def test_a_lost_terminal_ends_the_view_without_spinning() -> None:
    """The pty is closed under a process that got no SIGHUP (nohup, its own session): it ends, and burns no core until then."""
    with running(ignoring_hangup=True) as (process, terminal):
        watched = psutil.Process(process.pid)
        before = sum(watched.cpu_times()[:2])
        os.close(terminal.fd)
        terminal.fd = -1
        deadline = time.monotonic() + DEADLINE_S
        spent = before
        while process.poll() is None:
            assert time.monotonic() < deadline, "the view outlived its terminal"
            try:
                spent = sum(watched.cpu_times()[:2])
            except psutil.NoSuchProcess:
                break
            time.sleep(0.02)
        assert process.wait(DEADLINE_S) == 129
        assert spent - before < 2.0


def test_a_key_leaves_through_the_dialog_and_restores_the_terminal() -> None:
    """ctrl+c asks; enter detaches."""
    with running() as (process, terminal):
        os.write(terminal.fd, b"\x03")
        terminal.read_until(b"attach again at any time")
        os.write(terminal.fd, b"\r")
        terminal.read_until(LEAVE)
        assert process.wait(DEADLINE_S) == 0
