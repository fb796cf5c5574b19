"""`plt-tui web` on real runs, in headless Chromium: watch, steer, be refused, leave; and nothing is left of it."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import psutil
import pyte
import pytest
from playwright.sync_api import Page, WebSocket

from plt_tui.control.folder import RunFolder
from plt_tui.control.record import read_journal
from plt_tui.protocol.events import CommandStatus
from plt_tui.web.server import TAB_PROTOCOL
from tests.browser import visit
from tests.end_to_end.runs import (
    PLT_TUI,
    UNHURRIED,
    at_step,
    command,
    ended,
    environment,
    finish,
    options,
    read_until,
    show,
    start,
    wait_until,
)

ENDLESS = ("train.steps=100000", "optim.warmup=0", "optim.schedule=constant", "parallel.ranks=1")
BRIEF = options("train.steps=5", "parallel.ranks=1")
BRAILLE = re.compile("[\u2801-\u28ff]")
DEADLINE_S = 60.0


class Web:
    """`plt-tui web WORDS` in a process of its own."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.errors = folder / "web.stderr"
        with self.errors.open("a") as errors:
            self.process = subprocess.Popen(
                [*PLT_TUI, "web", *words, "--no-open"],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment(),
            )
        assert self.process.stdout is not None
        self.title = self.process.stdout.readline()
        self.address = self.process.stdout.readline().strip()
        """The page with the token behind it."""
        self.url, _, self.token = self.address.partition("#token=")

    def views(self) -> list[psutil.Process]:
        """The `attach` processes of the tabs."""
        return psutil.Process(self.process.pid).children(recursive=True)


@contextmanager
def serving(folder: Path, *words: str) -> Iterator[Web]:
    """The server; at the end it is told to go, and goes."""
    web = Web(folder, *words)
    try:
        yield web
        web.process.send_signal(signal.SIGTERM)
        assert web.process.wait(20) == 143, web.errors.read_text()
    finally:
        web.process.kill()
        web.process.communicate()


@contextmanager
def training(folder: Path, name: str) -> Iterator[None]:
    """A run that goes on for as long as the block."""
    process = start(folder, name, *ENDLESS, extra=UNHURRIED)
    with ended(process):
        read_until(process, at_step(20))
        yield
        command(folder, "ctl", name, "stop", "--now")
        finish(process, exit_code=143)


