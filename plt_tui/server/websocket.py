"""`/api/v1/stream`: the events of the Unix socket as WebSocket text messages, read-only.

What a client sends is taken at the door's pace and ignored, apart from pings and its goodbye; a message longer than 64 KiB ends
the connection. Invariant: a client that does not read holds one batch of the feed and disturbs nobody, until it is dropped.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import WSMsgType, web

from plt_tui.control.feed import Feed
from plt_tui.protocol.framing import encode
from plt_tui.protocol.hello import MAX_MESSAGE_BYTES
from plt_tui.server.door import GOODBYE_S, PACE_S, dropped_after, first_of
from plt_tui.server.stream import Follower


class Streams:
    """The WebSocket route and its open connections."""

    def __init__(self, feed: Feed, stall_s: float) -> None:
        self._feed = feed
        self._stall_s = stall_s
        self._followers: set[Follower] = set()

    async def stream(self, request: web.Request) -> web.WebSocketResponse:
        """Live events over a WebSocket: history, caught_up, then what is live."""
        connection = web.WebSocketResponse(max_msg_size=MAX_MESSAGE_BYTES, compress=False, timeout=GOODBYE_S, autoping=False)
        await connection.prepare(request)
        follower = Follower(self._feed)
        self._followers.add(follower)
        try:
            with suppress(ConnectionError):  # it left, or was dropped
                await first_of(self._send(request, connection, follower), _ignore_messages(connection))
                with dropped_after(_transport(request), self._stall_s):
                    await connection.close()
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

    async def _send(self, request: web.Request, connection: web.WebSocketResponse, follower: Follower) -> None:
        async for batch in follower.frames():
            for event in batch:
                with dropped_after(_transport(request), self._stall_s):
                    await connection.send_str(encode(event).decode())


async def _ignore_messages(connection: web.WebSocketResponse) -> None:
    async for message in connection:
        if message.type is WSMsgType.PING:  # not by aiohttp, which would answer a flood of them without a break
            await connection.pong(message.data)
        await asyncio.sleep(PACE_S)


def _transport(request: web.Request) -> asyncio.Transport:
    """The connection under a request. Raises: ConnectionResetError when it is gone."""
    if request.transport is None:
        raise ConnectionResetError("the client left")
    return request.transport
