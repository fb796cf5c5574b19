"""The app under a real pseudo-terminal: what signals, job control, and a lost or stuck terminal do to it."""

import os
import signal
import time

import psutil
import pytest
from pseudo_terminal import DEADLINE_S, running

from plt_tui.views.tui.terminal import LEAVE_S

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"
SWITCHED_OFF = (LEAVE, b"\x1b[?25h", b"\x1b[?1000l", b"\x1b[?1003l", b"\x1b[?1006l", b"\x1b[?2004l", b"\x1b[?1004l")
"""Alternate screen, hidden cursor, mouse reporting, bracketed paste, focus reporting."""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_restores_the_terminal_and_exits(number: int, code: int) -> None:
    """All that was switched on is switched off, and the exit code tells the signal."""
    with running() as (process, terminal):
        assert ENTER in terminal.received
        assert not terminal.is_restored
        process.send_signal(number)
        for sequence in SWITCHED_OFF:
            terminal.read_until(sequence)
        assert process.wait(DEADLINE_S) == code
        assert terminal.is_restored


def test_a_signal_ends_a_view_whose_terminal_does_not_read() -> None:
    """The event loop waits for the terminal then; the process ends all the same, and echo is on again."""
    with running() as (process, terminal):
        terminal.stop_reading()
        process.terminate()
        assert process.wait(LEAVE_S + DEADLINE_S) == 143
        assert terminal.is_restored


@pytest.mark.parametrize("is_stuck", [False, True], ids=["reading", "stuck"])
@pytest.mark.parametrize("ignoring_hangup", [False, True], ids=["hangup", "nohup"])
def test_a_lost_terminal_ends_the_view_without_spinning(ignoring_hangup: bool, is_stuck: bool) -> None:
    """The terminal is closed, also one that had stopped reading before: the view ends, and burns no core until then."""
    with running(ignoring_hangup=ignoring_hangup) as (process, terminal):
        if is_stuck:
            terminal.stop_reading()
        watched = psutil.Process(process.pid)
        before = spent = sum(watched.cpu_times()[:2])
        terminal.close()
        deadline = time.monotonic() + DEADLINE_S
        while process.poll() is None:
            assert time.monotonic() < deadline, "the view outlived its terminal"
            try:
                spent = sum(watched.cpu_times()[:2])
            except psutil.NoSuchProcess:
                break
            time.sleep(0.02)
        assert process.wait(DEADLINE_S) == 129
        assert spent - before < 1.5


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGTSTP])
def test_a_stopped_view_goes_on_where_it_was(number: int) -> None:
    """After SIGCONT it draws, hears keys and, when it is left, gives the terminal back as it was before it began."""
    with running() as (process, terminal):
        stopped = psutil.Process(process.pid)
        process.send_signal(number)
        while stopped.status() != psutil.STATUS_STOPPED:
            terminal.read()
        if number == signal.SIGTSTP:
            terminal.read_until(LEAVE)
            assert terminal.is_restored
        terminal.received = b""
        process.send_signal(signal.SIGCONT)
        terminal.read_until(ENTER)
        terminal.read_until(b"training")
        while terminal.is_restored:  # what was drawn before it was stopped comes late: until it is raw, a key is a signal
            terminal.read()
        os.write(terminal.fd, b"\x03")
        terminal.read_until(b"attach again at any time")
        terminal.received = b""
        os.write(terminal.fd, b"\r")
        terminal.read_until(LEAVE)
        assert process.wait(DEADLINE_S) == 0
        assert terminal.is_restored


@pytest.mark.parametrize("opened", [b"", b"l", b"/"], ids=["run", "dialog", "field"])
def test_ctrl_z_goes_back_to_the_shell_and_the_view_goes_on_where_it_was(opened: bytes) -> None:
    """As typed, not as a signal: raw mode makes a key of it. Also where something is being typed."""
    with running() as (process, terminal):
        stopped = psutil.Process(process.pid)
        terminal.type(opened)
        terminal.read_for(0.3)
        terminal.type(b"\x1a")
        deadline = time.monotonic() + DEADLINE_S
        while stopped.status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < deadline, "the view went on"
            terminal.read()
        terminal.read_until(LEAVE)
        assert terminal.is_restored
        terminal.received = b""
        process.send_signal(signal.SIGCONT)
        terminal.read_until(ENTER)
        terminal.read_until(b"training")
        process.terminate()
        assert terminal.wait(process) == 143
        assert terminal.is_restored


def test_a_stopped_view_that_is_told_to_end_does() -> None:
    """As a shell ends a job: SIGTERM, then SIGCONT, so that it hears of it."""
    for number in (signal.SIGSTOP, signal.SIGTSTP):
        with running() as (process, terminal):
            stopped = psutil.Process(process.pid)
            process.send_signal(number)
            while stopped.status() != psutil.STATUS_STOPPED:
                terminal.read()
            process.terminate()
            process.send_signal(signal.SIGCONT)
            assert terminal.wait(process) == 143
            assert terminal.is_restored


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.1])
def test_a_view_on_its_way_out_is_not_called_back(after_s: float) -> None:
    """SIGCONT at any moment after SIGTERM, as a shell sends it: the terminal is not taken again, and the process ends."""
    with running() as (process, terminal):
        process.terminate()
        time.sleep(after_s)
        process.send_signal(signal.SIGCONT)
        assert terminal.wait(process) == 143
        assert terminal.is_restored


def test_a_key_leaves_through_the_dialog_and_restores_the_terminal() -> None:
    """ctrl+c asks; enter detaches."""
    with running() as (process, terminal):
        os.write(terminal.fd, b"\x03")
        terminal.read_until(b"attach again at any time")
        os.write(terminal.fd, b"\r")
        terminal.read_until(LEAVE)
        assert process.wait(DEADLINE_S) == 0
        assert terminal.is_restored
