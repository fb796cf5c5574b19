"""The Unix socket: its protocol, its refusals, and that one client never disturbs another."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from plt_tui.errors import StorageError, UsageError
from plt_tui.protocol.events import CaughtUp, End, Eval, Event
from plt_tui.protocol.hello import hello
from plt_tui.server.unix import Hello, UnixDoor, is_allowed, peer_uid, read_hello, serve_unix
from plt_tui.views.client import HubClient
from tests.control.said import rewind
from tests.server.clients import HELLO, Line, command, connected, deaf, opened
from tests.server.hub_fakes import DEADLINE_S, FakeHub, until

ROWS = 200_000
"""As JSON far more than a socket's buffers hold."""


def unread_bytes(door: UnixDoor) -> int:
    """Most bytes that the hub holds for one client."""
    return max((client._transport.get_write_buffer_size() for client in door._clients.values()), default=0)


@pytest.fixture
async def door(hub: FakeHub, tmp_path: Path) -> AsyncIterator[UnixDoor]:
    """A door that drops nobody during a test."""
    async with opened(hub, tmp_path) as door:
        yield door


async def test_a_client_gets_history_then_live(hub: FakeHub, door: UnixDoor) -> None:
    """History in natural order, then caught_up, then what happens now."""
    hub.begin()
    hub.train(1, 3)
    async with connected(door.path) as client:
        assert [(await client.hear())["kind"] for _ in range(3)] == ["run", "steps", "caught_up"]
        hub.feed.publish(Eval(step=3, loss=float("nan"), perplexity=1.0, bits_per_byte=1.0, accuracy=0.5))
        assert (await client.hear())["loss"] == "nan"


async def test_a_client_of_a_rewound_run_gets_its_branches(hub: FakeHub, door: UnixDoor) -> None:
    """Their steps say which branch they lie on, right before the rewind that left it."""
    hub.begin()
    hub.train(1, 3)
    hub.feed.publish(rewind(1, 3))
    async with connected(door.path) as client:
        said = [await client.hear() for _ in range(5)]
    assert [(line["kind"], line.get("branch"), line.get("count")) for line in said if line] == [
        ("run", None, None),
        ("steps", 0, 1),
        ("steps", 1, 2),
        ("command", None, None),
        ("caught_up", None, None),
    ]


async def test_a_client_that_comes_again_gets_what_it_has_missed(hub: FakeHub, door: UnixDoor) -> None:
    """A hello with the number of the last thing that it knows; its commands are taken as ever."""
    hub.begin()
    hub.train(1, 3)
    async with connected(door.path, HELLO | {"after": 3}) as client:
        steps, caught_up = [await client.hear() for _ in range(2)]
        assert steps is not None
        assert caught_up is not None
        assert (steps["kind"], steps["count"], steps["seq"], caught_up["kind"]) == ("steps", 1, 4, "caught_up")
        await client.say(command("pause"))
        assert (await client.hear_until("command"))["status"] == "applied"


async def test_a_view_goes_on_where_it_broke_off(hub: FakeHub, door: UnixDoor) -> None:
    """With the greatest number of what it has heard, and none of it twice."""
    hub.begin()
    hub.train(1, 2)
    heard = list[Event]()
    for _ in range(2):
        after = max((event.seq for event in heard), default=0)
        client = await HubClient.connect(door.path, actor="me", readonly=True, after=after)
        async for event in client.events():
            heard.append(event)
            if isinstance(event, CaughtUp):
                break
        await client.close()
        hub.train(3, 4)
    assert [(event.kind, event.seq) for event in heard] == [
        ("run", 1),
        ("steps", 3),
        ("caught_up", 0),
        ("steps", 5),
        ("caught_up", 0),
    ]


async def test_a_command_reaches_the_hub_with_the_actor_of_the_hello(hub: FakeHub, door: UnixDoor) -> None:
    """The actor is who said hello, made safe and cut to 64 characters; what the command claims does not count."""
    async with connected(door.path, HELLO | {"actor": "tui \x1b[1m" + "a" * 100}) as client:
        await client.say(command("pause"))
        answer = await client.hear_until("command")
    assert (answer["id"], answer["status"]) == ("id-pause", "applied")
    assert hub.commands[0].actor.startswith("tui \\x1b[1maaa")
    assert len(hub.commands[0].actor) == 64


