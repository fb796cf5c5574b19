"""The processes of the ranks: started, watched and ended. Decides nothing: it reports what ranks say and how they end.

Lives in the hub's event loop; ranks are spawned from its main thread, because the kernel's parent-death signal follows the
thread that started a process. Invariant: after `kill` returns no rank of this supervisor is alive, but those that it names.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing.process
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from multiprocessing.context import SpawnProcess
from typing import Protocol

import psutil

from plt_tui.control.interpreter import safe_path
from plt_tui.control.meeting import start_helper
from plt_tui.control.waiting import comes
from plt_tui.errors import RankFailed
from plt_tui.protocol.commands import Command
from plt_tui.protocol.events import Event
from plt_tui.protocol.link import HubEnd, Queues
from plt_tui.protocol.rank import STOP_SIGNALS, RankSpec, rank_process

LAST_WORDS_S = 1.0
"""An ended rank that is silent for this long has said all: a grandchild that keeps the queue open must not hide the exit."""
KILL_PATIENCE_S = 10.0
"""How long ranks may take to end after SIGKILL: one that waits for a device or a dead file server may never do it."""
POLL_S = 0.005


class Listener(Protocol):
    """Who is told; all calls come in the event loop."""

    def on_rank_events(self, rank: int, events: list[Event]) -> None:
        """A rank said something, in this order."""

    def on_rank_exit(self, rank: int, exit_code: int) -> None:
        """A rank's process ended, and everything it said has been delivered."""


class _Rank:
    """One process with its link."""

    def __init__(self, process: SpawnProcess, link: HubEnd, drained: asyncio.Event) -> None:
        self.process = process
        self.link = link
        self.drained = drained
        self.watcher: asyncio.Task[None] | None = None


class Supervisor:
    """All ranks of one attempt."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._context = multiprocessing.get_context("spawn")
        self._ranks: list[_Rank] = []
        self._dying: list[_Rank] = []
        self._killing = asyncio.Lock()

    @property
    def pids(self) -> list[int]:
        """Process ids in rank order."""
        return [rank.process.pid or 0 for rank in self._ranks]

    def start(self, specs: Sequence[RankSpec]) -> None:
        """Start one process per spec; call from the main thread, in the event loop, when none is running.

        Raises: StorageError, RankFailed where the system lets one not be started; `kill` ends those that were.
        """
        loop = asyncio.get_running_loop()
        start_helper()
        for spec in specs:
            self._ranks.append(self._start_one(spec, loop))

    def send(self, command: Command) -> None:
        """Hand `command` to rank 0, which carries it to the others at a step boundary."""
        if self._ranks:
            self._ranks[0].link.send(command)

    def send_signal(self, number: signal.Signals, ranks: Iterable[int]) -> None:
        """Send a signal to those of `ranks` that are alive."""
        for rank in ranks:
            process = self._ranks[rank].process
            if process.is_alive():
                os.kill(process.pid or 0, number)

    async def kill(self) -> list[int]:
        """End every rank, and what it has started, with SIGKILL and wait until all ranks are gone; exits are reported no more.

        A second call while one is under way waits for the same ranks: the end of a run can meet a recovery. Returns the process
        ids of those that are still there after KILL_PATIENCE_S; they are given up, and nothing waits for them any more.
        """
        given_up = []
        async with self._killing:
            self._dying, self._ranks = self._dying + self._ranks, []
            started = _started_by({rank.process.pid for rank in self._dying})
            for rank in self._dying:
                if rank.watcher is not None:
                    rank.watcher.cancel()
                rank.process.kill()
            for process in started:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            give_up_at = time.monotonic() + KILL_PATIENCE_S
            while self._dying:
                rank = self._dying[0]
                has_ended = await _ended(rank.process, give_up_at)
                await asyncio.to_thread(rank.link.close)
                if has_ended:
                    rank.process.close()
                else:
                    given_up.append(rank.process.pid or 0)
                    _forget(rank.process)
                rank.watcher = (
                    None  # refers to the rank in turn: the pipes would stay open until the garbage collector comes by
                )
                self._dying.pop(0)
        return given_up

    def _start_one(self, spec: RankSpec, loop: asyncio.AbstractEventLoop) -> _Rank:
        queues = Queues.create(self._context)
        process = self._context.Process(target=rank_process, args=(spec, queues), name=f"plt-tui rank {spec.rank}")
        number = spec.rank

        def heard(events: list[Event]) -> None:
            taken_in = threading.Event()

            def take_in() -> None:
                try:
                    self._listener.on_rank_events(number, events)
                finally:
                    taken_in.set()

            with contextlib.suppress(RuntimeError):  # the loop is closed: a rank that could not be ended has come back to life
                loop.call_soon_threadsafe(take_in)
                taken_in.wait()  # a loop that hangs on a disk reads no further: the rank keeps what nobody has written down

        def emptied() -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(drained.set)

        drained = asyncio.Event()
        rank = _Rank(process, HubEnd(queues, heard, emptied), drained)
        # A stop that arrives now must not end a child that does not ignore it yet: the mask is inherited, and lifted there.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            with safe_path():
                process.start()
        except OSError as error:
            queues.close()
            raise RankFailed(
                f"rank {number} cannot be started: {error.strerror or error}; make room for processes and memory on this "
                "machine, or raise the limits on them (ulimit -u, ulimit -v)"
            ) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        rank.link.open()
        rank.watcher = loop.create_task(self._watch(number, rank))
        return rank

    async def _watch(self, number: int, rank: _Rank) -> None:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        descriptor = _exit_descriptor(rank.process)
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        await _last_words(rank)
        rank.process.join()
        self._listener.on_rank_exit(number, rank.process.exitcode or 0)


async def _last_words(rank: _Rank) -> None:
    """Return once all that a rank whose process has ended has said is delivered."""
    num_events = -1
    while rank.link.num_events > num_events:
        num_events = rank.link.num_events
        if await comes(rank.drained, LAST_WORDS_S):
            return


def _started_by(pids: set[int | None]) -> list[psutil.Process]:
    """The processes below those of `pids`: a rank that is killed ends nothing that it has started."""
    found, above = [], set(pids)
    for process in psutil.Process().children(recursive=True) if pids else []:  # each comes behind the one that started it
        with contextlib.suppress(psutil.Error):
            if process.ppid() in above:
                above.add(process.pid)
                found.append(process)
    return found


async def _ended(process: SpawnProcess, give_up_at: float) -> bool:
    """Wait for the end of `process`, until `give_up_at` by time.monotonic; False when it did not come.

    Asks instead of joining: a thread that joined a process which never ends could not end either.
    """
    while process.is_alive():
        if time.monotonic() > give_up_at:
            return False
        await asyncio.sleep(POLL_S)
    return True


def _forget(process: SpawnProcess) -> None:
    """Let this process end without waiting for a child that does not."""
    multiprocessing.process._children.discard(process)  # type: ignore[attr-defined]  # `multiprocessing` has no public way


def _exit_descriptor(process: SpawnProcess) -> int:
    """A descriptor, to be closed by the caller, that becomes readable when the process ends.

    The sentinel is a pipe, and a forked grandchild that holds its other end would hide the exit; a pidfd (Linux 5.3) is the
    process itself.
    """
    if sys.platform == "linux" and hasattr(os, "pidfd_open"):  # a Python built for an old libc has none
        with contextlib.suppress(OSError):  # an older kernel, or a sandbox that does not know the call
            return os.pidfd_open(process.pid or 0)
    return os.dup(process.sentinel)
