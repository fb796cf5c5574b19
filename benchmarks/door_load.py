"""What many who look on cost a run: tokens per second with 100 WebSocket viewers and 50 requests a second, against without.

One headless run of two ranks goes on all the time, and windows with and without the load follow each other; a ratio is a window
with it against the two around it. The clients run on the same cores, in one thread that throws away what it reads. What they
cost is not the hub's: without the load, the same clients get as much from a stand-in in their own process. Beside all windows
there is a client that never reads, which the hub must drop. Invariant: a window begins when all viewers are live, and a viewer
that was lost is an error, not a better number.
"""

from __future__ import annotations

import json
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol
from urllib.request import urlopen

import psutil

from benchmarks.disturbance import Window, cpu_s, rate
from benchmarks.records import read_steps
from benchmarks.table import Row, row
from benchmarks.workplace import QUIET, headless, started, wait_for_step, wait_until, workplace
from plt_tui.control.folder import RunFolder
from plt_tui.server.audience import FRAMES_PER_S

NAME = "bench"
SERVED = ("parallel.ranks=2", "train.steps=1000000", "metrics.serve=true", "metrics.address=127.0.0.1:0")
FIRST_STEP = 30
SETTLE_S = 2.5
"""Left out after the load has begun or ended: viewers come at two frames a second at least."""
VIEWERS, REQUESTS_PER_S = 100, 50
PATHS = ("/metrics", "/api/v1/run")
ASKING = 8
"""Connections that ask: a slow answer does not hold up the next request."""
DEAF = "deaf"
FRAME, ANSWER = b"x" * 2_700, b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n" + b"x" * 3_000
"""As much as the hub sends to a viewer every two seconds, and to who asks."""
DROPPED_S = 90.0
WHAT = f"{VIEWERS} viewers and {REQUESTS_PER_S} requests/s"


@dataclass
class Heard:
    """What the clients got in one window."""

    num_bytes: int = 0
    """To all viewers."""
    answers_ms: list[float] = field(default_factory=list)
    """How long each answer took."""
    cpu_s: float = 0.0
    """What the clients themselves used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A window with the load, and those around it without."""

    before: Window
    during: Window
    after: Window
    heard: Heard
    hub_bytes: int
    """Resident memory of the hub at its end."""


def measure(*, quick: bool) -> list[Row]:
    """The ratio, what hub and clients use, how requests fare, and that a client that never reads is dropped."""
    window_s, rounds = (3.0, 1) if quick else (12.0, 10)
    with workplace() as place, started(place, headless(NAME, *QUIET, *SERVED)):
        folder = place.run_folder(NAME)
        wait_for_step(folder, FIRST_STEP)
        info = folder.read_info()
        assert info is not None
        hub = psutil.Process(info.pid)
        with _deaf_client(info.metrics_url) as dropped_s:
            loaded, before = list[Loaded](), _window(hub, StandIn(), window_s)[0]
            for _ in range(rounds):
                during, heard = _window(hub, Hub(info.metrics_url, _newest_seq(folder)), window_s)
                hub_bytes = hub.memory_info().rss
                after, _ = _window(hub, StandIn(), window_s)
                loaded.append(Loaded(before=before, during=during, after=after, heard=heard, hub_bytes=hub_bytes))
                before = after
            wait_until(lambda: dropped_s, DROPPED_S)
        times = [step.time for step in read_steps(folder)]
    return rows(loaded, times, dropped_s)


def rows(loaded: Sequence[Loaded], times: Sequence[float], dropped_s: Sequence[float]) -> list[Row]:
    """What the windows tell; `times`: ends of all steps, `dropped_s`: how long the hub bore with who never reads."""
    seconds = [one.during.ended - one.during.began for one in loaded]
    answers = [len(one.heard.answers_ms) / window_s for one, window_s in zip(loaded, seconds, strict=True)]
    to_each = [one.heard.num_bytes / VIEWERS / window_s for one, window_s in zip(loaded, seconds, strict=True)]
    clients = [100 * one.heard.cpu_s / window_s for one, window_s in zip(loaded, seconds, strict=True)]
    return [
        row(f"tokens/s with {WHAT}, against without", [ratio(times, one) for one in loaded], at_least=0.98),
        row(f"hub memory with {WHAT}", [one.hub_bytes / 1e6 for one in loaded], "MB", at_most=150),
        row(f"requests answered beside {VIEWERS} viewers", answers, "a second", at_least=REQUESTS_PER_S - 1),
        row(f"(one request beside {VIEWERS} viewers)", [ms for one in loaded for ms in one.heard.answers_ms], "ms", by="p95"),
        row("a client that never reads is dropped after", dropped_s, "s", at_most=DROPPED_S),
        row(f"(CPU of the hub with {WHAT})", [_share(one.during) for one in loaded], "% of a core"),
        row("(CPU of the hub without)", [_share(one.before) for one in loaded], "% of a core"),
        row("(CPU of the clients)", clients, "% of a core"),
        row("(bytes to each viewer)", to_each, "a second"),
    ]


