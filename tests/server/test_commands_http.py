"""Commands over HTTP: what becomes of them, who may send them, and what is no command."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from plt_tui.control.admission import worded
from plt_tui.errors import StorageError
from plt_tui.protocol.commands import VERBS, Command, status_of
from plt_tui.protocol.framing import decode, encode
from plt_tui.protocol.hello import MAX_MESSAGE_BYTES
from plt_tui.server import schemas
from plt_tui.server.commands import actor_of, is_of_type
from plt_tui.server.http import serve_http
from tests.server.hub_fakes import DEADLINE_S, FakeHub, until
from tests.server.locked import COMMANDS, RIGHT, client, locked, post, raw


class SlowHub(FakeHub):
    """Takes commands, and answers them when the test says so."""

    async def submit(self, command: Command) -> None:
        if any(known.id == command.id for known in self.commands):
            return
        self.commands.append(command)
        self.feed.publish(status_of(worded(command), "requested"))

    def say(self, status: Any, step: int = -1, reason: str = "") -> None:
        """The next word about the last command."""
        self.feed.publish(status_of(self.commands[-1], status, step, reason))


@pytest.fixture
async def web(hub: FakeHub) -> AsyncIterator[aiohttp.ClientSession]:
    """A client with the token, of a server that takes commands."""
    async with locked(hub) as server, client(server) as web:
        yield web


async def test_a_command_is_applied(hub: FakeHub, web: aiohttp.ClientSession) -> None:
    """200 with the step from which it is in force; the hub got exactly what was asked for."""
    hub.train(1, 5)
    status, said = await post(web, {"name": "set", "args": {"name": "lr", "value": 3e-4}, "id": "one"})
    assert (status, said["id"], said["status"], said["step"]) == (200, "one", "applied", 5)
    assert set(said) == set(schemas.STATUS_FIELDS)
    (command,) = hub.commands
    assert (command.name, command.args, command.actor) == ("set", {"name": "lr", "value": 3e-4}, "http")


async def test_a_command_without_an_id_gets_one(hub: FakeHub, web: aiohttp.ClientSession) -> None:
    """A new one each time."""
    ids = [(await post(web, {"name": "pause"}))[1]["id"] for _ in range(2)]
    assert len(set(ids)) == 2
    assert [command.id for command in hub.commands] == ids


async def test_a_refusal_says_why(hub: FakeHub, web: aiohttp.ClientSession) -> None:
    """409 with the reason, made safe, and the command that it is about."""
    status, said = await post(web, {"name": "undo"})
    assert (status, said["error"], said["status"]) == (409, "nothing to \\x1b[31mundo", "refused")
    assert hub.commands == []


async def test_a_journal_that_cannot_be_written_refuses(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like any refusal, and no mistake of the server."""

    async def submit(_: Command) -> None:
        raise StorageError("pause: the journal cannot be written (No space left on device)")

    monkeypatch.setattr(hub, "submit", submit)
    async with locked(hub) as server, client(server) as web:
        status, said = await post(web, {"name": "pause"})
        assert (status, said["error"]) == (409, "pause: the journal cannot be written (No space left on device)")


@pytest.fixture
def slow(hub: FakeHub) -> SlowHub:
    """A hub whose answers the test gives."""
    return SlowHub()


async def test_the_answer_of_the_ranks_is_waited_for(slow: SlowHub) -> None:
    """However many steps pass before it; each word before the last one is no answer."""
    async with locked(slow) as server, client(server) as web:
        asking = asyncio.ensure_future(post(web, {"name": "pause"}))
        await until(lambda: slow.commands)
        slow.train(1, 20)
        slow.say("agreed")
        await asyncio.sleep(0.05)
        assert not asking.done()
        slow.say("applied", 21, "done")
        status, said = await asking
        assert (status, said["status"], said["step"], said["reason"]) == (200, "applied", 21, "done")
        assert slow.feed._listeners == []


async def test_ranks_that_refuse_are_heard(slow: SlowHub) -> None:
    """409, as where the hub refuses."""
    async with locked(slow) as server, client(server) as web:
        asking = asyncio.ensure_future(post(web, {"name": "checkpoint"}))
        await until(lambda: slow.commands)
        slow.say("refused", reason="the disk is full")
        assert (await asking)[1]["error"] == "the disk is full"


