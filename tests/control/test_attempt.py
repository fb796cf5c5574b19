"""Promises of `control.attempt`, with real processes that play ranks: the cause is named at once, hangs and the undead too."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Callable
from multiprocessing.process import active_children

import psutil
import pytest

from plt_tui.config import patience
from plt_tui.control import attempt as attempt_module
from plt_tui.control import cgroup, watchdog
from plt_tui.control import supervisor as supervisor_module
from plt_tui.control.cgroup import MemoryUse
from plt_tui.control.folder import RunFolder
from plt_tui.control.hub import Hub
from plt_tui.control.watchdog import Hang, Watchdog
from plt_tui.protocol.events import Alert, Failed
from tests.control.hubs import end_of, finish, is_dead, is_training, new_hub, phases, play, rank_pid, running, said, until

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for hangs often."""
    monkeypatch.setattr(watchdog, "CHECK_S", 0.02)
    monkeypatch.setattr(watchdog, "SILENT_S", 2.0)  # longer than a busy machine keeps a healthy rank from a word


def hurt(hub: Hub, act: Callable[[], None]) -> Failed:
    """Let the hub train, `act`, and return the failure that follows."""

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))
            act()
            await until(lambda: len(said(hub, Failed)) > 0)

    play(scenario())
    return said(hub, Failed)[0]


