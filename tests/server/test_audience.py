"""Those who follow a run: when they are served, that what is new is encoded once for all, and who is told to be there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from plt_tui.protocol.events import CaughtUp, End, Event, Gauges, Logs, Phase, Steps, Viewers
from plt_tui.protocol.framing import encode
from plt_tui.server import audience as audience_module
from plt_tui.server import stream as stream_module
from plt_tui.server.audience import EVENT_FRAMES_PER_S, FRAME_S, Audience, Follower
from plt_tui.server.http import serve_http
from plt_tui.server.stream import as_line
from plt_tui.server.websocket import as_message
from tests.server.clients import HELLO, connected, opened
from tests.server.hub_fakes import DEADLINE_S, FakeHub, until
from tests.server.test_stream import eval_at, status, told


@asynccontextmanager
async def following(hub: FakeHub, audience: Audience | None = None, after: int = 0) -> AsyncIterator[Follower]:
    """A follower that leaves again."""
    audience = Audience(hub.feed) if audience is None else audience
    follower = audience.follow("test", "socket", readonly=True, after=after)
    try:
        yield follower
    finally:
        follower.close()
        follower.close()  # which is harmless


async def next_of(batches: AsyncIterator[stream_module.Batch]) -> list[Event]:
    """What comes next."""
    return (await asyncio.wait_for(anext(batches), DEADLINE_S)).events


async def test_history_then_caught_up_then_live(hub: FakeHub) -> None:
    """The first batches end with CaughtUp, once; what is published later comes behind it."""
    hub.begin()
    hub.train(1, 2)
    async with following(hub) as follower:
        batches = follower.batches()
        assert told(await next_of(batches)) == ["run", "1-2", "caught_up"]
        hub.train(3, 3)
        assert told(await next_of(batches)) == ["3-3"]


async def test_who_comes_again_gets_news_then_caught_up_then_live(hub: FakeHub) -> None:
    """Behind the number that it knows."""
    hub.begin()
    hub.train(1, 3)
    async with following(hub, after=3) as follower:
        batches = follower.batches()
        assert told(await next_of(batches)) == ["3-3", "caught_up"]
        hub.train(4, 4)
        assert told(await next_of(batches)) == ["4-4"]


async def test_an_empty_feed_is_caught_up_at_once(hub: FakeHub) -> None:
    """A view that attaches before anything was said still learns that it is live."""
    async with following(hub) as follower:
        assert await next_of(follower.batches()) == [CaughtUp()]


async def test_measurements_are_gathered_into_frames(hub: FakeHub) -> None:
    """A burst of steps, gauges and logs over a fifth of a second makes about FRAME_S-spaced frames, not one per event."""
    loop = asyncio.get_running_loop()

    async def burst() -> None:
        for step in range(1, 101):
            hub.train(step, step)
            hub.feed.publish(Gauges(cores=[], memory_used_bytes=0, memory_total_bytes=0, gpus=[]))
            hub.feed.publish(Logs(lines=[[0.0, "hub", "INFO", "x"]]))
            await asyncio.sleep(0.002)

    async with following(hub) as follower:
        batches = follower.batches()
        await next_of(batches)
        began, count, seen = loop.time(), 0, 0
        writing = asyncio.create_task(burst())
        while seen < 100:
            batch = await next_of(batches)
            count += 1
            seen += sum(event.count for event in batch if isinstance(event, Steps))
        await writing
        assert count <= (loop.time() - began) / FRAME_S + 2


async def test_a_command_status_does_not_wait_for_the_frame(hub: FakeHub) -> None:
    """A status published just after a frame of steps is given without the frame's pause."""
    async with following(hub) as follower:
        batches = follower.batches()
        await next_of(batches)
        hub.train(1, 1)
        await next_of(batches)
        waits = []
        for turn in range(10):
            started = asyncio.get_running_loop().time()
            hub.feed.publish(status("pause", "applied", 1 + turn))
            assert "command" in told(await next_of(batches))[0]
            waits.append(asyncio.get_running_loop().time() - started)
        assert min(waits) < FRAME_S / 5


