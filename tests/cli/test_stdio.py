"""`attach --stdio` as a process with pipes: it passes on, holds back, tells what became of the hub, and always ends."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from io import FileIO
from pathlib import Path
from typing import Any

import psutil
import pytest

from plt_tui.cli import files as files_module
from plt_tui.cli.stdio import _record, pass_on, watching
from plt_tui.config.load import to_toml
from plt_tui.config.schema import RunConfig
from plt_tui.control.folder import RunFolder
from plt_tui.control.record import Recorder
from plt_tui.protocol import framing
from plt_tui.protocol.events import End, Event, Logs, Run, Step, Steps
from plt_tui.protocol.remote import CUT, START, Introduction, decode
from tests.cli.commands import Call
from tests.held_runs import held_run
from tests.server.clients import HELLO, command
from tests.server.hub_fakes import FakeHub, until

DEADLINE_S = 60.0
"""Far more than a proxy takes to start, to speak or to end, on a machine that is busy."""
HELD_BYTES = 8 << 20
"""Most that a proxy may grow by while nobody reads; its buffers hold a part of a megabyte."""
CONFIG = RunConfig()


class Proxy:
    """`plt-tui attach --stdio` with a view that is a test."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self.stdin, self.stdout = process.stdin, process.stdout

    async def line(self) -> bytes:
        """The next line; empty at the end."""
        return await asyncio.wait_for(self.stdout.readline(), DEADLINE_S)

    async def introduction(self) -> Introduction:
        """The next line, which says which run this is."""
        line = await self.line()
        assert line.startswith(START), line
        return decode(line)

    async def hear_until(self, kind: str) -> dict[str, Any]:
        """The next event of this kind."""
        while line := await self.line():
            event: dict[str, Any] = json.loads(line)
            if event["kind"] == kind:
                return event
        raise AssertionError(f"no {kind} before the end")

    async def say(self, *messages: dict[str, Any]) -> None:
        """Send messages to the hub."""
        self.stdin.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))
        await self.stdin.drain()

    async def ends(self) -> int:
        """Wait for the end; the exit code."""
        return await asyncio.wait_for(self.process.wait(), DEADLINE_S)


@asynccontextmanager
async def proxy(run: RunFolder, *options: str) -> AsyncIterator[Proxy]:
    """A proxy of the run in its folder's parent."""
    words = ["-m", "plt_tui", "attach", "--stdio", *options, "--dir", str(run.path.parent), "--", run.name]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdin=pipe, stdout=pipe, stderr=pipe, limit=2**26, cwd=run.path.parent
    )
    try:
        yield Proxy(process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def test_a_live_run_is_passed_on_both_ways(tmp_path: Path) -> None:
    """An introduction, then the hub's own lines; commands reach it with the view's name; the end of stdin ends the proxy."""
    hub = FakeHub()
    hub.begin()
    hub.train(1, 5)
    async with held_run(tmp_path / "quick", hub) as run, proxy(run) as far:
        introduction = await far.introduction()
        assert (introduction.name, introduction.config, introduction.live) == ("quick", to_toml(CONFIG), True)
        await far.say(HELLO)
        assert (await far.hear_until("steps"))["count"] == 5
        await far.hear_until("caught_up")
        await far.say(command("pause"))
        assert (await far.hear_until("command"))["actor"] == "test ana@box"
        far.stdin.close()
        assert await far.ends() == 0
        assert await far.line() == b""


async def test_what_was_sent_before_the_view_left_arrives(tmp_path: Path) -> None:
    """All of it, although stdin ends right behind, and nobody reads the answers."""
    hub = FakeHub()
    async with held_run(tmp_path / "quick", hub) as run, proxy(run) as far:
        await far.introduction()
        await far.say(HELLO, command("note", text="bye"), command("pause"))
        far.stdin.close()
        assert await far.ends() == 0
        await until(lambda: len(hub.commands) == 2)
        assert [each.name for each in hub.commands] == ["note", "pause"]


@pytest.mark.parametrize("pieces", [1, 3])
async def test_a_proxy_that_may_only_watch_says_so_for_its_view(tmp_path: Path, pieces: int) -> None:
    """Whatever the view claims, in one piece or several: the hub refuses. So a key of ssh can be tied to watching."""
    hub = FakeHub()
    async with held_run(tmp_path / "quick", hub) as run, proxy(run, "--readonly") as far:
        await far.introduction()
        said = json.dumps(HELLO).encode() + b"\n" + json.dumps(command("pause")).encode() + b"\n"
        size = len(said) // pieces + 1
        for start in range(0, len(said), size):
            far.stdin.write(said[start : start + size])
            await far.stdin.drain()
            await asyncio.sleep(0.05)
        refused = await far.hear_until("command")
        assert (refused["status"], refused["reason"]) == ("refused", "this view is read-only")
        assert hub.commands == []


@pytest.mark.parametrize(
    ("line", "passed"),
    [
        (b'{"op":"hello","readonly":false,"after":7}', {"op": "hello", "readonly": True, "after": 7}),
        (b'{"op":"hello"}', {"op": "hello", "readonly": True}),
        (b'{"op":"hello","readonly":"no"}', {"op": "hello", "readonly": True}),
    ],
)
def test_a_hello_is_changed_in_one_thing(line: bytes, passed: dict[str, Any]) -> None:
    """All else stays."""
    assert json.loads(watching(line)) == passed


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"readonly":false,"readonly":false}', b'{"a":NaN}', b"\xff"])
def test_a_hello_that_the_hub_refuses_stays_one(line: bytes) -> None:
    """It is judged by the very function by which the hub judges."""
    assert watching(line) == line