@pytest.mark.parametrize(
    ("hello", "asked", "reason"),
    [
        (HELLO, command("undo"), "nothing to \\x1b[31mundo"),
        (HELLO, command("dance"), "unknown command 'dance'"),
        (HELLO, command("pause", speed=1), "unknown argument 'speed'"),
        (HELLO | {"readonly": True}, command("pause"), "this view is read-only"),
    ],
    ids=["by the hub", "unknown verb", "unknown argument", "read-only"],
)
async def test_a_refusal_goes_to_the_one_who_asked(
    hub: FakeHub, door: UnixDoor, hello: dict[str, Any], asked: dict[str, Any], reason: str
) -> None:
    """A refused command is answered to its sender with the reason, the hub did nothing, and the line stays open."""
    async with connected(door.path) as other, connected(door.path, hello) as client:
        await other.hear_until("caught_up")
        await client.say(asked)
        answer = await client.hear_until("command")
        assert answer["status"] == "refused"
        assert reason in answer["reason"]
        assert hub.commands == []
        hub.begin()
        assert (await client.hear_until("run"))["name"] == "demo"
        assert (await other.hear())["kind"] == "run"


BAD_LINES = {
    "64 KiB and one byte": b"x" * (64 * 1024 + 1) + b"\n",
    "endless line": b"x" * 300_000,
    "bad UTF-8": b'{"op":"command\xff"}\n',
    "depth bomb": b"[" * 65_000 + b"\n",
    "not JSON": b"GET / HTTP/1.1\n",
    "unknown op": b'{"op":"eval"}\n',
    "no op": b"{}\n",
    "command without id": b'{"op":"command","command":{"name":"pause"}}\n',
    "command of a wrong type": b'{"op":"command","command":7}\n',
    "hello twice": json.dumps(HELLO).encode() + b"\n",
}


@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES)
async def test_a_broken_line_ends_that_connection_only(hub: FakeHub, door: UnixDoor, bad: bytes) -> None:
    """One alert says what was wrong, then the connection closes; another client keeps its line and its commands."""
    async with connected(door.path) as other, connected(door.path) as client:
        await other.hear_until("caught_up")
        await client.hear_until("caught_up")
        await client.say(bad)
        alert = await client.hear()
        assert alert is not None
        assert (alert["kind"], alert["topic"]) == ("alert", "protocol")
        client.writer.write_eof()
        assert await client.hear() is None
        await other.say(command("pause"))
        assert (await other.hear())["kind"] == "command"


@pytest.mark.parametrize(
    "hello",
    [
        b"\xff\n",
        b"{}\n",
        HELLO | {"version": 2},
        HELLO | {"actor": 5},
        HELLO | {"readonly": "no"},
        HELLO | {"after": "1"},
        HELLO | {"after": -1},
        HELLO | {"after": True},
        HELLO | {"after": 10**30},
        HELLO | {"after": 2},
        command("pause"),
        b"y" * 70_000,
    ],
    ids=[
        "bad UTF-8",
        "empty",
        "version",
        "actor",
        "readonly",
        "after a text",
        "after -1",
        "after true",
        "after 1e30",
        "beyond",
        "command",
        "too long",
    ],
)
async def test_nothing_is_told_before_a_proper_hello(hub: FakeHub, door: UnixDoor, hello: bytes | dict[str, Any]) -> None:
    """Who does not introduce itself gets one alert and no event, and its command is not taken."""
    hub.begin()
    async with connected(door.path, hello) as client:
        assert (await client.hear())["kind"] == "alert"
        client.writer.write_eof()
        assert await client.hear() is None
    assert hub.commands == []


@pytest.mark.parametrize("said", [b"", b'{"op":"hel'], ids=["nothing", "half a line"])
async def test_a_client_that_leaves_early_is_forgotten(hub: FakeHub, door: UnixDoor, said: bytes) -> None:
    """Connecting and leaving, in the middle of a line or before it, leaves nothing behind."""
    async with connected(door.path, said):
        await until(lambda: door._clients)
    await until(lambda: not door._clients)


