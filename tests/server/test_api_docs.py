"""docs/API.md and docs/SECURITY.md say what is so."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plt_tui.config.schema import MetricsSection
from plt_tui.protocol.commands import VERBS
from plt_tui.server.routes import COMMANDS, routes
from tests.server.hub_fakes import DEADLINE_S, FakeHub
from tests.server.locked import TOKEN, locked

TESTS = Path(__file__).parents[1]
DOCS = TESTS.parent / "docs"
API = (DOCS / "API.md").read_text()
SECURITY = (DOCS / "SECURITY.md").read_text()


@pytest.fixture
def served() -> Iterator[tuple[str, FakeHub]]:
    """A run of 40 steps that takes commands, served in a thread of its own."""
    hub = FakeHub()
    hub.begin()
    hub.train(1, 40)
    started, stop, loop, url = threading.Event(), asyncio.Event(), asyncio.new_event_loop(), list[str]()

    async def live() -> None:
        async with locked(hub) as server:
            url.append(server.url)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(live()))
    thread.start()
    try:
        assert started.wait(10)
        yield url[0], hub
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def scripts(url: str, run: Path) -> list[str]:
    """The Python of the document, asking `url`; the token lies below `run`."""
    found = re.findall(r"```python\n(.*?)```", API, re.DOTALL)
    return [text.replace("http://127.0.0.1:8081", url).replace("runs/quickstart", str(run)) for text in found]


def test_the_examples_in_python_run(
    served: tuple[str, FakeHub], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """History, stream and command, as they stand there."""
    url, hub = served
    (tmp_path / "http-token").write_text(TOKEN)
    (tmp_path / "run.json").write_text(json.dumps({"metrics_url": url}))
    history, stream, command = scripts(url, tmp_path)
    names: dict[str, Any] = {}
    exec(history.replace('token=""', f'token="{TOKEN}"'), names)
    assert len(names["loss"]) == 40

    exec(command, names)
    assert capsys.readouterr().out == "40\n"
    assert [asked.name for asked in hub.commands] == ["pause"]

    monkeypatch.setattr(asyncio, "run", lambda work: work.close())
    exec(stream.replace('token=""', f'token="{TOKEN}"'), names)
    monkeypatch.undo()

    said = ""

    async def has_said() -> None:
        nonlocal said
        following = asyncio.ensure_future(names["follow"]())
        while "40 steps, loss 2.5000" not in said:
            assert not following.done()
            await asyncio.sleep(0.01)
            said += capsys.readouterr().out
        following.cancel()

    asyncio.run(asyncio.wait_for(has_said(), DEADLINE_S))


def test_the_examples_for_a_shell_say_what_they_need() -> None:
    """Each run that they look into is started under that name; the token goes where the run says that it listens."""
    blocks = re.findall(r"```bash\n(.*?)```", API, re.DOTALL)
    starts = [line for line in blocks[0].splitlines() if "plt-tui run" in line]
    names = {name for block in blocks for name in re.findall(r"runs/(\w+)/", block)}
    assert names == {"quickstart"}
    assert all("--name quickstart " in line for line in starts)
    senders = [word for block in blocks[2:] for word in re.findall(r"^(?:curl|websocat) .*$", block, re.MULTILINE)]
    assert len(senders) > 10
    assert not any("://" in line for line in senders)
    assert ['"ws${run#http}/api/v1/stream"', '-H="$auth"'] in [line.split()[1:3] for line in senders]  # websocat 1: URL first


def test_every_route_is_described() -> None:
    """In the table of routes, with its parameters; each parameter has a place in an example or a heading."""
    rows = {path: row for row in API.splitlines() for path in re.findall(r"^\| `(?:GET|POST) ([^`]+)`", row)}
    for route in routes({}, has_token=True):
        if route.path == "/favicon.ico":
            continue
        assert f"`{route.method} {route.path}`" in rows[route.path]
        for number in route.numbers:
            assert f"`{number.name}`" in rows[route.path]
            assert re.search(rf"[?&]{number.name}=", API)


def test_every_verb_and_argument_is_described() -> None:
    """In the table of verbs."""
    part = API.partition("| verb | arguments |")[2].partition("\n\n")[0]
    rows = {name: row for row in part.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1] if "|" in row else "")}
    assert rows.keys() == VERBS.keys()
    for name, verb in VERBS.items():
        assert all(f"`{argument}`" in rows[name] for argument in verb.args)


def test_every_status_of_a_command_is_described() -> None:
    """Those that the route may answer beside what any route may."""
    assert all(str(status) in API for status in COMMANDS.statuses)


def test_every_setting_is_described() -> None:
    """Of the section, but for the log's."""
    assert all(f"| `{name}` |" in API for name in MetricsSection.model_fields if name != "log_every")


def test_every_test_that_is_named_is_there() -> None:
    """A promise whose test has gone is none."""
    named, missing, last = 0, list[str](), ""
    for found in re.findall(r"`([\w/]*(?:::\w+)?)`", SECURITY):
        file, _, test = found.partition("::")
        if not (test or "/" in file or file.startswith("test_")) or file.startswith(("application/", "text/")):
            continue
        last = file or last
        candidates = [TESTS / f"{last}.py", TESTS / "server" / f"{last}.py", TESTS / last]
        path = next((path for path in candidates if path.exists()), None)
        named += 1
        if path is None or (test and not re.search(rf"^(async )?def {test}\(", path.read_text(), re.MULTILINE)):
            missing.append(found)
    assert missing == []
    assert named > 50
