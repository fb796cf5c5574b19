"""Named points at which a test can make this process die, hang or fail: how the faults of docs/RELIABILITY.md are injected.

`PLT_FAILPOINTS=FOLDER` is the one switch; unset, a point costs one test of a constant. A file `FOLDER/NAME` arms the point NAME
with the action that it holds, at any time; the first process to come by renames it to `NAME.fired` and acts.
Invariant: an armed point fires once, and the renamed file proves that it did.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

VARIABLE = "PLT_FAILPOINTS"
FOLDER = os.environ.get(VARIABLE, "")


def reach(*words: object) -> None:
    """Come by the point named by `words`, joined by dots: `reach("rank", 1, "step", 7)` is `rank.1.step.7`. Any thread."""
    if FOLDER:
        _fire(Path(FOLDER), ".".join(map(str, words)))


def _fire(folder: Path, name: str) -> None:
    fired = folder / f"{name}.fired"
    try:
        (folder / name).rename(fired)
    except FileNotFoundError:
        return
    ACTIONS[fired.read_text().strip()]()


def _signal(number: signal.Signals) -> Callable[[], None]:
    def act() -> None:
        if number is not signal.SIGSTOP and number is not signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    return act


def _raise(error: Callable[[], BaseException]) -> Callable[[], NoReturn]:
    def act() -> NoReturn:
        raise error()

    return act


def _hold_the_interpreter() -> None:
    """Sleep without letting any other thread of this process run, as a native library that hangs does."""
    ctypes.PyDLL(None).sleep(1_000_000)


def _fill_memory() -> None:
    """Take memory until somebody objects: a limit of this process, or the kernel."""
    taken = []
    while True:
        taken.append(bytearray(64 << 20))


ACTIONS: Mapping[str, Callable[[], None]] = {
    "kill": _signal(signal.SIGKILL),
    "segv": _signal(signal.SIGSEGV),
    "abort": _signal(signal.SIGABRT),
    "stop": _signal(signal.SIGSTOP),
    "exit": lambda: os._exit(1),
    "sleep": lambda: time.sleep(1_000_000),
    "hang": _hold_the_interpreter,
    "error": _raise(lambda: RuntimeError("a failpoint")),
    "memory": _fill_memory,
    "full": _raise(lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
    "broken": _raise(lambda: OSError(errno.EIO, os.strerror(errno.EIO))),
}
"""What an armed point can do, by the word that its file holds."""
