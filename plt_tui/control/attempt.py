"""One start of all ranks, followed until all of them are done or the cause of a failure is known.

Decides nothing about the run: its owner is told. Lives in the hub's event loop. Invariant: the owner hears of exactly one end
of an attempt, and after a failure no rank of it is alive.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Protocol

from plt_tui.control.folder import RunFolder
from plt_tui.control.logs import last_lines
from plt_tui.control.restart import exit_failure, root_cause
from plt_tui.control.supervisor import Supervisor
from plt_tui.protocol.clean import cleaned
from plt_tui.protocol.commands import Command
from plt_tui.protocol.events import CommandStatus, Done, Event, Failed, Run
from plt_tui.protocol.rank import RankSpec

GATHER_S = 0.5
"""After a first failure: how long the other ranks' failures are waited for, before the cause is named."""
EXIT_PATIENCE_S = 10.0
"""How long ranks that have all said `Done` may take to end: a library that hangs in its shutdown must not keep the run."""
FAILURE_LOG_LINES = 50


class Owner(Protocol):
    """Who is told; all calls come in the event loop."""

    def on_event(self, event: Event) -> None:
        """A rank said something that is no end; its texts have passed the escape filter."""

    def on_failed(self, cause: Failed) -> None:
        """A rank failed, this is the first cause, and all ranks are gone."""

    def on_done(self, done: Done) -> None:
        """All ranks left their loops in good order; `done` is rank 0's word."""


class Attempt:
    """All ranks of one start. step: gives the run's completed steps, for the record of a failure; spawn: keeps a task."""

    def __init__(
        self,
        folder: RunFolder,
        owner: Owner,
        *,
        step: Callable[[], int],
        spawn: Callable[[Coroutine[None, None, None]], None],
    ) -> None:
        self._folder = folder
        self._owner = owner
        self._step = step
        self._spawn = spawn
        self._supervisor = Supervisor(self)
        self._world_size = 0
        self._alive: set[int] = set()
        self._done: dict[int, Done] = {}
        self._failures: list[Failed] = []
        self._is_over = False
        self.is_training = False
        """True once the ranks have built everything and begun."""

    @property
    def pids(self) -> list[int]:
        """Process ids in rank order."""
        return self._supervisor.pids

    def start(self, specs: Sequence[RankSpec]) -> None:
        """Start the ranks. Once, from the main thread."""
        self._world_size = len(specs)
        self._alive = set(range(len(specs)))
        self._supervisor.start(specs)

    def send(self, command: Command) -> None:
        """Hand `command` to rank 0, which carries it to the others at a step boundary."""
        self._supervisor.send(command)

    async def kill(self) -> None:
        """End every rank with SIGKILL and wait until all are gone; nothing more is said of them."""
        self._is_over = True
        await self._supervisor.kill()

    def on_rank_events(self, rank: int, events: list[Event]) -> None:
        """A rank said something, in this order."""
        for event in events:
            self._on_rank_event(rank, event)

    def _on_rank_event(self, rank: int, event: Event) -> None:
        # A command's arguments stay as they are: a prompt is what the model is asked, not only what a terminal shows.
        event = replace(cleaned(event), args=event.args) if isinstance(event, CommandStatus) else cleaned(event)
        match event:
            case Failed():
                self._failed(replace(event, rank=rank, log_tail=self._last_words(rank)))
            case Done():
                self._done[rank] = event
                if len(self._done) == self._world_size:
                    self._spawn(self._wait_for_exits())
            case _:
                self.is_training |= isinstance(event, Run)
                self._owner.on_event(event)

    def on_rank_exit(self, rank: int, exit_code: int) -> None:
        """A rank's process ended, and everything it said has been delivered."""
        self._alive.discard(rank)
        if rank in self._done and exit_code == 0:
            if not self._alive and not self._failures:
                self._end_well()
        elif all(failure.rank != rank for failure in self._failures):
            self._failed(exit_failure(rank, exit_code, time.time(), self._last_words(rank)))

    def _last_words(self, rank: int) -> list[str]:
        return last_lines(self._folder.rank_log(rank), FAILURE_LOG_LINES)

    def _failed(self, failure: Failed) -> None:
        if not self._failures:
            self._spawn(self._name_the_cause())
        self._failures.append(replace(failure, step=self._step(), while_starting=not self.is_training))

    async def _name_the_cause(self) -> None:
        await asyncio.sleep(GATHER_S)
        cause = root_cause(self._failures)
        was_over = self._is_over
        await self.kill()
        if not was_over:
            self._owner.on_failed(cause)

    async def _wait_for_exits(self) -> None:
        """End well even if a rank that has said `Done` never ends."""
        await asyncio.sleep(EXIT_PATIENCE_S)
        if not self._failures:
            self._end_well()

    def _end_well(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._owner.on_done(self._done[0])
