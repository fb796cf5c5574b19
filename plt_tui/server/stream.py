"""One client's way through the feed: what comes next, in which order, and how often.

Does no I/O, so the Unix socket and the WebSocket send the same frames. A client costs a few positions in the feed and at most
BATCH_ROWS encoded steps, however slow it reads and however long the run is. Invariant: a step goes out before everything that
happened after it, the end of the run included; the steps of a branch go out right before the rewind that left it.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace

from plt_tui.control.feed import Cursor, Feed
from plt_tui.protocol.events import (
    CaughtUp,
    Checkpoint,
    CheckpointFailed,
    CommandStatus,
    Done,
    End,
    Eval,
    Event,
    Failed,
    Logs,
    Phase,
    Plan,
    Run,
    Sample,
    Spike,
)

BATCH_ROWS = 10_000
"""Most steps in one batch, about 1 MB of JSON: what a client that reads slowly can hold in memory."""
MAX_LOG_LINES = 1_000
"""Most log lines in one event: a few megabytes of JSON at worst, where all that the feed holds could be a hundred."""
FRAME_S = 0.2
"""Least time between two frames that hold nothing but measurements; every frame costs the ranks a little of their cores."""


def steps_before(event: Event) -> float:
    """Number of the last step that came before `event`; -1 when it cannot be known, infinity for the end."""
    match event:
        case Run():
            return event.start_step
        case Plan() | CommandStatus(name="set" | "undo"):  # these carry the first step that is computed with what is new
            return event.step - 1
        case Phase() | Eval() | Sample() | Checkpoint() | CheckpointFailed() | CommandStatus() | Spike() | Failed() | Done():
            return event.step
        case End():
            return math.inf
        case _:
            return -1


class Reader:
    """A place in the feed. Rows are cut from the history here, not by `Feed.read`, to bound a batch and to put it in order."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._cursor = Cursor()
        self._given: Counter[int] = Counter()
        """Rows given of each branch; 0: of the line that the run is on."""
        self._room = BATCH_ROWS
        """Rows that fit in the batch that is being put together."""
        self._generation = feed.history.generation
        self._waiting: deque[Event] = deque()

    @property
    def is_behind(self) -> bool:
        """True while the last `read` left something that it could have given."""
        return bool(self._waiting) or self._given[0] < len(self._feed.history)

    def read(self) -> list[Event]:
        """What comes next, at most BATCH_ROWS steps of it; empty when nothing is new.

        After a resume or rewind has cut the history, the rows behind the cut come, as they are now.
        """
        history = self._feed.history
        self._given[0] = history.unchanged(self._given[0], self._generation)
        self._generation = history.generation
        everything_but_rows = replace(
            self._cursor, rows=len(history), generation=history.generation, branches=len(history.branches)
        )
        news, self._cursor = self._feed.read(everything_but_rows)
        self._waiting.extend(piece for event in news for piece in _pieces(event))
        return self._in_order()

    def _in_order(self) -> list[Event]:
        """Waiting events, each behind the rows that it follows; one whose rows do not fit in the batch goes on waiting."""
        history, out = self._feed.history, list[Event]()
        self._room = BATCH_ROWS
        for limit in self._limits():
            event = self._waiting[0]
            rows = bisect_right(history.columns["step"], min(limit, steps_before(event)))
            branch = self._left_by(event)
            if not self._take(0, rows, out) or (branch and not self._take(branch, len(history.line(branch)["step"]), out)):
                return out
            out.append(self._waiting.popleft())
        self._take(0, len(history), out)
        return out

    def _limits(self) -> list[float]:
        """For each waiting event the last step that may precede it: a resume or rewind behind it computed later ones again."""
        limits, limit = list[float](), math.inf
        for event in reversed(self._waiting):
            match event:
                case Run(start_step=step) | CommandStatus(name="rewind", status="applied", step=step):
                    limit = min(limit, step)
            limits.append(limit)
        return limits[::-1]

    def _left_by(self, event: Event) -> int:
        """Number of the branch that `event` left; 0: none."""
        match event:
            case CommandStatus(name="rewind", status="applied"):
                return next((left.number for left in self._feed.state.branches if left.id == event.id), 0)
            case _:
                return 0

    def _take(self, branch: int, stop: int, out: list[Event]) -> bool:
        """Add the rows of a branch up to `stop` to `out` while there is room; True when all of them have been given."""
        start = self._given[branch]
        end = min(stop, start + self._room)
        if start < end:
            out.append(self._feed.history.block(branch, start, end))
            self._given[branch], self._room = end, self._room - (end - start)
        return self._given[branch] >= stop


def _pieces(event: Event) -> Iterable[Event]:
    """`event`, or for many log lines several that say the same."""
    if not isinstance(event, Logs) or len(event.lines) <= MAX_LOG_LINES:
        return [event]
    starts = range(0, len(event.lines), MAX_LOG_LINES)
    return [
        replace(event, lines=event.lines[start : start + MAX_LOG_LINES], dropped=0 if start else event.dropped)
        for start in starts
    ]


class Follower:
    """A reader that waits: history, CaughtUp, then live frames. `close` it, or the feed goes on waking it."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._reader = Reader(feed)
        self._known_events = 0
        self._news = asyncio.Event()
        self._at_once = asyncio.Event()
        self._last_frame_s = -math.inf
        self._finishing = False
        self._unlisten = feed.listen(self._wake)

    def finish(self) -> None:
        """End `frames` once everything said so far has been given."""
        self._finishing = True
        self._news.set()
        self._at_once.set()

    def close(self) -> None:
        """Stop listening to the feed."""
        self._unlisten()

    async def frames(self) -> AsyncIterator[list[Event]]:
        """Batches of events; ends after `finish`."""
        caught_up = False
        while True:
            batch = self._reader.read()
            is_behind = self._reader.is_behind
            if not caught_up and not is_behind:
                caught_up = True
                batch.append(CaughtUp())
            if batch:
                yield batch
            if is_behind or (batch and self._finishing):
                continue
            if self._finishing:
                return
            await self._next_frame()

    def _wake(self) -> None:
        self._news.set()
        if len(self._feed.events) > self._known_events:
            self._at_once.set()

    async def _next_frame(self) -> None:
        """Wait for news: measurements until the frame is due, anything else not at all."""
        await self._news.wait()
        loop = asyncio.get_running_loop()
        timer = loop.call_at(max(loop.time(), self._last_frame_s + FRAME_S), self._at_once.set)
        try:
            await self._at_once.wait()
        finally:
            timer.cancel()
        self._news.clear()
        self._at_once.clear()
        self._known_events = len(self._feed.events)
        self._last_frame_s = loop.time()