def record(run: RunFolder, *events: Event) -> None:
    """Write a record, as the hub of the run does."""
    session = Run(
        time=1.0, name=run.name, dir="d", world_size=1, params=1, target_step=9, config=CONFIG.model_dump(mode="json"), edits=[]
    )
    with closing(Recorder(run, 0, pytest.fail)) as recorder:
        for event in (session, *events):
            recorder.record(event)


def step(number: int) -> Step:
    """A step."""
    return Step(time=1e9, step=number, loss=1.0, lr=0.1, grad_norm=1.0, tokens=number, tokens_per_s=1.0, step_ms=1.0)


async def rest_of(far: Proxy) -> list[str]:
    """The kinds of all events to the end."""
    kinds = []
    while line := await far.line():
        kinds.append(json.loads(line)["kind"])
    return kinds


async def test_a_finished_run_is_told_from_its_record(tmp_path: Path) -> None:
    """Without a hub and without a hello: everything to the end, the log lines, caught_up, and the end of the process."""
    run = RunFolder(tmp_path / "quick")
    run.create(to_toml(CONFIG))
    record(run, step(1), step(2), End(phase="finished", step=2, exit_code=0))
    (run.logs / "hub.log").write_text("the hub was here\n")
    async with proxy(run) as far:
        assert not (await far.introduction()).live
        assert await rest_of(far) == ["run", "steps", "end", "logs", "caught_up"]
        assert await far.ends() == 0


async def test_a_hub_that_dies_is_told_by_its_record(tmp_path: Path) -> None:
    """Behind whatever half a line there may be: the run is not live, and this is all that was written, with the crash."""
    async with AsyncExitStack() as stack:
        life = AsyncExitStack()
        run = await life.enter_async_context(held_run(tmp_path / "quick", FakeHub()))
        record(run, step(1))
        far = await stack.enter_async_context(proxy(run))
        assert (await far.introduction()).live
        await far.say(HELLO)
        await far.hear_until("caught_up")
        await life.aclose()
        assert await until_cut(far)
        assert not (await far.introduction()).live
        assert await rest_of(far) == ["run", "steps", "phase", "caught_up"]
        assert await far.ends() == 0


async def test_a_hub_that_lets_go_of_a_view_is_told(tmp_path: Path) -> None:
    """Here because the view has said what no view says: it hears why, and that the run goes on."""
    async with held_run(tmp_path / "quick", FakeHub()) as run, proxy(run) as far:
        await far.introduction()
        await far.say(HELLO, {"op": "unheard-of"})
        assert "unknown op" in (await far.hear_until("alert"))["text"]
        assert await until_cut(far)
        assert (await far.introduction()).live
        assert await far.line() == b""
        assert await far.ends() == 0


async def until_cut(far: Proxy) -> bool:
    """True once the line that ends what the hub has said has come."""
    while line := await far.line():
        if line.endswith(CUT):
            return True
    return False


async def test_a_hub_that_tells_the_end_needs_no_record(tmp_path: Path) -> None:
    """Its last word is the last line."""
    hub = FakeHub()
    async with AsyncExitStack() as stack:
        life = AsyncExitStack()
        run = await life.enter_async_context(held_run(tmp_path / "quick", hub))
        far = await stack.enter_async_context(proxy(run))
        await far.introduction()
        await far.say(HELLO)
        await far.hear_until("caught_up")
        hub.feed.publish(End(phase="stopped", step=0, exit_code=143))
        await life.aclose()
        assert (await far.hear_until("end"))["exit_code"] == 143
        assert await rest_of(far) == []
        assert await far.ends() == 0


class Unread:
    """A proxy whose stdout nobody reads, and which has nothing to do but to wait for that or for the hub."""

    def __init__(self, process: asyncio.subprocess.Process, stdin: FileIO, stdout: FileIO, before_bytes: int) -> None:
        self.process = process
        self.stdin, self.stdout = stdin, stdout
        self.before_bytes = before_bytes
        """Its memory when it had told nothing yet."""

    def grown_bytes(self) -> int:
        """What it holds more than then."""
        return int(psutil.Process(self.process.pid).memory_info().rss) - self.before_bytes

    async def ends(self) -> int:
        """Wait for the end; the exit code."""
        return await asyncio.wait_for(self.process.wait(), DEADLINE_S)


