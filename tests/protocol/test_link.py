"""Promises of `protocol.link`: a rank never waits for its hub, and what a stopped hub missed it finds when it comes back."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import psutil
import pytest

from plt_tui.errors import StorageError
from plt_tui.protocol.events import (
    Alert,
    Checkpoint,
    CommandStatus,
    Done,
    Event,
    Failed,
    Progress,
    RankStatus,
    Step,
)
from plt_tui.protocol.framing import decode
from plt_tui.protocol.link import KEPT_STEPS, MESSAGE_LINES, HubEnd, Outbox, Queues, RankEnd

DEADLINE_S = 100.0
SAID_STEPS = 300_000
SPAWN = multiprocessing.get_context("spawn")


def step(number: int) -> Step:
    """A step as training says it."""
    return Step(step=number, time=1e9, loss=2.71828, lr=0.001, grad_norm=1.0, tokens=number, tokens_per_s=1e4, step_ms=1.5)


def ack(number: int) -> CommandStatus:
    """The answer to a command, in force at step `number`."""
    return CommandStatus(id=str(number), name="set", args={}, actor="me", status="applied", step=number)


def status(number: int) -> RankStatus:
    """A word that the next one makes old."""
    return RankStatus(rank=0, pid=1, doing="training", step=number)


def lines(outbox: Outbox, count: int = 99) -> list[Event]:
    """What `outbox` hands on."""
    return [decode(line) for line in outbox.take(count)]


def told_as_dropped(event: Event) -> int:
    """The number of steps that `event` says are missing; 0 for every other one."""
    return int(event.text.split()[0]) if isinstance(event, Alert) and event.topic == "missing steps" else 0


KEPT = {
    "all in order": ([step(1), ack(1), step(2), Done(rank=0, step=2, finished=True)], [0, 1, 2, 3]),
    "the newest steps": ([step(n) for n in range(1, 6)], [2, 3, 4]),
    "answers among dropped steps": ([ack(0), step(1), ack(1), *map(step, range(2, 6)), ack(5)], [0, 2, 4, 5, 6, 7]),
    "the newest word of the moment": ([status(1), step(1), status(2), ack(1), status(3)], [1, 3, 4]),
    "one word of each kind": ([status(1), Progress(task="a", done=1, total=2), status(2)], [1, 2]),
    "every failure": ([Failed(rank=0, message="a", exit_code=4), Checkpoint(step=1, path="c"), step(1)], [0, 1, 2]),
}


@pytest.mark.parametrize(("said", "kept"), KEPT.values(), ids=KEPT)
def test_of_what_is_said_the_right_things_are_kept(said: list[Event], kept: list[int]) -> None:
    """With room for three steps: the oldest go, words of the moment are replaced, everything else stays, in order."""
    outbox = Outbox(max_steps=3)
    for event in said:
        outbox.add(event)
    num_steps = sum(isinstance(event, Step) for event in said)
    assert (outbox.num_dropped, len(outbox)) == (max(0, num_steps - 3), len(kept))
    assert lines(outbox) == [said[place] for place in kept]
    assert len(outbox) == 0


def test_room_that_was_taken_back_is_room_again() -> None:
    """Steps that were handed on do not count any more, and an old word is not looked for among them."""
    outbox = Outbox(max_steps=3)
    for number in range(1, 10):
        outbox.add(status(number))
        outbox.add(step(number))
        assert lines(outbox, 1) == [status(number)]
        assert lines(outbox, 1) == [step(number)]
    assert outbox.num_dropped == 0


class Hub:
    """The parent's end: does not read before `open`."""

    def __init__(self) -> None:
        self.queues = Queues.create(SPAWN)
        self.heard: list[Event] = []
        self.longest_message = 0
        self.is_over = threading.Event()
        self.end = HubEnd(self.queues, self._hear, self.is_over.set)

    def _hear(self, events: list[Event]) -> None:
        self.longest_message = max(self.longest_message, len(events))
        self.heard.extend(events)

    def of(self, cls: type[Any]) -> list[Any]:
        """The events of one class."""
        return [event for event in self.heard if isinstance(event, cls)]


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub that has not begun to read, and is closed at the end."""
    made = Hub()
    yield made
    made.end.close()


def start(hub: Hub, body: Any) -> tuple[Any, Connection]:
    """A rank's process that plays `body(link, connection)`, and our end of the connection."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=play, args=(body, hub.queues, theirs))
    process.start()
    theirs.close()
    return process, ours