async def test_who_does_not_wait_hears_how_far_it_is(slow: SlowHub) -> None:
    """202 at once, and after the time that was given; the id asks again, which changes nothing."""
    async with locked(slow) as server, client(server) as web:
        assert (await post(web, {"name": "pause", "id": "p"}, "?wait=0"))[0] == 202
        slow.say("agreed")
        started = asyncio.get_running_loop().time()
        status, said = await post(web, {"name": "pause", "id": "p"}, "?wait=1")
        assert (status, said["status"]) == (202, "agreed")
        assert 0.9 < asyncio.get_running_loop().time() - started < DEADLINE_S / 2
        slow.say("applied", 7)
        assert (await post(web, {"name": "pause", "id": "p"}))[0] == 200
        assert len(slow.commands) == 1


async def test_an_id_is_of_one_command(hub: FakeHub, web: aiohttp.ClientSession) -> None:
    """Another one under it is refused: its sender would take the first one's fate for its own."""
    assert (await post(web, {"name": "pause", "id": "p"}))[0] == 200
    status, said = await post(web, {"name": "stop", "id": "p"})
    assert (status, "was given to another command (pause)" in said["error"]) == (409, True)
    assert [command.name for command in hub.commands] == ["pause"]


@pytest.mark.parametrize(
    ("name", "first", "second", "is_repeat"),
    [
        ("set", {"name": "lr", "value": 3e-4}, {"name": "lr", "value": 3e-4}, True),
        ("set", {"name": "lr", "value": 3e-4}, {"name": "lr", "value": "3e-4", "mode": "set"}, True),
        ("set", {"name": "lr", "value": 3e-4}, {"name": "grad_clip", "value": 1.0}, False),
        ("set", {"name": "lr", "value": 3e-4}, {"name": "lr", "value": 3e-3}, False),
        ("set", {"name": "lr", "value": 0.5, "mode": "scale"}, {"name": "lr", "value": 0.5}, False),
        ("set", *2 * [{"name": "batch_size", "value": [2, 4], "mode": "keep"}], True),
        ("rewind", {"step": 5}, {"step": 5, "skip": 0}, True),
        ("rewind", {"step": 5}, {"step": 5, "skip": 1}, False),
        ("note", {"text": "a\x1bb"}, {"text": "a\x1bb"}, True),
        ("note", {"text": "a"}, {"text": "b"}, False),
        ("stop", {}, {"now": True}, False),
        ("sample", {"prompt": "a"}, {}, False),
    ],
)
async def test_an_id_is_of_one_set_of_arguments(
    slow: SlowHub, name: str, first: dict[str, Any], second: dict[str, Any], *, is_repeat: bool
) -> None:
    """With others it is another command; a repeat is one in other words too, and after a restart."""
    async with locked(slow) as server, client(server) as web:
        assert (await post(web, {"name": name, "id": "p", "args": first}, "?wait=0"))[0] == 202
        slow.feed.events = [decode(encode(event)) for event in slow.feed.events]
        status, said = await post(web, {"name": name, "id": "p", "args": second}, "?wait=0")
    assert (status, "was given to another command" in said.get("error", "")) == ((202, False) if is_repeat else (409, True))
    assert len(slow.commands) == 1


async def test_a_repeat_is_known_by_what_was_asked_for(slow: SlowHub) -> None:
    """Not by what was done in the end: an undo is applied to the edit that it found."""
    async with locked(slow) as server, client(server) as web:
        assert (await post(web, {"name": "undo", "id": "u"}, "?wait=0"))[0] == 202
        slow.feed.publish(status_of(replace(slow.commands[0], args={"edit": "last"}), "applied", 7))
        status, said = await post(web, {"name": "undo", "id": "u"}, "?wait=0")
        assert (status, said["args"]) == (200, {"edit": "last"})


async def test_closing_ends_the_wait(slow: SlowHub) -> None:
    """Who waits hears what is known, and the server closes at once."""
    async with locked(slow) as server, client(server) as web:
        asking = asyncio.ensure_future(post(web, {"name": "pause"}, "?wait=60"))
        await until(lambda: slow.commands)
        closing = asyncio.ensure_future(server.close())
        assert (await asyncio.wait_for(asking, DEADLINE_S / 4))[0] == 202
        await asyncio.wait_for(closing, DEADLINE_S / 4)


