"""The WebSocket stream: the socket's events, and no client that can disturb another."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any

import aiohttp
import pytest

from plt_tui.protocol.events import End, Eval, Gauges, Logs, Spike, Steps
from plt_tui.protocol.framing import decode
from plt_tui.server.audience import Audience
from plt_tui.server.http import HttpServer, serve_http
from tests.control.said import rewind
from tests.server.hub_fakes import DEADLINE_S, FakeHub, until

ROWS = 200_000
STREAM = "/api/v1/stream"


@asynccontextmanager
async def served(hub: FakeHub, stall_s: float = DEADLINE_S, audience: Audience | None = None) -> AsyncIterator[HttpServer]:
    """A server for `hub`."""
    server = await serve_http(hub, "127.0.0.1:0", name="demo", stall_s=stall_s, audience=audience)
    try:
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def stream(server: HttpServer, query: str = "") -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A viewer."""
    async with aiohttp.ClientSession(server.url) as web, web.ws_connect(STREAM + query, max_msg_size=2**24) as connection:
        yield connection


@contextmanager
def deaf(server: HttpServer) -> Iterator[socket.socket]:
    """A client that asks for the stream and never reads."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(
            f"GET {STREAM} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        yield raw


async def hear(connection: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    """The next message."""
    message: dict[str, Any] = json.loads(await connection.receive_str(timeout=DEADLINE_S))
    return message


async def test_the_stream_is_that_of_the_socket(hub: FakeHub) -> None:
    """History, caught_up, live, one JSON object a message, NaN as text."""
    hub.begin()
    hub.train(1, 3)
    async with served(hub) as server, stream(server) as connection:
        assert [(await hear(connection))["kind"] for _ in range(3)] == ["run", "steps", "caught_up"]
        hub.feed.publish(Eval(step=3, loss=float("nan"), perplexity=1.0, bits_per_byte=1.0, accuracy=0.5))
        assert (await hear(connection))["loss"] == "nan"


async def test_a_rewind_is_streamed_with_what_it_left(hub: FakeHub) -> None:
    """The guard's finding, the branch, the rewind; the rows of the line that still hold do not come again."""
    hub.begin()
    hub.train(1, 3)
    async with served(hub) as server, stream(server) as connection:
        for _ in range(3):
            await hear(connection)
        hub.feed.publish(Spike(step=3, what="grad_norm", value=9.0, z=7.0, act="rewind"))
        said = await hear(connection)
        assert (said["kind"], said["what"], said["act"]) == ("spike", "grad_norm", "rewind")
        hub.feed.publish(rewind(1, 3))
        left, command = [await hear(connection) for _ in range(2)]
        assert (left["kind"], left["count"], left["branch"]) == ("steps", 2, 1)
        assert (command["kind"], command["step"], command["before"]) == ("command", 1, 3)


async def test_what_a_client_says_is_ignored(hub: FakeHub) -> None:
    """Commands, junk and pings change nothing; the stream goes on."""
    async with served(hub) as server, stream(server) as connection:
        assert (await hear(connection))["kind"] == "caught_up"
        await connection.send_str('{"op":"command","command":{"id":"1","name":"stop","args":{}}}')
        await connection.send_bytes(b"\xff" * 100)
        await connection.ping()
        hub.begin()
        assert (await hear(connection))["kind"] == "run"
    assert hub.commands == []


