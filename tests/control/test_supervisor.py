"""Promises of `control.supervisor` and `protocol.link`, with real processes: what ranks say is heard, how they end is told."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from plt_tui.control import supervisor as supervisor_module
from plt_tui.control.supervisor import Supervisor
from plt_tui.protocol.commands import new_command
from plt_tui.protocol.events import Event, RankStatus, Step
from plt_tui.protocol.link import HUB_GONE_EXIT_CODE, MESSAGE_LINES, HubEnd, Queues
from plt_tui.protocol.rank import RankSpec, rank_process
from tests.control.fake_ranks import FLOOD
from tests.control.hubs import is_dead

DEADLINE_S = 20.0


class Listener:
    """Writes down what it is told, in order."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, Event]] = []
        self.exits: dict[int, int] = {}
        self.heard_at_exit: dict[int, int] = {}
        self.threads: set[threading.Thread] = set()

    def on_rank_events(self, rank: int, events: list[Event]) -> None:
        """A rank said something."""
        self.threads.add(threading.current_thread())
        self.heard.extend((rank, event) for event in events)

    def on_rank_exit(self, rank: int, exit_code: int) -> None:
        """A rank ended."""
        assert rank not in self.exits
        self.exits[rank] = exit_code
        self.heard_at_exit[rank] = sum(number == rank for number, _ in self.heard)

    def words(self, rank: int = 0) -> list[str]:
        """What a rank said it was doing."""
        return [event.doing for number, event in self.heard if number == rank and isinstance(event, RankStatus)]


@pytest.fixture
def spec(tmp_path: Path) -> RankSpec:
    """What rank 0 of a run is told; `entry` is to be replaced."""
    (tmp_path / "logs").mkdir()
    return RankSpec(
        entry="",
        run_dir=str(tmp_path),
        rank=0,
        world_size=1,
        device="cpu",
        threads=3,
        meeting_file=str(tmp_path / ".meeting"),
        hub_pid=os.getpid(),
    )


def specs_of(spec: RankSpec, entry: str, count: int = 1) -> list[RankSpec]:
    """`count` ranks that play `entry`."""
    return [replace(spec, entry=f"tests.control.fake_ranks:{entry}", rank=rank, world_size=count) for rank in range(count)]


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until `is_so`, at most DEADLINE_S."""
    give_up_at = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < give_up_at, "it did not come"
        await asyncio.sleep(0.002)


def play(scenario: Callable[[Supervisor, Listener], Coroutine[Any, Any, None]]) -> Listener:
    """Run `scenario`, then end what it started."""
    listener = Listener()

    async def main() -> None:
        supervisor = Supervisor(listener)
        try:
            await scenario(supervisor, listener)
        finally:
            await supervisor.kill()

    asyncio.run(asyncio.wait_for(main(), 2 * DEADLINE_S))
    return listener


def test_a_rank_lives_as_it_was_told(spec: RankSpec) -> None:
    """Its device, its threads before anything is imported, signals ignored and none blocked, its output in its log file."""

    async def scenario(supervisor: Supervisor, listener: Listener) -> None:
        supervisor.start(specs_of(spec, "says_how_it_lives"))
        await until(lambda: 0 in listener.exits)

    listener = play(scenario)
    assert listener.words() == ["cpu 3 ignored=[True, True] blocked=0 torch=False"]
    assert listener.exits == {0: 0}
    log = Path(spec.run_dir) / "logs" / "rank-0.log"
    assert log.read_text() == "printed\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_the_hubs_own_signal_mask_is_as_before(spec: RankSpec) -> None:
    """Signals are held back only while a rank starts."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])

    async def scenario(supervisor: Supervisor, listener: Listener) -> None:
        supervisor.start(specs_of(spec, "never_begins"))
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before

    play(scenario)


