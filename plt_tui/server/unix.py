"""The hub's Unix socket: the door for views, and for commands.

Newline-delimited JSON. The client's first line is {"op":"hello","actor":"tui ana@box","readonly":false,"version":1}, each later
one {"op":"command","command":{"id","name","args"}}. The hub's lines are events: history, CaughtUp, then what is live. With
"after" in its hello, the number of the last recorded thing that it knows, a client gets of history what came behind that. Only
the same user (or root) gets in. A client that does not read, such as a view in a stopped terminal or a console whose reader
waits, is kept while its place is not needed. Invariant: whatever one client sends or does not read, no other client notices.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
import struct
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plt_tui.errors import PltTuiError, StorageError, UsageError
from plt_tui.protocol.commands import Command, from_json, status_of
from plt_tui.protocol.events import Alert
from plt_tui.protocol.framing import encode
from plt_tui.protocol.hello import MAX_MESSAGE_BYTES, PROTOCOL_VERSION
from plt_tui.protocol.text import safe_line
from plt_tui.server.audience import Audience, Follower
from plt_tui.server.door import (
    GOODBYE_S,
    PACE_S,
    SILENT_S,
    SOCKET_PLACES,
    STALL_S,
    Hub,
    Pace,
    Places,
    dropped_after,
    first_of,
    parse,
)
from plt_tui.server.stream import as_line

HELLO_S = 10.0
"""A client that has not said hello by then is dropped."""
MAX_ACTOR_CHARS = 64
WRITE_BYTES = 64 * 1024
"""Bytes written between two looks at whether the client reads: a long line on a slow link is progress, not a stall."""

_log = logging.getLogger(__name__)


async def serve_unix(hub: Hub, path: Path, *, audience: Audience | None = None, stall_s: float = STALL_S) -> UnixDoor:
    """Open the socket at `path` (at most 107 bytes), mode 0600; a dead hub's socket there is replaced.

    audience: of the hub, where it has another door too.
    Raises: StorageError when it cannot be created.
    """
    try:
        listener = _listen(path)
    except OSError as error:
        raise StorageError(f"cannot open the run's socket {path}: {error}; choose another run.dir") from None
    door = UnixDoor(hub, path, audience or Audience(hub.feed), stall_s)
    await door.start(listener)
    return door


class UnixDoor:
    """The open socket and its clients."""

    def __init__(self, hub: Hub, path: Path, audience: Audience, stall_s: float) -> None:
        self.path = path
        self._hub = hub
        self._audience = audience
        self._stall_s = stall_s
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[Any], _Client] = {}
        self._places = Places(SOCKET_PLACES)

    async def start(self, listener: socket.socket) -> None:
        """Accept clients on `listener` from now on."""
        self._server = await asyncio.start_unix_server(self._serve, sock=listener, limit=MAX_MESSAGE_BYTES)

    async def close(self) -> None:
        """Let nobody in any more, let clients read what was said last, then cut them off and remove the socket."""
        assert self._server is not None
        self._server.close()
        with suppress(OSError):  # in a folder that is read-only by now: nobody listens there, the next hub takes its place
            self.path.unlink(missing_ok=True)
        for client in self._clients.values():
            client.finish()
        tasks = set(self._clients)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=GOODBYE_S)
            for task in late:
                self._clients[task].drop()
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        client = self._clients[task] = _Client(self._hub, self._audience, reader, writer, self._stall_s)
        try:
            if not is_allowed(peer_uid(writer.get_extra_info("socket")), os.getuid()):
                return
            if self._places.take(client, asyncio.get_running_loop().time()):
                await client.serve()
            else:
                await client.refuse(self._places.full)
        except (ConnectionError, asyncio.CancelledError):
            pass  # it left, was dropped, or the door closes: nobody to tell
        finally:
            client.leave()
            self._places.leave(client)
            await client.hang_up()
            del self._clients[task]


class _Client:
    """One connection: commands in, events out."""

    def __init__(
        self, hub: Hub, audience: Audience, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stall_s: float
    ) -> None:
        self.patience_ends = asyncio.get_running_loop().time() + SILENT_S
        self._transport: asyncio.WriteTransport = writer.transport
        self._hub = hub
        self._audience = audience
        self._follower: Follower | None = None
        """None until it has said hello."""
        self._is_finishing = False
        self._reader = reader
        self._writer = writer
        self._stall_s = stall_s
        self._turn = asyncio.Lock()  # frames and answers share the wire, and `drain` takes one waiter (Python 3.10)

    async def serve(self) -> None:
        """Follow the protocol until either side ends it. Raises: ConnectionError when the client is gone or was dropped."""
        try:
            with dropped_after(self._transport, HELLO_S):
                hello = read_hello(await self._message())
            follower = self._audience.follow(hello.actor, "socket", readonly=hello.readonly, after=hello.after)
        except UsageError as error:
            await self.refuse(str(error))
        else:
            self.patience_ends = math.inf
            self._follower = follower
            if self._is_finishing:
                follower.finish()
            await first_of(self._receive(hello), self._send_batches(follower))

    def finish(self) -> None:
        """End the connection once everything said so far has been sent."""
        self._is_finishing = True
        if self._follower is not None:
            self._follower.finish()

    def leave(self) -> None:
        """Follow the run no more."""
        if self._follower is not None:
            self._follower.close()

    def drop(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    async def hang_up(self) -> None:
        """Close the connection once what was written has been read, within the time that a client may stall."""
        self._writer.close()
        with suppress(ConnectionError), dropped_after(self._transport, self._stall_s):
            await self._writer.wait_closed()

    async def _message(self) -> dict[str, Any]:
        """The next message. Raises: UsageError for a bad one, ConnectionError at the end of the stream."""
        try:
            line = await self._reader.readline()
        except ValueError:
            raise UsageError(f"a message is longer than {MAX_MESSAGE_BYTES} bytes") from None
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the client left")
        return parse(line)

    async def _receive(self, hello: Hello) -> None:
        loop, pace = asyncio.get_running_loop(), Pace()
        try:
            while True:
                message = await self._message()
                if message.get("op") != "command":
                    raise UsageError(f"unknown op {message.get('op')!r}; known: command")
                await self._take(message.get("command"), hello)
                await asyncio.sleep(pace.wait_s(loop.time()))  # also where there is nothing to wait for: others have a turn
        except UsageError as error:
            await self.refuse(str(error))

    async def _take(self, value: object, hello: Hello) -> None:
        """Hand a command to the hub, or tell this client alone why not. Raises: UsageError when it cannot be answered."""
        asked = _asked(value, hello.actor)
        try:
            if hello.readonly:
                raise UsageError("this view is read-only")
            await self._hub.submit(from_json(value, hello.actor))
        except PltTuiError as error:
            if asked is None:
                raise UsageError(str(error)) from None
            status = status_of(asked, "refused", reason=safe_line(str(error)))
            async with self._turn:
                await self._write(as_line(encode(status)))

    async def refuse(self, reason: str) -> None:
        """Say what is wrong, as the last word, and swallow what is still on its way, at the door's pace.

        A socket closed on unread input is reset, and the client could lose the reason with it.
        """
        _log.warning("a client is refused: %s", safe_line(reason))
        await self._turn.acquire()  # never given back: what the feed still has to say to this client waits until it is gone
        alert = Alert(time=time.time(), topic="protocol", text=safe_line(reason), level="error")
        await self._write(as_line(encode(alert)))
        with suppress(OSError), dropped_after(self._transport, GOODBYE_S):
            self._writer.write_eof()
            while await self._reader.read(MAX_MESSAGE_BYTES):  # noqa: ASYNC110  (no polling: what comes is to wait)
                await asyncio.sleep(PACE_S)

    async def _send_batches(self, follower: Follower) -> None:
        async for batch in follower.batches():
            async with self._turn:
                for piece in batch.pieces(as_line):
                    await self._write(piece)

    async def _write(self, lines: bytes) -> None:
        for start in range(0, len(lines), WRITE_BYTES):
            self._writer.write(lines[start : start + WRITE_BYTES])
            self.patience_ends = asyncio.get_running_loop().time() + self._stall_s
            await self._writer.drain()
            self.patience_ends = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What a client says of itself. `actor`: who it is, safe to show; `readonly`: it only looks; `after`: what it knows."""

    actor: str
    readonly: bool
    after: int


