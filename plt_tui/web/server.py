"""The server of `plt-tui web`: a page for anybody who asks on this machine, and a view of one run for who knows the token.

Puts the parts together and listens, on the loopback only; what a tab is, is in `tab`. The token goes with the WebSocket, as a
subprotocol, and not in a cookie, as cookies know no ports: a page of another user's server on this machine would get it too.
Invariants: every request passes the guard of the metrics server before any route is looked at, and needs the token for
everything but the page's files; there are never more than MAX_TABS views.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import WSCloseCode, web
from aiohttp.typedefs import Handler

from plt_tui.errors import UsageError
from plt_tui.protocol.hello import MAX_MESSAGE_BYTES
from plt_tui.protocol.text import safe_line
from plt_tui.server.connections import IDLE_S, Connection, attend
from plt_tui.server.door import GOODBYE_S, Places
from plt_tui.server.guard import CSP, Rules, add_headers, error_response, expect_nothing, guard
from plt_tui.web import tab, wire
from plt_tui.web.assets import Asset

HOST = "127.0.0.1"
TAB_PROTOCOL = "plt-tui.tab.v1"
"""The WebSocket subprotocol of a tab, offered beside the one that carries the token."""
MAX_TABS = 16
FULL = f"{MAX_TABS} tabs are open, and each is a process: close one"
HEARTBEAT_S = 15.0
"""A page that does not answer for half as long again has gone, or reads nothing."""
MAX_REASON_BYTES = 123
"""Of a WebSocket's goodbye (RFC 6455, 5.5)."""
PAGE_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; font-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page loads its own files and talks to its own server. The terminal's script makes styles, which stand in no file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Show:
    """What is shown: the run's name, whether a view may steer it, and the command that opens a view."""

    name: str
    is_steering: bool
    command: Sequence[str]


class WebServer:
    """The server. `url`: of the page; with "#token=" and `token` behind it a browser need not be told the token."""

    def __init__(self, show: Show, assets: Mapping[str, Asset]) -> None:
        self.url = ""
        self.token = secrets.token_urlsafe(32)
        self._tabs = Tabs(show)
        self._runner = web.AppRunner(
            application(self._tabs, show, assets, self.token), access_log=None, shutdown_timeout=GOODBYE_S
        )
        self._places = Places()
        self._listening: asyncio.Server | None = None

    async def listen(self, port: int) -> None:
        """Let browsers in; port 0: any that is free. Raises: UsageError when the port is not to be had."""
        try:
            listener = socket.create_server((HOST, port))
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise UsageError(f"cannot listen on {HOST}:{port}: {why}; `--port 0` takes any port that is free") from None
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(lambda: Connection(server, self._places, IDLE_S), sock=listener)
        self.url = f"http://{HOST}:{listener.getsockname()[1]}/"

    async def close(self) -> None:
        """End every view, then close every connection."""
        if self._listening is not None:
            self._listening.close()
        await self._tabs.close()
        timer = asyncio.get_running_loop().call_later(GOODBYE_S, self._places.clear)  # aiohttp would wait for each twice
        await self._runner.cleanup()
        timer.cancel()


class Tabs:
    """The open tabs."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._open: set[asyncio.Future[None]] = set()
        """One for each tab, done when its process has ended."""
        self._end = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """True when no other may be opened."""
        return len(self._open) >= MAX_TABS

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """A view of the run over a WebSocket."""
        if TAB_PROTOCOL not in _protocols(request):  # aiohttp would write what was offered, the token too, into its log
            return error_response(400, f"offer the WebSocket subprotocol {TAB_PROTOCOL}")
        if self.is_full or self._end.is_set():
            return error_response(503, FULL if self.is_full else "the server is closing")
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open.add(place)
        try:
            return await self._serve(request)
        finally:
            self._open.discard(place)
            place.set_result(None)

    async def close(self) -> None:
        """End all of them, and return when their processes have ended."""
        self._end.set()
        if self._open:
            await asyncio.wait(self._open)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        page = web.WebSocketResponse(
            protocols=(TAB_PROTOCOL,),
            max_msg_size=MAX_MESSAGE_BYTES,
            heartbeat=HEARTBEAT_S,
            timeout=GOODBYE_S,
            compress=False,  # a browser on the same machine has nothing of it
        )
        await page.prepare(request)
        code = WSCloseCode.OK
        try:
            words = await tab.serve(page, self._show.command, wire.size_of(request.query), self._end)
        except UsageError as error:
            code, words = WSCloseCode.POLICY_VIOLATION, str(error)
        if self._end.is_set():
            code, words = WSCloseCode.GOING_AWAY, "plt-tui web was ended in its terminal"
        with suppress(ConnectionError):
            await page.close(code=code, message=_reason(words))
        return page


def application(tabs: Tabs, show: Show, assets: Mapping[str, Asset], token: str) -> web.Application:
    """The routes behind their guard."""

    async def about(_: web.Request) -> web.Response:
        """What a tab would show, for the page to say before it opens one."""
        if tabs.is_full:
            return error_response(503, FULL)
        return web.json_response({"run": safe_line(show.name), "control": show.is_steering})

    rules = Rules(host=HOST, token=token, pages=frozenset(assets), where="the address that `plt-tui web` printed")
    app = web.Application(middlewares=[attend, guard(rules)])
    app.on_response_prepare.append(add_headers)
    routes: Mapping[str, Handler] = {path: _file(asset) for path, asset in assets.items()} | {
        "/about": about,
        "/tab": tabs.serve,
    }
    for path, handler in routes.items():
        app.router.add_route("GET", path, handler, expect_handler=expect_nothing)
    return app


def _file(asset: Asset) -> Handler:
    async def file(_: web.Request) -> web.Response:
        return web.Response(body=asset.body, headers={"Content-Type": asset.media, CSP: PAGE_CSP})

    return file


def _protocols(request: web.Request) -> list[str]:
    offered = request.headers.getall("Sec-WebSocket-Protocol", [])
    return [word.strip() for value in offered for word in value.split(",")]


def _reason(words: str) -> bytes:
    """As much of `words` as a goodbye can hold, in whole characters."""
    return words.encode()[:MAX_REASON_BYTES].decode(errors="ignore").encode()
