"""Promises of `cli.hub`, the hub's own process: it outlives its starter, obeys signals, and takes its ranks along."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from plt_tui.cli.hub import Served, _open_http, ignore_stops, start_process, wait_for_socket, where_served
from plt_tui.config.load import to_toml
from plt_tui.config.schema import MetricsSection, ParallelSection, RunConfig
from plt_tui.control.folder import RunFolder
from plt_tui.control.record import read_journal, read_overview
from plt_tui.errors import STOP_EXIT_CODES, PltTuiError, RunInUse, UsageError
from plt_tui.protocol.commands import new_command
from plt_tui.protocol.events import End
from plt_tui.server.audience import Audience
from plt_tui.views.client import HubClient, run_command
from tests.control.hubs import is_dead
from tests.server.hub_fakes import FakeHub

DEADLINE_S = 30.0
GONE_S = 5.0
"""No rank may be alive this long after its hub was killed."""
CONFIG = to_toml(RunConfig(parallel=ParallelSection(device="cpu", ranks=2)))

Start = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run's folder; the ranks find the fake ones."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    made = RunFolder(tmp_path / "a")
    made.create(CONFIG)
    return made


@pytest.fixture
def start(folder: RunFolder) -> Iterator[Start]:
    """Start a hub whose ranks play an entry; it is open for clients on return, and gone after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start_one(entry: str) -> subprocess.Popen[bytes]:
        process = start_process(folder, resume="auto", locks=[folder.lock()], entry=f"tests.control.fake_ranks:{entry}")
        started.append(process)
        asyncio.run(wait_for_socket(folder, process))
        return process

    yield start_one
    for process in started:
        process.kill()
        process.wait(DEADLINE_S)
    folder.create(CONFIG)  # forgets what a killed hub left


