"""The OpenAPI document: it holds the whole table, and schemathesis finds nothing that it does not say.

schemathesis asks a real server on the loopback, with a run that has said one thing of every kind.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

from plt_tui import __version__
from plt_tui.protocol.commands import VERBS
from plt_tui.protocol.events import (
    Alert,
    Checkpoint,
    CheckpointFailed,
    CommandStatus,
    End,
    Eval,
    Event,
    Failed,
    Gauges,
    Logs,
    Plan,
    RankStatus,
    Sample,
    Spike,
    Viewers,
)
from plt_tui.protocol.events import Phase as RunPhaseEvent
from plt_tui.server.http import HttpServer, serve_http
from plt_tui.server.openapi import document
from plt_tui.server.routes import COMMANDS, STREAM, routes
from tests.control.said import rewind
from tests.server.hub_fakes import FakeHub
from tests.server.locked import RIGHT, TOKEN

EXAMPLES = 6
"""Of each operation and kind: enough to meet every limit of a parameter."""
NAN, INF = float("nan"), float("inf")
SAID: list[Event] = [
    RunPhaseEvent(phase="running"),
    Eval(step=2, loss=NAN, perplexity=INF, bits_per_byte=-INF, accuracy=0.4),
    Sample(step=2, prompt="The ", text="end \x1b\ud800"),
    Checkpoint(step=2, path="checkpoints/2"),
    CheckpointFailed(step=3, reason="full"),
    Plan(step=4, target_step=9, tokens_per_step=1, steps_per_epoch=INF),
    CommandStatus(id="a", name="set", args={"name": "lr", "value": 0.5}, actor="tui", status="applied", before=1, after=[2.5]),
    Spike(step=3, what="loss", value=NAN, z=NAN, act="warn"),
    Failed(rank=1, message="out of memory", exit_code=4, exits={"1": -9}),
    Alert(topic="disk", text="full"),
    Logs(lines=[[1.5, "rank 0", "INFO", "line"]]),
    Gauges(cores=[NAN, 5.0], memory_used_bytes=1, memory_total_bytes=2, gpus=[{"index": 0, "power_w": None}], cpu_quota=1.5),
    RankStatus(rank=0, pid=9, doing="training", step=5),
    Viewers(viewers=[{"actor": "tui ana", "door": "socket", "readonly": True, "since": 1.0}]),
]


def busy_hub() -> FakeHub:
    """A hub whose run has said something of every kind that a route tells."""
    hub = FakeHub()
    hub.begin()
    hub.train(1, 40)
    for event in SAID:
        hub.feed.publish(event)
    hub.feed.publish(rewind(30, 40))
    hub.feed.publish(End(phase="stopped", step=30, exit_code=143))
    return hub


@asynccontextmanager
async def serving(token: str) -> AsyncIterator[HttpServer]:
    """A server for that hub, that takes commands where it has a token."""
    server = await serve_http(busy_hub(), "127.0.0.1:0", name="demo", token=token, control=bool(token))
    try:
        yield server
    finally:
        await server.close()


@contextmanager
def in_a_thread(token: str) -> Iterator[str]:
    """The URL of such a server, in an event loop of its own: schemathesis asks and waits."""
    started, url = threading.Event(), []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def live() -> None:
        loop.set_default_executor(ThreadPoolExecutor(1))
        await asyncio.to_thread(int)  # the one thread that answers need is there before any test looks for what it left behind
        async with serving(token) as server:
            url.append(server.url)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(live()))
    thread.start()
    try:
        assert started.wait(10)
        yield url[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def known(has_token: bool) -> dict[str, Any]:
    """The document of a server."""
    return document(routes({"/static/page.js": "text/javascript"}, has_token=has_token), has_token=has_token)


def without_security(told: dict[str, Any]) -> dict[str, Any]:
    """The document for a client that always sends the token: who does not is the business of `test_router_walk`."""
    for item in told["paths"].values():
        for operation in item.values():
            operation.pop("security", None)
    return told


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server with a token; it takes commands as fast as they come."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("plt_tui.server.door.PACE_S", 0.0)
        with in_a_thread(TOKEN) as url:
            yield url


@pytest.fixture(scope="module")
def open_url() -> Iterator[str]:
    """A server without one."""
    with in_a_thread("") as url:
        yield url


quick = settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)
locked_schema = schemathesis.openapi.from_dict(without_security(known(True))).exclude(path=STREAM.path)
open_schema = schemathesis.openapi.from_dict(known(False)).include(path=["/", "/api/v1/run", "/api/v1/logs", "/metrics"])


@locked_schema.parametrize()
@quick
def test_schemathesis_finds_nothing(case: Any, url: str) -> None:
    """Good and bad requests get the statuses, types and bodies of the document; what it calls bad is refused."""
    case.call_and_validate(base_url=url, headers=RIGHT, timeout=10)


@open_schema.parametrize()
@quick
def test_schemathesis_finds_nothing_without_a_token(case: Any, open_url: str) -> None:
    """The same of a server that only shows the run: a part of it, as the answers are the same."""
    case.call_and_validate(base_url=open_url, timeout=10)


def test_the_document_holds_the_whole_table() -> None:
    """Every route, its numbers and their limits; commands only where they can be."""
    for has_token in (False, True):
        table = routes({"/static/page.js": "text/javascript"}, has_token=has_token)
        told = known(has_token)
        assert {(path, method.upper()) for path, item in told["paths"].items() for method in item} == {
            (route.path, route.method) for route in table
        }
        assert (COMMANDS.path in told["paths"]) is has_token
    points = next(it for it in known(True)["paths"]["/api/v1/metrics"]["get"]["parameters"] if it["name"] == "points")
    assert (points["schema"]["minimum"], points["schema"]["default"]) == (1, 2000)
    assert "5000" in points["description"]


def test_every_verb_is_in_the_document() -> None:
    """With its arguments, and which of them it needs."""
    body = known(True)["paths"][COMMANDS.path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    forms = {form["title"]: form["properties"]["args"] for form in body["oneOf"]}
    assert {name: set(args["properties"]) for name, args in forms.items()} == {name: set(v.args) for name, v in VERBS.items()}
    assert {name: tuple(args["required"]) for name, args in forms.items()} == {name: v.required for name, v in VERBS.items()}


def test_what_needs_the_token_says_so() -> None:
    """All but the page; a server without one names no scheme."""
    for path, item in known(True)["paths"].items():
        for operation in item.values():
            assert ("security" in operation) is not (path in ("/", "/favicon.ico") or path.startswith("/static/"))
    assert "securitySchemes" not in known(False)["components"]
    assert "security" not in json.dumps(known(False)["paths"])


async def test_it_is_served() -> None:
    """As JSON, with the version of the tool; every event of the stream has a schema."""
    async with (
        serving(TOKEN) as server,
        aiohttp.ClientSession(server.url, headers=RIGHT) as web,
        web.get("/api/v1/openapi.json") as response,
    ):
        told = await response.json()
    assert (told["openapi"], told["info"]["version"]) == ("3.1.0", __version__)
    assert {cls.__name__ for cls in Event.__subclasses__()} < told["components"]["schemas"].keys()
