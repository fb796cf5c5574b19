"""Too many, too silent, too slow and too loud clients of the Unix socket: what they cost, and that nobody else notices."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from plt_tui.server.door import BURST_S, PACE_S, SOCKET_PLACES
from plt_tui.server.unix import UnixDoor
from tests.server.clients import HELLO, Line, command, connected, deaf, opened
from tests.server.hub_fakes import DEADLINE_S, FakeHub, until

CROWD = 600
"""Connections at once, far more than there are places; with both ends in this process they stay below 1024 descriptors."""
ROWS = 200_000
"""As JSON far more than a socket's buffers hold."""


@pytest.fixture
async def door(hub: FakeHub, tmp_path: Path) -> AsyncIterator[UnixDoor]:
    """A door with the patience of a minute."""
    async with opened(hub, tmp_path) as door:
        yield door


@asynccontextmanager
async def crowd(path: Path, count: int) -> AsyncIterator[list[socket.socket]]:
    """So many connections that say nothing."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(count)]
        for one in sockets:
            one.setblocking(False)
            await connect(one, path)
        yield sockets


async def connect(one: socket.socket, path: Path) -> None:
    """Connect as soon as the door's queue has room."""
    while True:
        try:
            one.connect(str(path))
        except BlockingIOError:
            await asyncio.sleep(0)
        else:
            return


@contextmanager
def flooding(path: Path, data: bytes) -> Iterator[asyncio.Task[None]]:
    """A client that says hello and then `data`, as fast as it is taken."""

    async def flood() -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        try:
            writer.write(json.dumps(HELLO).encode() + b"\n")
            writer.write(data)
            await writer.drain()
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()

    task = asyncio.ensure_future(flood())
    try:
        yield task
    finally:
        task.cancel()


async def answer_s(client: Line) -> float:
    """Seconds until a command of this client is applied."""
    loop = asyncio.get_running_loop()
    asked_at = loop.time()
    await client.say(command("pause"))
    while (await client.hear_until("command"))["id"] != "id-pause":
        pass
    return loop.time() - asked_at


def held_bytes(door: UnixDoor) -> int:
    """Bytes that the door holds of what its clients have sent and it has not taken yet."""
    return sum(len(client._reader._buffer) for client in door._clients.values())


async def test_who_comes_to_a_full_door_hears_why_it_stays_out(hub: FakeHub, door: UnixDoor) -> None:
    """One alert, then the end; who is inside stays, and a place that becomes free is given again."""
    async with crowd(door.path, SOCKET_PLACES) as inside:
        for one in inside:
            one.send(json.dumps(HELLO).encode() + b"\n")
        await until(lambda: door._audience.size == SOCKET_PLACES)
        await asyncio.gather(*(asyncio.get_running_loop().sock_recv(one, 1) for one in inside))
        async with connected(door.path) as comer:
            alert = await comer.hear()
            assert alert is not None
            assert (alert["kind"], alert["topic"]) == ("alert", "protocol")
            assert "64 clients are connected" in alert["text"]
            comer.writer.write_eof()
            assert await comer.hear() is None
        inside[0].close()
        await until(lambda: len(door._clients) < SOCKET_PLACES)
        async with connected(door.path) as comer:
            await comer.hear_until("caught_up")


