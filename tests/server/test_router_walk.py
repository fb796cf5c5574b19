"""Deny by default: whatever route there is, one that does not say that it is open needs the run's token."""

from __future__ import annotations

import aiohttp
import pytest
from aiohttp import web

from plt_tui.server.door import STALL_S
from plt_tui.server.guard import Address
from plt_tui.server.http import application
from plt_tui.server.routes import PAGE
from tests.server.hub_fakes import DEADLINE_S, FakeHub
from tests.server.locked import COMMANDS, RIGHT, TOKEN, locked

UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "x" * 22 + "=="}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")
ELSEWHERE = [
    "/unknown",
    "/api/v1/",
    "/api/v1/run/",
    "/api/v1/commands/x",
    "/api/v2/run",
    "/static/nothing.js",
    "/metrics/x",
]


def app_of(hub: FakeHub, token: str = TOKEN) -> web.Application:
    """The application of a server."""
    return application(hub, Address("127.0.0.1", 0), "demo", token=token, control=bool(token), stall_s=STALL_S)


def walked(app: web.Application) -> set[tuple[str, str]]:
    """Method and path of every route of the router; those for every path stand for what is nowhere else."""
    found = set()
    for route in app.router.routes():
        assert route.resource is not None
        found.add((route.method, route.resource.canonical))
    return found


def is_open(path: str) -> bool:
    """A path of the page, whose files hold no data."""
    return path in ("/", "/favicon.ico") or path.startswith("/static/")


async def test_what_is_open_is_the_page(hub: FakeHub) -> None:
    """The router holds what the table says; nothing but the page's files can be had by everybody."""
    found = walked(app_of(hub))
    assert ("POST", COMMANDS) in found
    assert ("GET", "/api/v1/stream") in found
    assert {method for method, path in found if is_open(path)} == {"GET", "HEAD"}
    assert {path for _, path in found if not is_open(path)} >= {"/api/v1/run", "/api/v1/openapi.json", "/metrics"}
    assert {(method, path) for method, path in found if method not in ("GET", "HEAD")} == {("POST", COMMANDS), ("*", "/{path}")}


async def test_a_server_without_a_token_writes_nothing(hub: FakeHub) -> None:
    """Its router knows no method that could."""
    assert {method for method, _ in walked(app_of(hub, token=""))} == {"GET", "HEAD", "*"}


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}], ids=["no token", "a wrong token"])
async def test_every_route_needs_the_token(hub: FakeHub, headers: dict[str, str]) -> None:
    """401 on each route of the router by each method, on paths that are none, and on WebSocket upgrades."""
    app = app_of(hub)
    paths = {path for _, path in walked(app) if "{" not in path}
    async with locked(hub) as server, aiohttp.ClientSession(server.url, headers=headers) as session:
        for path in sorted(paths) + ELSEWHERE:
            for method in METHODS:
                for upgrade in ({}, UPGRADE):
                    timeout = aiohttp.ClientTimeout(total=DEADLINE_S)
                    async with session.request(method, path, headers=upgrade, timeout=timeout) as response:
                        open_here = is_open(path) and path in paths
                        expected = (200, 204, 405) if open_here else (401,)
                        assert response.status in expected, (method, path)
                        if open_here and response.status == 200:
                            assert response.content_type in ("text/html", "text/css", "text/javascript", "image/svg+xml")
                        if response.status == 401:
                            assert response.headers["WWW-Authenticate"] == "Bearer"
    assert hub.commands == []
    assert hub.feed._listeners == []


async def test_the_index_is_not_open(hub: FakeHub) -> None:
    """It names the run; the page that comes from the same path does not."""
    async with locked(hub) as server, aiohttp.ClientSession(server.url) as session:
        async with session.get("/", headers={"Accept": "application/json"}) as response:
            assert response.status == 401
        async with session.get("/", headers={"Accept": "text/html"}) as response:
            assert (response.status, "demo" in await response.text()) == (200, False)
        async with session.get("/", headers={"Accept": "application/json", **RIGHT}) as response:
            index = await response.json()
            assert (index["token"], index["control"], index["routes"]["/"]) == (True, True, PAGE.help)


async def test_with_the_token_everything_answers(hub: FakeHub) -> None:
    """Each GET route of the router; what is nowhere is 404, and other methods are 405."""
    async with locked(hub) as server, aiohttp.ClientSession(server.url, headers=RIGHT) as session:
        for method, path in sorted(walked(app_of(hub))):
            if "{" in path or path in ("/api/v1/stream", COMMANDS):
                continue
            async with session.request(method, path) as response:
                assert response.status in (200, 204), (method, path)
        for path in ELSEWHERE:
            async with session.get(path) as response:
                assert response.status == 404, path
            async with session.post(path) as response:
                assert response.status == 405, path


async def test_a_stream_opens_with_the_token_as_a_subprotocol(hub: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    """As browsers must send it; the server picks the other one; who offers no other is refused, without a log line."""
    async with locked(hub) as server, aiohttp.ClientSession(server.url) as session:
        offered = ("plt-tui.v1", f"bearer.{TOKEN}")
        async with session.ws_connect("/api/v1/stream", protocols=offered) as stream:
            assert stream.protocol == "plt-tui.v1"
            assert (await stream.receive_json(timeout=DEADLINE_S))["kind"] == "caught_up"
        async with session.ws_connect("/api/v1/stream", headers=RIGHT) as stream:
            assert stream.protocol is None
        for protocols, status in (((f"bearer.{TOKEN}",), 400), (("plt-tui.v1", "bearer.wrong"), 401), (("plt-tui.v1",), 401)):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect("/api/v1/stream", protocols=protocols)
            assert refused.value.status == status
    assert caplog.text == ""
