"""Receivers of webhooks on the loopback interface: they write down what comes, and answer as a test wants."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

SECRET = "T0PS3CRET"


@dataclass
class Receiver:
    """What a server got. `answers`: status codes in order, the last one again and again; 0: none, ever."""

    answers: Sequence[int]
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    """First line, headers by lower-case name, body."""
    url: str = ""
    is_asked: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def bodies(self) -> list[bytes]:
        """Bodies of the requests, oldest first."""
        return [body for _, _, body in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        status = self.answers[min(len(self.requests), len(self.answers) - 1)]
        self.requests.append((head[0], headers, body))
        self.is_asked.set()
        if status:
            writer.write(f"HTTP/1.1 {status} X\r\nLocation: {self.url}/elsewhere\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
        else:
            await reader.read()  # until the client has gone


@contextlib.asynccontextmanager
async def receiving(*answers: int) -> AsyncIterator[Receiver]:
    """A receiver that listens; its address holds SECRET."""
    receiver = Receiver(answers)
    busy: set[asyncio.Task[None]] = set()

    def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(receiver.serve(reader, writer))
        busy.add(task)
        task.add_done_callback(busy.discard)

    server = await asyncio.start_server(met, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/{SECRET}"
    try:
        yield receiver
    finally:
        server.close()
        for task in (*busy,):
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
        await server.wait_closed()