def ratio(times: Sequence[float], loaded: Loaded) -> float:
    """Steps per second with the load over those in the two windows around it."""
    return 2 * rate(times, loaded.during) / (rate(times, loaded.before) + rate(times, loaded.after))


def _share(window: Window) -> float:
    return 100 * window.hub_cpu_s / (window.ended - window.began)


def _window(hub: psutil.Process, server: Server, seconds: float) -> tuple[Window, Heard]:
    with Load(server) as load:
        time.sleep(SETTLE_S)
        own_s, load.heard = time.process_time(), Heard()
        began, used_s = time.time(), cpu_s(hub)
        time.sleep(seconds)
        window = Window(began=began, ended=time.time(), hub_cpu_s=cpu_s(hub) - used_s)
        heard, load.heard = load.heard, Heard()
        heard.cpu_s = time.process_time() - own_s
    return window, heard


def _newest_seq(folder: RunFolder) -> int:
    """Number of the newest step in the record: so the viewers need no history, as one that comes again."""
    return read_steps(folder)[-1].seq


# --- clients ---------------------------------------------------------------------------------------------------------------


class Server(Protocol):
    """Where clients go."""

    def viewers(self, count: int) -> list[socket.socket]:
        """Connections on which events come."""
        ...

    def asker(self) -> socket.socket:
        """A connection for requests."""
        ...

    def serve(self, asked: socket.socket | None) -> None:
        """Called again and again; `asked`: a request has just been sent on that connection."""
        ...

    def close(self) -> None:
        """Nobody comes any more."""
        ...


class Hub:
    """The hub at `url`; viewers know the record up to number `after`."""

    def __init__(self, url: str, after: int) -> None:
        self._address = address_of(url)
        self._after = after

    def viewers(self, count: int) -> list[socket.socket]:
        """WebSockets, which ask to be opened all at once."""
        asking = [_websocket(self._address, f"viewer {number}", self._after) for number in range(count)]
        return [_opened(connection) for connection in asking]

    def asker(self) -> socket.socket:
        """A connection that is kept."""
        return socket.create_connection(self._address)

    def serve(self, asked: socket.socket | None) -> None:
        """The hub does."""

    def close(self) -> None:
        """The hub goes on."""


class StandIn:
    """Gives the clients as much as the hub does, at next to no cost."""

    def __init__(self) -> None:
        self._viewers: list[socket.socket] = []
        self._askers: dict[socket.socket, socket.socket] = {}
        self._due_s = 0.0

    def viewers(self, count: int) -> list[socket.socket]:
        """Ends of pairs."""
        pairs = [socket.socketpair() for _ in range(count)]
        self._viewers = [ours for ours, _ in pairs]
        return [theirs for _, theirs in pairs]

    def asker(self) -> socket.socket:
        """One end of a pair."""
        ours, theirs = socket.socketpair()
        self._askers[theirs] = ours
        return theirs

    def serve(self, asked: socket.socket | None) -> None:
        """Answer at once; send a frame to all viewers now and then."""
        if asked is not None:
            self._askers[asked].sendall(ANSWER)
        if time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + VIEWERS / FRAMES_PER_S
            for viewer in self._viewers:
                viewer.sendall(FRAME)

    def close(self) -> None:
        """Close its ends."""
        for connection in (*self._viewers, *self._askers.values()):
            connection.close()


