"""Too many, too slow and too silent clients of the metrics server, over real connections."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from array import array
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from plt_tui.protocol.events import Logs, Sample
from plt_tui.server import api
from plt_tui.server.columns import Columns
from plt_tui.server.connections import Connection
from plt_tui.server.door import HTTP_PLACES
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
    async with served(hub, idle_s=DEADLINE_S) as server, connected(server) as (reader, writer):
        timers = list[asyncio.TimerHandle]()
        for _ in range(3):
            writer.write(GET)
            assert await reader.readuntil(b"\r\n\r\n[]")
            (connection,) = server._places._inside
            timers.append(connection._timer)
        assert [timer.cancelled() for timer in timers] == [True, True, False]  # each request begins a time of its own
        connection._look()  # the last one is over
        assert await everything(reader) == b""


async def test_a_request_that_comes_when_the_time_is_over_is_answered(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the same turn of the loop, as after a hub that was stopped goes on."""
    received = Connection.data_received

    def late(connection: Connection, data: bytes) -> None:
        received(connection, data)
        connection._look()

    monkeypatch.setattr(Connection, "data_received", late)
    async with served(hub, idle_s=DEADLINE_S) as server, connected(server) as (reader, writer):
        writer.write(GET)
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n[]"), DEADLINE_S)


@pytest.fixture
def long_answer(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> int:
    """An answer that is larger than any is, and than what a connection holds on its way: its least size in bytes."""
    monkeypatch.setattr(api, "MAX_LIST_BYTES", 2**30)
    for step in range(300):
        hub.feed.publish(Sample(step=step, prompt="", text="x" * 100_000))
    return 30_000_000


async def test_an_answer_that_nobody_reads_is_given_up(hub: FakeHub, long_answer: int) -> None:
    """The connection is cut while most of the answer is still on its way."""
    size = long_answer
    async with served(hub) as server, connected(server, receive_bytes=4096) as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET)
        await until(lambda: server._places._inside)
        await until(lambda: not server._places._inside)  # cut: making the answer takes a while too
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await everything(reader)) < size


async def test_an_answer_that_is_read_slowly_comes_whole(hub: FakeHub, long_answer: int) -> None:
    """It takes many times the patience, but some of it is read in each."""
    size = long_answer
    num_looks = 0
    async with served(hub, idle_s=DEADLINE_S) as server, connected(server, receive_bytes=2**16) as (reader, writer):
        writer.write(GET)
        received = 0
        while received < size:
            piece = await asyncio.wait_for(reader.read(2**20), DEADLINE_S)
            assert piece, f"cut after {received} bytes"
            received += len(piece)
            (connection,) = server._places._inside
            unread_bytes = connection._wire.get_write_buffer_size()
            if connection._timer is not None and 0 < unread_bytes < connection._unread_bytes:
                connection._timer.cancel()
                connection._look()  # its time is over once more
                num_looks += 1
        assert num_looks > 5


async def test_large_answers_are_made_one_at_a_time_and_for_nobody_who_left(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request outlives its client, so neither its place nor its connection bounds what is copied for it."""
    may_end, taken, made = threading.Event(), list[int](), list[int]()

    def between(columns: Columns, first: float, last: float) -> dict[str, array[float]]:
        taken.append(len(taken) - len(made))
        return columns_between(columns, first, last)

    def bucketed(columns: Columns, points: int) -> dict[str, Any]:
        assert may_end.wait(DEADLINE_S)
        made.append(points)
        return {}

    columns_between = api.between
    monkeypatch.setattr(api, "between", between)
    monkeypatch.setattr(api, "bucketed", bucketed)
    async with served(hub, idle_s=DEADLINE_S) as server, aiohttp.ClientSession(server.url) as web, AsyncExitStack() as stack:
        first = asyncio.ensure_future(web.get("/api/v1/metrics"))
        await until(lambda: taken)
        for _ in range(8):
            async with connected(server) as (_, writer):
                writer.write(b"GET /api/v1/metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                await asyncio.sleep(0.02)
        others = [asyncio.ensure_future(web.get("/api/v1/metrics")) for _ in range(2)]
        assert await status_of(server) == 200  # what is small waits for none of them
        may_end.set()
        for asked in (first, *others):
            response = await stack.enter_async_context(await asked)
            assert await response.json() == {}
    assert taken == [0, 0, 0]


@pytest.mark.parametrize("path", ["logs?lines=20000", "samples?last=20000", "journal?last=20000"])
async def test_a_list_holds_its_newest_entries_up_to_a_size(hub: FakeHub, path: str) -> None:
    """However many and however long they are: a character outside of ASCII takes up to twelve bytes of an answer."""
    text = "é" * 8000
    for number in range(1000):
        hub.feed.publish(Sample(step=number, prompt="", text=text))
    hub.feed.publish(Logs(lines=[[float(number), "rank 0", "INFO", text] for number in range(1000)]))
    async with served(hub) as server, aiohttp.ClientSession(server.url) as web, web.get(f"/api/v1/{path}") as response:
        body = await response.read()
    told = [entry.get("step", entry["time"]) for entry in json.loads(body)]
    assert len(body) <= api.MAX_LIST_BYTES < len(body) + 50_000
    assert told == list(range(1000 - len(told), 1000))


async def test_a_crowd_that_asks_for_nothing_keeps_nobody_out(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of hundreds of silent connections a few are held; whoever asks is answered."""
    monkeypatch.setattr("plt_tui.server.connections.SILENT_S", 0.0)
    async with served(hub, idle_s=DEADLINE_S) as server, AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(connected(server)) for _ in range(CROWD)]
        assert await status_of(server) == 200
        await until(lambda: sum(reader.at_eof() for reader, _ in crowd) >= CROWD - HTTP_PLACES)


