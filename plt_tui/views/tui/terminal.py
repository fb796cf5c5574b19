"""What can happen to the terminal under the UI: signals that end it, and a pseudo-terminal that is gone.

Textual 8.2 handles none of them: SIGTERM would leave the terminal in its alternate screen, and a lost pty makes the input
thread spin. Invariant: whatever is installed is taken away again by the returned function.
"""

from __future__ import annotations

import asyncio
import select
import signal
import sys
from collections.abc import Callable

EXIT_BY_SIGNAL = 128
"""A process ended by signal n reports 128 + n to its shell."""
_ENDING = (signal.SIGTERM, signal.SIGHUP)


def on_ending_signal(leave: Callable[[int], None]) -> Callable[[], None]:
    """Call `leave` with the exit code when a signal asks the UI to end; the returned function undoes this.

    Main thread of a running event loop only. It also takes effect where the parent has ignored SIGHUP (nohup).
    """
    loop = asyncio.get_running_loop()
    for number in _ENDING:
        loop.add_signal_handler(number, leave, EXIT_BY_SIGNAL + number)

    def undo() -> None:
        for number in _ENDING:
            loop.remove_signal_handler(number)

    return undo


def is_lost() -> bool:
    """True when standard input is a terminal whose other end has been closed."""
    if sys.__stdin__ is None or sys.__stdin__.closed:
        return True
    poll = select.poll()
    poll.register(sys.__stdin__.fileno(), 0)
    return any(flags & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, flags in poll.poll(0))