def until(is_so: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """Wait until `is_so`."""
    give_up_at = time.monotonic() + deadline_s
    while not is_so():
        assert time.monotonic() < give_up_at, "it did not come"
        time.sleep(0.01)


def ranks_of(folder: RunFolder, process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The ranks of a hub, once they train."""
    until(lambda: read_overview(folder).phase == "running" and read_overview(folder).step > 0)
    children = psutil.Process(process.pid).children()
    return [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]


async def opened_http(folder: RunFolder, config: RunConfig) -> Served:
    """What is said of the HTTP server, which has been open for a moment."""
    hub = FakeHub()
    async with contextlib.AsyncExitStack() as doors:
        return await _open_http(hub, Audience(hub.feed), folder, config, doors)


def end_of(folder: RunFolder) -> End:
    """The last word of the run."""
    end = read_journal(folder)[-1]
    assert isinstance(end, End)
    return end


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_everybody_saves_and_stops(folder: RunFolder, start: Start, number: signal.Signals, exit_code: int) -> None:
    """Ctrl-C reaches the whole group; only the hub decides, and the ranks leave in good order."""
    process = start("trains_on")
    for rank in ranks_of(folder, process):
        rank.send_signal(number)
    process.send_signal(number)
    assert process.wait(DEADLINE_S) == exit_code
    end = end_of(folder)
    assert (end.phase, end.exit_code, end.weights_sha256 != "") == ("stopped", exit_code, True)
    assert not folder.is_live()
    assert (folder.logs / "hub.log").read_text() == ""


def test_a_closed_terminal_does_not_reach_the_hub(folder: RunFolder, start: Start) -> None:
    """It has a session of its own, and SIGHUP is ignored."""
    process = start("trains_on")
    ranks_of(folder, process)
    assert os.getsid(process.pid) == process.pid != os.getsid(0)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == 143


@pytest.mark.parametrize("entry", ["trains_on", "is_deaf"])
def test_a_killed_hub_takes_its_ranks_along_and_the_run_can_go_on(folder: RunFolder, start: Start, entry: str) -> None:
    """After kill -9 no rank is alive, the run is free, its overview says so, and the next hub finishes it."""
    process = start(entry)
    ranks = ranks_of(folder, process)
    assert len(ranks) == 2
    process.kill()
    process.wait(DEADLINE_S)
    until(lambda: all(is_dead(rank.pid) for rank in ranks), GONE_S)
    until(lambda: not folder.is_live(), GONE_S)
    assert read_overview(folder).phase == "failed"
    folder.create(CONFIG)
    assert start("trains").wait(DEADLINE_S) == 0
    assert end_of(folder).phase == "finished"


def test_files_of_the_working_folder_are_not_run(
    folder: RunFolder, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the hub nor in its ranks and helpers, whatever they are called; and ranks inherit no variable for that."""
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    imported_by_multiprocessing = ("socket", "pickle", "threading") if sys.version_info >= (3, 11) else ()
    for name in ("random", "argparse", "runpy", "asyncio", "plt_tui", *imported_by_multiprocessing):
        (foreign / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r}); raise ImportError")
    monkeypatch.chdir(foreign)
    process = start("tells_its_environment")
    assert process.wait(DEADLINE_S) == 0
    assert not (tmp_path / "ran").exists()
    log = (folder.logs / "rank-0.log").read_text()
    assert "PATH=" in log
    assert "PYTHONSAFEPATH=" not in log


def test_stops_behind_the_end_of_a_run_are_ignored_for_good() -> None:
    """The event loop's end does not give them back to the system, which would end a finished run with another exit code."""

    async def session() -> None:
        for number in STOP_EXIT_CODES:
            asyncio.get_running_loop().add_signal_handler(number, pytest.fail, "nobody listens any more")
        ignore_stops()

    before = {number: signal.getsignal(number) for number in STOP_EXIT_CODES}
    try:
        asyncio.run(session())
        assert {signal.getsignal(number) for number in STOP_EXIT_CODES} == {signal.SIG_IGN}
        for number in STOP_EXIT_CODES:
            os.kill(os.getpid(), number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_client_steers_through_the_socket(folder: RunFolder, start: Start) -> None:
    """A command is applied by the ranks and answered with its step; a bad one is refused with its range."""

    async def steer() -> None:
        process = start_process(folder, resume="auto", locks=[folder.lock()], entry="tests.control.fake_ranks:trains_on")
        try:
            client = await HubClient.connect(await wait_for_socket(folder, process), actor="ctl", deadline_s=5.0)
            applied = await run_command(client, new_command("set", {"name": "lr", "value": "0.5"}), DEADLINE_S)
            assert (applied.status, applied.actor, applied.step > 0) == ("applied", "ctl", True)
            await client.close()
        finally:
            process.terminate()
            assert await asyncio.to_thread(process.wait, DEADLINE_S) in (143,)

    asyncio.run(steer())
    end_of(folder)


def test_a_hub_that_cannot_start_tells_its_starter_why(folder: RunFolder) -> None:
    """What the process died of is raised again here, with its sentence and its exit code."""
    folder.config.write_text("[run]\nnaem = 1\n")
    process = start_process(folder, resume="auto", locks=[folder.lock()])
    with pytest.raises(UsageError, match="naem"):
        asyncio.run(wait_for_socket(folder, process))
    assert process.wait(DEADLINE_S) == UsageError.exit_code
    assert not folder.is_live()


def test_a_broken_record_is_a_sentence_too(folder: RunFolder) -> None:
    """Exit code 5 and the path, not a traceback."""
    folder.journal.write_bytes(b"{broken\n{broken\n")
    process = start_process(folder, resume="auto", locks=[folder.lock()])
    with pytest.raises(PltTuiError, match=r"journal\.jsonl cannot be read") as caught:
        asyncio.run(wait_for_socket(folder, process))
    assert caught.value.exit_code == process.wait(DEADLINE_S) == 5


def test_the_hub_holds_the_folder_of_the_checkpoints_too(folder: RunFolder, tmp_path: Path) -> None:
    """For as long as it lives, also once its starter has gone; then the folder is free for its owner."""
    root = tmp_path / "saved" / "a"
    locks = [folder.lock(), folder.claim(root)]
    process = start_process(folder, resume="auto", locks=locks, entry="tests.control.fake_ranks:trains_on")
    try:
        asyncio.run(wait_for_socket(folder, process))
        with pytest.raises(RunInUse, match=f"is in use by the run in {folder.path}"):
            folder.claim(root)
    finally:
        process.terminate()
        assert process.wait(DEADLINE_S) == 143
    os.close(folder.claim(root))


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        (MetricsSection(), "http://x:1 shows this run, read-only, to everybody on this machine"),
        (MetricsSection(token=True), "http://x:1 shows this run, read-only, for who has the token in {token}"),
        (MetricsSection(control=True), "http://x:1 shows this run and takes commands for who has the token in {token}"),
    ],
)
def test_where_a_run_is_served_is_a_sentence(folder: RunFolder, metrics: MetricsSection, words: str) -> None:
    """With the place of the token, not the token."""
    assert where_served(folder, RunConfig(metrics=metrics), "http://x:1") == words.format(token=folder.http_token)


def test_a_token_of_a_port_that_is_taken_lies_nowhere(folder: RunFolder) -> None:
    """Nobody is told of an address, and nothing tempts to send it to whoever has the port; the run goes on and says why."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config = RunConfig(metrics=MetricsSection(serve=True, control=True, address=address))
        served = asyncio.run(opened_http(folder, config))
    assert served.url == ""
    assert "Address already in use; metrics are not served (try 127.0.0.1:0" in served.problem
    assert not folder.http_token.exists()


def test_a_token_that_cannot_be_written_serves_nobody(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run trains on, and says why; an old one is gone."""
    folder.http_token.write_text("old")

    def replace_file(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("plt_tui.server.token.replace_file", replace_file)
    config = RunConfig(metrics=MetricsSection(serve=True, control=True))

    served = asyncio.run(opened_http(folder, config))
    assert served.url == ""
    assert (
        served.problem
        == f"{folder.http_token}: cannot be written: No space left on device; free some space; metrics are not served"
    )
    assert not folder.http_token.exists()
