"""What an attacker sends to the HTTP server, by threat: each is refused, and who behaves is answered as before.

The table of docs/SECURITY.md names these tests.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import pytest

from plt_tui.server.http import HttpServer, serve_http
from tests.server.hub_fakes import DEADLINE_S, FakeHub
from tests.server.locked import COMMANDS, RIGHT, TOKEN, client, locked, post, raw

STREAM_HEAD = (
    "GET /api/v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
JSON_POST = f"POST {COMMANDS} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
AUTHORIZED = f"Authorization: Bearer {TOKEN}\r\n"
STOP = b'{"name":"stop","args":{"now":true}}'


@pytest.fixture
async def server(hub: FakeHub) -> AsyncIterator[HttpServer]:
    """A server that takes commands; afterwards it answers as ever, and no command has come through."""
    async with locked(hub) as server:
        yield server
        assert hub.commands == []
        async with client(server) as web:
            assert (await post(web, {"name": "pause"}))[0] == 200


def status_of(answer: bytes) -> int:
    """The status of a raw answer; 0: the connection ended without one."""
    return int(answer.split()[1]) if answer else 0


def command_from(*headers: str) -> bytes:
    """A stop with these headers."""
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"POST {COMMANDS} HTTP/1.1\r\n{lines}Content-Length: {len(STOP)}\r\n\r\n".encode() + STOP


async def test_rebinding(server: HttpServer) -> None:
    """A name of the attacker's that resolves to the loopback: 421, even with the token that a rebound page could not have."""
    kind, mine = "Content-Type: application/json", f"Authorization: Bearer {TOKEN}"
    for host in ("evil.example", "evil.example:8081", "127.0.0.1.evil.example", "localhost.evil.example"):
        assert status_of(await raw(server, command_from(f"Host: {host}", kind, mine))) == 421
    absolute = command_from("Host: evil.example", kind, mine).replace(b"POST /", b"POST http://127.0.0.1/", 1)
    assert status_of(await raw(server, absolute)) == 421


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/json"])
async def test_cross_site_request_forgery(server: HttpServer, kind: str) -> None:
    """A form or a fetch of another site carries no token (401), and says where it comes from (403)."""
    kind = f"Content-Type: {kind}"
    assert status_of(await raw(server, command_from("Host: 127.0.0.1", kind))) == 401
    for header in ("Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"):
        sent = command_from("Host: 127.0.0.1", kind, header, f"Authorization: Bearer {TOKEN}")
        assert status_of(await raw(server, sent)) == 403


async def test_text_plain_with_the_token(server: HttpServer) -> None:
    """415: what needs no preflight is no command."""
    sent = command_from("Host: 127.0.0.1", "Content-Type: text/plain", f"Authorization: Bearer {TOKEN}", "Connection: close")
    assert status_of(await raw(server, sent)) == 415


async def test_no_preflight_is_answered(server: HttpServer) -> None:
    """A browser that asks whether another site may, hears of no permission."""
    asked = "OPTIONS /api/v1/commands HTTP/1.1\r\nHost: 127.0.0.1\r\nAccess-Control-Request-Method: POST\r\n"
    for origin, status in (("Origin: http://evil.example\r\n", 403), ("", 401)):
        answer = await raw(server, f"{asked}{origin}\r\n".encode())
        assert (status_of(answer), b"access-control" in answer.lower()) == (status, False)


async def test_cross_site_websocket_hijacking(server: HttpServer) -> None:
    """A WebSocket of another site: 403, though browsers let it come; without an Origin, from no browser: 401."""
    foreign = f"{STREAM_HEAD}Origin: http://evil.example\r\nSec-WebSocket-Protocol: plt-tui.v1, bearer.{TOKEN}\r\n\r\n"
    assert status_of(await raw(server, foreign.encode())) == 403
    assert status_of(await raw(server, f"{STREAM_HEAD}\r\n".encode())) == 401


