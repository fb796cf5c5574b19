"""The hub's metrics server: HTTP, WebSocket and Prometheus text on a loopback address, read-only.

Puts the parts together and listens; what it answers is in `api`, who may ask in `guard`, how long it may take in `connections`.
Commands go through the Unix socket. Invariants: every request passes `guard` before any route is looked at; a port that cannot
be had is a sentence in `problem` and no error, for training needs no metrics server.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

from plt_tui.server.api import Api, answer
from plt_tui.server.connections import IDLE_S, Connection, attend
from plt_tui.server.door import GOODBYE_S, STALL_S, Hub, Places
from plt_tui.server.guard import Address, add_headers, guard, parse_address
from plt_tui.server.websocket import Streams


class HttpServer:
    """The server. `url`: where it listens, which may be another port than the one asked for; empty: nowhere.

    `problem`: a sentence for people when it does not listen where it was told to, else empty.
    """

    def __init__(self, runner: web.AppRunner, places: Places) -> None:
        self.url = ""
        self.problem = ""
        self._runner = runner
        self._places = places
        self._listening: asyncio.Server | None = None

    async def listen(self, address: Address, idle_s: float) -> None:
        """Let clients in on `address`, or wherever it can be done."""
        listener, self.problem = _listen(address)
        await self._runner.setup()
        server = self._runner.server
        if listener is None or server is None:
            return
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(lambda: Connection(server, self._places, idle_s), sock=listener)
        self.url = f"http://{address.host}:{listener.getsockname()[1]}"
        if self.problem:
            self.problem += f"; metrics are on {self.url}"

    async def close(self) -> None:
        """Let streams read what was said last, then close every connection."""
        if self._listening is not None:
            self._listening.close()
        timer = asyncio.get_running_loop().call_later(GOODBYE_S, self._places.clear)  # aiohttp would wait for each twice
        await self._runner.cleanup()
        timer.cancel()


async def serve_http(hub: Hub, address: str, *, name: str, stall_s: float = STALL_S, idle_s: float = IDLE_S) -> HttpServer:
    """Serve the run called `name` on `address` ("host:port"), or on a free port of that host when the port is not to be had.

    Raises: UsageError when the address is wrong or open to other machines.
    """
    wanted = parse_address(address)
    runner = web.AppRunner(application(hub, wanted, name, stall_s), access_log=None, shutdown_timeout=2 * GOODBYE_S)
    server = HttpServer(runner, Places())
    await server.listen(wanted, idle_s)
    return server


def application(hub: Hub, address: Address, name: str, stall_s: float) -> web.Application:
    """The routes behind their guard."""
    api, streams = Api(hub.feed, name), Streams(hub.feed, stall_s)
    routes: Mapping[str, Handler] = {
        "/api/v1/run": api.run,
        "/api/v1/metrics": api.metrics,
        "/api/v1/evals": api.evals,
        "/api/v1/samples": api.samples,
        "/api/v1/logs": api.logs,
        "/api/v1/journal": api.journal,
        "/api/v1/checkpoints": api.checkpoints,
        "/api/v1/gauges": api.gauges,
        "/api/v1/stream": streams.stream,
        "/metrics": api.prometheus,
    }

    async def index(_: web.Request) -> web.Response:
        return answer({"name": name, "routes": {path: handler.__doc__ for path, handler in routes.items()}})

    app = web.Application(middlewares=[attend, guard(address.host)])
    app.on_response_prepare.append(add_headers)
    app.on_shutdown.append(streams.finish)
    for path, handler in {"/": index, **routes}.items():
        app.router.add_get(path, handler)
    return app


def _listen(address: Address) -> tuple[socket.socket | None, str]:
    """A listening socket on the port asked for or, when it is taken or forbidden, on any; and why on another, or on none."""
    # One family only: with port 0, two sockets for localhost would get two different ports.
    host = "127.0.0.1" if address.host == "localhost" else address.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    problem = ""
    for port in (address.port, 0):
        try:
            return socket.create_server((host, port), family=family), problem
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            problem = f"metrics.address: cannot listen on {address.host}:{address.port}: {why}"
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                break
    return None, f"{problem}; metrics are not served (try 127.0.0.1:0)"