def waiting_bytes(pipe: FileIO) -> int:
    """What lies in a pipe."""
    return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0])


@asynccontextmanager
async def unread(tmp_path: Path, rows: int = 150_000) -> AsyncIterator[Unread]:
    """Such a proxy, with `rows` steps to tell; many of them fill its stdout."""
    hub = FakeHub()
    hub.fill(rows)
    (their_in, to_it), (from_it, their_out) = os.pipe(), os.pipe()
    async with held_run(tmp_path / "quick", hub) as run:
        words = ["-m", "plt_tui", "attach", "--stdio", "--dir", str(tmp_path), "--", run.name]
        process = await asyncio.create_subprocess_exec(sys.executable, *words, stdin=their_in, stdout=their_out)
        os.close(their_in)
        os.close(their_out)
        stdin, stdout = FileIO(to_it, "w"), FileIO(from_it)
        try:
            introduction = b""
            while not introduction.endswith(b"\n"):
                introduction += await asyncio.to_thread(stdout.read, 1)
            proxied = Unread(process, stdin, stdout, psutil.Process(process.pid).memory_info().rss)
            stdin.write(json.dumps(HELLO).encode() + b"\n")
            seen = [0]
            while len(seen) < 5 or len({*seen[-5:]}) > 1 or not seen[-1]:
                await asyncio.sleep(0.1)
                seen.append(waiting_bytes(stdout))
            yield proxied
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            stdin.close()
            stdout.close()


async def test_a_view_that_does_not_read_costs_no_memory(tmp_path: Path) -> None:
    """A stopped view: the history waits at the hub, and is whole when the view goes on."""
    async with unread(tmp_path) as far:
        assert far.grown_bytes() < HELD_BYTES
        told = b""
        while b'"caught_up"' not in told:
            data = await asyncio.wait_for(asyncio.to_thread(far.stdout.read, 1 << 20), DEADLINE_S)
            assert data
            told += data
        blocks = [event for event in map(framing.decode, told.splitlines()) if isinstance(event, Steps)]
        assert [number for block in blocks for number in block.column("step")] == list(range(1, 150_001))
        assert far.grown_bytes() < HELD_BYTES
        far.stdin.close()
        assert await far.ends() == 0


@pytest.mark.parametrize("rows", [1, 150_000], ids=["idle", "full"])
@pytest.mark.parametrize("which", ["stdin", "stdout"])
async def test_a_proxy_that_is_left_ends_whatever_it_waits_for(tmp_path: Path, which: str, rows: int) -> None:
    """Its view is gone, or its link: nothing stays behind on the far side."""
    async with unread(tmp_path, rows) as far:
        (far.stdin if which == "stdin" else far.stdout).close()
        assert await far.ends() == 0


def test_a_reader_that_leaves_is_noticed_while_there_is_nothing_to_write() -> None:
    """A quiet hub, and a stdin that stays open: the end of the other side is told by the poll."""
    hub, other = socket.socketpair()
    (in_outlet, in_inlet), (out_outlet, out_inlet) = os.pipe(), os.pipe()
    hub.setblocking(False)
    with hub, other, FileIO(in_outlet), FileIO(in_inlet, "w"), FileIO(out_inlet, "w"):
        os.close(out_outlet)
        with pytest.raises(ConnectionError):
            pass_on(hub, in_outlet, out_inlet, readonly=False)


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    """A sentence on stderr, the exit code of every other command, and nothing on stdout."""
    words = [sys.executable, "-m", "plt_tui", "attach", "--stdio", "--", "quick"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("plt-tui: no run 'quick' under runs")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--stdio", "ssh://gpu1/quick"), "--stdio goes with a run on this machine, not with ssh://"),
        (("--stdio", "--low-bandwidth", "quick"), "not with --low-bandwidth"),
        (("--remote-command", "x", "quick"), "--remote-command goes with a run on another machine"),
        (("ssh://-oProxyCommand=reboot/quick",), "no address such as"),
        (("--remote-command", "-v", "ssh://gpu1/quick"), "is no command for the other machine"),
    ],
)
def test_options_that_do_not_go_together(call: Call, words: tuple[str, ...], said: str) -> None:
    """A usage error, before anything is opened or started."""
    outcome = call("attach", *words)
    assert (outcome.exit_code, outcome.out) == (2, "")
    assert said in outcome.err


def test_lines_that_are_not_sent_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the first piece: they are older than all that come."""
    monkeypatch.setattr(files_module, "LOG_LINES", 1500)
    run = RunFolder(tmp_path / "quick")
    run.create(to_toml(CONFIG))
    record(run, step(1), End(phase="finished", step=1, exit_code=0))
    (run.logs / "rank-0.log").write_text("".join(f"line {number}\n" for number in range(2000)))
    pieces = [event for event in _record(run) if isinstance(event, Logs)]
    assert [(len(piece.lines), piece.dropped) for piece in pieces] == [(1000, 500), (500, 0)]
