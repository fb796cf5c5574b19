"""`plt-tui attach --stdio`: a run over stdin and stdout, for a view on another machine that has started this over ssh.

Passes bytes on and knows no event but the last. Invariants: nothing but the protocol (`protocol.remote`) reaches stdout; of
what a side does not take at most CHUNK_BYTES wait here; it ends when stdin ends, nobody reads stdout, or the hub is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from plt_tui import __version__
from plt_tui.cli.attach import live_socket
from plt_tui.errors import HubUnreachable, UsageError

if TYPE_CHECKING:
    from plt_tui.control.folder import RunFolder
    from plt_tui.protocol.events import Event

CHUNK_BYTES = 64 * 1024
PIECE_BYTES = select.PIPE_BUF
"""What a pipe or socket that `poll` calls writable takes at once: both stay as they are, for others have them too."""
GOODBYE_S = 5.0
"""How long the hub may take for what was sent before stdin ended; it takes ten commands a second."""
FATE_S, FATE_CHECK_S = 2.0, 0.05
"""How long a run whose hub has gone may seem to be held by somebody, and how often one looks."""
_END, _BEGUN = b'\n{"kind":"end",', (b'\n{"kind":"phase",', b'\n{"kind":"run",')
"""How the last line of a session begins, and lines of one that goes on."""


def serve_stdio(folder: RunFolder, *, readonly: bool) -> None:
    """Introduce the run, then pass on its hub until one side ends, or tell its record. Raises: PltTuiError."""
    from plt_tui.config.sources import read_text
    from plt_tui.protocol.remote import CUT, Introduction, encode

    config = read_text(folder.config)

    def introduction(*, live: bool) -> bytes:
        return encode(Introduction(name=folder.name, config=config, live=live, program=__version__))

    with own_stdout() as stdout, contextlib.suppress(ConnectionError):  # nobody reads any more
        hub = asyncio.run(_connected(folder))
        if hub is None:
            record = _record(folder)
            _write(stdout, introduction(live=False))
            _tell(stdout, record)
            return
        with hub:
            _write(stdout, introduction(live=True))
            is_told = pass_on(hub, sys.stdin.fileno(), stdout, readonly=readonly)
        if is_told:
            return
        if _is_held(folder):
            _write(stdout, CUT + introduction(live=True))
        else:
            record = _record(folder)
            _write(stdout, CUT + introduction(live=False))
            _tell(stdout, record)


@contextlib.contextmanager
def own_stdout() -> Iterator[int]:
    """A descriptor of stdout that nobody else has; what is printed meanwhile goes to stderr."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        yield stdout
    finally:
        sys.stdout.flush()
        os.dup2(stdout, 1)
        os.close(stdout)


async def _connected(folder: RunFolder) -> socket.socket | None:
    """The hub's socket; None for a run that nobody holds, also one whose hub dies at this moment. Raises: HubUnreachable."""
    from plt_tui.views.client import hub_socket

    path = await live_socket(folder)
    if path is not None:
        try:
            return await hub_socket(path, deadline_s=2.0)
        except HubUnreachable:
            if folder.is_live():
                raise
    return None


def _is_held(folder: RunFolder) -> bool:
    """True when somebody still holds the run: its hub has let go of this view alone."""
    give_up_at = time.monotonic() + FATE_S
    while folder.is_live() and time.monotonic() < give_up_at:
        time.sleep(FATE_CHECK_S)
    return folder.is_live()


def _record(folder: RunFolder) -> Iterator[Event]:
    """All that is known of a run that has ended, in pieces of a few megabytes. Raises: StorageError, at once."""
    from plt_tui.cli.files import recorded_logs
    from plt_tui.control.record import crash_of, read_feed
    from plt_tui.protocol.events import CaughtUp, Logs
    from plt_tui.server.stream import MAX_LOG_LINES, Reader

    feed = read_feed(folder)
    reader, crash, logs = Reader(feed), crash_of(folder, feed.state), recorded_logs(folder)

    def pieces() -> Iterator[Event]:
        while batch := reader.read():
            yield from batch
        if crash is not None:
            yield crash
        for start in range(0, len(logs.lines), MAX_LOG_LINES):
            yield Logs(lines=logs.lines[start : start + MAX_LOG_LINES], dropped=0 if start else logs.dropped)
        yield CaughtUp()

    return pieces()


def _tell(stdout: int, record: Iterable[Event]) -> None:
    """Write the events of a record. Raises: ConnectionError."""
    from plt_tui.protocol.framing import encode

    for event in record:
        _write(stdout, encode(event) + b"\n")


