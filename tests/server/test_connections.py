"""Too many, too slow and too silent clients of the metrics server, over real connections."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest

from plt_tui.protocol.events import Sample
from plt_tui.server.door import MAX_CLIENTS
from plt_tui.server.http import HttpServer, serve_http
from tests.server.hub_fakes import DEADLINE_S, FakeHub, until

IDLE_S = 0.2
CROWD = 400
"""Connections at once; with both ends in this process they stay below 1024 descriptors."""
GET = b"GET /api/v1/samples HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def served(hub: FakeHub, idle_s: float = IDLE_S) -> AsyncIterator[HttpServer]:
    """A server with little patience."""
    server = await serve_http(hub, "127.0.0.1:0", name="demo", idle_s=idle_s)
    try:
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def connected(server: HttpServer, receive_bytes: int = 0) -> AsyncIterator[Pair]:
    """A connection that has said nothing yet. `receive_bytes`: what its end holds unread, 0: what is usual."""
    host, port = server.url.removeprefix("http://").split(":")
    raw = socket.socket()
    if receive_bytes:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=raw)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


@asynccontextmanager
async def viewer(server: HttpServer) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A client of the stream that has caught up."""
    async with aiohttp.ClientSession(server.url) as web, web.ws_connect("/api/v1/stream") as stream:
        assert (await stream.receive_json(timeout=DEADLINE_S))["kind"] == "caught_up"
        yield stream


async def everything(reader: asyncio.StreamReader) -> bytes:
    """What the server sends until it ends the connection, in good order or not."""
    received = b""
    try:
        while piece := await asyncio.wait_for(reader.read(2**16), DEADLINE_S):
            received += piece
    except ConnectionError:
        pass
    return received


async def ended_after(reader: asyncio.StreamReader) -> float:
    """Seconds until the server has ended the connection."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    await everything(reader)
    return loop.time() - started


async def status_of(server: HttpServer, path: str = "/api/v1/run") -> int:
    """What a client with a new connection is answered."""
    async with aiohttp.ClientSession(server.url) as web, web.get(path) as response:
        return response.status


async def test_a_request_that_comes_byte_by_byte_is_not_waited_for(hub: FakeHub) -> None:
    """Time runs from the beginning of the connection, whatever trickles in."""
    async with served(hub) as server, connected(server) as (reader, writer):

        async def trickle() -> None:
            for byte in b"GET / HTTP/1.1\r\nX-Slow: " + b"x" * 10_000:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.01)

        trickling = asyncio.ensure_future(trickle())
        assert IDLE_S / 2 < await ended_after(reader) < DEADLINE_S / 2
        trickling.cancel()


@pytest.mark.parametrize(
    "said", [b"", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999\r\n\r\nx"], ids=["all", "body"]
)
async def test_what_never_comes_is_not_waited_for(hub: FakeHub, said: bytes) -> None:
    """Neither a request nor the body that one has promised."""
    async with served(hub) as server, connected(server) as (reader, writer):
        writer.write(said)
        assert await ended_after(reader) < DEADLINE_S / 2


async def test_a_connection_that_asks_now_and_then_is_kept(hub: FakeHub) -> None:
    """A dashboard need not connect anew each time."""
    async with served(hub, idle_s=0.5) as server, connected(server) as (reader, writer):
        for _ in range(6):
            writer.write(GET)
            assert await reader.readuntil(b"\r\n\r\n[]")
            await asyncio.sleep(0.15)
        assert await ended_after(reader) > 0.1


def long_answer(hub: FakeHub) -> int:
    """Let an answer be larger than what a connection holds on its way; returns its least size in bytes."""
    for step in range(300):
        hub.feed.publish(Sample(step=step, prompt="", text="x" * 100_000))
    return 30_000_000


async def test_an_answer_that_nobody_reads_is_given_up(hub: FakeHub) -> None:
    """The connection is cut while most of the answer is still on its way."""
    size = long_answer(hub)
    async with served(hub) as server, connected(server, receive_bytes=4096) as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET)
        await asyncio.sleep(4 * IDLE_S)
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await everything(reader)) < size


async def test_an_answer_that_is_read_slowly_comes_whole(hub: FakeHub) -> None:
    """It takes many times the patience, but some of it is read in each."""
    size = long_answer(hub)
    loop = asyncio.get_running_loop()
    async with served(hub, idle_s=0.1) as server, connected(server, receive_bytes=2**16) as (reader, writer):
        writer.write(GET)
        received, started = 0, loop.time()
        while received < size:
            received += len(await asyncio.wait_for(reader.read(2**20), DEADLINE_S))
            if loop.time() - started < 0.5:
                await asyncio.sleep(0.01)
        assert loop.time() - started > 0.5


async def test_a_crowd_that_asks_for_nothing_keeps_nobody_out(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of hundreds of silent connections a few are held; whoever asks is answered."""
    monkeypatch.setattr("plt_tui.server.connections.SILENT_S", 0.0)
    async with served(hub, idle_s=DEADLINE_S) as server, AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(connected(server)) for _ in range(CROWD)]
        assert await status_of(server) == 200
        await until(lambda: sum(reader.at_eof() for reader, _ in crowd) >= CROWD - MAX_CLIENTS)


async def test_who_comes_to_a_full_server_is_told(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 in words while every place is in use, and an answer again when one is free."""
    monkeypatch.setattr("plt_tui.server.door.MAX_CLIENTS", 1)
    async with served(hub) as server:
        async with viewer(server), aiohttp.ClientSession(server.url) as web, web.get("/api/v1/run") as response:
            assert response.status == 503
            assert "no room for more" in (await response.json())["error"]
        await until(lambda: not hub.feed._listeners)
        assert await status_of(server) == 200


async def test_closing_does_not_wait_for_those_who_wait(hub: FakeHub) -> None:
    """Silent connections, half requests and unread answers end with the server."""
    long_answer(hub)
    async with served(hub, idle_s=DEADLINE_S) as server, AsyncExitStack() as stack:
        for said in (b"", b"GET / HT", GET):
            _, writer = await stack.enter_async_context(connected(server, receive_bytes=4096))
            writer.write(said)
        await asyncio.sleep(0.05)
        await asyncio.wait_for(server.close(), DEADLINE_S / 2)


async def test_bad_utf8_in_a_frame_ends_that_stream_only(hub: FakeHub) -> None:
    """Close code 1007, as RFC 6455 wants it; another viewer goes on."""
    async with served(hub) as server, connected(server) as (reader, writer), viewer(server) as other:
        writer.write(
            b"GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x81\x82" + bytes(4) + b"\xff\xfe")  # a text frame of two bytes, masked with zeros
        assert struct.pack("!H", 1007) in await everything(reader)
        hub.begin()
        assert (await other.receive_json(timeout=DEADLINE_S))["kind"] == "run"
