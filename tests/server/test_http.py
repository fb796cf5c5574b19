"""The HTTP server over real connections: its answers, its guard on every route, its page, its port."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from plt_tui.errors import UsageError
from plt_tui.protocol.events import Alert, Checkpoint, Eval, Gauges, Logs, RankStatus, Sample, Spike, Viewers
from plt_tui.server import static
from plt_tui.server.api import behind
from plt_tui.server.guard import CSP, HEADERS
from plt_tui.server.http import serve_http
from tests.control.said import rewind
from tests.server.hub_fakes import DEADLINE_S, FakeHub

JSON = {"Accept": "application/json"}


@asynccontextmanager
async def served(hub: FakeHub, address: str = "127.0.0.1:0") -> AsyncIterator[str]:
    """A server for `hub`; its URL."""
    server = await serve_http(hub, address, name="demo")
    try:
        yield server.url
    finally:
        await server.close()


@pytest.fixture
async def url(hub: FakeHub) -> AsyncIterator[str]:
    """A server on a free port."""
    async with served(hub) as url:
        yield url


@pytest.fixture
async def web(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of that server."""
    async with aiohttp.ClientSession(url, timeout=aiohttp.ClientTimeout(total=DEADLINE_S)) as session:
        yield session


async def get(web: aiohttp.ClientSession, path: str) -> Any:
    """The JSON at `path`, strictly read."""
    async with web.get(path, headers=JSON) as response:
        assert (response.status, response.content_type) == (200, "application/json")
        return json.loads(await response.text(), parse_constant=pytest.fail)


async def routes(web: aiohttp.ClientSession) -> list[str]:
    """Every route that the index names, itself included."""
    return [*(await get(web, "/"))["routes"]]


async def test_the_index_tells_every_route(web: aiohttp.ClientSession) -> None:
    """`/` names the run and each route with a sentence."""
    index = await get(web, "/")
    assert (index["name"], index["token"], index["control"]) == ("demo", False, False)
    assert {"/", "/static/page.js", "/metrics", "/api/v1/run", "/api/v1/stream"} <= index["routes"].keys()
    assert all(index["routes"].values())


async def test_the_run_and_what_it_said(hub: FakeHub, web: aiohttp.ClientSession) -> None:
    """Each route gives its part of the feed, newest last, NaN as text."""
    hub.begin()
    hub.train(1, 5)
    for step in (2, 4):
        hub.feed.publish(Eval(step=step, loss=float("nan"), perplexity=7.0, bits_per_byte=3.0, accuracy=0.4))
        hub.feed.publish(Sample(step=step, prompt="The ", text="end"))
        hub.feed.publish(Checkpoint(step=step, path=f"checkpoints/{step}"))
    hub.feed.publish(Logs(lines=[[float(n), "rank 0", "INFO", f"line {n}"] for n in range(5)]))
    hub.feed.publish(Gauges(cores=[float("nan")], memory_used_bytes=1, memory_total_bytes=2, gpus=[]))
    hub.feed.publish(RankStatus(rank=0, pid=9, doing="training", step=5))
    run = await get(web, "/api/v1/run")
    assert (run["name"], run["state"], run["step"], run["last"]["loss"]) == ("demo", "starting", 5, 2.5)
    assert [event["step"] for event in await get(web, "/api/v1/evals")] == [2, 4]
    assert (await get(web, "/api/v1/evals?last=1"))[0]["loss"] == "nan"
    assert [event["text"] for event in await get(web, "/api/v1/samples")] == ["end", "end"]
    assert [event["path"] for event in await get(web, "/api/v1/checkpoints")] == ["checkpoints/2", "checkpoints/4"]
    assert [event["kind"] for event in await get(web, "/api/v1/journal?last=3")] == ["eval", "sample", "checkpoint"]
    assert await get(web, "/api/v1/logs?lines=1") == [{"time": 4.0, "source": "rank 0", "level": "INFO", "text": "line 4"}]
    gauges = await get(web, "/api/v1/gauges")
    assert (gauges["machine"]["cores"], gauges["ranks"][0]["doing"]) == (["nan"], "training")


