"""A server of `plt-tui web` whose views are fakes, and a page without a browser."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil

from plt_tui.web.assets import load
from plt_tui.web.server import TAB_PROTOCOL, Show, WebServer

DEADLINE_S = 20.0
NAME = "demo"


def show(view: str) -> Show:
    """What a server shows whose views behave as `fake_view` says of `view`."""
    script = Path(__file__).with_name("fake_view.py")
    return Show(name=NAME, is_steering=False, command=[sys.executable, "-I", str(script), view])


@asynccontextmanager
async def served(view: str = "echo") -> AsyncIterator[WebServer]:
    """A server on a free port."""
    server = WebServer(show(view), load())
    await server.listen(0)
    try:
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def client(server: WebServer, token: str | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    """A client that sends the token, or another one; empty: none."""
    token = server.token if token is None else token
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
    async with aiohttp.ClientSession(server.url, timeout=timeout, headers=headers) as session:
        yield session


class Tab:
    """The page's end of a WebSocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def picture(self) -> bytes:
        """The next thing that the terminal is to show."""
        message = await self.socket.receive(DEADLINE_S)
        assert message.type is aiohttp.WSMsgType.BINARY, message
        assert isinstance(message.data, bytes)
        return message.data

    async def facts(self) -> dict[str, Any]:
        """What the fake view tells of itself, which it does first."""
        facts: dict[str, Any] = json.loads(await self.picture())
        return facts

    async def say(self, *words: object) -> None:
        """Send a message as the page does."""
        await self.socket.send_str(json.dumps(words))

    async def goodbye(self) -> tuple[int | None, str]:
        """Why the server closed the tab: code and words."""
        while True:
            message = await self.socket.receive(DEADLINE_S)
            if message.type is aiohttp.WSMsgType.CLOSE:
                return message.data, message.extra or ""
            assert message.type is aiohttp.WSMsgType.BINARY, message


@asynccontextmanager
async def opened(server: WebServer, query: str = "?width=90&height=30") -> AsyncIterator[Tab]:
    """An open tab."""
    url = f"{server.url}tab{query}"
    protocols = (TAB_PROTOCOL, f"bearer.{server.token}")
    async with aiohttp.ClientSession() as session, session.ws_connect(url, protocols=protocols, autoclose=False) as socket:
        assert socket.protocol == TAB_PROTOCOL
        yield Tab(socket)


async def until_gone(pid: int) -> None:
    """Return when a process has ended. Raises: TimeoutError."""
    give_up_at = asyncio.get_running_loop().time() + DEADLINE_S
    while psutil.pid_exists(pid):
        if asyncio.get_running_loop().time() > give_up_at:
            raise TimeoutError(f"process {pid} is still there")
        await asyncio.sleep(0.02)