async def test_a_token_in_the_url_is_none(server: HttpServer) -> None:
    """URLs lie in histories and logs."""
    for query in (f"?token={TOKEN}", f"?access_token={TOKEN}", f"?bearer.{TOKEN}"):
        answer = await raw(server, f"GET /api/v1/run{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert (status_of(answer), TOKEN.encode() in answer) == (401, False)


async def test_sixteen_megabytes_of_json(server: HttpServer) -> None:
    """401 without the token, 413 with it; the hub reads at most what is on its way meanwhile."""
    body = b'{"name":"note","args":{"text":"' + b"x" * 2**24 + b'"}}'
    for more, status in (("", 401), (AUTHORIZED, 413)):
        answer = await raw(server, f"{JSON_POST}{more}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert status_of(answer) in (status, 0)  # 0: reset while it was still sending
        short = f"{JSON_POST}{more}Content-Length: {len(body)}\r\n\r\n".encode()
        assert status_of(await raw(server, short)) == status


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 60_000,
        b'{"name":"note","args":{"text":' + b"[" * 50_000 + b"]" * 50_000 + b"}}",
        b'{"a":' * 12_000 + b"1" + b"}" * 12_000,
        b'{"name":"set","args":{"name":"lr","value":NaN}}',
        b'{"name":"set","args":{"name":"lr","value":1e999}}',
        b'{"name":"stop","name":"pause"}',
        b'{"name":"note","args":{"text":"\xff\xfe"}}',
        b'{"name":"note","args":{"text":"\xed\xa0\x80"}}',
        b"\x00" * 1000,
        b"9" * 60_000,
    ],
    ids=[
        "open lists",
        "depth 50 000",
        "depth 12 000 of objects",
        "NaN",
        "1e999",
        "twice",
        "UTF-8",
        "surrogate",
        "NUL",
        "digits",
    ],
)
async def test_json_that_is_none(server: HttpServer, body: bytes) -> None:
    """400 or 413, quickly, with a sentence."""
    started = time.process_time()
    async with client(server) as web:
        status, said = await post(web, body)
    assert status == (413 if len(body) > 65536 else 400)
    assert said["error"].isprintable()
    assert time.process_time() - started < 2.5


async def test_slow_loris(hub: FakeHub) -> None:
    """Headers byte by byte end with the patience; a body byte by byte costs a token first."""
    server = await serve_http(hub, "127.0.0.1:0", name="demo", token=TOKEN, control=True, idle_s=0.2)
    host, port = server.url.removeprefix("http://").split(":")
    try:
        reader, writer = await asyncio.open_connection(host, int(port))

        async def trickle() -> None:
            for byte in JSON_POST.encode() + b"X: " + b"y" * 10_000:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.01)

        trickling = asyncio.ensure_future(trickle())
        with suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), DEADLINE_S / 2) == b""
        trickling.cancel()
        writer.transport.abort()
        unauthorized = f"{JSON_POST}Content-Length: 9999\r\n\r\nx".encode()
        assert status_of(await raw(server, unauthorized)) == 401
    finally:
        await server.close()


@pytest.mark.parametrize(
    "headers",
    [b"X-Long: " + b"a" * 10_000, b"".join(b"X-%d: a\r\n" % n for n in range(5_000)), b"Cookie: " + b"a" * 2**20],
    ids=["long", "many", "a megabyte"],
)
async def test_huge_headers(server: HttpServer, headers: bytes) -> None:
    """400 and the end, long before they are read whole."""
    said = b"GET /api/v1/run HTTP/1.1\r\nHost: 127.0.0.1\r\n" + headers
    assert status_of(await raw(server, said + b"\r\n\r\n")) in (400, 0)  # 0: reset while it was still sending


@pytest.mark.parametrize("more", ["", "Sec-WebSocket-Extensions: permessage-deflate\r\n"], ids=["plain", "deflate asked for"])
async def test_sixteen_megabytes_in_a_frame(server: HttpServer, more: str) -> None:
    """Code 1009 by its length alone; compressed frames are not agreed to."""
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{STREAM_HEAD}{AUTHORIZED}{more}\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE_S)
    assert (status_of(head), b"deflate" in head) == (101, False)
    writer.write(b"\x81\xff" + struct.pack("!Q", 2**24) + bytes(4))
    assert struct.pack("!H", 1009) in await asyncio.wait_for(reader.read(), DEADLINE_S)
    writer.close()
    await writer.wait_closed()


async def test_a_flood_of_messages_on_the_stream(server: HttpServer, hub: FakeHub) -> None:
    """Of who may only listen: commands said there are none."""
    patience = aiohttp.ClientWSTimeout(ws_close=0.2)  # its goodbye waits behind what it has sent
    async with client(server) as web, web.ws_connect("/api/v1/stream", timeout=patience) as stream:
        for _ in range(200):
            await stream.send_bytes(STOP)
        assert (await stream.receive_json(timeout=DEADLINE_S))["kind"] in ("viewers", "caught_up")