def read_hello(message: dict[str, Any]) -> Hello:
    """The hello in a client's first message. Raises: UsageError."""
    actor, readonly, version = message.get("actor"), message.get("readonly", False), message.get("version")
    after = message.get("after", 0)
    if message.get("op") != "hello" or not isinstance(actor, str) or not isinstance(readonly, bool):
        raise UsageError('say hello first: {"op":"hello","actor":"...","readonly":false,"version":1}')
    if version != PROTOCOL_VERSION:
        raise UsageError(f"the client speaks version {version!r}, this hub {PROTOCOL_VERSION}; use the hub's plt-tui version")
    if type(after) is not int or not 0 <= after < 2**63:
        raise UsageError(f"after: {after!r:.40} is no number of the record; leave it out to get all of history")
    return Hello(actor=safe_line(actor)[:MAX_ACTOR_CHARS], readonly=readonly, after=after)


def is_allowed(peer_uid: int | None, own_uid: int) -> bool:
    """Same user or root. None, where the system cannot say who it is: the socket's mode has decided already."""
    return peer_uid in (None, 0, own_uid)


def peer_uid(connection: socket.socket) -> int | None:
    """User id of the process at the other end of a Unix socket; None where the system cannot say."""
    if sys.platform != "linux":
        return None
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, uid, _ = struct.unpack("3i", packed)
    return int(uid)


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # at creation, for a chmod afterwards would leave a moment in which others can connect
    try:
        listener.bind(os.fspath(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


def _asked(value: object, actor: str) -> Command | None:
    """The command as far as it can be answered: with the id under which the client waits; None without one."""
    if not isinstance(value, dict) or not isinstance(value.get("id"), str) or not isinstance(value.get("name"), str):
        return None
    args = value.get("args")
    return Command(
        id=value["id"][:64], name=safe_line(value["name"])[:64], args=args if isinstance(args, dict) else {}, actor=actor
    )
