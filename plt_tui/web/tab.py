"""A tab: one WebSocket, one view in a process of its own, and what goes between them until either ends.

textual-serve brings such a bridge too. It runs a shell, waits for ever for a view that does not leave, keeps a tab open whose
view has died, prints what a view complains of to the terminal as it came, and takes any size for a screen; so ours is written
here, and only the terminal in the page is theirs. Knows no run. Invariant: when `serve` returns, the tab's process has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Mapping, Sequence

from aiohttp import WSMsgType, web

from plt_tui.errors import UsageError
from plt_tui.protocol.text import safe_line
from plt_tui.server.door import first_of
from plt_tui.web import wire

LEAVE_S = 3.0
"""How long a view may take to leave in good order before it is killed."""
WORDS_S = 1.0
"""How long the pipes of a view that has ended may stay open, in the hands of something that it started."""
MAX_WORDS_BYTES = 4096
"""Of what a view says last, this much is kept."""
DRIVER = "plt_tui.views.tui.web_driver:WebViewDriver"
_CHUNK_BYTES = 65536
_OF_THE_TERMINAL = ("TMUX", "STY")
"""Variables that tell of the terminal that the server was started in, which is not the view's."""


def environment_of(environ: Mapping[str, str], size: wire.Size) -> dict[str, str]:
    """The environment of a view: the server's, and what makes it a view in a page of this size."""
    kept = {name: value for name, value in environ.items() if name not in _OF_THE_TERMINAL}
    return kept | {
        "TEXTUAL_DRIVER": DRIVER,
        "TEXTUAL_COLOR_SYSTEM": "truecolor",
        "TERM": "xterm-256color",
        "TERM_PROGRAM": "plt-tui web",
        "COLUMNS": str(size.columns),
        "ROWS": str(size.rows),
    }


async def serve(page: web.WebSocketResponse, command: Sequence[str], size: wire.Size, end: asyncio.Event) -> str:
    """Show the view that `command` starts until it ends, its page goes, or `end` is set.

    Returns the view's last words if it has ended by itself, one line that is safe to show; else nothing.
    Raises: UsageError when the page sends what none of ours would.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment_of(os.environ, size),
            start_new_session=True,  # Ctrl-C at the server's terminal is the server's business
        )
    except OSError as error:
        return f"the view cannot be started: {error.strerror}"
    view = _View(process)
    try:
        with contextlib.suppress(ConnectionError):  # the page has gone
            await first_of(_show(view, page), _listen(page, view), _set(end))
    finally:
        words = await view.end()
    return words


class _View:
    """The process of a tab."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._has_ended = False
        """It has taken its leave, or its output has ended."""
        self._process, self._input, self._output = process, process.stdin, process.stdout
        self._complaints = asyncio.create_task(_last_line(process.stderr))

    async def say(self, data: bytes) -> None:
        """Send a packet. Raises: ConnectionError."""
        self._input.write(data)
        await self._input.drain()

    async def pictures(self) -> AsyncGenerator[bytes, None]:
        """What the terminal is to show, until the view ends."""
        try:
            await self._find_ready()
            while True:
                kind, length = wire.length_of(await self._output.readexactly(wire.HEAD_BYTES))
                payload = await self._output.readexactly(length)
                if kind == wire.DATA:
                    yield payload
                elif kind == wire.META and wire.is_exit(payload):
                    break
        except asyncio.IncompleteReadError:  # it died
            pass
        except ValueError:  # what it says is no packet, and its last words would be none either
            return
        self._has_ended = True

    async def end(self) -> str:
        """Make it end, and return its last words; none where it was made to."""
        rest = asyncio.create_task(_last_line(self._output))  # a view that cannot write cannot leave either
        try:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._leave(), LEAVE_S)
        finally:
            if self._process.returncode is None:
                self._process.kill()
            await asyncio.wait((self._complaints, rest), timeout=WORDS_S)
            said = [_result(task) for task in (self._complaints, rest)]
            self._input.close()
            await self._process.wait()
        return next(filter(None, said), "") if self._has_ended else ""

    async def _find_ready(self) -> None:
        for _ in range(wire.MAX_LINES_BEFORE_READY):
            line = await self._output.readline()
            if line == wire.READY:
                return
            if not line:
                raise asyncio.IncompleteReadError(line, None)
        raise ValueError("this is no view")

    async def _leave(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self.say(wire.QUIT)
        await self._process.wait()


async def _show(view: _View, page: web.WebSocketResponse) -> None:
    async with contextlib.aclosing(view.pictures()) as pictures:
        async for picture in pictures:
            await page.send_bytes(picture)


async def _listen(page: web.WebSocketResponse, view: _View) -> None:
    """Hand on what the page sends until it goes. Raises: ConnectionError; UsageError for what no page of ours sends."""
    async for message in page:
        if message.type is WSMsgType.ERROR:
            raise ConnectionResetError("the page does not answer")
        if message.type is not WSMsgType.TEXT:
            raise UsageError(wire.NO_MESSAGE)
        asked = wire.heard(message.data)
        if asked.for_process:
            await view.say(asked.for_process)
        if asked.for_page:
            await page.send_str(asked.for_page)


async def _set(event: asyncio.Event) -> None:
    await event.wait()


async def _last_line(stream: asyncio.StreamReader) -> str:
    """The last line that is said on a stream, once it has ended, safe to show."""
    said = b""
    while chunk := await stream.read(_CHUNK_BYTES):
        said = (said + chunk)[-MAX_WORDS_BYTES:]
    lines = [line.strip() for line in said.decode(errors="replace").splitlines()]
    return safe_line(next(filter(None, reversed(lines)), ""))


def _result(task: asyncio.Task[str]) -> str:
    if not task.done():
        task.cancel()
        return ""
    return task.result()
