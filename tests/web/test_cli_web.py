"""The command `plt-tui web` without a browser: what it says, what it starts, how it ends."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

import pytest

from plt_tui.cli import web
from plt_tui.config.load import to_toml
from plt_tui.config.schema import RunConfig
from plt_tui.control.folder import RunFolder
from plt_tui.control.interpreter import module_command
from plt_tui.web import assets
from tests.cli.commands import Call, caller


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls a command as a shell does."""
    return caller(monkeypatch, capsys)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder of runs with one in it."""
    RunFolder(tmp_path / "demo").create(to_toml(RunConfig()))
    return tmp_path


def test_without_the_extra_it_says_how_to_get_it(call: Call, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2 and one sentence, before anything is served."""
    monkeypatch.setattr(assets, "find_spec", lambda _: None)
    done = call("web", "demo", "--dir", str(runs))
    assert done.exit_code == 2
    assert done.out == ""
    assert re.fullmatch(r"plt-tui: [^\n]*textual-serve, which is not installed; [^\n]*pip install 'plt-tui\[web\]'\n", done.err)


def test_an_unknown_run_is_named(call: Call, runs: Path) -> None:
    """Before a port is taken."""
    done = call("web", "other", "--dir", str(runs))
    assert done.exit_code == 2
    assert "runs there: demo" in done.err


@pytest.mark.parametrize(("options", "words"), [((), "watching only"), (("--control",), "watching and steering")])
def test_it_tells_its_address_once_and_ends_by_a_signal(
    call: Call, runs: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], words: str
) -> None:
    """The address with the token goes to stdout; the one that a browser is started with has no token."""
    started: list[str] = []
    monkeypatch.setattr(web, "has_screen", lambda *_: True)

    def browser(url: str) -> None:
        started.append(url)
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)  # once it waits for signals

    monkeypatch.setattr(web, "open_browser", browser)
    done = call("web", "demo", "--dir", str(runs), *options)
    assert done.exit_code == 143
    match = re.fullmatch(r"demo in a browser \((.*)\):\n(http://127\.0\.0\.1:\d+/)#token=([\w-]{43})\n", done.out)
    assert match is not None, done.out
    assert words in match[1]
    assert started == [match[2]]
    assert match[3] not in done.err


def test_a_browser_opens_where_the_person_sits() -> None:
    """On a screen of this machine: not in the terminal, and not at the far end of ssh."""
    assert web.has_screen({"DISPLAY": ":0"}, "linux")
    assert web.has_screen({"WAYLAND_DISPLAY": "wayland-0"}, "linux")
    assert web.has_screen({}, "darwin")
    assert not web.has_screen({}, "linux")
    assert not web.has_screen({"DISPLAY": ":0", "SSH_CONNECTION": "1 2 3 4"}, "linux")


def test_a_view_watches_only_unless_told_otherwise() -> None:
    """The folder goes as a path, which can be no option; read-only is what the hub is told."""
    watching = web.view_command(Path("/runs/-demo"), is_steering=False)
    assert watching == [*module_command("plt_tui"), "attach", "/runs/-demo", "--readonly"]
    assert "--readonly" not in web.view_command(Path("/runs/demo"), is_steering=True)
