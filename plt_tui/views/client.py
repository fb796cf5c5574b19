"""The one way to a live hub: its Unix socket, or another stream that leads to it, as a `Source`.

Does not start hubs and does not know where a run's socket is. A lost connection ends `events`; it is not opened again here.
Invariant: one task reads the events of one client.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from plt_tui.errors import HubUnreachable, UsageError
from plt_tui.protocol.commands import Command, to_json
from plt_tui.protocol.events import Alert, CommandStatus, Event
from plt_tui.protocol.framing import decode
from plt_tui.protocol.hello import MAX_MESSAGE_BYTES, hello
from plt_tui.protocol.text import safe_line

MAX_EVENT_BYTES = 64 * 1024 * 1024
"""Longest line of the hub; a block of steps is a few megabytes."""
RETRY_S = 0.05


class HubClient:
    """A connection to a hub that was greeted. `readonly`: the hub refuses every command of this client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, readonly: bool) -> None:
        self.readonly = readonly
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(
        cls, path: Path, *, actor: str, readonly: bool = False, after: int = 0, deadline_s: float = 0
    ) -> HubClient:
        """Connect to the hub at `path`, trying for `deadline_s` seconds: a hub that has just started opens it soon.

        after: greatest `seq` that was heard before; of history comes what lies behind it. 0: all.
        Raises: HubUnreachable.
        """
        connection = await hub_socket(path, deadline_s=deadline_s)
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=MAX_EVENT_BYTES)
        client = cls(reader, writer, readonly=readonly)
        try:
            await client._write(hello(actor, readonly=readonly, after=after))
        except BaseException:
            await client.close()
            raise
        return client

    async def events(self) -> AsyncIterator[Event]:
        """History, CaughtUp, then what is live; ends when the hub is gone.

        Raises: HubUnreachable with the hub's reason when it breaks off, or when what comes is not the protocol of this version.
        """
        while line := await self.next_line():
            yield event_in(line)

    async def next_line(self) -> bytes:
        """The next line, whole; empty once the hub is gone. Raises: HubUnreachable for one that no hub sends."""
        try:
            line = await self._reader.readline()
        except ConnectionError:
            return b""
        except ValueError as error:  # longer than the reader takes
            raise _another_protocol(error) from None
        return line if line.endswith(b"\n") else b""  # it may have died in the middle of a line

    async def send(self, command: Command) -> None:
        """Hand `command` to the hub; its fate comes back as CommandStatus events.

        Raises: UsageError for one that cannot be sent, HubUnreachable.
        """
        await self._write({"op": "command", "command": to_json(command)})

    async def close(self) -> None:
        """Leave; the run goes on. Harmless when repeated."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _write(self, message: dict[str, Any]) -> None:
        try:
            line = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        except ValueError as error:
            raise UsageError(f"this cannot be sent: {error}") from None
        if len(line) > MAX_MESSAGE_BYTES:
            raise UsageError(f"too long to send: {len(line)} bytes, at most {MAX_MESSAGE_BYTES}")
        try:
            self._writer.write(line)
            await self._writer.drain()
        except ConnectionError:
            raise HubUnreachable("the hub has gone; `plt-tui ls` shows which runs are alive") from None


def event_in(line: bytes) -> Event:
    """The event in a line of a hub. Raises: HubUnreachable when there is none, or with the hub's reason to break off."""
    try:
        event = decode(line)
    except (ValueError, RecursionError) as error:
        raise _another_protocol(error) from None
    if isinstance(event, Alert) and event.topic == "protocol":  # told to this client alone, for the last time
        raise HubUnreachable(f"the hub broke off: {safe_line(str(event.text))}")
    return event


def _another_protocol(error: Exception) -> HubUnreachable:
    reason = safe_line(str(error), 200)
    return HubUnreachable(f"the hub speaks another protocol ({reason}); attach with its plt-tui version")


async def run_command(client: HubClient, command: Command, timeout_s: float) -> CommandStatus:
    """Send `command` and wait until it is applied or refused.

    Raises: HubUnreachable when the hub ends, or says nothing final about it within `timeout_s` seconds; the command may still
    take effect then.
    """
    await client.send(command)
    try:
        return await asyncio.wait_for(_final_status(client, command), timeout_s)
    except asyncio.TimeoutError:
        hint = "it may still take effect: look with `plt-tui attach`"
        raise HubUnreachable(f"no answer to {command.name} within {timeout_s:g} s; {hint}") from None


async def _final_status(client: HubClient, command: Command) -> CommandStatus:
    async for event in client.events():
        match event:
            case CommandStatus(id=command.id, status="applied" | "refused"):
                return event
    raise HubUnreachable(f"the hub ended before it answered to {command.name}; `plt-tui show` tells how the run ended")


async def hub_socket(path: Path, *, deadline_s: float = 0) -> socket.socket:
    """A socket connected to the hub at `path`, non-blocking, tried for `deadline_s` seconds. Raises: HubUnreachable."""
    give_up_at = asyncio.get_running_loop().time() + deadline_s
    while True:
        try:
            return _connected(path)
        except (FileNotFoundError, ConnectionRefusedError, BlockingIOError) as error:
            if asyncio.get_running_loop().time() >= give_up_at:
                hint = "`plt-tui ls` shows which runs are alive, `plt-tui run --resume auto` continues one"
                raise HubUnreachable(f"no hub answers on {path}: {error.strerror}; {hint}") from None
        except OSError as error:
            raise HubUnreachable(f"cannot connect to the hub on {path}: {error}; only the user who runs it may") from None
        await asyncio.sleep(RETRY_S)


def _connected(path: Path) -> socket.socket:
    """A socket connected to `path`, at once. Raises: OSError, among them BlockingIOError when too many wait to be let in.

    Not by the event loop: that takes this last case for a connection that is on its way (a TCP socket's would be).
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        connection.connect(os.fspath(path))
    except OSError:
        connection.close()
        raise
    return connection
