"""The hub's HTTP server: the page, JSON, WebSocket and Prometheus text; commands too where the run's owner wants that.

Puts the parts together and listens. Which routes there are is in `routes`, what they answer in `api`, `websocket` and
`commands`, who may ask in `guard`, how long it may take in `connections`. Invariants: every request passes `guard` before any
route is looked at; a port that cannot be had is a sentence in `problem` and no error, for training needs no HTTP server.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

from plt_tui.protocol.hello import MAX_MESSAGE_BYTES
from plt_tui.server.api import Api, answer, check_names
from plt_tui.server.audience import Audience
from plt_tui.server.commands import Commands
from plt_tui.server.connections import IDLE_S, Connection, Gate, attend
from plt_tui.server.door import GOODBYE_S, HTTP_PLACES, STALL_S, Hub, Places
from plt_tui.server.guard import (
    Address,
    Rules,
    add_headers,
    expect_nothing,
    guard,
    headers_of,
    is_wildcard,
    parse_address,
    prefers_json,
)
from plt_tui.server.openapi import document
from plt_tui.server.routes import COMMANDS, Route, routes
from plt_tui.server.static import page_files
from plt_tui.server.websocket import Streams


class HttpServer:
    """The server. `url`: where programs of this machine reach it, which may be another port than the one asked for; empty:
    nowhere. `problem`: a sentence for people when it does not listen where it was told to, else empty.
    """

    def __init__(self, runner: web.AppRunner, places: Places) -> None:
        self.url = ""
        self.problem = ""
        self._runner = runner
        self._places = places
        self._listening: asyncio.Server | None = None

    async def listen(self, address: Address, idle_s: float, *, is_strict: bool) -> None:
        """Let clients in on `address`, or wherever it can be done; `is_strict`: nowhere else."""
        listener, self.problem = _listen(address, is_strict=is_strict)
        await self._runner.setup()
        server = self._runner.server
        if listener is None or server is None:
            return
        loop, gate = asyncio.get_running_loop(), Gate()
        self._listening = await loop.create_server(lambda: Connection(server, self._places, idle_s, gate), sock=listener)
        self.url = f"http://{_near(address.host)}:{listener.getsockname()[1]}"
        if self.problem:
            self.problem += f"; metrics are on {self.url}"

    async def close(self) -> None:
        """Let streams read what was said last, then close every connection."""
        if self._listening is not None:
            self._listening.close()
        timer = asyncio.get_running_loop().call_later(GOODBYE_S, self._places.clear)  # aiohttp would wait for each twice
        await self._runner.cleanup()
        timer.cancel()


async def serve_http(
    hub: Hub,
    address: str,
    *,
    name: str,
    token: str = "",
    control: bool = False,
    audience: Audience | None = None,
    stall_s: float = STALL_S,
    idle_s: float = IDLE_S,
) -> HttpServer:
    """Serve the run called `name` on `address` ("host:port"), or on a free port of that host when the port is not to be had.

    token: what a client must know, and then no other port will do; empty: nothing. control: take commands, which needs a token.
    audience: of the hub, where it has another door too.
    Raises: UsageError when the address is wrong, or open to other machines without a token.
    """
    assert token or not control, "commands over HTTP need a token"
    wanted = parse_address(address, has_token=bool(token))
    app = application(hub, wanted, name, token=token, control=control, audience=audience, stall_s=stall_s)
    server = HttpServer(web.AppRunner(app, access_log=None, shutdown_timeout=2 * GOODBYE_S), Places(HTTP_PLACES))
    await server.listen(wanted, idle_s, is_strict=bool(token))
    return server


def application(
    hub: Hub, address: Address, name: str, *, token: str, control: bool, stall_s: float, audience: Audience | None = None
) -> web.Application:
    """The routes behind their guard."""
    files = page_files()
    table = routes({path: file.media for path, file in files.items() if path != "/"}, has_token=bool(token))
    streams = Streams(audience or Audience(hub.feed), stall_s, readonly=not control)
    commands = Commands(hub, is_on=control)
    facts = {"name": name, "token": bool(token), "control": control, "routes": {route.path: route.help for route in table}}

    async def page(request: web.Request) -> web.Response:
        return answer(facts) if prefers_json(headers_of(request)) else files["/"].response()

    async def static(request: web.Request) -> web.Response:
        return files[request.path].response()

    async def openapi(_: web.Request) -> web.Response:
        return answer(document(table, has_token=bool(token)))

    handlers: dict[str, Handler] = {
        **dict.fromkeys(files, static),
        **_data(Api(hub.feed, name)),
        "/": page,
        "/favicon.ico": _nothing,
        "/api/v1/openapi.json": openapi,
        "/api/v1/stream": streams.stream,
        COMMANDS.path: commands.post,
    }
    open_paths = frozenset(route.path for route in table if route.is_open)
    methods = {route.path: (route.method,) for route in table if route.method != "GET"}
    rules = Rules(host=address.host, token=token, pages=open_paths, methods=methods)
    app = web.Application(middlewares=[attend, guard(rules)], client_max_size=MAX_MESSAGE_BYTES + 1)
    app.on_response_prepare.append(add_headers)
    app.on_shutdown.extend([streams.finish, commands.finish])
    for route in table:
        for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
            app.router.add_route(method, route.path, _checked(route, handlers[route.path]), expect_handler=expect_nothing)
    app.router.add_route("*", "/{path:.*}", _not_found, expect_handler=expect_nothing)
    return app


def _data(api: Api) -> Mapping[str, Handler]:
    """The handlers of what tells of the run."""
    return {
        "/api/v1/run": api.run,
        "/api/v1/metrics": api.metrics,
        "/api/v1/evals": api.evals,
        "/api/v1/samples": api.samples,
        "/api/v1/journal": api.journal,
        "/api/v1/logs": api.logs,
        "/api/v1/checkpoints": api.checkpoints,
        "/api/v1/gauges": api.gauges,
        "/api/v1/viewers": api.viewers,
        "/metrics": api.prometheus,
    }


def _checked(route: Route, handler: Handler) -> Handler:
    """The handler of what holds data, for requests that ask for nothing that it does not know."""
    if route.is_open:
        return handler

    async def checked(request: web.Request) -> web.StreamResponse:
        check_names(request, route.numbers)
        return await handler(request)

    return checked


async def _nothing(_: web.Request) -> web.Response:
    return web.Response(status=204)


async def _not_found(_: web.Request) -> web.Response:
    raise web.HTTPNotFound(text="there is nothing here; ask for / with Accept: application/json to see what there is")


def _near(host: str) -> str:
    """A name under which this machine reaches a server that listens on `host`."""
    return host if not is_wildcard(host) else "[::1]" if ":" in host else "127.0.0.1"


def _listen(address: Address, *, is_strict: bool) -> tuple[socket.socket | None, str]:
    """A listening socket on the port asked for or, when it is taken or forbidden, on any; and why on another, or on none.

    is_strict: on none instead of another. Whoever has taken the port asked for would be sent the token of those who trust it.
    """
    # One family only: with port 0, two sockets for localhost would get two different ports.
    host = "127.0.0.1" if address.host == "localhost" else address.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    problem, is_port = "", False
    for port in (address.port, 0):
        try:
            return socket.create_server((host, port), family=family), problem
        except OSError as error:
            why = os.strerror(error.errno) if error.errno is not None and error.errno > 0 else str(error.strerror or error)
            problem = f"metrics.address: cannot listen on {address.host}:{address.port}: {why}"
            is_port = error.errno in (errno.EADDRINUSE, errno.EACCES)
            if is_strict or not is_port:
                break
    way = f"try {address.host}:0, and read the port in run.json" if is_port else "try 127.0.0.1:0"
    return None, f"{problem}; metrics are not served ({way})"