class Tab:
    """A page, and what its terminal shows: the bytes that came over its WebSocket, through an emulator."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.addresses: list[str] = []
        """Everything that the page has asked for."""
        self.errors: list[str] = []
        """Of the page's scripts."""
        self._screen = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self._screen)
        page.on("request", lambda request: self.addresses.append(request.url))
        page.on("websocket", self._opened)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _opened(self, socket: WebSocket) -> None:
        self.addresses.append(socket.url)
        asked = parse_qs(urlsplit(socket.url).query)
        self._screen = pyte.Screen(int(asked["width"][0]), int(asked["height"][0]))
        self._stream = pyte.ByteStream(self._screen)
        socket.on("framereceived", self._received)
        socket.on("framesent", self._sent)

    def _received(self, data: bytes | str) -> None:
        if isinstance(data, bytes):
            self._stream.feed(data)

    def _sent(self, data: bytes | str) -> None:
        words = json.loads(data)
        if words[0] == "resize":
            self._screen.resize(lines=words[1]["height"], columns=words[1]["width"])

    @property
    def text(self) -> str:
        """What a person sees now."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    @property
    def curve(self) -> str:
        """The dots of all charts, line by line."""
        return "\n".join("".join(BRAILLE.findall(line)) for line in self._screen.display)

    @property
    def columns(self) -> int:
        """How wide the terminal is."""
        return self._screen.columns

    def press(self, key: str) -> None:
        """Type a key."""
        self.page.keyboard.press(key)

    def wait_until(self, happens: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
        """Return once `happens()` is true."""
        for _ in range(int(deadline_s / 0.05)):
            if happens():
                return
            self.page.wait_for_timeout(50)
        pytest.fail(f"not in {deadline_s} s:\n{self.text}\n{self.page.locator('body').inner_text()}")

    def wait_for(self, *wanted: str) -> None:
        """Return once every one of `wanted` is on the screen."""
        self.wait_until(lambda: all(words in self.text for words in wanted))


@contextmanager
def tabs_of(*addresses: str) -> Iterator[tuple[Tab, ...]]:
    """A browser with a page at each of `addresses`."""
    with visit("about:blank", width=1200, height=720) as first:
        pages = [first.page, *(first.page.context.new_page() for _ in addresses[1:])]
        tabs = tuple(Tab(page) for page in pages)
        for tab, address in zip(tabs, addresses, strict=True):
            tab.page.goto(address)
        yield tabs
        assert [tab.errors for tab in tabs] == [[] for _ in tabs]
        assert not [words for words in first.complaints if "Content Security Policy" in words]


def commands_of(folder: Path, name: str) -> list[str]:
    """The statuses of all that was asked of the run so far."""
    return [event.status for event in read_journal(RunFolder(folder / "runs" / name)) if isinstance(event, CommandStatus)]


def test_a_run_is_watched_and_steered_in_a_browser(tmp_path: Path) -> None:
    """The curve moves, p pauses and resumes, d leaves; two tabs are two views, and leaving one leaves the other."""
    with (
        training(tmp_path, "shown"),
        serving(tmp_path, "shown", "--control") as web,
        tabs_of(web.address, web.address) as (tab, other),
    ):
        assert "watching and steering" in web.title
        tab.wait_for("training", "shown", "loss", "rank")
        other.wait_for("training", "shown")
        assert tab.page.title() == "shown · plt-tui"
        tab.page.bring_to_front()  # a page that nobody sees is not drawn
        curve, picture = tab.curve, tab.page.screenshot()
        assert curve.strip()
        tab.wait_until(lambda: tab.curve != curve and tab.page.screenshot() != picture)
        assert len(web.views()) == 2
        tab.press("p")
        tab.wait_for("paused at step")
        assert show(tmp_path, "shown")["state"] == "paused"
        other.wait_for("paused at step")
        tab.press("p")
        tab.wait_until(lambda: show(tmp_path, "shown")["state"] == "running")
        tab.press("d")
        tab.page.get_by_text("This view has ended").wait_for()
        assert "shown goes on" in tab.page.inner_text("#over-words")
        tab.wait_until(lambda: len(web.views()) == 1)
        now = other.curve
        other.wait_until(lambda: other.curve != now)
        tab.page.get_by_role("button", name="Open it again").click()
        tab.wait_until(lambda: len(web.views()) == 2)
        tab.wait_for("training", "shown")


def test_without_control_a_browser_only_watches(tmp_path: Path) -> None:
    """The key p is answered with why not, and nothing reaches the run; the view is read-only for the hub too."""
    with training(tmp_path, "watched"), serving(tmp_path, "watched") as web, tabs_of(web.address) as (tab,):
        assert "watching only" in web.title
        tab.wait_for("training", "watched")
        assert tab.page.title() == "watched · plt-tui (watching)"
        assert all("--readonly" in view.cmdline() for view in web.views())
        tab.press("p")
        tab.wait_for("read-only")
        before = show(tmp_path, "watched")["step"]
        tab.wait_until(lambda: show(tmp_path, "watched")["step"] > before)
        assert commands_of(tmp_path, "watched") == []
        tab.page.set_viewport_size({"width": 700, "height": 500})
        tab.wait_until(lambda: tab.columns < 100)
        tab.wait_for("training")


def test_the_token_is_in_no_address_and_no_list_of_processes(tmp_path: Path) -> None:
    """It leaves the address bar at once; nothing outside is asked; a wrong one is said to be wrong, and can be typed again."""
    command(tmp_path, "run", "--no-ui", "--name", "done", *BRIEF)
    with serving(tmp_path, "done") as web:
        with tabs_of(web.url, web.address) as (typed, linked):
            typed.page.get_by_label("Token").fill("wrong")
            typed.page.get_by_role("button", name="Open the run").click()
            typed.page.get_by_text("This is not the token").wait_for()
            typed.page.get_by_label("Token").fill(web.token)
            typed.page.keyboard.press("Enter")
            typed.wait_for("finished", "done")
            linked.wait_for("finished", "done")
            assert linked.page.url == typed.page.url == web.url
            before = {view.pid for view in web.views()}
            typed.page.reload()
            typed.wait_until(lambda: len(web.views()) == 2 and {view.pid for view in web.views()} != before)
            typed.wait_for("finished", "done")
            processes = [psutil.Process(web.process.pid), *web.views()]
            assert not any(web.token in word for process in processes for word in process.cmdline())
            assert not any(web.token in value for process in processes for value in process.environ().values())
            addresses = typed.addresses + linked.addresses
            assert len(addresses) > 10
            assert all(address.startswith((web.url, web.url.replace("http", "ws"), "data:")) for address in addresses)
            assert not any(web.token in address for address in addresses)
        wait_until(lambda: web.views() == [])
    assert web.errors.read_text().count("\n") == 1
    assert web.token not in web.errors.read_text()
    files = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert not any(web.token.encode() in path.read_bytes() for path in files)


def test_a_page_is_told_that_the_server_has_ended(tmp_path: Path) -> None:
    """Instead of a picture that stands still."""
    command(tmp_path, "run", "--no-ui", "--name", "done", *BRIEF)
    with serving(tmp_path, "done") as web, tabs_of(web.address) as (tab,):
        tab.wait_for("finished", "done")
        web.process.send_signal(signal.SIGTERM)
        tab.page.get_by_text("plt-tui web was ended in its terminal").wait_for()
        assert web.process.wait(20) == 143


def test_a_server_that_is_killed_leaves_no_view(tmp_path: Path) -> None:
    """The views see that nobody talks to them any more, also those that are still starting."""
    command(tmp_path, "run", "--no-ui", "--name", "done", *BRIEF)
    web = Web(tmp_path, "done")

    async def two_tabs() -> list[psutil.Process]:
        protocols = (TAB_PROTOCOL, f"bearer.{web.token}")
        async with aiohttp.ClientSession() as session:
            shown = await session.ws_connect(f"{web.url}tab", protocols=protocols)
            message = await shown.receive(DEADLINE_S)
            assert message.type is aiohttp.WSMsgType.BINARY
            await session.ws_connect(f"{web.url}tab", protocols=protocols)
            await asyncio.to_thread(wait_until, lambda: sum("attach" in view.cmdline() for view in web.views()) == 2)
            views = web.views()
            web.process.kill()
            return views

    try:
        views = asyncio.run(two_tabs())
        wait_until(lambda: not any(view.is_running() for view in views))
    finally:
        web.process.kill()
        web.process.communicate()
