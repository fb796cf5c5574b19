"""`/api/v1/stream`: the events of the Unix socket as WebSocket text messages, read-only.

What a client sends is taken at the door's pace and ignored, apart from pings, answers to ours and its goodbye; a message longer
than 64 KiB ends the connection. Invariant: a client that does not read holds one batch of the feed and disturbs nobody, until
it is dropped; and it is, though the system may hold hours of a quiet run for it: it answers no ping either.
"""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress

from aiohttp import WSMsgType, web

from plt_tui.protocol.hello import MAX_MESSAGE_BYTES
from plt_tui.server.api import number
from plt_tui.server.audience import Audience, Follower
from plt_tui.server.commands import actor_of
from plt_tui.server.connections import Connection
from plt_tui.server.door import GOODBYE_S, PACE_S, dropped_after, first_of
from plt_tui.server.routes import AFTER
from plt_tui.server.token import STREAM_PROTOCOL

SILENT_PARTS = 3
"""A silent client is asked for a word after each of so many parts of the time in which it must have said one."""
_ENDS = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)


class Streams:
    """The WebSocket route and its open connections. `readonly`: who follows the run here can send it no command."""

    def __init__(self, audience: Audience, stall_s: float, *, readonly: bool) -> None:
        self._audience = audience
        self._stall_s = stall_s
        self._readonly = readonly
        self._followers: set[Follower] = set()

    async def stream(self, request: web.Request) -> web.WebSocketResponse:
        """Live events over a WebSocket: history or what of it is new to the client, caught_up, then what is live."""
        after, last = number(request, AFTER), self._audience.feed.last_seq
        if after > last:
            raise web.HTTPBadRequest(text=f"after={after}: the record of this run ends with number {last}; begin without it")
        connection = web.WebSocketResponse(
            protocols=picked_protocols(request.headers.get("Sec-WebSocket-Protocol")),
            max_msg_size=MAX_MESSAGE_BYTES,
            compress=False,
            timeout=GOODBYE_S,
            autoping=False,
        )
        await connection.prepare(request)
        actor = actor_of(request.headers.get("X-Actor", ""))
        follower = self._audience.follow(actor, "http", readonly=self._readonly, after=after)
        self._followers.add(follower)
        try:
            with suppress(ConnectionError):  # it left, or was dropped
                await _Stream(request, connection, self._stall_s).serve(follower)
        except asyncio.CancelledError:
            _transport(request).abort()  # the server closes; a plain close would wait for a client that does not read
            raise
        finally:
            self._followers.discard(follower)
            follower.close()
        return connection

    async def finish(self, _: web.Application) -> None:
        """Let the connections end once what was said last is out; for the application's shutdown."""
        for follower in self._followers:
            follower.finish()


class _Stream:
    """One connection whose WebSocket is open."""

    def __init__(self, request: web.Request, connection: web.WebSocketResponse, stall_s: float) -> None:
        self._request = request
        self._connection = connection
        self._stall_s = stall_s
        self._num_unanswered = 0
        """Pings since the client was last heard of."""

    async def serve(self, follower: Follower) -> None:
        """Send batches until either side ends it. Raises: ConnectionError when the client is gone or was dropped."""
        await first_of(self._send(follower), self._listen())
        with dropped_after(_transport(self._request), self._stall_s):
            await self._connection.close()

    async def _send(self, follower: Follower) -> None:
        wire = self._request.protocol
        assert isinstance(wire, Connection)
        async for batch in follower.batches():
            for piece in batch.pieces(as_message):
                with dropped_after(_transport(self._request), self._stall_s):
                    if await wire.send(piece):
                        self._num_unanswered = 0

    async def _listen(self) -> None:
        """Answer pings, ignore what else the client says, and drop it when it says nothing. Ends with the connection."""
        while True:
            try:
                message = await self._connection.receive(timeout=self._stall_s / SILENT_PARTS)
            except asyncio.TimeoutError:
                self._num_unanswered += 1
                if self._num_unanswered == SILENT_PARTS:
                    _transport(self._request).abort()
                await self._connection.ping()
                continue
            self._num_unanswered = 0
            if message.type in _ENDS:
                return
            if message.type is WSMsgType.PING:  # not by aiohttp, which would answer a flood of them without a break
                await self._connection.pong(message.data)
            await asyncio.sleep(PACE_S)


def as_message(event: bytes) -> bytes:
    """An encoded event as a whole text message from a server: one frame, not masked (RFC 6455, section 5.2)."""
    size = len(event)
    if size < 126:
        return struct.pack("!BB", 0x81, size) + event
    if size < 2**16:
        return struct.pack("!BBH", 0x81, 126, size) + event
    return struct.pack("!BBQ", 0x81, 127, size) + event


def picked_protocols(offered: str | None) -> tuple[str, ...]:
    """The subprotocol that the server picks of those that a client offers in a header, if it offers any.

    Raises: HTTPBadRequest when it is not among them. aiohttp would write all of them into the log, a token with them.
    """
    if offered is None:
        return ()
    if STREAM_PROTOCOL not in (word.strip() for word in offered.split(",")):
        raise web.HTTPBadRequest(text=f"offer the subprotocol {STREAM_PROTOCOL} beside the token")
    return (STREAM_PROTOCOL,)


def _transport(request: web.Request) -> asyncio.Transport:
    """The connection under a request. Raises: ConnectionResetError when it is gone."""
    if request.transport is None:
        raise ConnectionResetError("the client left")
    return request.transport