async def test_pings_are_answered_at_the_door_s_pace(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is, but a flood of them is not worth a core: others hear the hub as soon as ever."""
    monkeypatch.setattr("plt_tui.server.websocket.PACE_S", 0.005)
    loop = asyncio.get_running_loop()
    async with served(hub) as server, aiohttp.ClientSession(server.url) as web, stream(server) as other:
        await hear(other)
        async with web.ws_connect(STREAM, autoping=False) as connection:
            await hear(connection)
            started = loop.time()
            for number in range(100):
                await connection.ping(b"%d" % number)
            hub.begin()
            assert (await hear(other))["kind"] == "run"
            assert loop.time() - started < 0.3
            said = [await connection.receive(timeout=DEADLINE_S) for _ in range(101)]
            pongs = [message.data for message in said if message.type is aiohttp.WSMsgType.PONG]
            assert [bytes(data) for data in pongs] == [b"%d" % number for number in range(100)]
            assert loop.time() - started > 99 * 0.005


@pytest.mark.parametrize("size", [64 * 1024 + 1, 16 * 1024 * 1024])
async def test_a_huge_message_ends_that_connection_only(hub: FakeHub, size: int) -> None:
    """A frame beyond 64 KiB is refused with code 1009; another viewer goes on."""
    async with served(hub) as server, stream(server) as other, stream(server) as connection:
        await hear(other)
        await hear(connection)
        try:
            await connection.send_bytes(b"x" * size)
        except ConnectionError:
            pass  # the server may close before all of it is out
        else:
            assert (await connection.receive(timeout=DEADLINE_S)).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
            assert connection.close_code in (aiohttp.WSCloseCode.MESSAGE_TOO_BIG, aiohttp.WSCloseCode.ABNORMAL_CLOSURE)
        hub.begin()
        assert (await hear(other))["kind"] == "run"


async def test_a_client_that_never_reads_disturbs_nobody(hub: FakeHub) -> None:
    """With a long history unread by one client, another gets all of it, and live events after it."""
    hub.fill(ROWS)
    audience = Audience(hub.feed)
    async with served(hub, audience=audience) as server:
        with deaf(server):
            await until(lambda: audience.size)
            async with stream(server) as connection:
                rows = 0
                while (message := await hear(connection))["kind"] != "caught_up":
                    rows += message["count"]
                assert rows == ROWS
                hub.begin(start_step=ROWS)
                assert (await hear(connection))["kind"] == "run"
                assert audience.size == 2


async def test_a_client_that_never_reads_is_dropped(hub: FakeHub) -> None:
    """After the stall deadline its connection is cut and forgotten."""
    hub.fill(ROWS)
    async with served(hub, stall_s=0.1) as server:
        with deaf(server):
            await until(lambda: hub.feed._listeners)
            await until(lambda: not hub.feed._listeners)


async def test_a_client_that_leaves_is_forgotten(hub: FakeHub) -> None:
    """Closing properly or just vanishing ends the stream at once."""
    async with served(hub) as server:
        async with stream(server) as connection:
            await hear(connection)
        await until(lambda: not hub.feed._listeners)
        with deaf(server):
            await until(lambda: hub.feed._listeners)
        await until(lambda: not hub.feed._listeners)


async def test_the_last_word_is_heard_before_the_server_closes(hub: FakeHub) -> None:
    """A viewer gets what was published right before `close`, then a proper goodbye."""
    async with served(hub) as server, stream(server) as connection:
        await hear(connection)
        hub.feed.publish(End(phase="finished", step=0, exit_code=0))
        closing = asyncio.create_task(server.close())
        assert (await hear(connection))["kind"] == "end"
        assert (await connection.receive(timeout=DEADLINE_S)).type is aiohttp.WSMsgType.CLOSE
        await closing


async def test_closing_does_not_wait_for_a_client_that_never_reads(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server cuts off who has not read the last words in time."""
    monkeypatch.setattr("plt_tui.server.http.GOODBYE_S", 0.05)
    hub.fill(ROWS)
    async with served(hub) as server:
        with deaf(server):
            await until(lambda: hub.feed._listeners)
            await asyncio.wait_for(server.close(), DEADLINE_S)
            assert hub.feed._listeners == []


async def test_a_viewer_that_comes_again_gets_what_it_has_missed(hub: FakeHub) -> None:
    """Behind the greatest number that it was given, each thing once, then caught_up; what is of the moment in any case."""
    hub.begin()
    hub.train(1, 2)
    gauges = Gauges(cores=[1.0], memory_used_bytes=0, memory_total_bytes=0, gpus=[])
    for event in (gauges, Logs(lines=[[0.0, "hub", "INFO", "before"]])):
        hub.feed.publish(event)
    async with served(hub) as server:
        async with stream(server) as connection:
            said = [await hear(connection) for _ in range(5)]
            assert [message["kind"] for message in said] == ["logs", "run", "steps", "gauges", "caught_up"]
        after = max(message["seq"] for message in said)
        hub.train(3, 4)
        hub.feed.publish(rewind(3, 4))
        hub.feed.publish(Logs(lines=[[0.0, "hub", "INFO", "since"]]))
        async with stream(server, f"?after={after}") as connection:
            news = [await hear(connection) for _ in range(6)]
            assert [(message["kind"], message["seq"]) for message in news] == [
                ("logs", 0),
                ("steps", 4),
                ("steps", 0),
                ("command", 6),
                ("gauges", 0),
                ("caught_up", 0),
            ]
            assert [line[3] for line in news[0]["lines"]] == ["before", "since"]  # which may come twice, and is not missed
            hub.begin()
            assert (await hear(connection))["kind"] == "run"


@pytest.mark.parametrize("after", ["2", "-1", "x", "1.0", "", "9" * 30])
async def test_nobody_goes_on_behind_what_is_not_there(hub: FakeHub, after: str) -> None:
    """400 in words, before any WebSocket is open: beyond the record, or no number."""
    hub.begin()
    async with served(hub) as server, aiohttp.ClientSession(server.url) as web:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await web.ws_connect(f"{STREAM}?after={after}")
        assert refused.value.status == 400
        async with web.get(f"{STREAM}?after={after}") as response:
            assert response.status == 400
            assert (await response.json())["error"].startswith("after=")
    assert hub.feed._listeners == []


async def listen(connection: aiohttp.ClientWebSocketResponse) -> list[str]:
    """All messages until the server says goodbye."""
    return [message.data async for message in connection if message.type is aiohttp.WSMsgType.TEXT]


async def test_a_hundred_viewers_hear_everything_once_and_in_order(hub: FakeHub) -> None:
    """Beside one that never reads, which is dropped meanwhile; and one that comes late gets it all too."""
    audience, count = Audience(hub.feed), 100
    async with served(hub, stall_s=2.0, audience=audience) as server, AsyncExitStack() as stack:
        web = await stack.enter_async_context(aiohttp.ClientSession(server.url, connector=aiohttp.TCPConnector(limit=0)))
        connections = [await stack.enter_async_context(web.ws_connect(STREAM)) for _ in range(count)]
        hearing = [asyncio.ensure_future(listen(connection)) for connection in connections]
        with deaf(server):
            await until(lambda: audience.size == count + 1)
            step, loop = 0, asyncio.get_running_loop()
            give_up_at = loop.time() + 2 * DEADLINE_S
            while audience.size > count:
                assert loop.time() < give_up_at, "who never reads is not dropped"
                step += 1
                hub.train(step, step)
                if step % 10 == 0:
                    hub.feed.publish(Eval(step=step, loss=2.0, perplexity=7.0, bits_per_byte=3.0, accuracy=0.4))
                await asyncio.sleep(0.02)
        assert step >= 10
        late = await stack.enter_async_context(web.ws_connect(STREAM))
        hearing.append(asyncio.ensure_future(listen(late)))
        await until(lambda: audience.size == count + 1)
        hub.feed.publish(End(phase="finished", step=step, exit_code=0))
        await server.close()
        for messages in await asyncio.gather(*hearing):
            events = [event for event in map(decode, messages) if event.seq]
            steps = [number for event in events if isinstance(event, Steps) for number in event.column("step")]
            assert steps == list(range(1, step + 1))
            assert [event.seq for event in events] == sorted({event.seq for event in events})
            assert [event for event in events if not isinstance(event, Steps)] == hub.feed.events


async def test_who_says_nothing_any_more_is_dropped_also_from_a_quiet_run(hub: FakeHub) -> None:
    """Whatever the system could hold for it: it is asked for a word and does not answer, as a laptop that was shut."""
    audience = Audience(hub.feed)
    async with served(hub, stall_s=0.3, audience=audience) as server, stream(server) as other:
        answering = asyncio.ensure_future(listen(other))
        with deaf(server):
            await until(lambda: audience.size == 2)
            await until(lambda: audience.size == 1)
        hub.begin()
        await server.close()
        assert [decode(message).kind for message in await answering] == ["caught_up", "run"]


async def test_a_slow_viewer_that_reads_is_not_dropped(hub: FakeHub) -> None:
    """It answers late, for what it has not read yet stands before the question; but it reads."""
    hub.fill(ROWS)
    stall_s = 1.0
    for _ in range(5):
        if await longest_pause_s(hub, stall_s) < stall_s / 2:
            return
    pytest.fail("this process never had a core for long enough")


async def longest_pause_s(hub: FakeHub, stall_s: float) -> float:
    """Read slowly for much longer than `stall_s`; the longest time in which nothing was read, as this process had no core.

    After a pause of `stall_s` or so the client may be dropped, and else it may not.
    """
    audience = Audience(hub.feed)
    async with served(hub, stall_s=stall_s, audience=audience) as server:
        with deaf(server) as raw:
            raw.setblocking(False)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 * 1024)
            loop = asyncio.get_running_loop()
            started = read_at = loop.time()
            longest_s = 0.0
            while loop.time() < started + 2.5 * stall_s:
                has_read = False
                with suppress(ConnectionError):
                    has_read = bool(await asyncio.wait_for(loop.sock_recv(raw, 128 * 1024), DEADLINE_S))
                longest_s, read_at = max(longest_s, loop.time() - read_at), loop.time()
                assert has_read or longest_s > stall_s / 2, "it was dropped"
                if not has_read:
                    break
                await asyncio.sleep(0.02)
    return longest_s
