"""A server with a token, and clients that have it or not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from plt_tui.server.http import HttpServer, serve_http
from tests.server.hub_fakes import DEADLINE_S, FakeHub

TOKEN = "a-token_of-the-RUN-0123456789"
RIGHT = {"Authorization": f"Bearer {TOKEN}"}
COMMANDS = "/api/v1/commands"


@asynccontextmanager
async def locked(hub: FakeHub, *, control: bool = True, **options: Any) -> AsyncIterator[HttpServer]:
    """A server for `hub` that asks for TOKEN."""
    server = await serve_http(hub, "127.0.0.1:0", name="demo", token=TOKEN, control=control, **options)
    try:
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def client(server: HttpServer, **headers: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A client that sends `headers`, underscores as dashes, beside the token."""
    timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession(server.url, headers={**RIGHT, **named}, timeout=timeout) as web:
        yield web


async def post(web: aiohttp.ClientSession, body: Any, query: str = "") -> tuple[int, dict[str, Any]]:
    """Status and JSON of a command; `body`: JSON values, or bytes as they are."""
    given: dict[str, Any] = {"json": body}
    if isinstance(body, bytes):
        given = {"data": body, "headers": {"Content-Type": "application/json"}}
    async with web.post(COMMANDS + query, **given) as response:
        assert response.content_type == "application/json"
        return response.status, await response.json()


async def raw(server: HttpServer, said: bytes, *, then_close: bool = False) -> bytes:
    """What the server answers to these bytes until it ends the connection."""
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(said)
        if then_close:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), DEADLINE_S)
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()
