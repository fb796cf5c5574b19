"""Where a view gets a run from: a live hub or a finished run's record, behind the same three methods.

Knows no socket and no file: `views.client` opens those and hands over a Source. Invariant: `events` gives history first, then
CaughtUp, then what is live, and ends when nothing more can come.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Protocol

from plt_tui.errors import UsageError
from plt_tui.protocol.commands import Command
from plt_tui.protocol.events import CaughtUp, Event

EVENTS_PER_TURN = 256
"""Recorded events given before other tasks of the event loop get their turn."""


class Source(Protocol):
    """One run as a view sees it. `readonly`: commands are refused here already."""

    readonly: bool

    def events(self) -> AsyncIterator[Event]:
        """History, CaughtUp, then live events; ends when the hub is gone. Raises: HubUnreachable."""
        ...

    async def send(self, command: Command) -> None:
        """Hand `command` to the run; its fate comes back as CommandStatus events. Raises: PltTuiError."""
        ...

    async def close(self) -> None:
        """Let go of the run, which goes on without this view. Harmless when repeated."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """Another machine that a run is on, and how to get there from this one. Safe to show."""

    host: str
    login: str
    """The command line that logs in there, with a terminal: `ssh -t gpu1`."""
    command: str
    """What a shell there takes for `plt-tui`."""
    again: str
    """What `plt-tui attach` takes here to show the run once more."""

    def typed(self, command: str) -> str:
        """`command`, a line about the run that begins with `plt-tui`, as one types it at this machine."""
        if command.startswith("plt-tui attach "):
            return f"plt-tui attach {self.again}"
        there = command.removeprefix("plt-tui")
        return f"{self.login} {shlex.quote(self.command + there)}"


class RecordSource:
    """A finished run: its recorded events, and nobody left to take a command."""

    readonly = True

    def __init__(self, record: Iterable[Event]) -> None:
        self._record = record

    async def events(self) -> AsyncIterator[Event]:
        """The record in order, then CaughtUp."""
        for count, event in enumerate(self._record, start=1):
            yield event
            if count % EVENTS_PER_TURN == 0:
                await asyncio.sleep(0)
        yield CaughtUp()

    async def send(self, command: Command) -> None:
        """Refuse. Raises: UsageError always."""
        raise UsageError(f"the run has ended; {command.name} needs a live one: plt-tui run --resume auto --name NAME")

    async def close(self) -> None:
        """Forget the record: it may be large."""
        self._record = ()