async def test_finish_ends_the_batches_after_the_last_word(hub: FakeHub) -> None:
    """What was said before `finish`, also while a batch was being sent, is still given; then they end."""
    async with following(hub) as follower:
        batches = follower.batches()
        await next_of(batches)
        hub.feed.publish(Phase(phase="stopping"))
        assert told(await next_of(batches)) == ["phase 0"]
        hub.feed.publish(End(phase="stopped", step=0, exit_code=130))
        follower.finish()
        assert [told(batch.events) async for batch in batches] == [["end 0"]]


async def test_who_waits_hears_the_last_word_too(hub: FakeHub) -> None:
    """`finish` comes in the same moment as what was said before it."""
    async with following(hub) as follower:
        batches = follower.batches()
        await next_of(batches)
        waiting = asyncio.ensure_future(next_of(batches))
        await asyncio.sleep(0)
        hub.feed.publish(End(phase="stopped", step=0, exit_code=130))
        follower.finish()
        assert told(await waiting) == ["end 0"]
        assert [batch async for batch in batches] == []


async def test_who_was_busy_is_served_though_nothing_new_is_said(hub: FakeHub) -> None:
    """What came while it was sending waits for it at its own place in the feed, not for the next event."""
    async with following(hub) as follower:
        batches = follower.batches()
        await next_of(batches)
        hub.train(1, 3)
        hub.feed.publish(eval_at(3))
        await asyncio.sleep(2 * FRAME_S)
        assert told(await next_of(batches)) == ["1-3", "eval 3"]


@asynccontextmanager
async def a_crowd(hub: FakeHub, count: int, heard: list[list[bytes]]) -> AsyncIterator[Audience]:
    """So many followers that hear everything, and write down the bytes."""
    audience = Audience(hub.feed)
    followers = [audience.follow(f"viewer {number}", "http", readonly=True) for number in range(count)]

    async def listen(follower: Follower, said: list[bytes]) -> None:
        async for batch in follower.batches():
            said.extend(batch.pieces(as_message))

    heard.extend([] for _ in followers)
    tasks = [asyncio.ensure_future(listen(*each)) for each in zip(followers, heard, strict=True)]
    try:
        yield audience
    finally:
        for follower in followers:
            follower.finish()
        await asyncio.gather(*tasks)
        for follower in followers:
            follower.close()


