"""Promises about exporters' processes: watched, told of, started again, given up, and gone with the run."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from plt_tui.control import exports as module
from plt_tui.control.exports import Exports, Patience, restart_after
from plt_tui.control.feed import Feed
from plt_tui.control.folder import RunFolder
from plt_tui.protocol.events import Alert, Event, Logs, Phase
from tests.control.hubs import is_dead, play, until

QUICK = Patience(tick_s=0.01, stall_s=60.0, backoff_s=(0.01, 0.02, 0.03), steady_s=60.0, finish_s=60.0)
FAKES = (sys.executable, "-m", "tests.control.fake_exporters")


class _Hub:
    """What exporters need of one."""

    def __init__(self) -> None:
        self.feed = Feed()
        self.feed.publish(Phase(phase="running"))

    def publish(self, event: Event) -> None:
        """Show `event`."""
        self.feed.publish(replace(event, time=time.time()))

    @property
    def alerts(self) -> list[str]:
        """The texts of all alerts, in order."""
        return [event.text for event in self.feed.events if isinstance(event, Alert)]


class _Stage:
    """A hub with one exporter that a fake plays."""

    def __init__(self, folder: RunFolder, name: str, patience: Patience, command: tuple[str, ...] = FAKES) -> None:
        self.hub = _Hub()
        self.folder = folder
        self.said: list[str] = []
        self.late_stop = asyncio.Event()
        self.exports = Exports(self.hub, folder, [name], say=self.said.append, patience=patience, command=command)

    @property
    def starts(self) -> int:
        """How often the fake was started."""
        path = self.folder.path / "starts"
        return len(path.read_text()) if path.exists() else 0

    async def end(self) -> None:
        """The run ends."""
        self.hub.feed.publish(Phase(phase="finished"))
        await self.exports.close(self.late_stop)

    def is_alive(self) -> bool:
        """True while a process is there."""
        return bool(self.exports.pids)


@asynccontextmanager
async def staged(
    folder: RunFolder, name: str, patience: Patience = QUICK, command: tuple[str, ...] = FAKES
) -> AsyncIterator[_Stage]:
    """The exporter at work; it is gone afterwards, whatever the test has seen."""
    stage = _Stage(folder, name, patience, command)
    stage.exports.start()
    try:
        yield stage
    finally:
        stage.late_stop.set()
        await stage.exports.close(stage.late_stop)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def test_one_that_works_is_never_spoken_of(hub_folder: RunFolder, no_descriptor_left_open: None) -> None:
    """No alert, no word; when the run is over it finishes and is gone."""

    async def scenario() -> None:
        async with staged(hub_folder, "works") as stage:
            await until(stage.is_alive)
            (pid,) = stage.exports.pids
            await asyncio.sleep(0.3)
            await stage.end()
            assert is_dead(pid)
            assert (stage.hub.alerts, stage.said) == ([], [])

    play(scenario())


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("raises", r"ValueError: boom \\x1b\[2J \(exit code 1\)"),
        ("leaves", "has ended, and the run goes on"),
        ("crashes", "was ended by SIGSEGV"),
        ("hangs", "has not moved for 0.5 s, and was ended"),
    ],
)
def test_one_that_fails_is_started_again_three_times_and_then_given_up(hub_folder: RunFolder, name: str, why: str) -> None:
    """Each time with its reason, through the filter; the last alert stands and says how to go on by hand."""

    async def scenario() -> None:
        patience = replace(QUICK, stall_s=0.5) if name == "hangs" else replace(QUICK, stall_s=60.0)
        async with staged(hub_folder, name, patience) as stage:
            await until(lambda: len(stage.hub.alerts) == 4)
            await until(lambda: not stage.is_alive())
            *again, last = stage.hub.alerts
            for text, after in zip(again, ("0.01", "0.02", "0.03"), strict=True):
                assert re.fullmatch(f"export {name}: {why}; started again in {after} s", text), text
            way_on = f"The record has everything: plt-tui export a --format {name}"
            assert re.fullmatch(f"export {name}: {why}; given up, the run does not need it. {way_on}", last), last
            assert set(stage.hub.feed.state.alerts) == {f"export {name}"}
            await asyncio.sleep(0.2)
            assert name == "hangs" or stage.starts == 4
            await stage.end()
            assert (stage.said, len(stage.hub.alerts)) == ([], 4)

    play(scenario())


def test_what_only_a_person_can_mend_is_not_tried_again(hub_folder: RunFolder) -> None:
    """A usage error is told once."""

    async def scenario() -> None:
        async with staged(hub_folder, "refuses") as stage:
            await until(lambda: len(stage.hub.alerts) == 1)
            await asyncio.sleep(0.2)
            (text,) = stage.hub.alerts
            assert text.startswith("export refuses: there is no key (exit code 2); given up")
            assert stage.starts == 1

    play(scenario())


def test_the_alert_goes_once_it_works_again(hub_folder: RunFolder) -> None:
    """With the first flush after the failure."""

    async def scenario() -> None:
        async with staged(hub_folder, "raises_once") as stage:
            await until(lambda: len(stage.hub.alerts) == 2)
            assert stage.hub.alerts[1] == ""
            assert stage.hub.feed.state.alerts == {}
            await stage.end()
            assert stage.said == []

    play(scenario())


def test_an_alert_of_an_earlier_session_goes_too(hub_folder: RunFolder) -> None:
    """It stood in the record when the run was resumed."""

    async def scenario() -> None:
        async with staged(hub_folder, "works") as stage:
            stage.hub.publish(Alert(topic="export works", text="export works: given up"))
            await until(lambda: stage.hub.feed.state.alerts == {})

    play(scenario())


def test_one_that_cannot_be_started_is_told_of(hub_folder: RunFolder) -> None:
    """As any other failure; nothing is left open."""

    async def scenario() -> None:
        async with staged(hub_folder, "works", command=("/nowhere/python",)) as stage:
            await until(lambda: len(stage.hub.alerts) == 4)
            assert "cannot be started: No such file or directory" in stage.hub.alerts[0]

    play(scenario())


def test_one_that_does_not_finish_is_ended_when_its_time_is_over(hub_folder: RunFolder) -> None:
    """The end of the run waits for `finish_s`, and no longer; people are told, as nothing is recorded any more."""

    async def scenario() -> None:
        async with staged(hub_folder, "never_finishes", replace(QUICK, finish_s=0.5)) as stage:
            await until(stage.is_alive)
            (pid,) = stage.exports.pids
            began = time.monotonic()
            await stage.end()
            assert 0.4 < time.monotonic() - began < QUICK.finish_s / 2
            assert is_dead(pid)
            (said,) = stage.said
            assert said.startswith("export never_finishes: not finished when its time was over. The record has everything")
            assert stage.hub.alerts == []

    play(scenario())


def test_a_stop_does_not_wait_for_it(hub_folder: RunFolder) -> None:
    """A second stop that comes while an exporter finishes ends it at once."""

    async def scenario() -> None:
        async with staged(hub_folder, "never_finishes", replace(QUICK, finish_s=60.0)) as stage:
            await until(stage.is_alive)
            (pid,) = stage.exports.pids
            asyncio.get_running_loop().call_later(0.2, stage.late_stop.set)
            await stage.end()
            assert is_dead(pid)

    play(scenario())


def test_one_that_waits_for_its_next_start_gets_it_when_the_run_ends(hub_folder: RunFolder) -> None:
    """So that what it missed is copied all the same."""

    async def scenario() -> None:
        async with staged(hub_folder, "raises_once", replace(QUICK, backoff_s=(60.0,))) as stage:
            await until(lambda: len(stage.hub.alerts) == 1)
            await stage.end()
            assert (stage.starts, stage.said) == (2, [])

    play(scenario())


def test_one_that_fails_at_the_end_is_told_of_and_not_tried_again(hub_folder: RunFolder) -> None:
    """Nothing is recorded any more, and nobody waits for another start."""

    async def scenario() -> None:
        async with staged(hub_folder, "fails_at_the_end") as stage:
            await until(lambda: stage.starts == 1)
            await stage.end()
            (said,) = stage.said
            assert said.startswith("export fails_at_the_end: the server is gone (exit code 1); given up")
            assert (stage.starts, stage.hub.alerts) == (1, [])

    play(scenario())


def test_a_flood_costs_a_bounded_time_and_disk(hub_folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read a little at a time, shown in parts, counted, and its log is put aside; the loop goes on."""
    monkeypatch.setattr(module, "MAX_LOG_BYTES", 100_000)

    async def scenario() -> None:
        logs: list[Logs] = []
        async with staged(hub_folder, "floods", replace(QUICK, stall_s=60.0)) as stage:
            publish = stage.hub.feed.publish
            stage.hub.feed.publish = lambda event: (logs.append(event) if isinstance(event, Logs) else None, publish(event))[1]
            await until(lambda: len(logs) >= 20)
            await stage.end()
        assert all(len(event.lines) <= module.MAX_LINES for event in logs)
        assert sum(event.dropped for event in logs) > 0
        assert {line[1] for event in logs for line in event.lines} == {"export floods"}
        sizes = [path.stat().st_size for path in hub_folder.logs.glob("export-floods.log*")]
        assert len(sizes) <= 2
        assert sum(sizes) <= 2 * (100_000 + module.MAX_OUTPUT_BYTES)

    play(scenario())