def test_commands_arrive_in_order_at_rank_0(spec: RankSpec) -> None:
    """All of them, also those sent while the rank was still starting; the others hear nothing."""
    commands = [new_command("eval") for _ in range(50)] + [new_command("stop")]

    async def scenario(supervisor: Supervisor, listener: Listener) -> None:
        supervisor.start(specs_of(spec, "echoes", 2))
        for command in commands:
            supervisor.send(command)
        await until(lambda: 0 in listener.exits)

    listener = play(scenario)
    assert listener.words(0) == [command.id for command in commands]
    assert listener.words(1) == []
    assert listener.threads == {threading.main_thread()}


def test_a_command_without_ranks_is_dropped(spec: RankSpec) -> None:
    """Before the start, and after the end: the hub keeps it until there are ranks again."""

    async def scenario(supervisor: Supervisor, listener: Listener) -> None:
        supervisor.send(new_command("eval"))
        supervisor.start(specs_of(spec, "echoes"))
        await supervisor.kill()
        supervisor.send(new_command("eval"))

    assert play(scenario).heard == []


def test_everything_said_is_delivered_before_the_exit(spec: RankSpec) -> None:
    """Also by a rank that is killed in the middle of a message: the torn one is dropped, those before it are not."""

    async def scenario(supervisor: Supervisor, listener: Listener) -> None:
        supervisor.start(specs_of(spec, "says_much_and_dies", 2))
        await until(lambda: len(listener.exits) == 2)

    listener = play(scenario)
    for rank in (0, 1):
        assert listener.words(rank) == [str(number) for number in range(20)]
        assert listener.exits[rank] == -signal.SIGKILL
        assert listener.heard_at_exit[rank] == 20


def read_without_the_loop(link: HubEnd, all_said: Path) -> int:
    """Hold this thread until a rank has said all, and nothing more of it is read; returns how many events were."""
    give_up_at, grew_at, num_events = time.monotonic() + DEADLINE_S, time.monotonic(), 0
    while not all_said.exists() or time.monotonic() - grew_at < 1.0:
        assert time.monotonic() < give_up_at
        if link.num_events > num_events:
            grew_at, num_events = time.monotonic(), link.num_events
        time.sleep(0.01)
    return num_events


def test_a_loop_that_stands_still_lets_ranks_wait(spec: RankSpec) -> None:
    """As in a sync of a hung disk: what a rank says meanwhile stays with the rank, whose memory is bounded, and then comes."""

    async def scenario(supervisor: Supervisor, listener: Listener) -> None:
        supervisor.start(specs_of(spec, "floods"))
        num_events = read_without_the_loop(supervisor._ranks[0].link, Path(f"{spec.meeting_file}-left"))
        assert listener.heard == []
        assert num_events <= MESSAGE_LINES < FLOOD
        await until(lambda: 0 in listener.exits)

    listener = play(scenario)
    steps = [event.step for _, event in listener.heard if isinstance(event, Step)]
    assert steps == list(range(1, FLOOD + 1))


def test_a_killed_rank_takes_no_other_along(spec: RankSpec) -> None:
    """Each has queues of its own: rank 1 still answers after rank 0 was torn away in a message."""

    async def scenario(supervisor: Supervisor, listener: Listener) -> None:
        first, second = specs_of(spec, "echoes", 2)
        supervisor.start([second, replace(first, entry="tests.control.fake_ranks:says_much_and_dies")])
        await until(lambda: 0 in listener.exits)
        supervisor.send(new_command("stop"))
        await until(lambda: 1 in listener.exits)

    listener = play(scenario)
    assert listener.exits == {0: -signal.SIGKILL, 1: 0}


