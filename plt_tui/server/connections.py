"""The connections of the metrics server: how many there may be, and for how long one may keep the hub waiting.

aiohttp has no limit on connections, and no time-out for a request that comes byte by byte or an answer that nobody reads. Knows
no route. Invariant: a connection on which no request is being worked on is cut after IDLE_S, or after twice that time when an
answer is on its way, unless its client goes on reading it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web
from aiohttp.typedefs import Handler

from plt_tui.server.door import FULL, SILENT_S, Places
from plt_tui.server.guard import error_response

IDLE_S = 20.0
"""A dashboard that asks more often than this keeps its connection."""


class Connection(web.RequestHandler):
    """aiohttp's connection, with a place at the door and a limit on waiting."""

    __slots__ = ("_idle_s", "_places", "_timer", "_unread_bytes", "_wire", "has_place", "patience_ends")

    def __init__(self, server: web.Server, places: Places, idle_s: float) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), access_log=None, lingering_time=SILENT_S)  # type: ignore[arg-type]  # None is what `AppRunner` hands on too
        self.has_place = False
        self.patience_ends = math.inf
        self._places = places
        self._idle_s = idle_s
        self._timer: asyncio.TimerHandle | None = None
        self._unread_bytes = math.inf
        self._wire: asyncio.Transport | None = None  # aiohttp forgets its own while the last answer is still on its way

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place, and begin to wait for a request."""
        super().connection_made(transport)
        self._wire = self.transport
        self.has_place = self._places.take(self, self._loop.time())
        self._wait()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Leave the place."""
        self._wire = None
        self._attend()
        self._places.leave(self)
        super().connection_lost(exc)

    @contextmanager
    def attended(self) -> Iterator[None]:
        """While the body works on a request, nobody waits for the client."""
        self._attend()
        try:
            yield
        finally:
            self._wait()

    def drop(self) -> None:
        """Cut the connection."""
        if self._wire is not None:
            self._wire.abort()

    def _attend(self) -> None:
        self.patience_ends = math.inf
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        if self._wire is not None:
            self._unread_bytes = math.inf
            self.patience_ends = self._loop.time() + SILENT_S
            self._timer = self._loop.call_later(self._idle_s, self._look)

    def _look(self) -> None:
        """The client has had its time: it gets more of it only for an answer that it has begun to read."""
        unread_bytes = self._wire.get_write_buffer_size() if self._wire is not None else 0
        if 0 < unread_bytes < self._unread_bytes:
            self._unread_bytes = unread_bytes
            self._timer = self._loop.call_later(self._idle_s, self._look)
        else:
            self.drop()


@web.middleware
async def attend(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost middleware: stop the clock while a request is worked on; who has no place is told so."""
    connection = request.protocol
    assert isinstance(connection, Connection)
    with connection.attended():
        if connection.has_place:
            return await handler(request)
        response = error_response(503, FULL)
        response.force_close()
        return response
