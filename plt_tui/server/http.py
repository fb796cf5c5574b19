"""The hub's metrics server: HTTP, WebSocket and Prometheus text on a loopback address, read-only.

Puts the parts together and listens; what it answers is in `api`, who may ask in `guard`. Commands go through the Unix socket.
Invariant: every request passes `guard` before any route is looked at.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler

from plt_tui.errors import UsageError
from plt_tui.server.api import Api, answer
from plt_tui.server.door import GOODBYE_S, STALL_S, Hub
from plt_tui.server.guard import Address, add_headers, guard, parse_address
from plt_tui.server.websocket import Streams


class HttpServer:
    """The running server; `url` is where it really listens."""

    def __init__(self, runner: web.AppRunner, url: str) -> None:
        self.url = url
        self._runner = runner

    async def close(self) -> None:
        """Let streams read what was said last, then close every connection."""
        await self._runner.cleanup()


async def serve_http(hub: Hub, address: str, *, name: str, stall_s: float = STALL_S) -> HttpServer:
    """Serve the run called `name` on `address` ("host:port"), or on a free port of that host when the port is not to be had.

    Raises: UsageError when the address is wrong, open to other machines, or cannot be listened on at all.
    """
    wanted = parse_address(address)
    listener = _listen(wanted)
    runner = web.AppRunner(application(hub, wanted, name, stall_s), access_log=None, shutdown_timeout=GOODBYE_S)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    return HttpServer(runner, f"http://{wanted.host}:{listener.getsockname()[1]}")


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

    app = web.Application(middlewares=[guard(address.host)])
    app.on_response_prepare.append(add_headers)
    app.on_shutdown.append(streams.finish)
    for path, handler in {"/": index, **routes}.items():
        app.router.add_get(path, handler)
    return app


def _listen(address: Address) -> socket.socket:
    """A listening socket on the port asked for or, when it is taken or forbidden, on any. Raises: UsageError."""
    # One family only: with port 0, two sockets for localhost would get two different ports.
    host = "127.0.0.1" if address.host == "localhost" else address.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        try:
            return socket.create_server((host, address.port), family=family)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            return socket.create_server((host, 0), family=family)
    except OSError as error:
        raise UsageError(f"metrics.address: cannot listen on {address.host}:{address.port}: {error}; try 127.0.0.1:0") from None
