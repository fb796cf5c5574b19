"""The connections of the HTTP server: how many there may be, how long one may keep the hub waiting, how fast all are served.

aiohttp has no limit on connections, and no time-out for a request that comes byte by byte or an answer that nobody reads. Knows
no route. Invariant: a connection on which no request is being worked on is cut after IDLE_S, or after twice that time when an
answer is on its way, unless its client goes on reading it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.typedefs import Handler

from plt_tui.server.door import SILENT_S, Pace, Places
from plt_tui.server.guard import HEADERS, error_response

IDLE_S = 20.0
"""A dashboard that asks more often than this keeps its connection."""

TURN_S, RUSH_S = 0.1, 2.0
"""When more than 20 requests come in a rush, those of each tenth of a second are taken together. The hub that is woken for one
request needs 0.7 ms of a core that trains, for each further one a fifth of that: fifty requests a second cost half."""


class Gate:
    """When requests are taken: at once while there are few, then in turns, those that came meanwhile together."""

    def __init__(self) -> None:
        self._pace = Pace(TURN_S, RUSH_S)
        self._waiting: set[Connection] = set()
        """Connections that wait for a request."""
        self._opened = asyncio.Event()
        self._opened.set()
        self._is_turn = False

    def wait(self, connection: Connection) -> None:
        """`connection` waits for a request from now on."""
        self._waiting.add(connection)
        connection.listen(is_open=self._opened.is_set())

    def leave(self, connection: Connection) -> None:
        """It waits no longer: a request has come, whose body may still be on its way, or it is gone."""
        self._waiting.discard(connection)
        connection.listen(is_open=True)

    async def pass_through(self) -> None:
        """Return when it is the turn of a request that has come; those that come with it are one turn.

        It may have been read before the gate was closed, behind another one of its connection.
        """
        while not self._opened.is_set():
            await self._opened.wait()
        if not self._is_turn:
            self._is_turn = True
            asyncio.get_running_loop().call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._is_turn = False
        loop = asyncio.get_running_loop()
        wait_s = self._pace.wait_s(loop.time())
        if wait_s and self._opened.is_set():
            loop.call_later(wait_s, self._open)
            self._opened.clear()
            self._tell()

    def _open(self) -> None:
        self._opened.set()
        self._tell()

    def _tell(self) -> None:
        for connection in self._waiting:
            connection.listen(is_open=self._opened.is_set())


class Connection(web.RequestHandler):
    """aiohttp's connection, with a place at the door and a limit on waiting.

    gate: of all connections of a server; left out: one of its own.
    """

    __slots__ = ("_gate", "_idle_s", "_places", "_timer", "_unread_bytes", "_wire", "has_place", "patience_ends")

    def __init__(self, server: web.Server, places: Places, idle_s: float, gate: Gate | None = None) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # None is what `AppRunner` hands on too
            lingering_time=SILENT_S,
            auto_decompress=False,  # a few bytes of a body could become gigabytes
        )
        self.has_place = False
        self.patience_ends = math.inf
        self._places = places
        self._idle_s = idle_s
        self._gate = gate or Gate()
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

    @asynccontextmanager
    async def attended(self) -> AsyncIterator[None]:
        """Until the body, which begins when it is the request's turn, has worked on it nobody waits for the client."""
        self._attend()
        try:
            await self._gate.pass_through()
            yield
        finally:
            self._wait()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to what is no request, and to a mistake of ours.

        What a client sent, a token in a broken header perhaps, goes neither into the log nor back: aiohttp would do both.
        """
        if request.writer.output_size > 0:
            raise ConnectionError("a part of another answer is on its way")
        reason = "this is no HTTP request"
        if status >= 500:
            self.log_exception("a request could not be answered", exc_info=exc)
            reason = "the hub made a mistake; its log says more"
        response = error_response(status, reason, HEADERS)
        response.force_close()
        return response

    @property
    def refusal(self) -> str:
        """What a client is told that has no place."""
        return self._places.full

    async def send(self, data: bytes) -> bool:
        """Write to the client and wait until it has read enough; True when there was need to wait: then it does read.

        For streams, once aiohttp has sent its headers. Raises: ConnectionResetError when the client is gone.
        """
        if self._wire is None or self._wire.is_closing():
            raise ConnectionResetError("the client left")
        self._wire.write(data)
        has_to_wait = self._wire.get_write_buffer_size() > self._wire.get_write_buffer_limits()[1]
        await self._drain_helper()
        return has_to_wait

    def listen(self, *, is_open: bool) -> None:
        """Read what the client sends, or leave it to the system for now."""
        if self._wire is None or self._wire.is_closing():
            return
        if not is_open:
            self._wire.pause_reading()
        elif not (self._reading_paused or getattr(self, "_buffer_paused", False)):  # aiohttp's own reasons to wait
            self._wire.resume_reading()

    def drop(self) -> None:
        """Cut the connection."""
        if self._wire is not None:
            self._wire.abort()

    def _attend(self) -> None:
        self.patience_ends = math.inf
        self._gate.leave(self)
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        if self._wire is not None:
            self._gate.wait(self)
            self._unread_bytes = math.inf
            self.patience_ends = self._loop.time() + SILENT_S
            self._timer = self._loop.call_later(self._idle_s, self._look)

    def _look(self) -> None:
        """The client has had its time: it gets more of it only for an answer that it has begun to read.

        Or for a request that has just come whole, and will be taken up in a moment.
        """
        unread_bytes = self._wire.get_write_buffer_size() if self._wire is not None else 0
        has_asked = bool(self._messages)  # in this turn of the loop, after a hub that was stopped goes on perhaps
        if has_asked or 0 < unread_bytes < self._unread_bytes:
            self._unread_bytes = unread_bytes
            self._timer = self._loop.call_later(self._idle_s, self._look)
        else:
            self.drop()


@web.middleware
async def attend(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The outermost middleware: stop the clock while a request is worked on; who has no place is told so."""
    connection = request.protocol
    assert isinstance(connection, Connection)
    async with connection.attended():
        if connection.has_place:
            return await handler(request)
        response = error_response(503, connection.refusal)
        response.force_close()
        return response
