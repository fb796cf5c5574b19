"""The link between the hub and one rank: two multiprocessing queues of JSON bytes, one each way, never shared by ranks.

A queue shared by ranks dies with the first writer that is killed inside `put`; a queue of one's own takes nobody along. Each
side closes its copies of the far ends, so the end of a process is the end of file on the other side:

- hub gone -> the rank's reader sees the end of its command queue and ends the process;
- rank gone -> the hub's reader sees the end of the event queue, also in the middle of a torn message.

A rank never waits for its hub: a thread of the queue writes, the queue takes a fixed number of messages, and what a stopped hub
leaves unread stays with the rank, within bounds (`Outbox`). The rank can ask for a `receipt`: of what the hub has not taken in,
nobody may ever hear, because the hub may die first. Does not know what commands mean.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import SpawnContext
from multiprocessing.queues import Queue
from typing import TYPE_CHECKING

from plt_tui.errors import StorageError
from plt_tui.protocol import commands, framing
from plt_tui.protocol.commands import Command
from plt_tui.protocol.events import Alert, Event, Progress, RankStatus, Recent, Step

if TYPE_CHECKING:
    ByteQueue = Queue[bytes]

GATHER_S = 0.2
"""Longest that a step waits for the next one before both are said."""

MESSAGE_LINES = 1000
"""Most events in one message: what the hub takes on at once, some 30 ms of its time."""
QUEUE_MESSAGES = 64
"""Most messages on their way to a hub that does not read."""
KEPT_STEPS = 200_000
"""Most steps that a rank keeps for a hub that does not read, 70 MB; then the oldest are lost."""
CLOSE_PATIENCE_S = 600.0
"""How long a rank that has done its work waits for a hub that does not read, but lives: its last words matter."""
CLOSE_POLL_S = 0.02

HUB_GONE_EXIT_CODE = 70
"""Exit code of a rank that found its hub dead (EX_SOFTWARE of sysexits.h): nobody is left to read it but a shell."""


@dataclass(frozen=True, slots=True)
class Queues:
    """Both queues of one rank; travels to the rank as an argument of its process."""

    commands: ByteQueue
    events: ByteQueue

    @staticmethod
    def create(context: SpawnContext) -> Queues:
        """A fresh pair, made by the hub before it starts the rank. Raises: StorageError where the system has no room for it."""
        try:
            queues = Queues(context.Queue(), context.Queue(QUEUE_MESSAGES))
        except (OSError, ImportError) as error:  # semaphores are files in /dev/shm; some systems have none at all
            raise StorageError(
                f"the queues between hub and ranks cannot be made: {error}; their semaphores take 24 kB a rank "
                "of /dev/shm: make room there, or mount it writable (docker run --shm-size)"
            ) from None
        # As in `concurrent.futures`: a command to a rank that has just died is lost in silence, without a traceback on stderr.
        queues.commands._ignore_epipe = True  # type: ignore[attr-defined]
        return queues

    def close(self) -> None:
        """Free both, where no process has come of them."""
        for byte_queue in (self.commands, self.events):
            for end in ("_reader", "_writer"):
                _close_end(byte_queue, end)


def _close_end(byte_queue: ByteQueue, end: str) -> None:
    """Close this process's copy of one end of the pipe under a queue.

    The standard library reaches for the same private pipe in `concurrent.futures.process`; `multiprocessing` offers no public
    way, and without it the end of file never comes because every process keeps the far end open itself.
    """
    getattr(byte_queue, end).close()


def _dropped(count: int) -> Event:
    text = f"{count} steps are missing from the record: the hub did not read for longer than rank 0 could keep them"
    return Alert(time=time.time(), topic="missing steps", text=text)


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
            except (EOFError, OSError, ValueError):  # the last: closed while `on_events` took longer than that waits
                break
            self._on_events([framing.decode(line) for line in lines])
            self.num_events += len(lines)
        self._on_end()


class Outbox:
    """What a rank has said and the queue has not taken yet, in order. Not for two threads at once.

    Of steps the newest `max_steps` are kept and the others counted, of what is only of the moment the newest word. Answers to
    commands, checkpoints, failures and whatever else there is are all kept: they are few.
    """

    _OF_THE_MOMENT = (RankStatus, Progress, Recent)

    def __init__(self, max_steps: int = KEPT_STEPS) -> None:
        self.num_dropped = 0
        """Steps that were not kept."""
        self._max_steps = max_steps
        self._lines: OrderedDict[int, bytes] = OrderedDict()
        self._steps: deque[int] = deque()
        """Which of `_lines` are steps."""
        self._newest: dict[type[Event], int] = {}
        self.num_said = 0
        """Events so far."""
        self.num_taken = 0
        """How many of them, the oldest ones, are no longer here."""

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, event: Event) -> None:
        """Put `event` behind all others."""
        self.num_said += 1
        self._lines[self.num_said] = framing.encode(event)
        if isinstance(event, Step):
            self._steps.append(self.num_said)
            if len(self._steps) > self._max_steps:
                del self._lines[self._steps.popleft()]
                self.num_dropped += 1
        elif isinstance(event, self._OF_THE_MOMENT):
            self._lines.pop(self._newest.get(type(event), 0), None)
            self._newest[type(event)] = self.num_said

    def take(self, count: int) -> list[bytes]:
        """The `count` oldest events as lines, or all there are; they are no longer kept."""
        taken = [self._lines.popitem(last=False) for _ in range(min(count, len(self._lines)))]
        while taken and self._steps and self._steps[0] <= taken[-1][0]:
            self._steps.popleft()
        self.num_taken = taken[-1][0] if taken else self.num_taken
        return [line for _, line in taken]


class RankEnd:
    """A rank's end of its link. `send` from any thread; commands are taken by the main thread only.

    Every message wakes two threads here and two in the hub, on cores that the ranks need. Steps are therefore gathered for up
    to GATHER_S; anything else goes at once and takes the gathered steps along, so the order stays.
    """

    def __init__(self, queues: Queues) -> None:
        self._queues = queues
        self._outbox = Outbox()
        self._on_their_way: deque[int] = deque(maxlen=QUEUE_MESSAGES + 2)
        """Of each message in the queue, and of the last two that the hub has taken: how many events were said by its end."""
        self._num_told = 0
        """Dropped steps that the hub was told of."""
        self._sent_at = 0.0
        self._is_closed = False
        self._sending = threading.Lock()
        self._has_late = threading.Event()
        threading.Thread(target=self._send_late, name="late-steps", daemon=True).start()
        self._inbox: queue.SimpleQueue[Command] = queue.SimpleQueue()
        _close_end(queues.commands, "_writer")
        _close_end(queues.events, "_reader")
        threading.Thread(target=self._read, name="commands", daemon=True).start()

    def send(self, event: Event) -> None:
        """Say `event` to the hub; never waits for it. After `close` nothing is said any more."""
        with self._sending:
            if self._is_closed:
                return
            self._outbox.add(event)
            is_urgent = not isinstance(event, Step) or time.monotonic() - self._sent_at >= GATHER_S
            if not is_urgent or len(self._outbox) > MESSAGE_LINES or not self._hand_on():
                self._has_late.set()

    def receipt(self) -> Callable[[], bool]:
        """A question that can be asked at any later time: whether the hub has taken in all that was said until now."""
        num_said = self._outbox.num_said
        return lambda: self._num_heard() >= num_said

    def _num_heard(self) -> int:
        """How many events, the oldest ones, the hub is done with: a message that it has taken last it may still be at."""
        with self._sending:
            try:
                unread = self._queues.events.qsize()
            except NotImplementedError:  # macOS has no way to ask
                return self._outbox.num_taken
            return self._on_their_way[-unread - 2] if len(self._on_their_way) > unread + 1 else 0

    def _send_late(self) -> None:
        """Say what was gathered when nothing else comes to take it along, and what the queue had no room for."""
        while self._has_late.wait():
            time.sleep(GATHER_S)
            self._has_late.clear()
            while self._outbox:
                with self._sending:
                    if not self._hand_on():
                        self._has_late.set()
                        break

    def _hand_on(self) -> bool:
        """Give the queue one message, if it has room for one: only this end fills it. Under the lock."""
        if self._is_closed or self._queues.events.full():
            return False
        lines = self._outbox.take(MESSAGE_LINES)
        if self._has_news_of_dropped():
            self._num_told = self._outbox.num_dropped
            lines.append(framing.encode(_dropped(self._num_told)))
        if lines:
            self._queues.events.put_nowait(b"\n".join(lines))
            self._on_their_way.append(self._outbox.num_taken)
            self._sent_at = time.monotonic()
        return True

    def _has_news_of_dropped(self) -> bool:
        """Steps were dropped, and that is all for now, or twice as many as the hub knows."""
        num_dropped = self._outbox.num_dropped
        return num_dropped > self._num_told and (not self._outbox or num_dropped >= 2 * self._num_told)

    def take(self, wait_s: float = 0.0) -> list[Command]:
        """All commands that have arrived, oldest first; waits at most `wait_s` for the first one."""
        taken: list[Command] = []
        with contextlib.suppress(queue.Empty):
            if wait_s > 0:
                taken.append(self._inbox.get(timeout=wait_s))
            while True:
                taken.append(self._inbox.get_nowait())
        return taken

    def close(self, patience_s: float = CLOSE_PATIENCE_S) -> None:
        """Wait until everything said has been written, then close; of a hub that does not read for `patience_s`, give up."""
        give_up_at = time.monotonic() + patience_s
        while self._outbox and time.monotonic() < give_up_at:
            with self._sending:
                is_handed_on = self._hand_on()
            if not is_handed_on:
                time.sleep(CLOSE_POLL_S)
        with self._sending:
            self._is_closed = True
            self._queues.events.close()
        written = threading.Thread(target=self._queues.events.join_thread, name="last-words", daemon=True)
        written.start()
        written.join(max(0.0, give_up_at - time.monotonic()))
        self._queues.events.cancel_join_thread()

    def _read(self) -> None:
        while True:
            try:
                line = self._queues.commands.get()
            except (EOFError, OSError):
                # Nobody is left to train for. The main thread may sit in a collective, so no exception would reach it.
                os._exit(HUB_GONE_EXIT_CODE)
            self._inbox.put(commands.decode(line))