async def test_a_run_that_said_nothing_has_answers_too(web: aiohttp.ClientSession) -> None:
    """No route fails before the first event."""
    for path in await routes(web):
        if path.startswith("/api/v1/") and path != "/api/v1/stream":
            await get(web, path)


async def test_metrics_by_range_and_points(hub: FakeHub, web: aiohttp.ClientSession) -> None:
    """Rows as they are, a range of steps, and buckets with their extremes."""
    hub.train(1, 9, loss=0.1 + 0.2)
    hub.train(10, 10, loss=9.0)
    everything = await get(web, "/api/v1/metrics")
    assert (everything["rows"], everything["columns"]["loss"][0], everything["max"]) == (10, 0.1 + 0.2, None)
    assert (await get(web, "/api/v1/metrics?from=3&to=5"))["columns"]["step"] == [3, 4, 5]
    few = await get(web, "/api/v1/metrics?points=2")
    assert (few["columns"]["step"], few["max"]["loss"]) == ([5, 10], [0.1 + 0.2, 9.0])


def eval_at(step: int) -> Eval:
    """An evaluation at `step`."""
    return Eval(step=step, loss=2.0, perplexity=7.0, bits_per_byte=3.0, accuracy=0.4)


async def test_a_rewound_run_answers_with_the_line_that_it_is_on(hub: FakeHub, web: aiohttp.ClientSession) -> None:
    """Steps, evaluations and checkpoints of a branch are gone from it; the journal and the summary tell of them."""
    hub.begin()
    hub.train(1, 6)
    for event in (eval_at(2), eval_at(4), Checkpoint(step=4, path="c"), eval_at(6)):
        hub.feed.publish(event)
    hub.feed.publish(Spike(step=6, what="loss", value=float("inf"), z=float("nan"), act="rewind"))
    hub.feed.publish(rewind(3, 6, actor="guard"))
    hub.train(4, 5)
    hub.feed.publish(eval_at(5))
    assert (await get(web, "/api/v1/metrics"))["columns"]["step"] == [1, 2, 3, 4, 5]
    assert [event["step"] for event in await get(web, "/api/v1/evals")] == [2, 5]
    assert await get(web, "/api/v1/checkpoints") == []
    spike, command, _ = await get(web, "/api/v1/journal?last=3")
    assert (spike["kind"], spike["value"], spike["z"], spike["act"]) == ("spike", "inf", "nan", "rewind")
    assert (command["name"], command["before"]) == ("rewind", 6)
    run = await get(web, "/api/v1/run")
    assert run["branches"] == [{"number": 1, "first": 4, "last": 6, "skip": 0, "actor": "guard"}]
    hub.begin(start_step=1)
    assert await get(web, "/api/v1/evals") == []


async def test_a_long_history_is_summarised_unasked(hub: FakeHub, web: aiohttp.ClientSession) -> None:
    """Without `points`, or with too many, an answer stays bounded."""
    hub.fill(50_000)
    assert (await get(web, "/api/v1/metrics"))["points"] == 2_000
    assert (await get(web, "/api/v1/metrics?points=999999"))["points"] == 5_000


@pytest.mark.parametrize(
    "query",
    [
        "metrics?points=0",
        "metrics?from=-1",
        "metrics?to=nan",
        "logs?lines=x",
        "evals?last=",
        "journal?last=1e3",
        "logs?lines=٣",
        "metrics?points=1&points=2",
        "journal?after=-1",
        "journal?last=1&last=2",
    ],
)
async def test_a_bad_parameter_is_named(web: aiohttp.ClientSession, query: str) -> None:
    """400 with the parameter, the value seen and what is allowed."""
    async with web.get(f"/api/v1/{query}") as response:
        assert response.status == 400
        assert (await response.json())["error"].startswith(query.split("?")[1].split("=")[0] + "=")


