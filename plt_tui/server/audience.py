"""Everybody who follows one run, through whatever door: who they are, and the moments at which they are served.

All who wait are served at once, so what is new is read and encoded once, however many they are; and the more they are, the more
rarely measurements come, for every frame costs the ranks a little of their cores. Opens no socket, sends nothing. Used in the
hub's event loop. Invariant: nothing is queued for anybody: who is busy sending is served later, from its own place in the feed,
and misses nothing.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from typing import Literal

from plt_tui.control.feed import Cursor, Feed
from plt_tui.protocol.events import CaughtUp, Viewers
from plt_tui.server.stream import Batch, Reader

FRAME_S = 0.2
"""Least time between two frames that hold nothing but measurements."""
FRAMES_PER_S = 50.0
"""Most of those for all followers together: a hundred of them get one every two seconds."""
EVENT_FRAMES_PER_S = 500.0
"""Most frames for all followers together while one event follows the other. One alone goes out at once."""
TELL_S = 1.0
"""Who comes or goes is told this much later, with all others who did: who asks and leaves again is no viewer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """One who follows the run. `actor`: who it says it is, safe to show; `since`: Unix seconds."""

    actor: str
    door: Literal["socket", "http"]
    readonly: bool
    since: float


class Audience:
    """The followers of one feed."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self._followers: dict[Follower, Viewer] = {}
        self._unlisten: Callable[[], None] | None = None
        self._waiting: dict[Follower, asyncio.Future[Batch]] = {}
        self._serving: asyncio.TimerHandle | None = None
        """The next moment at which those who wait are served; None: nothing is new."""
        self._served_s, self._events_served_s = -math.inf, -math.inf
        """When that was last, and when there was more than measurements."""
        self._num_events = 0
        """Events that there were then."""
        self._telling: asyncio.TimerHandle | None = None

    @property
    def size(self) -> int:
        """How many follow the run."""
        return len(self._followers)

    def follow(self, actor: str, door: Literal["socket", "http"], *, readonly: bool, after: int = 0) -> Follower:
        """A new follower, which must be closed; `after`: what it knows already, 0: nothing. Raises: UsageError as `Reader`."""
        follower = Follower(self, Reader(self.feed, after))
        if self._unlisten is None:
            self._unlisten = self.feed.listen(self._on_news)
        self._followers[follower] = Viewer(actor=actor, door=door, readonly=readonly, since=time.time())
        self._tell_soon()
        return follower

    def leave(self, follower: Follower) -> None:
        """`follower` is gone. Harmless when repeated."""
        if self._followers.pop(follower, None) is None:
            return
        self._tell_soon()
        if not self._followers and self._unlisten is not None:
            self._unlisten()
            self._unlisten = None

    async def news(self, follower: Follower) -> Batch:
        """What is new for `follower`, at the next moment at which all are served; empty when it is released first."""
        served: asyncio.Future[Batch] = asyncio.get_running_loop().create_future()
        self._waiting[follower] = served
        at, tip = follower.reader.cursor, self.feed.tip()
        if at != tip:  # something was said while it was busy
            self._serve_soon(has_event=at.events < tip.events)
        try:
            return await served
        finally:
            del self._waiting[follower]

    def release(self, follower: Follower) -> None:
        """Let `follower` wait no longer."""
        served = self._waiting.get(follower)
        if served is not None and not served.done():
            served.set_result(Batch([]))

    def _on_news(self) -> None:
        if self._waiting:
            self._serve_soon(has_event=len(self.feed.events) > self._num_events)

    def _serve_soon(self, *, has_event: bool) -> None:
        loop, count = asyncio.get_running_loop(), len(self._followers)
        due_s = self._served_s + max(FRAME_S, count / FRAMES_PER_S)
        if has_event:
            due_s = min(due_s, self._events_served_s + count / EVENT_FRAMES_PER_S)
        due_s = max(due_s, loop.time())
        if self._serving is not None:
            if self._serving.when() <= due_s:
                return
            self._serving.cancel()
        self._serving = loop.call_at(due_s, self._serve)

    def _serve(self) -> None:
        """Give everybody who waits what is new to it; those who are at the same place in the feed get the same batch."""
        self._serving = None
        self._served_s = asyncio.get_running_loop().time()
        if len(self.feed.events) > self._num_events:
            self._num_events, self._events_served_s = len(self.feed.events), self._served_s
        read: dict[Cursor, tuple[Batch, Reader]] = {}
        for follower, served in self._waiting.items():
            if served.done():
                continue
            at, reader = follower.reader.cursor, follower.reader
            if at in read:
                batch, other = read[at]
                reader.join(other)
            else:
                batch = Batch(reader.read(), is_shared=True)
                read[at] = batch, reader
            if batch.events:
                served.set_result(batch)

    def _tell_soon(self) -> None:
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(TELL_S, self._tell)

    def _tell(self) -> None:
        """Say who is here, if that has changed."""
        self._telling = None
        viewers = [asdict(viewer) for viewer in self._followers.values()]
        if viewers != list(self.feed.state.viewers):
            self.feed.publish(Viewers(time=time.time(), viewers=viewers))


class Follower:
    """A reader that waits: history, CaughtUp, then live batches. Made by `Audience.follow`; `close` it."""

    def __init__(self, audience: Audience, reader: Reader) -> None:
        self.reader = reader
        self._audience = audience
        self._is_finishing = False

    def finish(self) -> None:
        """End `batches` once everything said so far has been given."""
        self._is_finishing = True
        self._audience.release(self)

    def close(self) -> None:
        """Leave. Harmless when repeated."""
        self._audience.leave(self)

    async def batches(self) -> AsyncIterator[Batch]:
        """What there is to send; ends after `finish`."""
        is_live = False
        while True:
            is_last = self._is_finishing
            if self.reader.is_behind or is_last:
                batch = Batch(self.reader.read())
                await asyncio.sleep(0)  # a long history is many short turns of the loop
            else:
                batch = await self._audience.news(self)
            if not is_live and not self.reader.is_behind:
                is_live = True
                batch.events.append(CaughtUp())
            if batch.events:
                yield batch
            elif is_last and not self.reader.is_behind:
                return
