"""`POST /api/v1/commands`: the verbs of the socket over HTTP, each answered with what became of it.

Whether the client may ask at all is `guard`'s decision; whether the run can do it, the hub's. Invariants: a body has passed
`door.parse` and its verb's schema before the hub sees it; commands are taken at the door's pace, however many connections they
come through; a repeated id changes nothing and is answered again.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from plt_tui.control.admission import FINAL_STATES, worded
from plt_tui.control.feed import Feed
from plt_tui.errors import PltTuiError, UsageError
from plt_tui.protocol.commands import VERBS, Command, from_json, status_of
from plt_tui.protocol.events import CommandStatus
from plt_tui.protocol.framing import to_json
from plt_tui.protocol.hello import MAX_MESSAGE_BYTES
from plt_tui.protocol.text import safe_line
from plt_tui.server.api import answer, number
from plt_tui.server.door import Hub, Pace, parse
from plt_tui.server.routes import WAIT
from plt_tui.server.schemas import ARGUMENTS, ID_PATTERN, STATUS_FIELDS, TEXT, Schema

BODY_S = 10.0
"""A body that has not come by then is not waited for."""
MAX_ACTOR_CHARS = 64
MAX_QUOTED_CHARS = 60
_KEYS = ("name", "args", "id")


class TooLong(web.HTTPClientError):
    """A body that is more than any command."""

    status_code = 413

    def __init__(self) -> None:
        super().__init__(text=f"a command is at most {MAX_MESSAGE_BYTES} bytes of JSON")


class Commands:
    """The handler. `is_on`: the run's owner wants commands over HTTP."""

    def __init__(self, hub: Hub, *, is_on: bool) -> None:
        self._hub = hub
        self._is_on = is_on
        self._pace = Pace()
        self._turn = asyncio.Lock()
        self._waiting: set[asyncio.Event] = set()
        self._is_closing = False

    async def post(self, request: web.Request) -> web.Response:
        """Send a command, and wait until it is in force or refused."""
        if not self._is_on:
            raise web.HTTPForbidden(
                text="this server takes no commands; start the run with --http-control (metrics.control = true)"
            )
        wait_s = number(request, WAIT)
        try:
            command = read_command(parse(await body_of(request)), actor_of(request.headers.get("X-Actor", "")))
        except UsageError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        try:
            await self._take(command)
        except PltTuiError as error:
            return told(status_of(command, "refused", reason=str(error)))
        return told(await self._fate(command, wait_s))

    async def finish(self, _: web.Application) -> None:
        """Answer those who wait with what is known by now; for the application's shutdown."""
        self._is_closing = True
        for news in self._waiting:
            news.set()

    async def _take(self, command: Command) -> None:
        """Hand `command` to the hub in its turn. Raises: PltTuiError when it is refused."""
        async with self._turn:
            await asyncio.sleep(self._pace.wait_s(asyncio.get_running_loop().time()))
            known = first_status(self._hub.feed, command.id)
            if known is not None and not is_repeat(command, known):
                words = " ".join([known.name, *map(str, known.args.values())])[:MAX_QUOTED_CHARS]
                raise UsageError(f"id {command.id!r} was given to another command ({words}): use a new one")
            await self._hub.submit(command)

    async def _fate(self, command: Command, wait_s: float) -> CommandStatus:
        """The newest word about `command`, which was taken: the last one, if it comes within `wait_s` seconds."""
        feed, loop, news = self._hub.feed, asyncio.get_running_loop(), asyncio.Event()
        give_up_at = loop.time() + wait_s
        unlisten = feed.listen(news.set)
        timer = loop.call_at(give_up_at, news.set)
        self._waiting.add(news)
        try:
            while True:
                news.clear()
                status = newest_status(feed, command.id) or status_of(command, "requested")
                if status.status in FINAL_STATES or loop.time() >= give_up_at or self._is_closing:
                    return status
                await news.wait()
        finally:
            self._waiting.discard(news)
            timer.cancel()
            unlisten()