async def test_a_client_that_never_reads_disturbs_nobody(hub: FakeHub, door: UnixDoor) -> None:
    """With a long history unread by one client, another gets all of it and live events; the hub holds no more than a piece."""
    hub.fill(ROWS)
    with deaf(door.path):
        await until(lambda: unread_bytes(door))
        async with connected(door.path) as client:
            rows = 0
            while (line := await client.hear())["kind"] != "caught_up":
                rows += line["count"]
            assert rows == ROWS
            await client.say(command("pause"))
            assert (await client.hear())["status"] == "applied"
        assert 0 < unread_bytes(door) < 256 * 1024


async def test_the_last_word_is_heard_before_the_door_closes(hub: FakeHub, tmp_path: Path) -> None:
    """A client that reads gets what was published right before `close`, then the end of the stream."""
    async with opened(hub, tmp_path) as door, connected(door.path) as client:
        await client.hear_until("caught_up")
        hub.feed.publish(End(phase="finished", step=0, exit_code=0))
        await asyncio.gather(door.close(), said_goodbye(client))
        with pytest.raises(OSError, match=r"No such file|refused"):
            await asyncio.open_unix_connection(door.path)


async def said_goodbye(client: Line) -> None:
    """Hear the end of the run, then of the stream."""
    assert (await client.hear())["kind"] == "end"
    assert await client.hear() is None


async def test_closing_does_not_wait_for_a_client_that_never_reads(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The door cuts off who has not read the last words in time."""
    monkeypatch.setattr("plt_tui.server.unix.GOODBYE_S", 0.05)
    hub.fill(ROWS)
    async with opened(hub, tmp_path) as door:
        with deaf(door.path):
            await until(lambda: unread_bytes(door))
            await asyncio.wait_for(door.close(), DEADLINE_S)
        assert door._clients == {}


async def test_the_socket_is_private_and_replaces_a_dead_one(hub: FakeHub, tmp_path: Path) -> None:
    """Mode 0600 whatever the umask, the umask unchanged; a socket file without a hub is no obstacle."""
    path = tmp_path / "hub.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    mask = os.umask(0)
    try:
        door = await serve_unix(hub, path)
        assert os.umask(0) == 0
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    await door.close()


async def test_a_socket_that_cannot_be_made_is_a_storage_error(hub: FakeHub, tmp_path: Path) -> None:
    """A missing folder is reported with the path and a next action."""
    with pytest.raises(StorageError, match=r"gone/hub\.sock.*choose another run\.dir"):
        await serve_unix(hub, tmp_path / "gone" / "hub.sock")


@pytest.mark.parametrize(("peer", "allowed"), [(1000, True), (0, True), (1001, False), (None, True)])
def test_only_the_same_user_and_root_get_in(peer: int | None, allowed: bool) -> None:
    """Another user is turned away; where the system cannot tell, the socket's mode has decided."""
    assert is_allowed(peer, 1000) is allowed


def test_the_peer_is_known_on_linux() -> None:
    """SO_PEERCRED names the user at the other end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert peer_uid(ours) == os.getuid()


async def test_another_user_hears_nothing(hub: FakeHub, door: UnixDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection of a foreign user ends without a word."""
    hub.begin()
    monkeypatch.setattr("plt_tui.server.unix.peer_uid", lambda _: os.getuid() + 12345)
    async with connected(door.path) as client:
        with pytest.raises((ConnectionError, AssertionError)):
            await client.hear_until("run")


def test_a_view_s_hello_is_one_that_the_hub_takes() -> None:
    """With and without a number to go on behind."""
    assert read_hello(hello("tui ana@box", readonly=True)) == Hello(actor="tui ana@box", readonly=True, after=0)
    assert read_hello(hello("ana", readonly=False, after=7)) == Hello(actor="ana", readonly=False, after=7)


def test_hello_names_both_versions() -> None:
    """A client of another protocol version is told which one the hub speaks."""
    with pytest.raises(UsageError, match=r"speaks version 2, this hub 1"):
        read_hello(HELLO | {"version": 2})
