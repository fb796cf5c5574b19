"""The link between the hub and one rank: two multiprocessing queues of JSON bytes, one each way, never shared by ranks.

A queue shared by ranks dies with the first writer that is killed inside `put`; a queue of one's own takes nobody along. Each
side closes its copies of the far ends, so the end of a process is the end of file on the other side:

- hub gone -> the rank's reader sees the end of its command queue and ends the process;
- rank gone -> the hub's reader sees the end of the event queue, also in the middle of a torn message.

`put` never waits (a thread of the queue writes), so a stopped hub cannot stall a step. Does not know what commands mean.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import SpawnContext
from multiprocessing.queues import Queue
from typing import TYPE_CHECKING

from plt_tui.protocol import commands, framing
from plt_tui.protocol.commands import Command
from plt_tui.protocol.events import Event, Step

if TYPE_CHECKING:
    ByteQueue = Queue[bytes]

GATHER_S = 0.2
"""Longest that a step waits for the next one before both are said."""

HUB_GONE_EXIT_CODE = 70
"""Exit code of a rank that found its hub dead (EX_SOFTWARE of sysexits.h): nobody is left to read it but a shell."""


@dataclass(frozen=True, slots=True)
class Queues:
    """Both queues of one rank; travels to the rank as an argument of its process."""

    commands: ByteQueue
    events: ByteQueue

    @staticmethod
    def create(context: SpawnContext) -> Queues:
        """A fresh pair, made by the hub before it starts the rank."""
        queues = Queues(context.Queue(), context.Queue())
        # As in `concurrent.futures`: a command to a rank that has just died is lost in silence, without a traceback on stderr.
        queues.commands._ignore_epipe = True  # type: ignore[attr-defined]
        return queues


def _close_end(byte_queue: ByteQueue, end: str) -> None:
    """Close this process's copy of one end of the pipe under a queue.

    The standard library reaches for the same private pipe in `concurrent.futures.process`; `multiprocessing` offers no public
    way, and without it the end of file never comes because every process keeps the far end open itself.
    """
    getattr(byte_queue, end).close()


class HubEnd:
    """The hub's end of one rank's link. `send` from the event loop's thread; callbacks come on the reader's thread."""

    def __init__(self, queues: Queues, on_events: Callable[[list[Event]], None], on_end: Callable[[], None]) -> None:
        self._queues = queues
        self._on_events = on_events
        self._on_end = on_end
        self.num_events = 0
        """Events read so far, by the reader's thread."""
        self._reader = threading.Thread(target=self._read, name="rank-events", daemon=True)

    def open(self) -> None:
        """Begin to read. Call once, after the rank's process was started (it must have inherited both ends)."""
        _close_end(self._queues.commands, "_reader")
        _close_end(self._queues.events, "_writer")
        self._reader.start()

    def send(self, command: Command) -> None:
        """Hand `command` to the rank; never waits. If the rank is dead it is lost: its exit is reported by the supervisor."""
        self._queues.commands.put(commands.encode(command))

    def close(self, timeout_s: float = 1.0) -> None:
        """Free both queues, once the rank's process has ended; reads what it still said, for at most `timeout_s`."""
        self._queues.commands.close()
        self._queues.commands.cancel_join_thread()
        self._reader.join(timeout_s)
        self._queues.events.close()

    def _read(self) -> None:
        while True:
            try:
                lines = self._queues.events.get().split(b"\n")
            except (EOFError, OSError):
                break
            self._on_events([framing.decode(line) for line in lines])
            self.num_events += len(lines)
        self._on_end()


class RankEnd:
    """A rank's end of its link. `send` from any thread; commands are taken by the main thread only.

    Every message wakes two threads here and two in the hub, on cores that the ranks need. Steps are therefore gathered for up
    to GATHER_S; anything else goes at once and takes the gathered steps along, so the order stays.
    """

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self._gathered: list[bytes] = []
        self._sent_at = 0.0
        self._sending = threading.Lock()
        self._has_late = threading.Event()
        threading.Thread(target=self._send_late, name="late-steps", daemon=True).start()
        self._inbox: queue.SimpleQueue[Command] = queue.SimpleQueue()
        _close_end(queues.commands, "_writer")
        _close_end(queues.events, "_reader")
        threading.Thread(target=self._read, name="commands", daemon=True).start()

    def send(self, event: Event) -> None:
        """Say `event` to the hub; never waits for it."""
        with self._sending:
            self._gathered.append(framing.encode(event))
            if not isinstance(event, Step) or time.monotonic() - self._sent_at >= GATHER_S:
                self._flush()
            else:
                self._has_late.set()

    def _send_late(self) -> None:
        """Say what was gathered when nothing else comes to take it along."""
        while self._has_late.wait():
            time.sleep(GATHER_S)
            with self._sending:
                self._has_late.clear()
                if self._gathered:
                    self._flush()

    def _flush(self) -> None:
        self._queues.events.put(b"\n".join(self._gathered))
        self._gathered, self._sent_at = [], time.monotonic()

    def take(self, wait_s: float = 0.0) -> list[Command]:
        """All commands that have arrived, oldest first; waits at most `wait_s` for the first one."""
        taken: list[Command] = []
        with contextlib.suppress(queue.Empty):
            if wait_s > 0:
                taken.append(self._inbox.get(timeout=wait_s))
            while True:
                taken.append(self._inbox.get_nowait())
        return taken

    def close(self) -> None:
        """Wait until everything said has been written, then close."""
        with self._sending:
            if self._gathered:
                self._flush()
        self._queues.events.close()
        self._queues.events.join_thread()

    def _read(self) -> None:
        while True:
            try:
                line = self._queues.commands.get()
            except (EOFError, OSError):
                # Nobody is left to train for. The main thread may sit in a collective, so no exception would reach it.
                os._exit(HUB_GONE_EXIT_CODE)
            self._inbox.put(commands.decode(line))
