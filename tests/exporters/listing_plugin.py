"""A plug-in with exporters for tests: one writes a list of what it is given, others fail in ways of their own."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from plt_tui.errors import UsageError
from plt_tui.exporters.base import ExportTarget, Row, RunFacts
from plt_tui.protocol.events import End, Event


class Listing:
    """Appends a line for each call to the file "list"."""

    def __init__(self, target: ExportTarget) -> None:
        self.target = target

    def say(self, line: str) -> None:
        """Write a line."""
        self.target.directory.mkdir(parents=True, exist_ok=True)
        with (self.target.directory / "list").open("a") as file:
            file.write(f"{line}\n")

    def open(self, run: RunFacts) -> None:
        """See Exporter."""
        self.say("open")

    def metrics(self, rows: Sequence[Row]) -> None:
        """See Exporter."""
        for row in rows:
            self.say(f"step {row.step}")

    def event(self, event: Event) -> None:
        """See Exporter."""

    def flush(self) -> None:
        """See Exporter."""

    def close(self, end: End | None) -> None:
        """See Exporter."""
        self.say(f"close {end.phase if end is not None else None}")


class WithChild(Listing):
    """Starts a process that sleeps."""

    def open(self, run: RunFacts) -> None:
        """See Exporter."""
        self.child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])


class Raising(Listing):
    """Fails at the first steps, while a thread of its own goes on for ever."""

    def metrics(self, rows: Sequence[Row]) -> None:
        """See Exporter."""
        threading.Thread(target=time.sleep, args=(600.0,)).start()
        raise ValueError("boom \x1b[2J")


class Blabbing(Listing):
    """Tells the address that it was given."""

    def open(self, run: RunFacts) -> None:
        """See Exporter."""
        raise ValueError("cannot use postgresql://ana:SECRET@db/x?token=SECRET&api_key=SECRET&page=2")


class Refusing(Listing):
    """Wants a person."""

    def open(self, run: RunFacts) -> None:
        """See Exporter."""
        raise UsageError("there is no key")


class Leaving(Listing):
    """Ends the process as if all were well."""

    def metrics(self, rows: Sequence[Row]) -> None:
        """See Exporter."""
        sys.exit(0)


class Eating(Listing):
    """Takes memory without end."""

    def metrics(self, rows: Sequence[Row]) -> None:
        """See Exporter."""
        eaten = []
        while True:
            eaten.append(bytes(64 << 20))


EXPORTERS = {
    "listing": Listing,
    "with_child": WithChild,
    "raising": Raising,
    "blabbing": Blabbing,
    "refusing": Refusing,
    "leaving": Leaving,
    "eating": Eating,
}
