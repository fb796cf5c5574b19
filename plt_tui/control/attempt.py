"""One start of all ranks, followed until all of them are done or the cause of a failure is known.

Decides nothing about the run: its owner is told. Lives in the hub's event loop. Invariant: the owner hears of exactly one end
of an attempt, and after a failure no rank of it is alive.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Protocol

from plt_tui.config.schema import ControlSection
from plt_tui.control import cgroup, watchdog
from plt_tui.control.folder import RunFolder
from plt_tui.control.logs import last_lines
from plt_tui.control.restart import exit_failure, root_cause, undead
from plt_tui.control.supervisor import Supervisor
from plt_tui.control.waiting import comes
from plt_tui.control.watchdog import Hang, Watchdog
from plt_tui.errors import RankFailed
from plt_tui.protocol.clean import cleaned
from plt_tui.protocol.commands import Command
from plt_tui.protocol.events import Alert, CommandStatus, Done, Event, Failed, Run
from plt_tui.protocol.rank import STACKS_SIGNAL, RankSpec
from plt_tui.protocol.text import safe_text

GATHER_S = 0.5
"""After a first failure: how long the other ranks' last words are waited for, before the cause is named. Most fail at once
when they lose a peer; one that does not notice says its last steps within `link.GATHER_S`."""
EXIT_PATIENCE_S = 10.0
"""How long ranks that have all said `Done` may take to end: a library that hangs in its shutdown must not keep the run."""
OOM_LOOKS = 10
"""Kills for want of memory that were counted before so many looks were of other processes: a rank that is killed has ended,
and its end is known, within as many times watchdog.CHECK_S."""
FAILURE_LOG_LINES = 50
STACKS_BYTES = 1 << 16
"""Most that is kept of the stacks of a rank that hangs."""


class Owner(Protocol):
    """Who is told; all calls come in the event loop."""

    def on_event(self, event: Event) -> None:
        """A rank said something that is no end; its texts have passed the escape filter."""

    def on_failed(self, cause: Failed) -> None:
        """A rank failed, this is the first cause, and all ranks are gone."""

    def on_done(self, done: Done) -> None:
        """All ranks left their loops in good order; `done` is rank 0's word."""