@pytest.mark.parametrize("path", ["/api/v1/run?x=1", "/api/v1/metrics?point=5", "/metrics?name=a", "/api/v1/stream?since=4"])
async def test_a_parameter_that_is_unknown_is_named(web: aiohttp.ClientSession, path: str) -> None:
    """A slip of the pen would else get another answer than the one that was meant, without a word."""
    name = path.partition("?")[2].partition("=")[0]
    async with web.get(path) as response:
        assert response.status == 400
        assert (await response.json())["error"].startswith(f"unknown parameter {name!r}; known here: ")


async def test_prometheus_text(hub: FakeHub, web: aiohttp.ClientSession) -> None:
    """`/metrics` is what Prometheus' own reader understands, with its content type."""
    hub.train(1, 1)
    async with web.get("/metrics") as response:
        assert response.content_type == "text/plain"
        families = {family.name for family in text_string_to_metric_families(await response.text())}
    assert {"plt_tui_train_loss", "plt_tui_step"} <= families


FOREIGN = [
    (421, "GET", {"Host": "evil.example"}),
    (403, "GET", {"Origin": "http://evil.example"}),
    (403, "GET", {"Sec-Fetch-Site": "cross-site"}),
    (405, "POST", {}),
    (405, "DELETE", {}),
    (405, "OPTIONS", {}),
    (421, "POST", {"Host": "evil.example", "Content-Type": "text/plain"}),
]
UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "x" * 22 + "=="}


@pytest.mark.parametrize(("status", "method", "headers"), FOREIGN, ids=str)
async def test_every_route_is_behind_the_guard(
    web: aiohttp.ClientSession, status: int, method: str, headers: dict[str, str]
) -> None:
    """A foreign Host, a foreign origin and every writing method are refused on all routes, upgrades and unknown paths too."""
    for path in [*await routes(web), "/unknown", "/api/v1/../../etc/passwd", "/api/v1/run/"]:
        for upgrade in ({}, UPGRADE):
            async with web.request(
                method, path, headers={**headers, **upgrade}, data=b"x" if method == "POST" else None
            ) as response:
                assert response.status == status, path
                assert HEADERS.items() <= dict(response.headers).items()
                assert "Access-Control-Allow-Origin" not in response.headers
                assert (await response.json())["error"]


async def test_every_answer_carries_the_headers(web: aiohttp.ClientSession) -> None:
    """Also errors: no sniffing, no scripts, no frames, no cache."""
    for path in [*await routes(web), "/unknown", "/api/v1/metrics?points=x"]:
        async with web.get(path, headers=JSON) as response:
            own = {CSP: static.PAGE_CSP} if path.startswith("/static/") else {}
            assert (HEADERS | own).items() <= dict(response.headers).items(), path
            assert not [name for name in response.headers if name.lower().startswith("access-control")]


async def test_unknown_paths_are_404_as_json(web: aiohttp.ClientSession) -> None:
    """Like every other refusal."""
    async with web.get("/favicon.png") as response:
        assert (response.status, response.content_type) == (404, "application/json")
        assert "Accept" in (await response.json())["error"]


async def test_head_has_no_body(web: aiohttp.ClientSession) -> None:
    """HEAD is answered like GET, without the body."""
    async with web.head("/api/v1/run") as response:
        assert (response.status, await response.read()) == (200, b"")


@pytest.mark.parametrize(
    "junk",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET " + b"a" * 9000 + b"\r\n\r\n"],
)
async def test_what_is_no_request_gets_an_error(url: str, web: aiohttp.ClientSession, junk: bytes) -> None:
    """TLS greetings, a missing Host and endless lines get a 4xx and the end; the server goes on."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(junk)
    status = int((await asyncio.wait_for(reader.readline(), DEADLINE_S)).split()[1])
    writer.close()
    await writer.wait_closed()
    assert 400 <= status < 500
    await get(web, "/api/v1/run")


async def test_a_taken_port_is_replaced_by_a_free_one(hub: FakeHub) -> None:
    """The server then listens on another port of the same host and says which."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with served(hub, f"127.0.0.1:{port}") as url, aiohttp.ClientSession(url) as web:
            assert url.startswith("http://127.0.0.1:")
            assert not url.endswith(f":{port}")
            assert (await get(web, "/"))["name"] == "demo"
        server = await serve_http(hub, f"127.0.0.1:{port}", name="demo")
        assert server.problem == (
            f"metrics.address: cannot listen on 127.0.0.1:{port}: Address already in use; metrics are on {server.url}"
        )
        await server.close()