async def test_who_comes_to_a_full_server_is_told(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 in words while every place is in use, and an answer again when one is free."""
    monkeypatch.setattr("plt_tui.server.http.HTTP_PLACES", 1)
    async with served(hub) as server:
        async with viewer(server), aiohttp.ClientSession(server.url) as web, web.get("/api/v1/run") as response:
            assert response.status == 503
            assert "no room for more" in (await response.json())["error"]
        await until(lambda: not hub.feed._listeners)
        assert await status_of(server) == 200


@pytest.mark.usefixtures("long_answer")
async def test_closing_does_not_wait_for_those_who_wait(hub: FakeHub) -> None:
    """Silent connections, half requests and unread answers end with the server."""
    async with served(hub, idle_s=DEADLINE_S) as server, AsyncExitStack() as stack:
        for said in (b"", b"GET / HT", GET):
            _, writer = await stack.enter_async_context(connected(server, receive_bytes=4096))
            writer.write(said)
        await asyncio.sleep(0.05)
        await asyncio.wait_for(server.close(), DEADLINE_S / 2)


async def test_bad_utf8_in_a_frame_ends_that_stream_only(hub: FakeHub) -> None:
    """Close code 1007, as RFC 6455 wants it; another viewer goes on."""
    async with served(hub, idle_s=DEADLINE_S) as server, connected(server) as (reader, writer), viewer(server) as other:
        writer.write(
            b"GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x81\x82" + bytes(4) + b"\xff\xfe")  # a text frame of two bytes, masked with zeros
        assert struct.pack("!H", 1007) in await everything(reader)
        hub.begin()
        assert (await other.receive_json(timeout=DEADLINE_S))["kind"] == "run"


async def answers(server: HttpServer, seconds: float) -> int:
    """How many requests one client is answered that asks again at once, all the time."""
    loop, count = asyncio.get_running_loop(), 0
    give_up_at = loop.time() + seconds
    async with connected(server) as (reader, writer):
        while loop.time() < give_up_at:
            writer.write(GET)
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n[]"), DEADLINE_S)
            count += 1
    return count


async def test_a_rush_of_requests_is_taken_in_turns(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many at once as a page asks for; then those that have come meanwhile, of all clients together. Streams do not wait."""
    turn_s = 0.3
    monkeypatch.setattr("plt_tui.server.connections.TURN_S", turn_s)
    loop = asyncio.get_running_loop()
    async with served(hub, idle_s=DEADLINE_S) as server, viewer(server) as stream:
        started = loop.time()
        rush = [asyncio.ensure_future(answers(server, 2.5)) for _ in range(10)]
        await asyncio.sleep(0.5)
        hub.begin()
        asked_at = loop.time()
        assert (await stream.receive_json(timeout=DEADLINE_S))["kind"] == "run"
        assert loop.time() - asked_at < turn_s
        counts = await asyncio.gather(*rush)
        turns = 21 + (loop.time() - started) / turn_s
        assert 5 <= min(counts) <= max(counts) <= turns
        assert await status_of(server) == 200


async def test_requests_in_one_go_wait_for_their_turns_too(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not wait for its answers gets no more of them than one that does."""
    monkeypatch.setattr("plt_tui.server.connections.TURN_S", 0.1)
    monkeypatch.setattr("plt_tui.server.connections.RUSH_S", 0.5)
    loop = asyncio.get_running_loop()
    async with served(hub, idle_s=DEADLINE_S) as server, connected(server) as (reader, writer):
        writer.write(15 * GET)
        started = loop.time()
        for number in range(15):
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n[]"), DEADLINE_S)
            assert loop.time() - started > 0.1 * (number - 6)
        assert loop.time() - started < DEADLINE_S / 2


async def test_a_body_that_comes_in_a_rush_is_read(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes a moment after its request, and does not wait for a turn of its own."""
    monkeypatch.setattr("plt_tui.server.connections.TURN_S", 5.0)
    monkeypatch.setattr("plt_tui.server.connections.RUSH_S", 0.0)
    server = await serve_http(hub, "127.0.0.1:0", name="demo", token="secret", control=True)
    head = b"Host: 127.0.0.1\r\nAuthorization: Bearer secret\r\n"
    body = b'{"name":"pause"}'
    async with connected(server) as (reader, writer):
        writer.write(b"POST /api/v1/commands HTTP/1.1\r\n" + head)
        writer.write(b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
        await asyncio.sleep(0.05)
        writer.write(body)
        assert b" 200 " in await asyncio.wait_for(reader.readline(), 3.0)
    await server.close()
    assert [command.name for command in hub.commands] == ["pause"]