async def body_of(request: web.Request) -> bytes:
    """The body of a request, which must say that it is JSON.

    Raises: HTTPException for another type, more than MAX_MESSAGE_BYTES, and a body that does not come or breaks off.
    """
    if request.content_type != "application/json" or (request.charset or "utf-8").lower() != "utf-8":
        raise web.HTTPUnsupportedMediaType(text="send the command as Content-Type: application/json, in UTF-8")
    if "Content-Encoding" in request.headers:
        raise web.HTTPUnsupportedMediaType(text="send the command as it is, without a Content-Encoding")
    if (request.content_length or 0) > MAX_MESSAGE_BYTES:
        raise TooLong
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # no part of the answer, as aiohttp would take it for
    try:
        body = await asyncio.wait_for(request.read(), BODY_S)
    except asyncio.TimeoutError:
        raise web.HTTPRequestTimeout(text=f"the body did not come within {BODY_S:g} s") from None
    except web.HTTPRequestEntityTooLarge:
        raise TooLong from None
    except (ConnectionError, web.RequestPayloadError):
        raise web.HTTPBadRequest(text="the body breaks off") from None
    if len(body) > MAX_MESSAGE_BYTES:
        raise TooLong
    return body


def read_command(value: Mapping[str, Any], actor: str) -> Command:
    """The command in the body of a request. Raises: UsageError naming what is wrong with it."""
    unknown = next((key for key in value if key not in _KEYS), None)
    if unknown is not None:
        raise UsageError(f"unknown key {unknown[:40]!r}; a command has {', '.join(_KEYS)}")
    identity, name, args = value.get("id", secrets.token_hex(6)), value.get("name"), value.get("args", {})
    if not isinstance(name, str) or not isinstance(args, dict):
        raise UsageError('a command needs a name (text), and its args are an object: {"name": "set", "args": {...}}')
    if not isinstance(identity, str) or not ID_PATTERN.fullmatch(identity):
        raise UsageError("id: use 1 to 64 of A-Z a-z 0-9 . _ : -")
    command = from_json({"id": identity, "name": name, "args": args}, actor)
    for given, argument in args.items():
        if not is_of_type(argument, ARGUMENTS.get(given, TEXT)):
            raise UsageError(f"{name}: {given}: {repr(argument)[:40]} is of the wrong type ({VERBS[name].args[given]})")
    return command


def actor_of(name: str) -> str:
    """Who asks, for the journal: what the header X-Actor says, made safe, behind the word that tells the door."""
    return f"http {safe_line(name.strip())[:MAX_ACTOR_CHARS]}".strip()


def newest_status(feed: Feed, identity: str) -> CommandStatus | None:
    """The last word about the command with this id; None when there is none."""
    for event in reversed(feed.events):
        if isinstance(event, CommandStatus) and event.id == identity:
            return event
    return None


def first_status(feed: Feed, identity: str) -> CommandStatus | None:
    """The first word about the command with this id: later ones hold arguments as they were applied."""
    return next((event for event in feed.events if isinstance(event, CommandStatus) and event.id == identity), None)


def is_repeat(command: Command, known: CommandStatus) -> bool:
    """True when `command` asks for what the one did of which `known` is the first word, in other words perhaps.

    Raises: UsageError when no run can apply it.
    """
    args = json.loads(json.dumps(worded(command).args))  # as the record has them, which knows no tuples
    return (command.name, args) == (known.name, json.loads(json.dumps(known.args)))


def told(status: CommandStatus) -> web.Response:
    """What became of a command, as an answer: 200 when it is in force, 202 while it is on its way, 409 when it was refused."""
    values = {name: value for name, value in to_json(status).items() if name in STATUS_FIELDS}
    if status.status == "refused":
        return answer({"error": safe_line(status.reason), **values}, 409)
    return answer(values, 200 if status.status == "applied" else 202)


def is_of_type(value: object, schema: Schema) -> bool:
    """True when a value read from JSON has a type that the schema of an argument names."""
    if "anyOf" in schema:
        return any(is_of_type(value, choice) for choice in schema["anyOf"])
    match schema["type"]:
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return type(value) is int or (isinstance(value, float) and value.is_integer())
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "array":
            return isinstance(value, list) and all(is_of_type(item, schema["items"]) for item in value)
        case _:
            return isinstance(value, str)