class Load:
    """All clients, at work while the context is open, less than the 60 s in which a viewer must have answered a ping."""

    def __init__(self, server: Server) -> None:
        self.heard = Heard()
        self._server = server
        self._selector = selectors.DefaultSelector()
        self._idle: deque[_Asker] = deque()
        self._is_over = threading.Event()
        self._problem = ""
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Load:
        for viewer in self._server.viewers(VIEWERS):
            viewer.setblocking(False)
            self._selector.register(viewer, selectors.EVENT_READ, None)
        for _ in range(ASKING):
            asker = _Asker(self._server.asker())
            self._idle.append(asker)
            self._selector.register(asker.connection, selectors.EVENT_READ, asker)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()
        self._server.close()
        if self._problem:
            raise RuntimeError(self._problem)

    def _run(self) -> None:
        try:
            self._serve()
        except (OSError, RuntimeError) as error:
            self._problem = f"a client of the hub was lost: {error}"

    def _serve(self) -> None:
        began, num_asked = time.monotonic(), 0
        while not self._is_over.is_set():
            due = began + num_asked / REQUESTS_PER_S
            wait_s = max(0.0, due - time.monotonic()) if self._idle else 0.1
            for key, _ in self._selector.select(wait_s):
                self._take(key)
            self._server.serve(None)
            while self._idle and time.monotonic() >= began + num_asked / REQUESTS_PER_S:
                asker = self._idle.popleft()
                asker.ask(PATHS[num_asked % len(PATHS)])
                self._server.serve(asker.connection)
                num_asked += 1

    def _take(self, key: selectors.SelectorKey) -> None:
        assert isinstance(key.fileobj, socket.socket)
        data = key.fileobj.recv(2**16)
        if not data:
            raise RuntimeError("the hub closed its connection")
        if key.data is None:
            self.heard.num_bytes += len(data)
        elif key.data.is_answered_by(data):
            self.heard.answers_ms.append(1e3 * (time.monotonic() - key.data.asked_s))
            self._idle.append(key.data)


class _Asker:
    """One connection that asks again and again."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.asked_s = 0.0
        self._answer = b""

    def ask(self, path: str) -> None:
        """Send a request; the answer before has come."""
        self.asked_s, self._answer = time.monotonic(), b""
        self.connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())

    def is_answered_by(self, data: bytes) -> bool:
        """True when this piece ends the answer. Raises: RuntimeError for one that says no."""
        self._answer += data
        head, gap, body = self._answer.partition(b"\r\n\r\n")
        if not gap:
            return False
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"a request was answered with {head[:40]!r}")
        return len(body) >= int(head.lower().partition(b"content-length:")[2].split(None, 1)[0])


def address_of(url: str) -> tuple[str, int]:
    """Host and port of "http://host:port"."""
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)


def _websocket(address: tuple[str, int], actor: str, after: int) -> socket.socket:
    """A viewer that has asked for the stream."""
    connection = socket.create_connection(address)
    key = "dGhlIHNhbXBsZSBub25jZQ=="  # the example of RFC 6455, section 1.3
    connection.sendall(
        f"GET /api/v1/stream?after={after} HTTP/1.1\r\nHost: {address[0]}\r\nX-Actor: {actor}\r\nConnection: Upgrade\r\n"
        f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    return connection


def _opened(connection: socket.socket) -> socket.socket:
    """A viewer whose stream has begun. Raises: RuntimeError when the hub does not want it."""
    head = connection.recv(2**12)
    if not head.startswith(b"HTTP/1.1 101 "):
        connection.close()
        raise RuntimeError(f"a viewer was answered with {head[:40]!r}")
    return connection


@contextmanager
def _deaf_client(url: str) -> Iterator[list[float]]:
    """A viewer that never reads again; after how many seconds the hub no longer counted it, once it does not."""
    dropped_s, is_over, began = list[float](), threading.Event(), time.monotonic()

    def look() -> None:
        seen = False
        while not dropped_s and not is_over.wait(2.0):
            with suppress(OSError), urlopen(f"{url}/api/v1/viewers", timeout=10.0) as answer:
                is_there = any(viewer["actor"] == f"http {DEAF}" for viewer in json.load(answer))
                seen = seen or is_there
                if seen and not is_there:
                    dropped_s.append(time.monotonic() - began)

    with _opened(_websocket(address_of(url), DEAF, 0)):
        looking = threading.Thread(target=look)
        looking.start()
        try:
            yield dropped_s
        finally:
            is_over.set()
            looking.join()
