"""One client's way through the feed: what comes next, in which order, and how often.

Does no I/O, so the Unix socket and the WebSocket send the same frames. A client costs two positions in the feed and at most
BATCH_ROWS encoded steps, however slow it reads and however long the run is. Invariant: a step goes out before everything that
happened after it, the end of the run included.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator
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
    Phase,
    Run,
    Sample,
    Steps,
)

BATCH_ROWS = 10_000
"""Most steps in one batch, about 1 MB of JSON: what a client that reads slowly can hold in memory."""
FRAME_S = 0.2
"""Least time between two frames that hold nothing but measurements; every frame costs the ranks a little of their cores."""


def steps_before(event: Event) -> float:
    """Number of the last step that came before `event`; -1 when it cannot be known, infinity for the end."""
    match event:
        case Run():
            return event.start_step
        case CommandStatus(name="set" | "undo"):  # these carry the first step computed with the new value
            return event.step - 1
        case Phase() | Eval() | Sample() | Checkpoint() | CheckpointFailed() | CommandStatus() | Failed() | Done():
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
        self._rows = 0
        self._generation = feed.history.generation
        self._waiting: deque[Event] = deque()

    @property
    def is_behind(self) -> bool:
        """True while the last `read` left something that it could have given."""
        return bool(self._waiting) or self._rows < len(self._feed.history)

    def read(self) -> list[Event]:
        """What comes next, at most BATCH_ROWS steps of it; empty when nothing is new.

        After a resume or rewind has cut the history, its rows come again from the first.
        """
        history = self._feed.history
        if self._generation != history.generation:
            self._rows, self._generation = 0, history.generation
        everything_but_rows = replace(self._cursor, rows=len(history), generation=history.generation)
        news, self._cursor = self._feed.read(everything_but_rows)
        self._waiting.extend(news)
        return self._in_order(min(len(history), self._rows + BATCH_ROWS))

    def _in_order(self, stop: int) -> list[Event]:
        """Waiting events with the rows up to `stop` between them; an event whose rows do not fit goes on waiting."""
        steps, out = self._feed.history.columns["step"], list[Event]()
        for limit in self._session_limits():
            wanted = bisect_right(steps, min(limit, steps_before(self._waiting[0])))
            self._take_rows(min(wanted, stop), out)
            if wanted > stop:
                return out
            out.append(self._waiting.popleft())
        self._take_rows(stop, out)
        return out

    def _session_limits(self) -> list[float]:
        """For each waiting event the last step that may precede it: later ones belong to a session that begins behind it."""
        limits, limit = list[float](), math.inf
        for event in reversed(self._waiting):
            if isinstance(event, Run):
                limit = min(limit, event.start_step)
            limits.append(limit)
        return limits[::-1]

    def _take_rows(self, stop: int, out: list[Event]) -> None:
        if self._rows < stop:
            out.append(Steps.from_columns(self._feed.history.columns, self._rows, stop))
            self._rows = stop


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