async def test_a_forbidden_port_is_replaced_by_a_free_one(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for everybody but root below 1024."""
    listen = socket.create_server

    def create_server(address: tuple[str, int], **options: Any) -> socket.socket:
        if 0 < address[1] < 1024:
            raise PermissionError(errno.EACCES, "Permission denied")
        return listen(address, **options)

    monkeypatch.setattr(socket, "create_server", create_server)
    server = await serve_http(hub, "127.0.0.1:80", name="demo")
    assert server.problem.startswith(
        "metrics.address: cannot listen on 127.0.0.1:80: Permission denied; metrics are on http://"
    )
    async with aiohttp.ClientSession(server.url) as web:
        assert (await get(web, "/"))["name"] == "demo"
    await server.close()


@pytest.mark.parametrize("control", [True, False])
async def test_where_a_token_is_needed_no_other_port_will_do(hub: FakeHub, *, control: bool) -> None:
    """Whoever has taken it, perhaps another user, would be sent the token by those who ask where they were told to."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = await serve_http(hub, f"127.0.0.1:{port}", name="demo", token="secret", control=control)
        assert server.url == ""
        assert server.problem == (
            f"metrics.address: cannot listen on 127.0.0.1:{port}: Address already in use; metrics are not served "
            "(try 127.0.0.1:0, and read the port in run.json)"
        )
        await server.close()


@pytest.mark.parametrize("number", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EMFILE], ids=errno.errorcode.get)
async def test_a_host_that_cannot_be_listened_on_is_a_sentence(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Such as IPv6 where there is none: training needs no metrics, so nothing is raised, and closing is harmless."""

    def create_server(*_: object, **__: object) -> socket.socket:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket, "create_server", create_server)
    server = await serve_http(hub, "[::1]:8081", name="demo")
    assert server.url == ""
    assert server.problem == (
        f"metrics.address: cannot listen on [::1]:8081: {os.strerror(number)}; metrics are not served (try 127.0.0.1:0)"
    )
    await server.close()


async def test_localhost_is_served_under_its_name(hub: FakeHub) -> None:
    """The URL says what was configured."""
    async with served(hub, "localhost:0") as url, aiohttp.ClientSession(url) as web:
        assert url.startswith("http://localhost:")
        assert (await get(web, "/"))["name"] == "demo"


@pytest.mark.parametrize("address", ["0.0.0.0:0", "127.0.0.1", "[::]:0"])
async def test_an_address_that_will_not_do_is_refused_before_listening(hub: FakeHub, address: str) -> None:
    """The error names the setting."""
    with pytest.raises(UsageError, match=r"metrics\.address"):
        await serve_http(hub, address, name="demo")


async def test_the_journal_behind_a_number(hub: FakeHub, web: aiohttp.ClientSession) -> None:
    """Only what was said after it, oldest first: a program that polls asks with the greatest number that it has seen."""
    for number in (3, 4, 7, 9):
        hub.feed.publish(Alert(topic=str(number), text="a", seq=number))

    async def topics(query: str) -> list[str]:
        return [event["topic"] for event in await get(web, f"/api/v1/journal{query}")]

    assert await topics("") == ["3", "4", "7", "9"]
    assert await topics("?after=3") == ["4", "7", "9"]
    assert await topics("?after=5&last=1") == ["9"]
    assert await topics("?after=9") == await topics("?after=100000") == []


@pytest.mark.parametrize(
    ("seq", "expected"), [(0, [3, 0, 7, 0]), (2, [3, 0, 7, 0]), (3, [0, 7, 0]), (5, [0, 7, 0]), (7, [0]), (9, [0])]
)
def test_what_is_in_no_record_counts_by_its_place(seq: int, expected: list[int]) -> None:
    """An alert that the journal cannot be written is behind the last event that was."""
    events = [Alert(topic="disk", text="a", seq=number) for number in (3, 0, 7, 0)]
    assert [event.seq for event in behind(events, seq)] == expected


async def test_who_watches(hub: FakeHub, web: aiohttp.ClientSession) -> None:
    """As the hub has told it last."""
    assert await get(web, "/api/v1/viewers") == []
    ana = {"actor": "tui ana@box", "door": "socket", "readonly": False, "since": 1.5}
    hub.feed.publish(Viewers(viewers=[ana]))
    assert await get(web, "/api/v1/viewers") == [ana]


async def test_the_page_comes_from_the_package(web: aiohttp.ClientSession) -> None:
    """`/` for browsers, each of its files under `/static/`; nothing in it says where a client could load something else."""
    folder = Path(static.__file__).parent / "page"
    names = {path.name for path in folder.iterdir() if path.suffix in static.MEDIA}
    assert {"index.html", "page.css", "page.js"} <= names
    for name in names:
        path = "/" if name == "index.html" else f"/static/{name}"
        async with web.get(path, headers={"Accept": "text/html,*/*;q=0.8"}) as response:
            assert (response.status, response.content_type) == (200, static.MEDIA[Path(name).suffix])
            assert response.headers[CSP] == static.PAGE_CSP
            assert await response.read() == (folder / name).read_bytes()
            assert "http:" not in (await response.text()).replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server/http.py",
        "/static/..%2fhttp.py",
        "/static/%2e%2e/http.py",
        "/static/%2e%2e%2f%2e%2e%2fhttp.py",
        "/static//etc/passwd",
        "/static/%00",
        "/static/page.js%00.html",
        "/static/page.js/",
        "/static/",
        "/static/.page.js.swp",
        "/static/CON",
        "/static/..\\http.py",
        "/static/" + "a" * 300,
        "//static/page.js",
        "/../../etc/passwd",
        "/http-token",
        "/runs/demo/http-token",
    ],
)
async def test_no_path_leads_to_another_file(url: str, path: str) -> None:
    """Whatever is tried, as it stands on the wire: what is not in the table is not there."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), DEADLINE_S)
    writer.close()
    await writer.wait_closed()
    assert answer.split()[1] == b"404"


async def test_a_browser_that_asks_for_an_icon_gets_none(web: aiohttp.ClientSession) -> None:
    """Without an error in its console."""
    async with web.get("/favicon.ico") as response:
        assert (response.status, await response.read()) == (204, b"")


@pytest.mark.parametrize("expected", ["100-continue", "the moon"])
async def test_expectations_are_no_way_round_the_guard(url: str, expected: str) -> None:
    """Else aiohttp would answer them before any middleware, with a go-ahead, or a refusal of its own."""
    host, port = url.removeprefix("http://").split(":")
    for path in ("/api/v1/run", "/unknown"):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: evil.example\r\nExpect: {expected}\r\nConnection: close\r\n\r\n".encode())
        assert (await asyncio.wait_for(reader.read(), DEADLINE_S)).split()[1] == b"421"
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
async def test_a_server_for_other_machines_is_near_too(hub: FakeHub, address: str) -> None:
    """Its URL is one that programs of this machine can use."""
    server = await serve_http(hub, address, name="demo", token="secret")
    try:
        if not server.url:
            assert "not supported" in server.problem or "Cannot assign" in server.problem  # no IPv6 here
            return
        async with aiohttp.ClientSession(server.url, headers={"Authorization": "Bearer secret"}) as web:
            assert (await get(web, "/"))["token"] is True
    finally:
        await server.close()


async def test_closing_ends_idle_connections(hub: FakeHub) -> None:
    """A kept-alive connection does not hold the server open."""
    server = await serve_http(hub, "127.0.0.1:0", name="demo")
    async with aiohttp.ClientSession(server.url) as web:
        await get(web, "/")
        await asyncio.wait_for(server.close(), DEADLINE_S)
        with pytest.raises(aiohttp.ClientError):
            await web.get("/")