def play(body: Any, queues: Queues, connection: Connection) -> None:
    """The rank's process; it ends as ranks do."""
    link = RankEnd(queues)
    body(link, connection)
    connection.send("closed")
    os._exit(0)


def answer(connection: Connection) -> Any:
    """What the rank says beside the link; fails when it does not come."""
    assert connection.poll(DEADLINE_S), "the rank hangs"
    return connection.recv()


def resident_bytes() -> int:
    """Memory of this process."""
    return int(psutil.Process().memory_info().rss)


def timed(link: RankEnd, numbers: range) -> float:
    """Say these steps; the median time of one in seconds, in blocks of 100."""
    times = []
    for first in numbers[::100]:
        began = time.perf_counter()
        for number in range(first, first + 100):
            link.send(step(number))
        times.append((time.perf_counter() - began) / 100)
    return median(times)


def says_much(link: RankEnd, connection: Connection) -> None:
    """Say SAID_STEPS steps, and every 10 000 of them an answer, to a hub that does not read; then again to one that does."""
    memory = []
    times = []
    for first in range(1, SAID_STEPS, 10_000):
        times.append(timed(link, range(first, first + 10_000)))
        link.send(ack(first + 9_999))
        link.send(status(first + 9_999))
        memory.append(resident_bytes())
    connection.send((median(times), memory))
    connection.recv()
    reading_s = timed(link, range(SAID_STEPS + 1, SAID_STEPS + 20_001))
    connection.send(reading_s)
    link.send(Done(rank=0, step=SAID_STEPS + 20_000, finished=True))
    link.close()


def test_a_hub_that_does_not_read_costs_a_rank_neither_time_nor_memory(hub: Hub) -> None:
    """300 000 steps are said to a stopped hub; when it reads again every answer is there, and the newest steps, in order."""
    process, connection = start(hub, says_much)
    stopped_s, memory = answer(connection)
    hub.end.open()
    give_up_at = time.monotonic() + DEADLINE_S
    while not any(map(told_as_dropped, hub.heard)):
        assert time.monotonic() < give_up_at, "nothing was told of the steps that are missing"
        time.sleep(0.01)
    connection.send("go")
    reading_s = answer(connection)
    assert hub.is_over.wait(DEADLINE_S)
    process.join(DEADLINE_S)
    assert process.exitcode == 0
    connection.close()

    assert memory[-1] - memory[-4] < 4 << 20  # 30 000 more steps, which would take 8 MB
    assert stopped_s < 5 * reading_s + 20e-6
    numbers = [event.step for event in hub.of(Step)]
    assert numbers == sorted(set(numbers))
    assert numbers[-KEPT_STEPS:] == list(range(SAID_STEPS + 20_001 - KEPT_STEPS, SAID_STEPS + 20_001))
    assert len(numbers) + max(map(told_as_dropped, hub.heard)) == SAID_STEPS + 20_000
    assert [event.step for event in hub.of(CommandStatus)] == list(range(10_000, SAID_STEPS + 1, 10_000))
    assert hub.of(RankStatus)[-1].step == SAID_STEPS
    assert hub.longest_message <= MESSAGE_LINES + 1
    last_step = 0
    for event in hub.heard:  # each answer is behind the steps before it, and before those after it
        last_step = event.step if isinstance(event, Step) else last_step
        assert not isinstance(event, CommandStatus) or last_step <= event.step
    assert isinstance(hub.heard[-1], Done)


def leaves(link: RankEnd, connection: Connection) -> None:
    """Say more than the queue takes, and wait a moment only for somebody to read it."""
    for number in range(1, 100_001):
        link.send(step(number))
        if number % 1000 == 0:
            link.send(ack(number))
    began = time.monotonic()
    link.close(patience_s=0.5)
    connection.send(time.monotonic() - began)
    link.send(step(1))  # a thread that comes too late is no error


def test_a_rank_that_is_done_does_not_wait_for_ever(hub: Hub) -> None:
    """The hub never reads: after its patience the rank ends all the same."""
    process, connection = start(hub, leaves)
    assert 0.4 < answer(connection) < 10
    assert answer(connection) == "closed"
    process.join(DEADLINE_S)
    assert process.exitcode == 0
    connection.close()
    hub.end.open()


