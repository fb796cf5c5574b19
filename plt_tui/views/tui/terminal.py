"""What can happen to the terminal under the UI: signals, job control, an outer end that is gone or has stopped reading.

Textual 8.2 leaves the alternate screen on after SIGTERM, spins on a pty that is gone, forgets how the terminal was when SIGSTOP
and SIGCONT come from outside, and waits for ever for a terminal that does not read. Invariant: a view that a signal or the loss
of its terminal tells to end has ended LEAVE_S later, whatever its event loop is waiting for.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from textual.driver import Driver

LEAVE_S, LOST_S = 3.0, 0.5
"""How long a view may take to leave in good order before it is ended without; and where no terminal is left, which Textual's
input thread would read in a tight loop meanwhile."""
EXIT_BY_SIGNAL = 128
"""A process ended by signal n reports 128 + n to its shell."""
NICENESS = 10
"""Of a view beside a training on every core: its turns come when a rank waits, not in the middle of a rank's work."""
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)  # this one not as a key: the terminal is raw
_LEAVE = b"\x1b[?2004l\x1b[?7h\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[<u\x1b[?1049l\x1b[?25h\x1b[?1004l"
"""What Textual's driver writes to undo what it has switched on (xterm's control sequences, and kitty's keyboard protocol)."""


@contextmanager
def guarded(leave: Callable[[int], None]) -> Iterator[None]:
    """Call `leave` with the exit code in the running event loop when a signal, or the loss of the terminal, ends the view.

    Main thread only. A view that is still inside after LEAVE_S is ended, its terminal restored as far as it lets itself be. It
    also takes effect where the parent has ignored SIGHUP (nohup).
    """
    loop = asyncio.get_running_loop()
    outlet, inlet = os.pipe()
    attributes, has_left = _attributes(), threading.Event()

    def watch() -> None:
        exit_code = _wait_for_end(outlet)
        if exit_code:
            loop.call_soon_threadsafe(leave, exit_code)
            if not has_left.wait(LOST_S if _is_lost() else LEAVE_S):
                _restore(attributes)
                os._exit(exit_code)

    def pass_on(number: int, _: FrameType | None) -> None:  # not to the loop: it may be waiting for the terminal
        os.write(inlet, bytes([number]))

    handlers = {number: signal.signal(number, pass_on) for number in _ENDING}
    watcher = threading.Thread(target=watch, name="terminal", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        has_left.set()
        os.close(inlet)
        watcher.join()
        os.close(outlet)


def step_back() -> None:
    """Let the training go first where there is not time enough for both.

    On Linux this is of the calling thread and of those that it begins later; whatever is launched from there inherits it, so a
    view from which runs can be launched must not do so.
    """
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))


class JobControl:
    """SIGTSTP gives the terminal back before the process stops; SIGCONT takes it again, also after SIGSTOP, which nobody hears.

    In the event loop of the view whose `driver` it is; `redraw` is called once the terminal is ours again.
    """

    def __init__(self, driver: Driver, redraw: Callable[[], object]) -> None:
        self._driver = driver
        self._redraw = redraw
        self._is_given_back = False
        self._is_closed = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGTSTP, self._stop)
        self._loop.add_signal_handler(signal.SIGCONT, self._go_on)

    def close(self) -> None:
        """Leave both signals to the system again; the view is about to end, and must not take the terminal on its way out."""
        self._is_closed = True
        self._loop.remove_signal_handler(signal.SIGTSTP)
        self._loop.remove_signal_handler(signal.SIGCONT)

    def _stop(self) -> None:
        if not self._is_given_back:
            self._driver.suspend_application_mode()
        self._is_given_back = True
        os.kill(os.getpid(), signal.SIGSTOP)

    def _go_on(self) -> None:
        if self._is_closed:  # the loop was on its way here
            return
        if not self._is_given_back:  # the driver would take the raw mode that it finds for the one to restore
            self._driver.suspend_application_mode()
        self._is_given_back = False
        self._driver.resume_application_mode()
        self._redraw()


def _wait_for_end(outlet: int) -> int:
    """The exit code of a signal whose number comes through the pipe, or of a lost terminal; 0 when the pipe is closed."""
    poll = select.poll()
    poll.register(outlet, select.POLLIN)
    poll.register(_stdin(), 0)  # tells of a hang-up only
    ready = [descriptor for descriptor, _ in poll.poll()]
    if outlet not in ready:
        return EXIT_BY_SIGNAL + signal.SIGHUP
    number = os.read(outlet, 1)
    return EXIT_BY_SIGNAL + number[0] if number else 0


def _is_lost() -> bool:
    """True when the other end of the terminal has been closed."""
    poll = select.poll()
    poll.register(_stdin(), 0)
    return bool(poll.poll(0))


def _stdin() -> int:
    assert sys.__stdin__ is not None, "the UI is only started on a terminal"
    return sys.__stdin__.fileno()


def _attributes() -> list[Any] | None:
    with suppress(termios.error):
        return termios.tcgetattr(_stdin())
    return None


def _restore(attributes: list[Any] | None) -> None:
    """Give the terminal back without waiting for it; not from the background, where it belongs to somebody else."""
    with suppress(OSError, termios.error):
        if attributes is None or os.tcgetpgrp(_stdin()) != os.getpgrp():
            return
        termios.tcsetattr(_stdin(), termios.TCSANOW, attributes)
        os.write(os.open(os.ttyname(_stdin()), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY), _LEAVE)