def test_a_failure_is_named_once_all_ranks_have_spoken(hub_folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The patience for the others is not used up: the one that was killed, and the one that lost it, are all there are."""
    monkeypatch.setattr(attempt_module, "GATHER_S", 1000.0)
    hub = new_hub(hub_folder, "loses_its_peer")
    assert finish(hub) == 0
    assert [(failure.rank, failure.message) for failure in said(hub, Failed)] == [(1, "killed by SIGKILL")]
    assert said(hub, Failed)[0].exits["1"] == -9  # and of rank 0 what it ended with, if the hub did not end it first


@pytest.mark.parametrize(
    ("entry", "gather_s", "named"), [("says_its_steps_late", 1000.0, (1, 3)), ("takes_its_last_steps_along", 0.1, (0, 9))]
)
def test_the_step_of_a_failure_is_the_last_one_that_a_rank_has_made(
    hub_folder: RunFolder, monkeypatch: pytest.MonkeyPatch, entry: str, gather_s: float, named: tuple[int, int]
) -> None:
    """Rank 0 tells of a step up to a moment after it, or never: two failures at one step must be known as such."""
    monkeypatch.setattr(attempt_module, "GATHER_S", gather_s)
    hub = new_hub(hub_folder, entry, max_restarts=0)
    assert finish(hub) == 4
    (failure,) = said(hub, Failed)
    assert (failure.rank, failure.step, failure.while_starting) == (*named, False)


def test_a_rank_that_the_kernel_killed_for_memory_is_told_so(hub_folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control group's counter has grown: the limit and what to do are named."""
    kills = 3
    monkeypatch.setattr(cgroup, "oom_kills", lambda: kills)
    monkeypatch.setattr(cgroup, "memory_use", lambda: MemoryUse(used_bytes=0, total_bytes=24 << 30))
    hub = new_hub(hub_folder, "trains_on")

    def kill() -> None:
        nonlocal kills
        kills += 1
        os.kill(rank_pid(hub, 0), signal.SIGKILL)

    failure = hurt(hub, kill)
    assert failure.message == (
        "killed by SIGKILL: the kernel ended it because memory ran out (limit 24.0 GiB); "
        "lower train.batch_size, data.context or parallel.ranks"
    )


@pytest.mark.usefixtures("watchful")
def test_what_the_kernel_killed_long_before_says_nothing_of_a_rank(
    hub_folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counter is that of the whole control group: a rank is killed long after another process of it."""
    kills, looks = 3, 0

    def oom_kills() -> int:
        nonlocal looks
        looks += 1
        return kills

    monkeypatch.setattr(cgroup, "oom_kills", oom_kills)
    hub = new_hub(hub_folder, "trains_on", hang_s=0.0)

    async def scenario() -> None:
        nonlocal kills
        async with running(hub):
            await until(is_training(hub))
            kills += 1
            enough = looks + 2 * attempt_module.OOM_LOOKS
            await until(lambda: looks >= enough)
            os.kill(rank_pid(hub, 0), signal.SIGKILL)
            await until(lambda: len(said(hub, Failed)) > 0)

    play(scenario())
    assert said(hub, Failed)[0].message == "killed by SIGKILL"


@pytest.mark.usefixtures("watchful", "no_descriptor_left_open")
def test_a_rank_that_stands_still_is_named_and_all_are_started_again(
    hub_folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the one that waits for it; its stacks go along."""
    monkeypatch.setattr(attempt_module, "GATHER_S", 1000.0)
    hub = new_hub(hub_folder, "stands_still_once", start_s=20.0)

    async def scenario() -> None:
        async with running(hub) as session:
            log = hub_folder.rank_log(1)
            await until(lambda: log.exists() and log.read_text().count("in stands_still_once") > 0)
            hub._attempt._all_have_spoken.set()
            assert await session == 0

    play(scenario())
    (failure,) = said(hub, Failed)
    assert (failure.rank, failure.while_starting) == (1, True)
    assert re.sub(r"for 6\d s", "for 60 s", failure.message) == (
        "hung in 'preparing data': no progress for 60 s (control.start_s is 20); rank 0 waits for it"
    )
    assert "in stands_still_once" in failure.traceback
    assert "in stands_still_once" in "\n".join(failure.log_tail)
    assert phases(hub) == ["starting", "restarting", "running"]


@pytest.mark.usefixtures("watchful", "no_descriptor_left_open")
def test_a_rank_that_was_never_heard_is_named(hub_folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be asked for its stacks: it might die of the question."""
    hub = new_hub(hub_folder, "rank_1_is_never_heard", start_s=4.0, hang_s=1.0, max_restarts=0)
    check = Watchdog.check

    def check_once_rank_0_speaks(dog: Watchdog, now: float) -> Hang | None:
        if not dog.words[0].pid:
            dog.begin(len(dog.words), now)
        return check(dog, now)

    monkeypatch.setattr(Watchdog, "check", check_once_rank_0_speaks)
    assert finish(hub) == 4
    (failure,) = said(hub, Failed)
    assert (failure.rank, failure.is_signal) == (1, False)
    assert failure.message.startswith("hung in 'starting': silent for 4 s (control.start_s is 4); ")
    assert failure.traceback.startswith("no stacks")


@pytest.mark.usefixtures("watchful", "no_descriptor_left_open")
def test_a_stopped_rank_is_named_with_what_stopped_it(hub_folder: RunFolder) -> None:
    """Linux tells."""
    hub = new_hub(hub_folder, "trains_on", hang_s=0.3)
    failure = hurt(hub, lambda: os.kill(rank_pid(hub, 0), signal.SIGSTOP))
    assert failure.rank == 0
    assert "; stopped by a signal" in failure.message


@pytest.mark.usefixtures("watchful", "no_descriptor_left_open")
def test_nobody_looks_where_nobody_shall(hub_folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """`control.hang_s = 0` is never: a rank that was stopped for long goes on when it is let."""
    monkeypatch.setattr(patience, "SILENT_S", 0.3)  # where somebody looks
    hub = new_hub(hub_folder, "trains_on", hang_s=0.0, start_s=0.01)

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))
            os.kill(rank_pid(hub, 0), signal.SIGSTOP)
            await asyncio.sleep(1.0)
            os.kill(rank_pid(hub, 0), signal.SIGCONT)
            step = hub.feed.state.step
            await until(lambda: hub.feed.state.step > step + 50)

    play(scenario())
    assert said(hub, Failed) == []


@pytest.mark.usefixtures("watchful", "no_descriptor_left_open")
def test_a_hub_that_was_stopped_itself_blames_nobody(hub_folder: RunFolder) -> None:
    """What it did not hear while it did not run is not held against the ranks."""
    hub = new_hub(hub_folder, "trains_on", hang_s=0.4)

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))
            hub._attempt._watchdog._checked_at -= 100.0  # as after SIGCONT
            step = hub.feed.state.step
            await until(lambda: hub.feed.state.step > step + 50)

    play(scenario())
    assert said(hub, Failed) == []


def test_a_rank_that_cannot_be_ended_ends_the_run(hub_folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started in its place, it is named, and neither the hub nor its process waits for it."""
    monkeypatch.setattr(supervisor_module, "KILL_PATIENCE_S", 0.1)
    monkeypatch.setattr(supervisor_module.SpawnProcess, "kill", lambda self: None)
    hub = new_hub(hub_folder, "trains_on")
    pid = 0

    async def scenario() -> None:
        nonlocal pid
        async with running(hub) as session:
            await until(is_training(hub))
            pid = rank_pid(hub, 1)
            os.kill(pid, signal.SIGSTOP)  # else it would end with its link
            os.kill(rank_pid(hub, 0), signal.SIGKILL)
            assert await session == 4

    play(scenario())
    try:
        said_of_it = f"process {pid} cannot be ended (waiting for a device or a network file system?), "
        assert f"killed by SIGKILL; {said_of_it}" in end_of(hub).reason
        assert said_of_it in said(hub, Alert)[0].text
        assert psutil.pid_exists(pid)
        assert pid not in [child.pid for child in active_children()]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_the_end_of_a_run_does_not_wait_for_a_rank_that_cannot_be_ended(
    hub_folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second SIGINT ends the hub although a rank stays; the record names it."""
    monkeypatch.setattr(supervisor_module, "KILL_PATIENCE_S", 0.1)
    monkeypatch.setattr(supervisor_module.SpawnProcess, "kill", lambda self: None)
    hub = new_hub(hub_folder, "is_deaf", ranks=1)

    async def scenario() -> int:
        async with running(hub) as session:
            await until(is_training(hub))
            pid = rank_pid(hub, 0)
            os.kill(pid, signal.SIGSTOP)
            hub.stop_by_signal(signal.SIGINT)
            hub.stop_by_signal(signal.SIGINT)
            assert await session == 130
        return pid

    pid = asyncio.run(scenario())
    assert str(pid) in said(hub, Alert)[0].text
    assert not is_dead(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