async def test_what_is_new_is_encoded_once_for_a_hundred_followers(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once for each: that is what makes many of them cheap. All hear the same bytes."""
    monkeypatch.setattr(audience_module, "FRAMES_PER_S", 1e9)
    encoded, heard = list[Event](), list[list[bytes]]()

    def encode_and_count(event: Event) -> bytes:
        encoded.append(event)
        return encode(event)

    monkeypatch.setattr(stream_module, "encode", encode_and_count)
    async with a_crowd(hub, 100, heard):
        await until(lambda: all(heard))
        encoded.clear()
        hub.train(1, 2)
        hub.feed.publish(eval_at(2))
        await until(lambda: all(len(said) == 2 for said in heard))
        assert told(encoded) == ["1-2", "eval 2"]
        assert len({tuple(said) for said in heard}) == 1
        for number in range(10):
            hub.train(3 + number, 3 + number)
            await asyncio.sleep(FRAME_S / 4)
        steps = [event for event in encoded if isinstance(event, Steps)]
        assert sum(event.count for event in steps) <= 12, "some steps were encoded more than once"


async def test_the_more_there_are_the_more_rarely_measurements_come(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """They share a number of frames a second; an event still reaches all of them at once."""
    monkeypatch.setattr(audience_module, "FRAMES_PER_S", 40.0)
    loop, heard = asyncio.get_running_loop(), list[list[bytes]]()
    async with a_crowd(hub, 20, heard) as audience:
        await until(lambda: all(heard))
        before, began = len(heard[0]), loop.time()
        while loop.time() < began + 1.2 or len(heard[0]) == before:
            hub.train(hub.feed.state.step + 1, hub.feed.state.step + 1)
            await asyncio.sleep(0.02)
        assert 1 <= len(heard[0]) - before <= (loop.time() - began) / 0.5 + 1
        await until(lambda: audience._serving is None)
        monkeypatch.setattr(audience_module, "FRAMES_PER_S", 1e-6)  # no measurement comes any more that could bring it
        hub.feed.publish(eval_at(1))
        await until(lambda: all(b'"eval"' in said[-1] for said in heard))


async def test_a_storm_of_events_is_gathered_too(hub: FakeHub) -> None:
    """So that a flood of notes does not become a hundred times as many frames."""
    loop, heard, count = asyncio.get_running_loop(), list[list[bytes]](), 50
    async with a_crowd(hub, count, heard):
        await until(lambda: all(heard))
        before, began = len(heard[0]), loop.time()
        for _ in range(200):
            hub.feed.publish(eval_at(1))
            await asyncio.sleep(0.002)
        await until(lambda: sum(piece.count(b'"eval"') for piece in heard[0]) == 200)
        assert len(heard[0]) - before <= (loop.time() - began) * EVENT_FRAMES_PER_S / count + 2


async def test_nobody_listens_to_the_feed_when_all_have_left(hub: FakeHub) -> None:
    """A run that nobody watches pays nothing."""
    audience = Audience(hub.feed)
    async with following(hub, audience), following(hub, audience):
        assert (audience.size, len(hub.feed._listeners)) == (2, 1)
    assert (audience.size, len(hub.feed._listeners)) == (0, 0)


def actors(hub: FakeHub) -> list[tuple[str, str, bool]]:
    """Who is told to be there."""
    return [(viewer["actor"], viewer["door"], viewer["readonly"]) for viewer in hub.feed.state.viewers]


async def test_who_comes_and_goes_is_told(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By both doors in one list, in the order in which they came, names made safe; and to those who are there."""
    monkeypatch.setattr(audience_module, "TELL_S", 0.02)
    audience = Audience(hub.feed)
    server = await serve_http(hub, "127.0.0.1:0", name="demo", audience=audience)
    async with opened(hub, tmp_path, audience=audience) as door, connected(door.path) as ana:
        async with (
            connected(door.path, HELLO | {"actor": "\x1b[1mbob", "readonly": True}),
            aiohttp.ClientSession(headers={"X-Actor": "eve\u202e"}) as web,
            web.ws_connect(f"{server.url}/api/v1/stream"),
        ):
            await until(lambda: len(actors(hub)) == 3)
            assert sorted(actors(hub)) == [
                ("\\x1b[1mbob", "socket", True),
                ("http eve\\u202e", "http", True),
                ("test ana@box", "socket", False),
            ]
            since = [viewer["since"] for viewer in hub.feed.state.viewers]
            assert since == sorted(since)
            while len((await ana.hear_until("viewers"))["viewers"]) < 3:
                pass
        await until(lambda: actors(hub) == [("test ana@box", "socket", False)])
        assert not any(isinstance(event, Viewers) for event in hub.feed.events)
    await server.close()
    await until(lambda: actors(hub) == [])


async def test_who_asks_and_leaves_again_is_no_viewer(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """`show` and `ctl` do not make the header of others flicker; nothing is said where nothing has changed."""
    monkeypatch.setattr(audience_module, "TELL_S", 1e6)
    said = list[Event]()
    leave = hub.feed.listen(lambda: said.extend(hub.feed._newest[topic][1] for topic in hub.feed._newest))
    audience = Audience(hub.feed)
    async with following(hub, audience):
        audience._tell()
        async with following(hub, audience):
            await asyncio.sleep(0.02)
        audience._tell()
    assert [len(event.viewers) for event in said if isinstance(event, Viewers)] == [1]
    leave()


def test_a_line_and_a_message_hold_the_same_event() -> None:
    """Short, middling and long ones have heads of their own on a WebSocket."""
    for size, head in ((10, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)):
        event = b"x" * size
        assert as_line(event) == event + b"\n"
        assert as_message(event)[head:] == event
        assert as_message(event)[0] == 0x81