def test_a_grandchild_that_holds_the_queues_does_not_hide_the_exit(spec: RankSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data loader's worker can outlive its rank; the end of file never comes, the exit is told all the same."""
    monkeypatch.setattr(supervisor_module, "LAST_WORDS_S", 0.05)

    async def scenario(supervisor: Supervisor, listener: Listener) -> None:
        supervisor.start(specs_of(spec, "leaves_a_grandchild"))
        try:
            await until(lambda: 0 in listener.exits)
        finally:
            (Path(spec.run_dir) / "go").touch()

    listener = play(scenario)
    assert listener.exits == {0: 5}
    assert listener.words() == ["last words"]


def test_after_kill_no_rank_is_alive_and_no_exit_is_told(spec: RankSpec) -> None:
    """Not even one that ignores every signal it can; two calls at once end the same ranks."""
    pids: list[int] = []

    async def scenario(supervisor: Supervisor, listener: Listener) -> None:
        supervisor.start(specs_of(spec, "never_begins", 3))
        await until(lambda: len(listener.heard) == 3)
        pids.extend(supervisor.pids)
        await asyncio.gather(supervisor.kill(), supervisor.kill())
        assert supervisor.pids == []
        assert not any(psutil.pid_exists(pid) for pid in pids)

    assert play(scenario).exits == {}
    assert len(set(pids)) == 3


def test_what_a_rank_has_started_ends_with_it(spec: RankSpec) -> None:
    """A data loader's worker, and what that started, must not go on beside the ranks that come next."""

    async def scenario(supervisor: Supervisor, listener: Listener) -> None:
        supervisor.start(specs_of(spec, "has_a_helper"))
        await until(lambda: bool(listener.heard))
        await supervisor.kill()
        for pid in map(int, listener.words()[0].split()):
            await until(lambda pid=pid: is_dead(pid))  # type: ignore[misc]

    play(scenario)


def test_a_rank_that_kill_does_not_end_is_given_up(spec: RankSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, and neither the event loop nor the end of this process waits for it."""
    now_s = 0.0
    monkeypatch.setattr(supervisor_module, "time", SimpleNamespace(monotonic=lambda: now_s))
    stuck: list[Any] = []

    async def scenario(supervisor: Supervisor, listener: Listener) -> None:
        nonlocal now_s
        supervisor.start(specs_of(spec, "never_begins", 2))
        await until(lambda: len(listener.heard) == 2)
        process = supervisor._ranks[1].process
        os.kill(process.pid or 0, signal.SIGSTOP)
        monkeypatch.setattr(process, "kill", lambda: None)
        stuck.append(process)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        killing = asyncio.create_task(supervisor.kill())
        await until(lambda: len(supervisor._dying) == 1 and ticks > 5)
        now_s += supervisor_module.KILL_PATIENCE_S + 1.0
        assert await killing == [process.pid]
        assert await supervisor.kill() == []
        ticking.cancel()

    play(scenario)
    (process,) = stuck
    assert process.is_alive()
    assert process not in multiprocessing.active_children()
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    process.close()


def test_ranks_can_be_started_again(spec: RankSpec) -> None:
    """An attempt leaves nothing that the next one trips over."""

    async def scenario(supervisor: Supervisor, listener: Listener) -> None:
        for _ in range(2):
            listener.exits.clear()
            supervisor.start(specs_of(spec, "says_how_it_lives", 2))
            await until(lambda: len(listener.exits) == 2)
            await supervisor.kill()

    assert len(play(scenario).heard) == 4


def start_rank(spec: RankSpec, queues: Queues) -> Any:
    """A rank's process without a supervisor."""
    process = multiprocessing.get_context("spawn").Process(target=rank_process, args=(spec, queues))
    process.start()
    return process


def test_a_rank_ends_when_its_hub_closes_the_queue(spec: RankSpec) -> None:
    """The way that works on every system: the end of the hub is the end of file, even while the rank is busy elsewhere."""
    queues = Queues.create(multiprocessing.get_context("spawn"))
    process = start_rank(specs_of(spec, "never_begins")[0], queues)
    queues.commands._writer.close()  # type: ignore[attr-defined]
    process.join(DEADLINE_S)
    assert process.exitcode == HUB_GONE_EXIT_CODE
    process.close()


def test_a_rank_whose_hub_was_gone_before_it_began_ends_at_once(spec: RankSpec) -> None:
    """The parent is another one than the spec says."""
    queues = Queues.create(multiprocessing.get_context("spawn"))
    process = start_rank(replace(specs_of(spec, "never_begins")[0], hub_pid=1), queues)
    process.join(DEADLINE_S)
    assert process.exitcode == HUB_GONE_EXIT_CODE
    process.close()