def leaves_last_words(link: RankEnd, connection: Connection) -> None:
    """As `leaves`, with all the patience there is."""
    for number in range(1, 100_001):
        link.send(step(number))
    link.send(Done(rank=0, step=100_000, finished=True))
    connection.send("said")
    link.close()


def test_a_rank_that_is_done_waits_for_a_slow_hub(hub: Hub) -> None:
    """Everything said before `close` is heard, however late the hub begins to read."""
    process, connection = start(hub, leaves_last_words)
    assert answer(connection) == "said"
    assert not connection.poll(0.3)  # it waits
    hub.end.open()
    assert answer(connection) == "closed"
    assert hub.is_over.wait(DEADLINE_S)
    process.join(DEADLINE_S)
    connection.close()
    assert [event.step for event in hub.of(Step)] == list(range(1, 100_001))
    assert isinstance(hub.heard[-1], Done)
    assert not any(map(told_as_dropped, hub.heard))


def asks_for_receipts(link: RankEnd, connection: Connection) -> None:
    """Say three things and ask for a receipt of the first, whenever told to."""
    link.send(ack(1))
    receipt = link.receipt()
    link.send(ack(2))
    link.send(ack(3))
    while connection.recv():
        connection.send(receipt())


def test_a_receipt_comes_once_the_hub_is_done_with_what_was_said(hub: Hub) -> None:
    """Not while it does not read, nor while it is still at what it has read."""
    process, connection = start(hub, asks_for_receipts)
    at_it, go_on = threading.Event(), threading.Event()

    def hang(events: list[Event]) -> None:
        at_it.set()
        assert go_on.wait(DEADLINE_S)

    hub.end._on_events = hang

    def is_heard() -> bool:
        connection.send(True)
        return bool(answer(connection))

    assert not is_heard()
    hub.end.open()
    assert at_it.wait(DEADLINE_S)
    assert not is_heard()
    go_on.set()
    give_up_at = time.monotonic() + DEADLINE_S
    while not is_heard():
        assert time.monotonic() < give_up_at, "no receipt"
    connection.send(False)
    process.join(DEADLINE_S)
    connection.close()


def test_a_hub_that_is_late_with_what_it_has_heard_hears_the_end(hub: Hub) -> None:
    """It takes longer over a message than its end waits for it, as on a disk that hangs."""
    go_on = threading.Event()
    hub.end._on_events = lambda _: go_on.wait(DEADLINE_S)
    hub.queues.events.put(b'{"kind":"phase","phase":"running"}')
    while not hub.queues.events._reader.poll():  # type: ignore[attr-defined]
        time.sleep(0.01)
    hub.end.open()
    hub.end.close(timeout_s=0.05)
    go_on.set()
    assert hub.is_over.wait(DEADLINE_S)


CAUSES = [OSError(28, "No space left on device"), OSError(38, "Function not implemented"), ImportError("no sem_open")]


@pytest.mark.parametrize("cause", CAUSES, ids=str)
def test_queues_that_cannot_be_made_are_a_sentence(monkeypatch: pytest.MonkeyPatch, cause: Exception) -> None:
    """With the cause and what to do, not a traceback."""

    def fail(*_: object, **__: object) -> None:
        raise cause

    monkeypatch.setattr(SPAWN, "Queue", fail)
    with pytest.raises(StorageError, match=r"queues between hub and ranks cannot be made: .*/dev/shm: make room there"):
        Queues.create(SPAWN)


MAKE = """
import multiprocessing
from plt_tui.errors import StorageError
from plt_tui.protocol.link import Queues
try:
    Queues.create(multiprocessing.get_context("spawn"))
    print("made")
except StorageError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("options", "outcome"), [("size=1m", "made"), ("size=4k", "No space left"), ("size=1m,ro", "Read-only file system")]
)
def test_queues_in_a_small_shared_memory(options: str, outcome: str) -> None:
    """1 MB of /dev/shm is plenty; one that is full or read-only is said, where this user may mount one."""
    unshare = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-Urm"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        pytest.skip("this user may not mount a /dev/shm of their own; the sentence is tested in any case")
    script = 'mount -t tmpfs -o "$1" none /dev/shm && "$2" -c "$3"'
    command = [*unshare, "sh", "-c", script, "sh", options, sys.executable, MAKE]
    assert outcome in subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
