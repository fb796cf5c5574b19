"""The file through which the ranks of an attempt find each other, outside of the run's folder: that may be on a full disk.

torch writes it. It lies in memory where the system has a place for files there, else among the temporary files, else in the
run's folder, and goes with the attempt. Where the hub is killed, the helper of `multiprocessing` removes what is in memory, and
the next session whatever else is left. Only for who holds the run's lock.
Invariant: what a session made is removed by it, by the helper, or by the session that follows.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from multiprocessing import resource_tracker
from pathlib import Path

from plt_tui.control.interpreter import safe_path
from plt_tui.protocol.rank import STOP_SIGNALS

MEMORY = Path("/dev/shm")  # noqa: S108  (tmpfs of Linux)
PREFIX = "plt-tui-meeting-"
ROOM_BYTES = 1 << 20
"""Ranks tell each other their addresses: some 100 bytes for each pair of them."""


class Meeting:
    """The present meeting file of one run."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self.prefix = f"{PREFIX}{hashlib.sha256(os.fsencode(run.resolve())).hexdigest()[:16]}-"
        """Begins the names of this run's files."""
        self._entrusted: str | None = None
        """What the helper knows the file by, if it does."""

    def fresh(self) -> Path:
        """An empty file that only its owner can read, under a name that no other attempt has; earlier ones are removed.

        While no rank is alive. Where there is room for none, a name alone: a single rank meets nobody.
        """
        self.clear()
        for place in self._places():
            with contextlib.suppress(OSError):
                if shutil.disk_usage(place).free >= ROOM_BYTES:
                    descriptor, name = tempfile.mkstemp(prefix=self.prefix, dir=place)
                    os.close(descriptor)
                    self._entrust(Path(name))
                    return Path(name)
        return self._run / f"{self.prefix}{secrets.token_hex(4)}"

    def clear(self) -> None:
        """Remove all such files of the run, while no rank is alive; what cannot be removed stays until the next session."""
        for place in self._places():
            with contextlib.suppress(OSError):
                for left in place.glob(f"{self.prefix}*"):
                    left.unlink(missing_ok=True)
        if self._entrusted is not None:
            with contextlib.suppress(OSError):
                resource_tracker.unregister(self._entrusted, "shared_memory")
            self._entrusted = None

    def _places(self) -> Iterator[Path]:
        yield MEMORY
        with contextlib.suppress(OSError):  # no place for temporary files at all
            yield Path(tempfile.gettempdir())
        yield self._run

    def _entrust(self, path: Path) -> None:
        if path.parent == MEMORY:
            start_helper()
            self._entrusted = f"/{path.name}"
            resource_tracker.register(self._entrusted, "shared_memory")


def start_helper() -> None:
    """The helper of `multiprocessing` ignores SIGINT and SIGTERM only, and other stops that reach the group would end it.

    A mask is inherited, so it never hears of them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        with safe_path():
            resource_tracker.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
