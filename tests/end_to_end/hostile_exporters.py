"""A plug-in with exporters that do what none should, for tests of real runs."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence

from plt_tui.exporters.base import ExportTarget, Row, RunFacts
from plt_tui.protocol.events import End, Event


class Quiet:
    """Takes everything and does nothing."""

    def __init__(self, target: ExportTarget) -> None:
        self.target = target

    def open(self, run: RunFacts) -> None:
        """See Exporter."""

    def metrics(self, rows: Sequence[Row]) -> None:
        """See Exporter."""

    def event(self, event: Event) -> None:
        """See Exporter."""

    def flush(self) -> None:
        """See Exporter."""

    def close(self, end: End | None) -> None:
        """See Exporter."""


class Raising(Quiet):
    """Fails at the first steps."""

    def metrics(self, rows: Sequence[Row]) -> None:
        """See Exporter."""
        raise OSError("the server is gone \x1b]0;owned\x07")


class Hanging(Quiet):
    """Never comes back, and does not hear of signals that can be ignored."""

    def metrics(self, rows: Sequence[Row]) -> None:
        """See Exporter."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        while True:
            time.sleep(1.0)


class Spinning(Quiet):
    """Takes all of a core that it is given."""

    def metrics(self, rows: Sequence[Row]) -> None:
        """See Exporter."""
        while True:
            pass


class Leaving(Quiet):
    """Ends its process."""

    def metrics(self, rows: Sequence[Row]) -> None:
        """See Exporter."""
        os._exit(5)


class Eating(Quiet):
    """Takes memory without end."""

    def metrics(self, rows: Sequence[Row]) -> None:
        """See Exporter."""
        eaten = []
        while True:
            eaten.append(bytes(64 << 20))


class Flooding(Quiet):
    """Prints without end."""

    def metrics(self, rows: Sequence[Row]) -> None:
        """See Exporter."""
        while True:
            sys.stdout.write("\x1b[2Jflood " * 100 + "\n")


class Refusing(Quiet):
    """Cannot even be made."""

    def __init__(self, target: ExportTarget) -> None:
        raise RuntimeError("no such thing")


EXPORTERS = {
    "raising": Raising,
    "hanging": Hanging,
    "spinning": Spinning,
    "leaving": Leaving,
    "eating": Eating,
    "flooding": Flooding,
    "refusing": Refusing,
}
