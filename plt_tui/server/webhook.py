"""The hub's door to the outside: posts what a person is called for to an address of theirs, also when nobody watches.

Reads the feed as any view does and is asked by nobody, so nothing in here can hold up the run: one request at a time, a short
queue, TRIES tries of TIMEOUT_S at most, and FAREWELL_S when the run has ended. Redirects are not followed. Invariant: the
address is a secret; it is in no log line, event or error of ours, and neither is what a library says about it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from plt_tui import __version__
from plt_tui.config.alerts import AlertsSection, WebhookFormat
from plt_tui.control.feed import Feed
from plt_tui.protocol.events import Event
from plt_tui.protocol.notices import Kind, Notice, Throttle, notice_of

TIMEOUT_S = 5.0
"""For one try, from the look-up of the name to the answer."""
TRIES = 3
BACKOFF_S = 1.0
"""Before the second try; twice as long before the third."""
QUEUE = 16
"""Notices that wait for those before them; of more the oldest are left out."""
FAREWELL_S = 10.0
"""How long a hub whose run has ended waits until its last word is delivered."""

_TAGS: Mapping[Kind, str] = {
    "finish": "checkered_flag",
    "crash": "rotating_light",
    "nan": "boom",
    "spike": "chart_with_upwards_trend",
    "plateau": "desert",
    "disk": "floppy_disk",
    "gpu": "thermometer",
}
"""Short codes of ntfy for the picture beside a message (docs.ntfy.sh, "Emoji reference")."""
_PRIORITIES = {"info": "3", "warning": "3", "error": "5"}
"""Of ntfy: 3 is usual, 5 rings on a phone that is silent."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One request."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def letter(notice: Notice, form: WebhookFormat, *, name: str, host: str) -> Letter:
    """`notice` of the run called `name`, on the machine `host`, as a receiver of that kind reads it."""
    match form:
        case "json":
            fields = ("kind", "level", "text", "time")
            return _json({"run": name, "host": host, **{key: getattr(notice, key) for key in fields}})
        case "slack":
            words = f"{name} on {host}: {notice.text}"
            for char, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):  # else <!channel> would call everybody
                words = words.replace(char, escaped)
            return _json({"text": words})
        case "ntfy":
            title = f"{name} on {host}".encode("ascii", "replace").decode()
            headers = {"Title": title, "Tags": _TAGS[notice.kind], "Priority": _PRIORITIES[notice.level]}
            return Letter(body=notice.text.encode(), headers=headers)