async def test_who_leaves_disturbs_nobody(slow: SlowHub) -> None:
    """The command stands; the next client is answered."""
    async with locked(slow) as server:
        body = b'{"name":"pause"}'
        said = f"POST {COMMANDS} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {RIGHT['Authorization']}\r\n"
        said += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        host, port = server.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(said.encode() + body)
        await until(lambda: slow.commands)
        writer.transport.abort()
        async with client(server) as web:
            asking = asyncio.ensure_future(post(web, {"name": "resume"}))
            await until(lambda: len(slow.commands) == 2)
            slow.say("applied", 3)
            assert (await asking)[0] == 200
        slow.feed.publish(status_of(slow.commands[0], "applied", 3))
        await until(lambda: not slow.feed._listeners)


@pytest.mark.parametrize(
    ("name", "actor"),
    [
        ("", "http"),
        ("   ", "http"),
        ("ana@laptop", "http ana@laptop"),
        ("guard", "http guard"),
        ("a\x1b]0;x\x07", "http a\\x1b]0;x\\x07"),
        ("x" * 500, "http " + "x" * 64),
        ("\u202egnp", "http \\u202egnp"),
        ("a\udcff", "http a\\udcff"),
    ],
)
def test_who_asks_is_told_safely(name: str, actor: str) -> None:
    """Behind the word that tells the door, so that nobody is taken for the guard or a signal."""
    assert actor_of(name) == actor


async def test_who_asks_is_in_the_journal(hub: FakeHub) -> None:
    """From the header X-Actor; a body cannot say it."""
    async with locked(hub) as server, client(server, X_Actor="ana@laptop") as web:
        await post(web, {"name": "pause"})
        assert (await post(web, {"name": "pause", "actor": "guard"}))[0] == 400
    assert [command.actor for command in hub.commands] == ["http ana@laptop"]


NO_COMMANDS: list[tuple[Any, str]] = [
    (b"", "not a JSON message"),
    (b"null", "a message is a JSON object"),
    (b"[]", "a message is a JSON object"),
    (b'"pause"', "a message is a JSON object"),
    (b"{", "not a JSON message"),
    (b'{"name":"pause"} x', "not a JSON message"),
    (b"\xff\xfe", "not a JSON message"),
    ('{"name":"pause"}'.encode("utf-16"), "not a JSON message"),
    (b'\xef\xbb\xbf{"name":"pause"}', "not a JSON message"),
    (b'{"name":"pause","name":"stop"}', "twice"),
    (b'{"name":"set","args":{"name":"lr","value":NaN}}', "not a JSON message"),
    (b'{"name":"set","args":{"name":"lr","value":1e999}}', "not a JSON message"),
    (b'{"name":"set","args":{"name":"lr","value":-Infinity}}', "not a JSON message"),
    (b'{"name":"note","args":{"text":"\\ud800"}}', "not a JSON message"),
    (b'{"name":"note","args":{"text":' + b"1" * 5000 + b"}}", "not a JSON message"),
    (b"[" * 60_000, "not a JSON message"),
    (b'{"name":' * 8_000, "not a JSON message"),
    ({}, "needs a name"),
    ({"name": 7}, "needs a name"),
    ({"name": "pause", "args": None}, "args are an object"),
    ({"name": "pause", "args": []}, "args are an object"),
    ({"name": "dance"}, "unknown command 'dance'; known: pause"),
    ({"name": "PAUSE"}, "unknown command"),
    ({"name": "pause", "args": {"now": True}}, "unknown argument 'now'"),
    ({"name": "pause", "ids": "x"}, "unknown key 'ids'; a command has name, args, id"),
    ({"name": "pause", "id": ""}, "id: use 1 to 64"),
    ({"name": "pause", "id": "a b"}, "id: use 1 to 64"),
    ({"name": "pause", "id": "x\n"}, "id: use 1 to 64"),
    ({"name": "pause", "id": "x" * 65}, "id: use 1 to 64"),
    ({"name": "pause", "id": None}, "id: use 1 to 64"),
    ({"name": "set"}, "name is missing"),
    ({"name": "set", "args": {"name": "lr"}}, "value is missing"),
    ({"name": "set", "args": {"name": 5, "value": 1}}, "set: name: 5 is of the wrong type"),
    ({"name": "set", "args": {"name": "lr", "value": {"a": 1}}}, "value must be text, a number"),
    ({"name": "set", "args": {"name": "lr", "value": [[1]]}}, "value must be text, a number"),
    ({"name": "rewind", "args": {"step": -1}}, "whole number from 0"),
    ({"name": "rewind", "args": {"step": "400"}}, "step: '400' is of the wrong type"),
    ({"name": "rewind", "args": {"step": 4, "skip": 1.5}}, "skip is a whole number"),
    ({"name": "stop", "args": {"now": "false"}}, "now is true or false"),
    ({"name": "note", "args": {"text": "  "}}, "text is missing"),
    ({"name": "note", "args": {"text": 5}}, "is of the wrong type"),
    ({"name": "checkpoint", "args": {"name": "../x"}}, "checkpoint name '../x'"),
    ({"name": "checkpoint", "args": {"name": ".hidden"}}, "checkpoint name"),
    ({"name": "checkpoint", "args": {"name": None}}, "of the wrong type"),
]