class Attempt:
    """All ranks of one start.

    control: when a rank counts as hung. step: gives the run's recorded steps, for the record of a failure. spawn: keeps a
    task.
    """

    def __init__(
        self,
        folder: RunFolder,
        owner: Owner,
        *,
        control: ControlSection,
        step: Callable[[], int],
        spawn: Callable[[Coroutine[None, None, None]], None],
    ) -> None:
        self._folder = folder
        self._owner = owner
        self._step = step
        self._spawn = spawn
        self._supervisor = Supervisor(self)
        self._watchdog = Watchdog(control)
        self._oom_kills = deque([cgroup.oom_kills()], maxlen=OOM_LOOKS)
        """The counter at the last looks, oldest first."""
        self._world_size = 0
        self._alive: set[int] = set()
        self._done: dict[int, Done] = {}
        self._failures: list[Failed] = []
        self._exits: dict[int, int] = {}
        """Exit codes of the processes that have ended by themselves."""
        self._all_have_spoken = asyncio.Event()
        """All ranks have failed or ended."""
        self._stacks_from: dict[int, int] = {}
        """Where in its log the stacks of a rank that hangs begin."""
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
        self._watchdog.begin(len(specs), time.monotonic())
        self._spawn(self._watch())

    def send(self, command: Command) -> None:
        """Hand `command` to rank 0, which carries it to the others at a step boundary."""
        self._supervisor.send(command)

    async def kill(self) -> None:
        """End every rank with SIGKILL and wait until all are gone; nothing more is said of them but who cannot be ended."""
        await self._end_all()

    async def _end_all(self) -> list[int]:
        """As `kill`; returns the process ids of those that cannot be ended."""
        self._is_over = True
        left = await self._supervisor.kill()
        if left:
            self._owner.on_event(Alert(time=time.time(), topic="ranks", text=undead(left), level="error"))
        return left

    def on_rank_events(self, rank: int, events: list[Event]) -> None:
        """A rank said something, in this order."""
        for event in events:
            self._on_rank_event(rank, event)

    def _on_rank_event(self, rank: int, event: Event) -> None:
        # A command's arguments stay as they are: a prompt is what the model is asked, not only what a terminal shows.
        event = replace(cleaned(event), args=event.args) if isinstance(event, CommandStatus) else cleaned(event)
        self._watchdog.heard(rank, event)
        match event:
            case Failed():
                if rank not in self._done:  # else its process ends with a code, of which the owner is told
                    self._failed(replace(event, rank=rank, log_tail=self._last_words(rank)))
            case Done():
                self._done[rank] = event
                self._watchdog.left(rank)
                if len(self._done) == self._world_size:
                    self._spawn(self._wait_for_exits())
            case _:
                self.is_training |= isinstance(event, Run)
                self._owner.on_event(event)

    def on_rank_exit(self, rank: int, exit_code: int) -> None:
        """A rank's process ended, and everything it said has been delivered."""
        self._alive.discard(rank)
        self._exits[rank] = exit_code
        self._watchdog.left(rank)
        if rank in self._done:  # however it ended, such as in a library's shutdown: all that it had to do was done
            if exit_code:
                self._tell_late_failure(rank, exit_code)
            if not self._alive and not self._failures:
                self._end_well()
        elif all(failure.rank != rank for failure in self._failures):
            why = self._memory_ran_out() if exit_code == -signal.SIGKILL else ""
            self._failed(exit_failure(rank, exit_code, time.time(), self._last_words(rank), why))

    def _tell_late_failure(self, rank: int, exit_code: int) -> None:
        ended = exit_failure(rank, exit_code, time.time(), []).message
        text = f"rank {rank} was done, and then {ended}; nothing is lost, its log may say why"
        self._owner.on_event(Alert(time=time.time(), topic="ranks", text=text, level="info"))

    def _last_words(self, rank: int) -> list[str]:
        return last_lines(self._folder.rank_log(rank), FAILURE_LOG_LINES)

    def _memory_ran_out(self) -> str:
        """Why the kernel killed a rank, if it was the kernel."""
        if cgroup.oom_kills() == self._oom_kills[0]:
            return ""
        use = cgroup.memory_use()
        limit = f" (limit {use.total_bytes / 2**30:.1f} GiB)" if use is not None else ""
        return f"the kernel ended it because memory ran out{limit}; lower train.batch_size, data.context or parallel.ranks"

    def _stacks(self, rank: int) -> str:
        """What a rank that hangs has written since it was asked for its stacks."""
        with contextlib.suppress(OSError), self._folder.rank_log(rank).open("rb") as file:
            file.seek(self._stacks_from[rank])
            if written := file.read(STACKS_BYTES):
                return safe_text(written.decode("utf-8", "backslashreplace"))
        return "no stacks: a process that is stopped, or waits in the kernel, cannot write them"

    def _failed(self, failure: Failed) -> None:
        if not self._failures:
            self._spawn(self._name_the_cause())
        self._failures.append(failure)
        if self._alive <= {failed.rank for failed in self._failures}:
            self._all_have_spoken.set()

    async def _name_the_cause(self) -> None:
        await comes(self._all_have_spoken, GATHER_S)
        cause = root_cause(self._failures)
        if cause.rank in self._stacks_from:
            cause = replace(cause, log_tail=self._last_words(cause.rank), traceback=self._stacks(cause.rank))
        exits = {str(rank): exit_code for rank, exit_code in sorted(self._exits.items())}
        was_over = self._is_over
        left = await self._end_all()  # then all that was said is heard
        last_step = max(self._step(), *(failure.step for failure in self._failures), self._watchdog.last_step)
        if not was_over:
            known = replace(cause, step=last_step, while_starting=not self.is_training, left_alive=left, exits=exits)
            self._owner.on_failed(known)

    async def _watch(self) -> None:
        """Look for a rank that hangs, until one does or the attempt is over; and at what the kernel has killed in the group."""
        while not self._is_over:
            await asyncio.sleep(watchdog.CHECK_S)
            self._oom_kills.append(cgroup.oom_kills())
            hang = self._watchdog.check(time.monotonic()) if self._watchdog.control.hang_s else None
            if hang is not None and not self._failures and not self._is_over:
                self._hangs(hang)
                return

    def _hangs(self, hang: Hang) -> None:
        """Let all ranks write their stacks to their logs while the cause is being named."""
        state = watchdog.process_state(hang.pid) if hang.pid else ""
        log = self._folder.rank_log(hang.rank)
        self._stacks_from[hang.rank] = log.stat().st_size if log.exists() else 0
        # One that has said nothing yet does not handle the signal either, and would die of it.
        self._supervisor.send_signal(STACKS_SIGNAL, [word.rank for word in self._watchdog.words.values() if word.pid])
        words = watchdog.message(hang, state)
        self._failed(Failed(time=time.time(), rank=hang.rank, message=words, exit_code=RankFailed.exit_code))

    async def _wait_for_exits(self) -> None:
        """End well even if a rank that has said `Done` never ends."""
        await asyncio.sleep(EXIT_PATIENCE_S)
        if not self._failures:
            self._end_well()

    def _end_well(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._owner.on_done(self._done[0])