BROKEN = [
    f"GET /api/v1/run HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\x01\r\n\r\n",
    f"GET /api/v1/run HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization : Bearer {TOKEN}\r\n\r\n",
    f"GET /api/v1/run HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}{'x' * 9000}\r\n\r\n",
    f"GET /api/v1/run?{TOKEN}{'x' * 9000} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    f"GET /\x01{TOKEN} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    f"{TOKEN} / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    f"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {TOKEN}\r\n\r\n",
    f"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: {TOKEN}\r\n\r\n",
    f"{STREAM_HEAD}Sec-WebSocket-Protocol: bearer.{TOKEN}\r\n\r\n",
    f"{STREAM_HEAD}Sec-WebSocket-Protocol: bearer.{TOKEN}\r\nSec-WebSocket-Protocol: plt-tui.v1\r\n\r\n",
    f"{STREAM_HEAD}{AUTHORIZED}\r\n".replace("dGhlIHNhbXBsZSBub25jZQ==", TOKEN),
    f"{STREAM_HEAD}{AUTHORIZED}\r\n".replace("Upgrade: websocket", f"Upgrade: {TOKEN}"),
    f"{JSON_POST}{AUTHORIZED}Content-Length: 3\r\nConnection: close\r\n\r\n{TOKEN[:3]}",
    f"{JSON_POST}{AUTHORIZED}Transfer-Encoding: chunked\r\n\r\n{TOKEN}\r\n",
]


@pytest.mark.parametrize("said", BROKEN, ids=range(len(BROKEN)))
async def test_a_broken_request_puts_no_token_into_a_log(
    server: HttpServer, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Else aiohttp would quote the line that it cannot read in the hub's log, and in its answer; and every subprotocol."""
    with caplog.at_level(logging.DEBUG):
        answer = await raw(server, said.encode("latin-1"), then_close=True)
    assert status_of(answer) in (0, 400, 401, 404)
    assert TOKEN not in caplog.text
    assert "Traceback" not in caplog.text
    if status_of(answer) == 400:
        assert b'{"error": ' in answer


async def test_a_mistake_of_the_hub_is_told_without_its_insides(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """500 as JSON with all headers; what went wrong is in the hub's log alone."""
    monkeypatch.setattr("plt_tui.server.api.summary", lambda *_: 1 / 0)
    html = {"Accept": "text/html"}
    async with locked(hub) as server, client(server) as web, web.get("/api/v1/run", headers=html) as response:
        assert (response.status, response.content_type) == (500, "application/json")
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "ZeroDivision" not in await response.text()
    assert "ZeroDivisionError" in caplog.text
    assert TOKEN not in caplog.text


async def test_pipelined_requests_are_each_judged(server: HttpServer) -> None:
    """The second of a connection needs the token as the first one did."""
    first = f"GET /api/v1/run HTTP/1.1\r\nHost: 127.0.0.1\r\n{AUTHORIZED}\r\n"
    second = "GET /api/v1/run HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    answer = await raw(server, (first + second).encode())
    assert (answer.count(b"HTTP/1.1 200"), answer.count(b"HTTP/1.1 401")) == (1, 1)


async def test_a_foreign_request_with_a_body_smuggles_nothing(server: HttpServer) -> None:
    """What follows a refused request on its connection is not read as one."""
    inner = f"GET /api/v1/run HTTP/1.1\r\nHost: 127.0.0.1\r\n{AUTHORIZED}\r\n"
    for length in ("Content-Length: 0\r\nContent-Length: 99\r\n", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"):
        answer = await raw(server, f"POST / HTTP/1.1\r\nHost: evil.example\r\n{length}\r\n0\r\n\r\n{inner}".encode())
        assert b"HTTP/1.1 200" not in answer


async def test_only_who_has_the_token_learns_anything(hub: FakeHub) -> None:
    """Neither the page nor any refusal names the run, its state or its machine."""
    hub.begin()
    async with locked(hub) as server, aiohttp.ClientSession(server.url) as stranger:
        for path in ("/", "/static/page.js", "/favicon.ico", "/api/v1/run", "/metrics", "/api/v1/openapi.json", "/unknown"):
            async with stranger.get(path) as response:
                text = await response.text()
                told = f"{text}{dict(response.headers)}"
                assert "runs/demo" not in told
                assert '"demo"' not in told
                assert TOKEN not in told
                assert "aiohttp" not in str(dict(response.headers))
    assert RIGHT["Authorization"].endswith(TOKEN)