@pytest.mark.parametrize(("body", "words"), NO_COMMANDS, ids=[repr(body)[:40] for body, _ in NO_COMMANDS])
async def test_what_is_no_command_is_named(hub: FakeHub, web: aiohttp.ClientSession, body: Any, words: str) -> None:
    """400 with what is wrong; the hub hears nothing of it, and the next one is taken."""
    status, said = await post(web, body)
    assert (status, words in said["error"]) == (400, True), said
    assert said["error"].isprintable()
    assert hub.commands == []
    assert (await post(web, {"name": "pause"}))[0] == 200


async def test_a_control_character_does_not_come_back(web: aiohttp.ClientSession) -> None:
    """In the name of a verb, of an argument or a value: a terminal may show the answer."""
    for body in ({"name": "\x1b[2J"}, {"name": "set", "args": {"\x9b2J": 1}}, {"name": "checkpoint", "args": {"name": "\x07"}}):
        status, said = await post(web, body)
        assert (status, said["error"].isprintable()) == (400, True)


@pytest.mark.parametrize("query", ["?wait=-1", "?wait=61", "?wait=1.5", "?wait=", "?wait=1&wait=2", "?wait=nan"])
async def test_a_wait_is_up_to_a_minute(hub: FakeHub, web: aiohttp.ClientSession, query: str) -> None:
    """In whole seconds; anything else sends nothing."""
    status, said = await post(web, {"name": "pause"}, query)
    assert (status, said["error"].startswith("wait=")) == (400, True)
    assert hub.commands == []


CONTENT_TYPES = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json5"]


@pytest.mark.parametrize("kind", [*CONTENT_TYPES, "application/json; charset=utf-16", ""])
async def test_only_json_is_a_command(hub: FakeHub, kind: str) -> None:
    """415: what a form of another site could send is none, even with the token."""
    async with locked(hub) as server:
        body = b'{"name":"stop"}'
        said = (
            f"POST {COMMANDS} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {RIGHT['Authorization']}\r\nConnection: close\r\n"
        )
        said += f"Content-Length: {len(body)}\r\n" + (f"Content-Type: {kind}\r\n" if kind else "")
        assert (await raw(server, said.encode() + b"\r\n" + body)).split()[1] == b"415"
    assert hub.commands == []


async def test_a_compressed_body_is_no_command(hub: FakeHub, web: aiohttp.ClientSession) -> None:
    """A kilobyte could be a gigabyte."""
    for coding in ("gzip", "deflate", "br", "identity"):
        headers = {"Content-Type": "application/json", "Content-Encoding": coding}
        async with web.post(COMMANDS, data=b'{"name":"pause"}', headers=headers) as response:
            assert response.status == 415
    assert hub.commands == []


async def test_a_body_is_as_long_as_a_message_of_the_socket(hub: FakeHub, web: aiohttp.ClientSession) -> None:
    """64 KiB are taken, one byte more is 413, told by its length or found while it comes."""
    frame = len(json.dumps({"name": "note", "args": {"text": ""}}))
    whole = json.dumps({"name": "note", "args": {"text": "x" * (MAX_MESSAGE_BYTES - frame)}}).encode()
    assert (len(whole), (await post(web, whole))[0]) == (MAX_MESSAGE_BYTES, 200)

    async def pieces() -> AsyncIterator[bytes]:
        yield whole
        yield b" "

    for body in (whole + b" ", pieces()):
        async with web.post(COMMANDS, data=body, headers={"Content-Type": "application/json"}) as response:
            assert response.status == 413
            assert f"at most {MAX_MESSAGE_BYTES} bytes" in (await response.json())["error"]
    assert len(hub.commands) == 1


