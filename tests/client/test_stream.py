"""Promises of `client.stream`: one reader's events, none lost, none twice, and a bound to what waits."""

from __future__ import annotations

import asyncio

import pytest

from plt_tui.client import stream as stream_module
from plt_tui.client.stream import EventStream
from plt_tui.errors import ConnectionLost, UsageError
from plt_tui.protocol.events import Alert, Event, Gauges, OpenLine, Phase, Progress, RankStatus, Recent


def alert(number: int) -> Alert:
    """One of many."""
    return Alert(topic="t", text=str(number))


def gauges(percent: float) -> Gauges:
    """The machine, of which only one core matters."""
    return Gauges(cores=[percent], memory_used_bytes=0, memory_total_bytes=0, gpus=[])


async def rest_of(stream: EventStream[Event]) -> list[Event]:
    """All that waits, to the end."""
    stream.end(None)
    return [event async for event in stream]


async def test_events_come_in_order_and_once() -> None:
    """Also those that came before the reader asked, and those that it waits for."""
    stream = EventStream((Event,))
    stream.put(alert(1))
    first, second = asyncio.create_task(anext(stream)), asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    stream.put(alert(2))
    assert [await first, await second] == [alert(1), alert(2)]
    stream.put(alert(3))
    assert await rest_of(stream) == [alert(3)]


async def test_only_the_wanted_kinds_wait() -> None:
    """What a reader did not ask for costs it nothing."""
    stream: EventStream[Event] = EventStream((Alert, Phase))
    for event in (alert(1), gauges(1.0), Phase(phase="paused")):
        stream.put(event)
    assert await rest_of(stream) == [alert(1), Phase(phase="paused")]


async def test_of_what_is_of_the_moment_the_newest_waits() -> None:
    """By rank and by source; behind what came before it."""
    stream = EventStream((Event,))
    ranks = [RankStatus(rank=rank, pid=1, doing=doing) for doing in ("a", "b") for rank in (0, 1)]
    lines = [OpenLine(source="rank 0", text=text) for text in ("1%", "2%")]
    tasks = [Progress(task="t", done=done, total=2) for done in (1, 2)]
    recents = [Recent(steps=[step], bytes=1, seconds=0.1) for step in (1, 2)]
    for event in (*ranks, *lines, *tasks, *recents, gauges(1.0), alert(1), gauges(2.0)):
        stream.put(event)
    assert await rest_of(stream) == [ranks[2], ranks[3], lines[1], tasks[1], recents[1], alert(1), gauges(2.0)]


async def test_a_cancelled_wait_loses_nothing() -> None:
    """A reader that gives up waiting, such as by `wait_for`, gets the event when it asks again."""
    stream = EventStream((Event,))
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(anext(stream), 0.01)
    waiting = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    stream.put(alert(1))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await anext(stream) == alert(1)


async def test_the_end_comes_behind_what_waits() -> None:
    """Quietly, or with the reason; whoever waits is woken, and nothing comes after it."""
    stream, lost = EventStream((Event,)), EventStream((Event,))
    waiting = asyncio.create_task(anext(stream, None))
    await asyncio.sleep(0)
    lost.put(alert(1))
    for reader, error in ((stream, None), (lost, ConnectionLost("gone"))):
        reader.end(error)
        reader.end(UsageError("later"))
        reader.put(alert(2))
    assert await waiting is None
    assert await anext(lost) == alert(1)
    for _ in range(2):
        with pytest.raises(ConnectionLost, match="gone"):
            await anext(lost)


async def test_a_reader_that_never_reads_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waited comes, then an error that says what to do: nothing is left out without a word, and memory has a bound."""
    monkeypatch.setattr(stream_module, "MAX_WAITING", 3)
    stream = EventStream((Event,))
    for number in range(10):
        stream.put(alert(number))
    assert [await anext(stream) for _ in range(3)] == [alert(0), alert(1), alert(2)]
    with pytest.raises(UsageError, match=r"3 events waited for this reader.*fewer kinds"):
        await anext(stream)


def test_its_words_for_people() -> None:
    """The kinds and how far it is behind."""
    stream: EventStream[Event] = EventStream((Alert, Phase))
    stream.put(alert(1))
    assert repr(stream) == "<EventStream of Alert, Phase: 1 waiting>"
