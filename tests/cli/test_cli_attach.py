"""Promises of `cli.attach`: what a source tells is taken whole or not at all, and without a terminal it is told in lines."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from plt_tui.cli import attach
from plt_tui.control.folder import RunFolder
from plt_tui.errors import HubUnreachable
from plt_tui.protocol.events import End, Event, Phase
from plt_tui.views.source import RecordSource
from tests.held_runs import held_run
from tests.server.hub_fakes import FakeHub

DEADLINE_S = 60.0
"""Far more than a view takes to start, to speak or to end, on a machine that is busy."""
SAID = [Phase(phase="starting", step=0), Phase(phase="running", step=0)]


class _Hub(RecordSource):
    """One that has told a part, and then ends or does not go on."""

    is_closed = False
    ends = False

    async def events(self) -> AsyncIterator[Event]:
        yield SAID[0]
        if not self.ends:
            await asyncio.Event().wait()

    async def close(self) -> None:
        self.is_closed = True


async def told(source: RecordSource) -> list[Event]:
    """All that `told_so_far` gives."""
    return [event async for event in attach.told_so_far(source, "a")]


def test_a_record_is_told_to_its_end() -> None:
    """The mark behind it is not part of it."""
    assert asyncio.run(told(RecordSource(SAID))) == SAID


@pytest.mark.parametrize(
    ("ends", "said"), [(False, "the hub of a has said nothing for 0.05 s: it is stopped"), (True, "the hub of a ended before")]
)
def test_half_a_story_is_none(ends: bool, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that is stopped (SIGSTOP), or dies meanwhile, is a sentence; the connection is closed."""
    monkeypatch.setattr(attach, "ANSWER_S", 0.05)
    hub = _Hub(())
    hub.ends = ends
    with pytest.raises(HubUnreachable, match=said):
        asyncio.run(told(hub))
    assert hub.is_closed


@asynccontextmanager
async def lines_of(run: RunFolder) -> AsyncIterator[asyncio.subprocess.Process]:
    """`plt-tui attach` with nothing to read and a pipe to write to, as in a job's script."""
    words = ["-m", "plt_tui", "attach", run.name, "--dir", str(run.path.parent)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, cwd=run.path.parent
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def heard(process: asyncio.subprocess.Process, words: bytes) -> bytes:
    """The first line with these words."""
    assert process.stdout is not None
    while words not in (line := await asyncio.wait_for(process.stdout.readline(), DEADLINE_S)):
        assert line, f"no {words!r} before the end"
    return line


async def test_a_live_run_is_followed_in_lines_to_its_end(tmp_path: Path) -> None:
    """The viewer can only watch; the view ends with the run, and with its exit code."""
    hub = FakeHub()
    hub.begin()
    hub.train(1, 5)
    async with held_run(tmp_path / "quick", hub) as run, lines_of(run) as process:
        assert b"1/600" in await heard(process, b"step")
        hub.feed.publish(End(time=2e9, phase="failed", step=5, exit_code=4, reason="a rank died"))
        assert b"failed: a rank died" in await heard(process, b"end")
        assert await asyncio.wait_for(process.wait(), DEADLINE_S) == 4


async def test_a_hub_that_goes_without_a_word_ends_the_lines(tmp_path: Path) -> None:
    """With a sentence on stderr."""
    hub = FakeHub()
    hub.begin()
    hub.train(1, 1)
    async with AsyncExitStack() as view:
        async with held_run(tmp_path / "quick", hub) as run:
            process = await view.enter_async_context(lines_of(run))
            await heard(process, b"step")
        out, err = await asyncio.wait_for(process.communicate(), DEADLINE_S)
        assert (process.returncode, err.count(b"\n")) == (1, 1)
        assert b"the hub of quick is gone without a word; what became of it: plt-tui attach quick" in err
        assert b"\x1b" not in out


async def test_ctrl_c_leaves_the_lines_and_says_that_the_run_goes_on(tmp_path: Path) -> None:
    """The exit code is that of the signal."""
    hub = FakeHub()
    hub.begin()
    hub.train(1, 1)
    async with held_run(tmp_path / "quick", hub) as run, lines_of(run) as process:
        await heard(process, b"step")
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), DEADLINE_S)
        assert (process.returncode, err) == (130, b"quick goes on; see it again: plt-tui attach quick\n")


@pytest.mark.parametrize(
    ("is_terminal", "driver", "draws"), [(True, "", True), (False, "", False), (False, "web:Driver", True)]
)
def test_the_ui_is_drawn_on_a_terminal_or_by_a_driver_of_its_own(
    is_terminal: bool, driver: str, draws: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tab of `plt-tui web` has pipes only, and names its driver."""
    stream = SimpleNamespace(isatty=lambda: is_terminal)
    monkeypatch.setattr(attach, "sys", SimpleNamespace(stdin=stream, stdout=stream))
    monkeypatch.setattr(os, "environ", {"TEXTUAL_DRIVER": driver} if driver else {})
    assert attach.can_draw() is draws