async def test_a_crowd_that_says_nothing_keeps_nobody_out(
    hub: FakeHub, door: UnixDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of hundreds of silent connections a few are held; a view that was there stays, one that comes gets a place."""
    monkeypatch.setattr("plt_tui.server.unix.SILENT_S", 0.0)
    async with connected(door.path) as before:
        await before.hear_until("caught_up")
        async with crowd(door.path, CROWD):
            await until(lambda: len(door._clients) > SOCKET_PLACES // 2)
            async with connected(door.path) as comer:
                await comer.hear_until("caught_up")
                assert await answer_s(before) < 1
                assert await answer_s(comer) < 1
            assert len(door._clients) <= 2 * SOCKET_PLACES


async def test_who_does_not_say_hello_in_time_is_dropped(door: UnixDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it says a byte of it now and then."""
    monkeypatch.setattr("plt_tui.server.unix.HELLO_S", 0.1)
    reader, writer = await asyncio.open_unix_connection(door.path)
    while not (reader.at_eof() or reader.exception()):
        writer.write(b" ")
        await asyncio.sleep(0.02)
    writer.close()


async def test_a_client_that_does_not_read_keeps_its_place_while_there_is_room(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A view in a stopped terminal finds its stream again; it goes only when its place is needed, and not before its time."""
    monkeypatch.setattr("plt_tui.server.unix.SOCKET_PLACES", 1)
    hub.fill(ROWS)
    async with opened(hub, tmp_path) as door:
        with deaf(door.path):
            await until(lambda: door._clients and next(iter(door._clients.values())).patience_ends < 1e300)
            async with connected(door.path) as comer:
                assert (await comer.hear())["kind"] == "alert"
            await until(lambda: len(door._clients) == 1)
            next(iter(door._clients.values())).patience_ends = 0.0  # its time is over, and it is still there
            await asyncio.sleep(0.1)
            assert door._audience.size == 1
            async with connected(door.path) as comer:
                assert (await comer.hear())["kind"] == "steps"
                await until(lambda: door._audience.size == 1)


async def test_a_slow_client_that_does_read_keeps_its_place(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that takes longer than the patience as a whole is fine as long as some of it is read in that time."""
    monkeypatch.setattr("plt_tui.server.unix.SOCKET_PLACES", 1)
    hub.fill(10_000)
    loop = asyncio.get_running_loop()
    async with opened(hub, tmp_path, stall_s=0.3) as door:
        with deaf(door.path) as raw:
            raw.setblocking(False)
            received, started = 0, loop.time()
            while received < 700_000:
                received += len(await asyncio.wait_for(loop.sock_recv(raw, 32 * 1024), DEADLINE_S))
                await asyncio.sleep(0.03)
            assert loop.time() - started > 0.5
            async with connected(door.path) as comer:
                assert (await comer.hear())["kind"] == "alert"


async def test_a_storm_of_commands_is_taken_at_the_door_s_pace(hub: FakeHub, door: UnixDoor) -> None:
    """10 000 commands at once wait outside: another client's is answered at once, and the hub holds only a few of them."""
    notes = b"".join(
        json.dumps({"op": "command", "command": {"id": f"n{i}", "name": "note", "args": {"text": "x" * 100}}}).encode() + b"\n"
        for i in range(10_000)
    )
    async with connected(door.path) as other:
        await other.hear_until("caught_up")
        loop = asyncio.get_running_loop()
        with flooding(door.path, notes) as storm:
            started = loop.time()
            await until(lambda: hub.commands)
            for _ in range(5):
                assert await answer_s(other) < 0.5
                await asyncio.sleep(0.05)
            num_taken = sum(taken.name == "note" for taken in hub.commands)
            assert num_taken <= (loop.time() - started + BURST_S) / PACE_S + 1
            assert held_bytes(door) < 256 * 1024
            assert not storm.done()


@pytest.mark.parametrize("piece", [b"x", b"\xff\x00garbage\n", b"[" * 1000], ids=["no line", "garbage", "depth"])
async def test_a_flood_of_garbage_costs_little_and_ends(
    hub: FakeHub, door: UnixDoor, monkeypatch: pytest.MonkeyPatch, piece: bytes
) -> None:
    """10 MB of it: the client is told off once, listened to no more than a moment, and cut; nobody else waits."""
    monkeypatch.setattr("plt_tui.server.unix.GOODBYE_S", 0.2)
    async with connected(door.path) as other:
        await other.hear_until("caught_up")
        with flooding(door.path, piece * (10_000_000 // len(piece))) as flood:
            for _ in range(5):
                assert await answer_s(other) < 0.5
                assert held_bytes(door) < 256 * 1024
            await until(flood.done)
        await until(lambda: len(door._clients) == 1)


async def test_a_client_that_is_refused_while_the_run_goes_on_is_not_let_in_again_at_once(
    hub: FakeHub, door: UnixDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """News of the run do not cut the goodbye short: one that floods, is cut and comes again costs one history a goodbye."""
    monkeypatch.setattr("plt_tui.server.unix.GOODBYE_S", 0.5)
    loop, problems, num_floods = asyncio.get_running_loop(), list[object](), 0
    loop.set_exception_handler(lambda _, context: problems.append(context))
    hub.begin()
    started = loop.time()
    while loop.time() < started + 1.2:
        num_floods += 1
        with flooding(door.path, b"\xff\x00garbage\n" * 100_000) as flood:
            while not flood.done():
                hub.train(hub.feed.state.step + 1, hub.feed.state.step + 1)
                await asyncio.sleep(0.01)
    assert num_floods <= 3
    assert problems == []
