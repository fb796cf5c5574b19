"""Who gets what of `plt-tui web`: the guard on every route and on the WebSocket, the token, and what the page is."""

from __future__ import annotations

import json
import logging
import socket

import aiohttp
import pytest

from plt_tui.errors import UsageError
from plt_tui.server.guard import HEADERS
from plt_tui.web.assets import load
from plt_tui.web.server import HOST, TAB_PROTOCOL, Tabs, WebServer, application
from tests.web.serving import NAME, client, opened, served, show

PAGE_PATHS = sorted(load())


def all_paths() -> list[str]:
    """Every path of the router, and some that it does not know."""
    app = application(Tabs(show("echo")), show("echo"), load(), "t")
    known = {resource.canonical for resource in app.router.resources()}
    assert {"/", "/about", "/tab"} <= known
    return [*sorted(known), "/nowhere", "/terminal/", "/terminal/../server.py", "/%2e%2e/server.py", "/terminal/js"]


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (421, {"Host": "evil.example"}),
        (421, {"Host": "evil.example:8081"}),
        (421, {"Host": "127.0.0.1.nip.io"}),
        (421, {"Host": "192.168.1.5"}),
        (403, {"Origin": "http://evil.example"}),
        (403, {"Origin": "null"}),
        (403, {"Origin": "http://127.0.0.1:1"}),
        (403, {"Sec-Fetch-Site": "cross-site"}),
        (403, {"Sec-Fetch-Site": "same-site"}),
    ],
)
async def test_no_other_site_gets_an_answer(status: int, headers: dict[str, str]) -> None:
    """Rebinding and foreign origins are refused on every route, also with the right token, and on the WebSocket."""
    async with served() as server, client(server) as session:
        for path in all_paths():
            async with session.get(path, headers=headers) as response:
                assert response.status == status, path
                assert HEADERS.items() <= response.headers.items()
        protocols = (TAB_PROTOCOL, f"bearer.{server.token}")
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect("/tab", protocols=protocols, headers=headers)
        assert refused.value.status == status


@pytest.mark.parametrize("token", ["", "wrong", "another server's"])
async def test_without_the_token_there_is_only_the_page(token: str) -> None:
    """Deny by default: all but the page's files, which hold nothing of the run, is 401; what is no route too."""
    async with served() as server, served() as other:
        token = other.token if token == "another server's" else token
        async with client(server, token) as session:
            for path in all_paths():
                async with session.get(path) as response:
                    assert response.status == (200 if path in PAGE_PATHS else 401), path
                    body = await response.read()
                    assert NAME.encode() not in body
                    assert server.token.encode() not in body
                    assert response.status == 200 or "the address that `plt-tui web` printed" in json.loads(body)["error"]
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect("/tab", protocols=(TAB_PROTOCOL, *([f"bearer.{token}"] if token else [])))
            assert refused.value.status == 401


async def test_the_token_opens_what_there_is() -> None:
    """The page is told what a tab would show; other methods and other paths are nothing."""
    async with served() as server, client(server) as session:
        async with session.get("/about") as response:
            assert (response.status, await response.json()) == (200, {"run": NAME, "control": False})
        for method, path, status in [
            ("POST", "/about", 405),
            ("DELETE", "/tab", 405),
            ("PUT", "/", 405),
            ("GET", "/nowhere", 404),
        ]:
            async with session.request(method, path) as response:
                assert response.status == status, path
                assert "error" in await response.json()


async def test_a_page_may_do_nothing_but_talk_to_its_server() -> None:
    """Its policy allows no script in the text, no frame around it, no other site; types are told, and not guessed."""
    async with served() as server, client(server, "") as session:
        for path in PAGE_PATHS:
            async with session.get(path) as response:
                policy = response.headers["Content-Security-Policy"]
                assert policy.startswith("default-src 'none'; script-src 'self';")
                assert "frame-ancestors 'none'" in policy
                assert "connect-src 'self'" in policy
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert response.headers["Cache-Control"] == "no-store"
                assert "Set-Cookie" not in response.headers
                kind = {"html": "text/html", "css": "text/css", "js": "text/javascript", "ttf": "font/ttf", "/": "text/html"}
                assert response.content_type == kind[path.rpartition(".")[2]]


async def test_a_token_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Where aiohttp knows none of a WebSocket's subprotocols it logs them: no request comes to that."""
    caplog.set_level(logging.DEBUG)
    async with served() as server, client(server) as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect("/tab", protocols=(f"bearer.{server.token}",))
        assert refused.value.status == 400
        async with opened(server) as tab:
            await tab.facts()
        async with session.get(f"/nowhere?token={server.token[:8]}") as response:
            assert response.status == 404
        assert server.token not in caplog.text
        assert server.token not in repr(server)


async def test_a_request_that_is_no_websocket_is_told_so() -> None:
    """A tab opens by a WebSocket only, and takes no place before it is one."""
    async with served() as server, client(server) as session:
        async with session.get("/tab", headers={"Sec-WebSocket-Protocol": TAB_PROTOCOL}) as response:
            assert response.status == 400
        async with opened(server) as tab:
            await tab.facts()


async def test_only_this_machine_is_listened_to() -> None:
    """The server is on the loopback, whatever else the machine has."""
    async with served() as server:
        assert server.url.startswith(f"http://{HOST}:")
        assert server._listening is not None
        assert [s.getsockname()[0] for s in server._listening.sockets] == ["127.0.0.1"]


async def test_a_port_that_is_taken_is_a_sentence() -> None:
    """It is named, with the way out."""
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use.*--port 0"):
            await WebServer(show("echo"), load()).listen(port)


async def test_each_start_has_a_token_of_its_own() -> None:
    """256 random bits."""
    tokens = {WebServer(show("echo"), load()).token for _ in range(5)}
    assert len(tokens) == 5
    assert min(map(len, tokens)) >= 43
    assert json.dumps(sorted(tokens)).isascii()
