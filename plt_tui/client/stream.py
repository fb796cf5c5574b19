"""The live events of a connection as one reader takes them, at its own pace.

Knows no socket. Events wait here for their reader: of what is of the moment only (gauges, ranks, progress, viewers) the newest.
Invariant: a reader misses nothing else, or is told that it came too late; cancelling a wait loses no event.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

from plt_tui.errors import PltTuiError, UsageError
from plt_tui.protocol.events import Event, Gauges, OpenLine, Progress, RankStatus, Recent, Viewers

EventT = TypeVar("EventT", bound=Event)

MAX_WAITING = 100_000
"""Events that wait for one reader: those of hours."""


class EventStream(AsyncIterator[EventT], Generic[EventT]):
    """An iterator over the events of some kinds from the moment it was made. For one event loop."""

    def __init__(self, kinds: tuple[type[EventT], ...]) -> None:
        self._kinds = kinds
        self._waiting: OrderedDict[object, EventT] = OrderedDict()
        """By the topic of which the newest counts, else by a running number."""
        self._num_put = 0
        self._is_over = False
        self._error: PltTuiError | None = None
        self._news = asyncio.Event()

    def __repr__(self) -> str:
        kinds = ", ".join(kind.__name__ for kind in self._kinds)
        return f"<EventStream of {kinds}: {len(self._waiting)} waiting>"

    def __aiter__(self) -> EventStream[EventT]:
        return self

    async def __anext__(self) -> EventT:
        """The next event. Raises: what `end` was given; UsageError behind MAX_WAITING events that nobody took."""
        while not self._waiting and not self._is_over:
            self._news.clear()
            await self._news.wait()
        if self._waiting:
            return self._waiting.popitem(last=False)[1]
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    def put(self, event: Event) -> None:
        """Let `event` wait for the reader, if it is of a kind that it wants and there is room."""
        if self._is_over or not isinstance(event, self._kinds):
            return
        self._num_put += 1
        key = _topic(event) or self._num_put
        self._waiting.pop(key, None)
        self._waiting[key] = event
        self._news.set()
        if len(self._waiting) >= MAX_WAITING:
            hint = "take them faster, or ask for fewer kinds, such as run.events(events.Eval)"
            self.end(UsageError(f"{MAX_WAITING} events waited for this reader, and what came after them was not kept; {hint}"))

    def end(self, error: PltTuiError | None) -> None:
        """Nothing more comes; error: what the reader hears behind the last event, None where the run has just ended."""
        if not self._is_over:
            self._is_over, self._error = True, error
            self._news.set()


def _topic(event: Event) -> object:
    """What the newest `event` of is the only one that counts; None for what is to be told in full."""
    match event:
        case RankStatus():
            return event.kind, event.rank
        case OpenLine():
            return event.kind, event.source
        case Gauges() | Progress() | Recent() | Viewers():
            return event.kind
        case _:
            return None