class Webhook:
    """One receiver of the notices of one run. In the hub's event loop."""

    def __init__(self, url: str, alerts: AlertsSection, *, name: str, host: str, say: Callable[[str], None]) -> None:
        """say: told in a sentence what could not be delivered."""
        self._url = url
        self._alerts = alerts
        self._name, self._host = name, host
        self._say = say
        self._throttle = Throttle()
        self._queue: deque[Notice] = deque()
        self._news = asyncio.Event()
        self._closing = asyncio.Event()
        self._stop_listening: Callable[[], None] = lambda: None
        self._task: asyncio.Task[None] | None = None

    def follow(self, feed: Feed) -> None:
        """Tell what happens from now on. Once."""
        num_seen = len(feed.events)

        def look() -> None:
            nonlocal num_seen
            news, num_seen = feed.events[num_seen:], len(feed.events)
            for event in news:
                self._take(event)

        self._stop_listening = feed.listen(look)
        self._task = asyncio.get_running_loop().create_task(self._deliver_all())

    async def close(self, hurry: asyncio.Event) -> None:
        """Deliver the last word of a run that has ended, for FAREWELL_S at most, or until `hurry` is set."""
        self._stop_listening()
        if self._task is None:
            return
        while len(self._queue) > 1:  # how it ended is what must be told
            self._queue.popleft()
        self._closing.set()
        self._news.set()
        hurrying = asyncio.ensure_future(hurry.wait())
        await asyncio.wait({self._task, hurrying}, timeout=FAREWELL_S, return_when=asyncio.FIRST_COMPLETED)
        if not self._task.done():
            self._say("the webhook did not take the run's last word in time")
        for task in (self._task, hurrying):
            task.cancel()
        result, _ = await asyncio.gather(self._task, hurrying, return_exceptions=True)
        if isinstance(result, Exception):
            _logger.error("the webhook: %s", type(result).__name__)

    def _take(self, event: Event) -> None:
        notice = notice_of(event)
        if notice is None or notice.kind not in self._alerts.on:
            return
        admitted = self._throttle.admit(notice, asyncio.get_running_loop().time())
        if admitted is None:
            return
        if len(self._queue) == QUEUE:
            self._queue.popleft()
            self._say(f"the webhook is slow: of more than {QUEUE} alerts the oldest is left out")
        self._queue.append(admitted)
        self._news.set()

    async def _deliver_all(self) -> None:
        async with _session() as session:
            while True:
                while self._queue:
                    await self._deliver(session, self._queue.popleft())
                if self._closing.is_set():
                    return
                self._news.clear()
                await self._news.wait()

    async def _deliver(self, session: aiohttp.ClientSession, notice: Notice) -> None:
        """Post one notice, again where that may help and nothing more urgent waits."""
        problem = ""
        for number in range(TRIES):
            if number:
                await self._rest(BACKOFF_S * 2 ** (number - 1))
            problem, may_pass = await self._post(session, notice)
            if not problem:
                return
            if not may_pass or (self._closing.is_set() and self._queue):
                break
        self._say(f"the webhook was not told of {notice.kind!r}: {problem}")

    async def _rest(self, seconds: float) -> None:
        if self._closing.is_set():
            await asyncio.sleep(seconds)
        else:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._closing.wait(), seconds)

    async def _post(self, session: aiohttp.ClientSession, notice: Notice) -> tuple[str, bool]:
        """What went wrong, empty when nothing did; and whether it may pass by itself."""
        post = letter(notice, self._alerts.webhook_format, name=self._name, host=self._host)
        try:
            async with session.post(self._url, data=post.body, headers=post.headers, allow_redirects=False) as answer:
                status = answer.status
        except asyncio.TimeoutError:
            return f"no answer within {TIMEOUT_S:g} s", True
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _why(error), not isinstance(error, ValueError)
        if 200 <= status < 300:
            return "", False
        moved = " (redirects are not followed)" if 300 <= status < 400 else ""
        return f"it answers {status}{moved}", status == 429 or status >= 500


def _json(value: Mapping[str, object]) -> Letter:
    return Letter(body=json.dumps(value).encode(), headers={"Content-Type": "application/json"})


def _session() -> aiohttp.ClientSession:
    """One connection at a time, closed after each answer; through the proxy that the environment names, if any."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=1, force_close=True, resolver=_Resolver()),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"plt-tui/{__version__}"},
        timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
        trust_env=True,
    )


def _why(error: Exception) -> str:
    """An error in words that hold nothing of the address, as the library's own may."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, socket.gaierror):
        return "the name of its machine is not known"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not trusted"
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno)
    return type(error).__name__


class _Resolver(AbstractResolver):
    """Looks names up in daemon threads.

    One that hangs in the system's resolver must not keep the hub from ending, as a thread of the event loop's own pool would.
    """

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """The addresses of `host`. Raises: OSError."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[ResolveResult]] = loop.create_future()

        def settle(addresses: list[ResolveResult], error: OSError | None) -> None:
            if found.done():  # nobody waits any more
                return
            if error is None:
                found.set_result(addresses)
            else:
                found.set_exception(error)

        def look_up() -> None:
            addresses, problem = [], None
            try:
                addresses = _addresses(host, port, family)
            except (OSError, UnicodeError) as error:
                problem = error if isinstance(error, OSError) else socket.gaierror(socket.EAI_NONAME, "no name")
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle, addresses, problem)

        threading.Thread(target=look_up, name="webhook", daemon=True).start()
        return await found

    async def close(self) -> None:
        """Nothing to let go of."""


def _addresses(host: str, port: int, family: int) -> list[ResolveResult]:
    found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [
        ResolveResult(
            hostname=host,
            host=str(address[0]),
            port=port,
            family=kind,
            proto=proto,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for kind, _, proto, _, address in found
    ]