async def test_a_body_that_does_not_come_is_not_waited_for(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """408, and the connection ends."""
    monkeypatch.setattr("plt_tui.server.commands.BODY_S", 0.1)
    async with locked(hub) as server:
        said = f"POST {COMMANDS} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {RIGHT['Authorization']}\r\n"
        said += "Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        assert (await raw(server, said.encode())).split()[1] == b"408"


async def test_a_broken_body_is_no_mistake_of_ours(hub: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    """400 for chunks that are none, nothing for a client that left in the middle; no traceback in the hub's log."""
    async with locked(hub) as server:
        head = f"POST {COMMANDS} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {RIGHT['Authorization']}\r\n"
        head += "Content-Type: application/json\r\n"
        chunked = f'{head}Transfer-Encoding: chunked\r\n\r\n5\r\n{{"nam\r\nzz\r\n'.encode()
        assert (await raw(server, chunked)).split()[1] == b"400"
        await raw(server, f"{head}Content-Length: 99\r\n\r\n{{".encode(), then_close=True)
        async with client(server) as web:
            assert (await post(web, {"name": "pause"}))[0] == 200
    assert caplog.text == ""


async def test_a_client_that_asks_before_it_sends_is_told_to_go_on(hub: FakeHub) -> None:
    """`Expect: 100-continue`, as curl sends with long bodies: behind the guard, not before it."""
    async with locked(hub) as server:
        body = b'{"name":"pause"}'
        head = f"POST {COMMANDS} HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        assert (await raw(server, head.encode() + b"\r\n")).split()[1] == b"401"
        host, port = server.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"{head}Authorization: {RIGHT['Authorization']}\r\n\r\n".encode())
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE_S) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await asyncio.wait_for(reader.read(), DEADLINE_S)).split()[1] == b"200"
        writer.close()
        await writer.wait_closed()


async def test_a_server_without_control_takes_none(hub: FakeHub) -> None:
    """403 for who has the token, which says how to have it; 401 for who has not; everything else is as before."""
    async with locked(hub, control=False) as server, client(server) as web:
        status, said = await post(web, {"name": "stop"})
        assert (status, "--http-control" in said["error"]) == (403, True)
        async with aiohttp.ClientSession(server.url) as stranger:
            assert (await post(stranger, {"name": "stop"}))[0] == 401
        async with web.get("/api/v1/run") as response:
            assert response.status == 200
    assert hub.commands == []


async def test_a_server_without_a_token_has_no_such_route(hub: FakeHub) -> None:
    """405, as on any other path; the index does not name it."""
    server = await serve_http(hub, "127.0.0.1:0", name="demo")
    try:
        async with client(server) as web:
            assert (await post(web, {"name": "stop"}))[0] == 405
            async with web.get("/", headers={"Accept": "application/json"}) as response:
                assert COMMANDS not in (await response.json())["routes"]
    finally:
        await server.close()
    assert hub.commands == []


async def test_commands_need_a_token(hub: FakeHub) -> None:
    """A server that would take them from anybody cannot be made."""
    with pytest.raises(AssertionError, match="need a token"):
        await serve_http(hub, "127.0.0.1:0", name="demo", control=True)


async def test_commands_are_taken_at_the_door_s_pace(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through however many connections they come: some at once, the others in their turn; all are answered."""
    monkeypatch.setattr("plt_tui.server.door.PACE_S", 0.05)
    monkeypatch.setattr("plt_tui.server.door.BURST_S", 0.2)
    loop = asyncio.get_running_loop()
    async with locked(hub) as server, client(server) as web, client(server) as other:
        started = loop.time()
        answers = await asyncio.gather(
            *(post([web, other][n % 2], {"name": "note", "args": {"text": str(n)}}) for n in range(24))
        )
        assert [status for status, _ in answers] == [200] * 24
        assert loop.time() - started > 0.9


def test_every_argument_of_every_verb_has_a_type() -> None:
    """A verb that is added must say what may be sent."""
    for verb in VERBS:
        for name in VERBS[verb].args:
            assert schemas.argument(verb, name)["description"]


@pytest.mark.parametrize(
    ("value", "schema", "fits"),
    [
        (1, {"type": "integer"}, True),
        (1.0, {"type": "integer"}, True),
        (1.5, {"type": "integer"}, False),
        (True, {"type": "integer"}, False),
        (True, {"type": "number"}, False),
        (0, {"type": "boolean"}, False),
        ("a", {"type": "string"}, True),
        (None, {"type": "string"}, False),
        ([1, "a", True], schemas.ARGUMENTS["value"], True),
        ([None], schemas.ARGUMENTS["value"], False),
        ({}, schemas.ARGUMENTS["value"], False),
    ],
)
def test_types_are_those_of_json(value: object, schema: dict[str, Any], fits: bool) -> None:
    """True is no number, and 1.0 is a whole one."""
    assert is_of_type(value, schema) is fits