def test_what_it_has_started_goes_with_it(hub_folder: RunFolder) -> None:
    """Its whole group is ended."""

    async def scenario() -> None:
        async with staged(hub_folder, "has_a_child") as stage:
            child = hub_folder.path / "child"
            await until(lambda: child.exists() and child.read_text() != "")
            await stage.end()
            pid = int(child.read_text())
            await until(lambda: is_dead(pid))

    play(scenario())


def test_it_runs_apart(hub_folder: RunFolder) -> None:
    """In a session of its own, with one thread and no GPU, and is told whose it is."""

    async def scenario() -> None:
        async with staged(hub_folder, "tells_its_environment") as stage:
            told = hub_folder.path / "told"
            await until(lambda: told.exists() and told.read_text() != "")
            (pid,) = stage.exports.pids
            assert os.getsid(pid) == pid
            run_dir, hub, project, life, threads, devices = told.read_text().split("\n")
            assert (run_dir, hub, project) == (str(hub_folder.path), f"--hub={os.getpid()}", "--project=plt-tui")
            assert life.startswith("--life=")
            assert (threads, devices) == ("1", "")
            assert psutil.Process(pid).cmdline()[1:3] == ["-m", "tests.control.fake_exporters"]

    play(scenario())


def test_when_it_is_tried_again() -> None:
    """After each failure later, at last never; a usage error never."""
    assert [restart_after(failures, 1, (5.0, 20.0)) for failures in (1, 2, 3)] == [5.0, 20.0, None]
    assert restart_after(1, 2, (5.0, 20.0)) is None


def test_one_that_lived_long_counts_anew(hub_folder: RunFolder) -> None:
    """A failure a day is no reason to give up."""

    async def scenario() -> None:
        async with staged(hub_folder, "leaves", replace(QUICK, steady_s=0.0)) as stage:
            await until(lambda: len(stage.hub.alerts) == 6)
            assert all("started again in 0.01 s" in text for text in stage.hub.alerts)

    play(scenario())
