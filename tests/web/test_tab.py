"""A tab and its process: what goes between them, and that neither outlives the other."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import psutil
import pytest

from plt_tui.web import server as web_server
from plt_tui.web import tab as web_tab
from plt_tui.web.server import TAB_PROTOCOL
from plt_tui.web.tab import DRIVER, environment_of
from plt_tui.web.wire import MAX_COLUMNS, MAX_ROWS, NO_MESSAGE, Size
from tests.web.serving import DEADLINE_S, client, opened, served, until_gone


def children() -> list[psutil.Process]:
    """The views that this process has started."""
    return psutil.Process().children(recursive=True)


async def test_a_view_gets_what_is_typed_and_shows_what_it_says() -> None:
    """Keys, sizes and focus go in as the page told them, in order; what comes out is shown as it is."""
    async with served() as server, opened(server, "?width=90&height=30") as tab:
        facts = await tab.facts()
        assert (facts["COLUMNS"], facts["ROWS"], facts["TEXTUAL_DRIVER"]) == ("90", "30", DRIVER)
        await tab.say("stdin", "pé\x1b[A")
        assert await tab.picture() == "Dpé\x1b[A".encode()
        await tab.say("resize", {"width": 10**6, "height": 10**6})
        assert await tab.picture() == f'M{{"type": "resize", "width": {MAX_COLUMNS}, "height": {MAX_ROWS}}}'.encode()
        await tab.say("ping", "7")
        message = await tab.socket.receive(10)
        assert message.data == '["pong", "7"]'


async def test_a_view_ends_with_its_page() -> None:
    """The page goes, without a word or with one: the process goes, and the others stay."""
    async with served() as server, opened(server) as stays:
        pid = (await stays.facts())["pid"]
        async with opened(server) as tab:
            polite = (await tab.facts())["pid"]
        await until_gone(polite)
        async with opened(server) as tab:
            rude = (await tab.facts())["pid"]
            assert tab.socket._response.connection is not None
            assert tab.socket._response.connection.transport is not None
            tab.socket._response.connection.transport.abort()
            await until_gone(rude)
        await stays.say("stdin", "still here")
        assert await stays.picture() == b"Dstill here"
        assert psutil.pid_exists(pid)


async def test_a_page_is_told_that_its_view_has_left() -> None:
    """With the last thing that it said, in which nothing is left that a terminal acts on."""
    async with served() as server, opened(server) as tab:
        pid = (await tab.facts())["pid"]
        await tab.say("stdin", "leave")
        assert await tab.goodbye() == (1000, "the run \\x1b]0;goes\\x07 on")
        await until_gone(pid)


@pytest.mark.parametrize(
    ("view", "words"),
    [("dies", "SomeError: \\x1b[31mno \\u202eluck"), ("refuses", "plt-tui: no run 'a'"), ("babbles", "")],
)
async def test_a_page_is_told_that_its_view_has_died(
    view: str, words: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of one that never began and of one that talks nonsense; nothing of what they said comes to this terminal."""
    monkeypatch.setattr(web_tab, "LEAVE_S", 0.2)
    async with served(view) as server, opened(server) as tab:
        assert await tab.goodbye() == (1000, words)
        assert children() == []
    assert capfd.readouterr() == ("", "")


async def test_a_command_that_is_not_there_is_a_sentence() -> None:
    """The page is told, and the place is free again."""
    async with served() as server:
        server._tabs._show = web_server.Show(name="a", is_steering=False, command=["/no/such/command"])
        async with opened(server) as tab:
            assert await tab.goodbye() == (1000, "the view cannot be started: No such file or directory")


async def test_a_view_that_heeds_nothing_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after its page has gone, and not later than LEAVE_S."""
    monkeypatch.setattr(web_tab, "LEAVE_S", 0.5)
    async with served("deaf") as server:
        async with opened(server) as tab:
            pid = (await tab.facts())["pid"]
        await until_gone(pid)


async def test_a_page_that_reads_nothing_loses_its_view(monkeypatch: pytest.MonkeyPatch) -> None:
    """A view that shows more than the page takes waits for it, in bounded memory, until the page is given up."""
    monkeypatch.setattr(web_server, "HEARTBEAT_S", 1.0)
    monkeypatch.setattr(web_tab, "LEAVE_S", 0.5)
    async with served("floods") as server, opened(server) as tab:
        pid = (await tab.facts())["pid"]
        connection = tab.socket._response.connection
        assert connection is not None
        assert connection.transport is not None
        connection.transport.pause_reading()  # type: ignore[attr-defined]  # a Transport that reads
        await asyncio.sleep(0.3)
        before = psutil.Process().memory_info().rss
        await until_gone(pid)
        assert psutil.Process().memory_info().rss - before < 32 << 20


@pytest.mark.parametrize("message", ["nonsense", '["quit"]', b"\0\1\2", "x" * 100_000])
async def test_what_no_page_sends_ends_the_tab(message: str | bytes) -> None:
    """It is neither obeyed nor handed on; the tab and its process end."""
    async with served() as server, opened(server) as tab:
        pid = (await tab.facts())["pid"]
        send = tab.socket.send_bytes if isinstance(message, bytes) else tab.socket.send_str
        await send(message)  # type: ignore[operator]  # of the two that fits
        code, words = await tab.goodbye()
        assert (code, words) == (1008, NO_MESSAGE) or code == 1009
        await until_gone(pid)


async def test_there_are_so_many_tabs_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is refused with a sentence before a process is started, and let in when another has gone."""
    monkeypatch.setattr(web_server, "MAX_TABS", 2)
    async with served() as server, client(server) as session, opened(server) as first:
        await first.facts()
        async with opened(server) as second:
            pid = (await second.facts())["pid"]
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect("/tab", protocols=(TAB_PROTOCOL,))
            assert refused.value.status == 503
            async with session.get("/about") as response:
                assert response.status == 503
                assert "tabs are open" in (await response.json())["error"]
            assert len(children()) == 2
        await until_gone(pid)
        async with opened(server) as third:
            await third.facts()


@pytest.mark.parametrize("view", ["echo", "deaf", "floods"])
async def test_no_view_outlives_its_server(view: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that closes ends all views, tells their pages why, and does not take long."""
    monkeypatch.setattr(web_tab, "LEAVE_S", 0.5)
    async with served(view) as server, opened(server) as one, opened(server) as two:
        pids = [(await tab.facts())["pid"] for tab in (one, two)]
        goodbyes = asyncio.gather(one.goodbye(), two.goodbye())
        began = time.monotonic()
        await server.close()
        assert time.monotonic() - began < DEADLINE_S
        assert not any(psutil.pid_exists(pid) for pid in pids)
        assert await goodbyes == [(1001, "plt-tui web was ended in its terminal")] * 2


def test_a_view_does_not_take_the_server_s_terminal_for_its_own() -> None:
    """Inside of tmux a view would wrap what it sends for the tmux around it; everything else of the person stays."""
    around = {"TMUX": "/tmp/t,1,0", "STY": "1.pts", "TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "7", "PLT_TUI_X": "y"}
    inside = environment_of(around, Size(80, 24))
    assert {"TMUX", "STY"}.isdisjoint(inside)
    assert (inside["NO_COLOR"], inside["PLT_TUI_X"]) == ("1", "y")
    assert (inside["COLUMNS"], inside["ROWS"], inside["TERM"]) == ("80", "24", "xterm-256color")