def _write(descriptor: int, data: bytes) -> None:
    """Write all of it, for as long as that takes. Raises: ConnectionError."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:  # as whoever started this has left it
            select.select([], [descriptor], [])


def pass_on(hub: socket.socket, stdin: int, stdout: int, *, readonly: bool) -> bool:
    """Pass on what comes, both ways, until the hub is gone or stdin has ended and the hub has had its time for the rest.

    `hub`: non-blocking. `readonly`: whatever the view says of itself, the hub takes it for one that only watches.
    Returns False when the hub is gone without having said the end of the run. Raises: ConnectionError when nobody reads stdout.
    """
    wire = _Wire(hub, stdin, stdout, readonly=readonly)
    while wire.turn():
        pass
    return wire.has_left or wire.has_heard_the_end


class _Wire:
    """The two ways between stdin and stdout and the hub, as far as they are."""

    def __init__(self, hub: socket.socket, stdin: int, stdout: int, *, readonly: bool) -> None:
        self.has_left = False
        """Stdin has ended."""
        self._hub, self._stdin, self._stdout = hub, stdin, stdout
        self._to_hub, self._to_view = memoryview(b""), memoryview(b"")
        """What waits to be taken."""
        self._hello = b"" if readonly else None
        """Of the view's first line what has come of it, while it is waited for."""
        self._recent = b"\n"
        """The end of what came from the hub."""
        self._give_up_at = float("inf")

    @property
    def has_heard_the_end(self) -> bool:
        """True when the hub has told how the session ended."""
        return self._recent.rfind(_END) > max(self._recent.rfind(line) for line in _BEGUN)

    def turn(self) -> bool:
        """Wait for something to do, and do it; False at the end. Raises: ConnectionError."""
        ready = self._ready()
        if ready.get(self._stdout, 0) & ~select.POLLOUT:
            raise BrokenPipeError
        if self._to_view and self._stdout in ready:
            self._to_view = self._to_view[os.write(self._stdout, self._to_view[:PIECE_BYTES]) :]
        if self._stdin in ready:
            self._hear()
        if self._to_hub and self._hub.fileno() in ready:
            self._say()
        if not self._to_view and self._hub.fileno() in ready and not self._listen():
            return False
        return time.monotonic() < self._give_up_at

    def _ready(self) -> dict[int, int]:
        """Where something can be done, or is wrong. A hub with nothing to do is left out: gone, it would let no poll wait."""
        poll = select.poll()
        poll.register(self._stdout, select.POLLOUT if self._to_view else 0)
        if not self._to_hub and not self.has_left:
            poll.register(self._stdin, select.POLLIN)
        wanted = (0 if self._to_view else select.POLLIN) | (select.POLLOUT if self._to_hub else 0)
        if wanted:
            poll.register(self._hub, wanted)
        left_s = self._give_up_at - time.monotonic()
        return dict(poll.poll(None if left_s == float("inf") else max(0.0, 1000 * left_s)))

    def _hear(self) -> None:
        """Take what the view says; at the end of it the hub hears that too."""
        try:
            data = os.read(self._stdin, CHUNK_BYTES)
        except OSError:  # a terminal that was hung up
            data = b""
        if data:
            self._to_hub = memoryview(self._watching(data))
            return
        self.has_left = True
        self._give_up_at = time.monotonic() + GOODBYE_S
        with contextlib.suppress(OSError):
            self._hub.shutdown(socket.SHUT_WR)

    def _watching(self, data: bytes) -> bytes:
        """`data`, and where the view may only watch with its first line changed so that it says so."""
        from plt_tui.protocol.hello import MAX_MESSAGE_BYTES

        if self._hello is None:
            return data
        self._hello += data
        if b"\n" not in self._hello and len(self._hello) <= MAX_MESSAGE_BYTES:
            return b""
        line, _, rest = self._hello.partition(b"\n")
        self._hello = None
        return watching(line) + b"\n" + rest

    def _say(self) -> None:
        try:
            self._to_hub = self._to_hub[self._hub.send(self._to_hub) :]
        except BlockingIOError:
            return
        except OSError:  # it has gone, and what it said last is still to be passed on
            self._to_hub = memoryview(b"")

    def _listen(self) -> bool:
        """Take what the hub says; False when it is gone."""
        try:
            data = self._hub.recv(CHUNK_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        self._to_view = memoryview(data)
        self._recent = (self._recent + data)[-CHUNK_BYTES:]
        return bool(data)


def watching(line: bytes) -> bytes:
    """The hello in `line` as that of a view that only watches; what the hub would not take is left as it is."""
    from plt_tui.server.door import parse

    try:
        return json.dumps({**parse(line), "readonly": True}).encode()
    except UsageError:
        return line
