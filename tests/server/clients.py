"""Raw clients of the hub's Unix socket, well-behaved and not, and the door that they come to."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from plt_tui.server.audience import Audience
from plt_tui.server.unix import UnixDoor, serve_unix
from tests.server.hub_fakes import DEADLINE_S, FakeHub

HELLO = {"op": "hello", "actor": "test ana@box", "readonly": False, "version": 1}


class Line:
    """A raw client: bytes out, JSON lines in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, *messages: bytes | dict[str, Any]) -> None:
        for message in messages:
            self.writer.write(message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n")
        await self.writer.drain()

    async def hear(self) -> dict[str, Any] | None:
        """The next line; None at the end."""
        line = await asyncio.wait_for(self.reader.readline(), DEADLINE_S)
        return json.loads(line) if line else None

    async def hear_until(self, kind: str) -> dict[str, Any]:
        while True:
            line = await self.hear()
            assert line is not None, f"no {kind} before the end"
            if line["kind"] == kind:
                return line


@asynccontextmanager
async def opened(
    hub: FakeHub, folder: Path, stall_s: float = DEADLINE_S, audience: Audience | None = None
) -> AsyncIterator[UnixDoor]:
    """The open door of `hub`, and no socket file afterwards."""
    door = await serve_unix(hub, folder / "hub.sock", stall_s=stall_s, audience=audience)
    try:
        yield door
    finally:
        await door.close()
        assert not door.path.exists()


@asynccontextmanager
async def connected(path: Path, *hello: bytes | dict[str, Any]) -> AsyncIterator[Line]:
    """A client that has said `hello`."""
    reader, writer = await asyncio.open_unix_connection(path, limit=2**24)
    try:
        line = Line(reader, writer)
        await line.say(*(hello or (HELLO,)))
        yield line
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@contextmanager
def deaf(path: Path) -> Iterator[socket.socket]:
    """A client that says hello and reads nothing."""
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(path))
        raw.sendall(json.dumps(HELLO).encode() + b"\n")
        yield raw


def command(name: str, **args: Any) -> dict[str, Any]:
    """A message with a command."""
    return {"op": "command", "command": {"id": f"id-{name}", "name": name, "args": args, "actor": "root"}}
