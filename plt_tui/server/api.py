"""What the HTTP server answers: the feed of one run as JSON, read-only.

Every answer is bounded, however long the run is, and large ones are made one at a time, in a thread: hub and ranks share
cores and memory. Who may ask is `guard`'s decision. Invariant: an answer is valid JSON, with non-finite floats as strings, and
nothing here changes the run.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from plt_tui.control.feed import Feed
from plt_tui.control.state import RunState
from plt_tui.control.summary import json_ready, summary
from plt_tui.protocol.events import CommandStatus, Eval, Event, Run, Sample
from plt_tui.protocol.framing import to_json
from plt_tui.server.columns import between, bucketed
from plt_tui.server.prometheus import exposition
from plt_tui.server.routes import AFTER, FROM, LAST, LINES, POINTS, TO, Number

MAX_LIST_BYTES = 4 << 20
"""Most JSON in a list, which keeps its newest entries: a client that reads slowly has all of its answer held for it."""
_LOG_KEYS = ("time", "source", "level", "text")

TakenT = TypeVar("TakenT")


class Api:
    """The handlers, one per route. `name`: of the run."""

    def __init__(self, feed: Feed, name: str) -> None:
        self._feed = feed
        self._name = name
        self._turn = asyncio.Lock()
        self._summary = _Told(self._summarized)
        self._exposition = _Told(lambda: exposition(feed.state, name))

    async def run(self, _: web.Request) -> web.Response:
        """The fields of `show --json`, and the number of the newest thing in the record."""
        body = self._summary.of((self._feed.state, self._feed.last_seq))
        return web.Response(body=body, content_type="application/json", charset="utf-8")

    async def metrics(self, request: web.Request) -> web.Response:
        """Rows of the history by column, or buckets of them."""
        first, last, points = number(request, FROM), number(request, TO), number(request, POINTS)
        return await self._large(
            request,
            lambda: between(self._feed.history.columns, first, last),
            lambda rows: as_json(bucketed(rows, points)),
        )

    async def evals(self, request: web.Request) -> web.Response:
        """The newest evaluations of the present line."""
        return await self._newest(request, evals_of)

    async def samples(self, request: web.Request) -> web.Response:
        """The newest samples."""
        return await self._newest(request, lambda events: [event for event in events if isinstance(event, Sample)])

    async def journal(self, request: web.Request) -> web.Response:
        """The newest events, of all or of those behind a number of the record."""
        after = number(request, AFTER)
        return await self._newest(request, lambda events: behind(events, after))

    async def checkpoints(self, _: web.Request) -> web.Response:
        """Saved checkpoints."""
        return answer([to_json(saved) for saved in self._feed.state.checkpoints])

    async def logs(self, request: web.Request) -> web.Response:
        """The newest log lines."""
        count = number(request, LINES)
        return await self._large(
            request,
            lambda: self._feed.log_tail(count),
            lambda lines: newest_as_json(lines, lambda line: dict(zip(_LOG_KEYS, line, strict=True))),
        )

    async def gauges(self, _: web.Request) -> web.Response:
        """The machine, and each rank's word about itself."""
        state = self._feed.state
        machine = to_json(state.gauges) if state.gauges is not None else None
        return answer({"machine": machine, "ranks": [to_json(rank) for _, rank in sorted(state.ranks.items())]})

    async def viewers(self, _: web.Request) -> web.Response:
        """Who is connected."""
        return answer(self._feed.state.viewers)

    async def prometheus(self, _: web.Request) -> web.Response:
        """The newest numbers as Prometheus text."""
        body = self._exposition.of((self._feed.state, self._feed.last_seq))
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _newest(self, request: web.Request, choose: Callable[[Sequence[Event]], Sequence[Event]]) -> web.Response:
        """The newest of the events that `choose` leaves."""
        last = number(request, LAST)
        return await self._large(
            request,
            self._feed.events.copy,
            lambda events: newest_as_json(choose(events)[-last:], to_json),
        )

    async def _large(self, request: web.Request, take: Callable[[], TakenT], make: Callable[[TakenT], str]) -> web.Response:
        """What `make` makes, in a thread, of what `take` copies from the feed, once no other large answer is being made.

        A client that leaves does not end its request, and its place is another's at once: nothing is taken for it any more.
        """
        async with self._turn:
            if request.transport is None:
                return web.Response()
            taken = take()
            body = await asyncio.to_thread(lambda: make(taken).encode())
        return web.Response(body=body, content_type="application/json", charset="utf-8")

    def _summarized(self) -> bytes:
        return as_json({**summary(self._feed.state, self._name), "seq": self._feed.last_seq}).encode()


class _Told:
    """The last answer, kept while what it tells of is the same: to make it costs more than the rest of a request."""

    def __init__(self, make: Callable[[], bytes]) -> None:
        self._make = make
        self._of: tuple[RunState, int] | None = None
        self._body = b""

    def of(self, told: tuple[RunState, int]) -> bytes:
        """The answer about this state and number of the record."""
        if self._of is None or self._of[0] is not told[0] or self._of[1] != told[1]:
            self._of, self._body = told, self._make()
        return self._body


def evals_of(events: Iterable[Event]) -> list[Eval]:
    """The evaluations of the line that a run is on after `events`: those that a resume or rewind abandoned are left out."""
    line: list[Eval] = []
    for event in events:
        match event:
            case Eval(step=step):
                last = step - 1
            case Run(start_step=step) | CommandStatus(name="rewind", status="applied", step=step):
                last = step
            case _:
                continue
        while line and line[-1].step > last:
            line.pop()
        if isinstance(event, Eval):
            line.append(event)
    return line


def behind(events: Sequence[Event], seq: int) -> Sequence[Event]:
    """What was said behind number `seq` of the record, oldest first; for 0 all. What is in no record counts by its place."""
    start = len(events) if seq else 0
    while start and not 0 < events[start - 1].seq <= seq:
        start -= 1
    return events[start:]


def answer(value: Any, status: int = 200) -> web.Response:
    """`value` as a JSON response."""
    return web.json_response(text=as_json(value), status=status)


def as_json(value: Any) -> str:
    """`value` as JSON text, with non-finite floats as strings."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:  # there are some; to look for them first would cost every answer as much again
        return json.dumps(json_ready(value), allow_nan=False)


def newest_as_json(items: Sequence[TakenT], of: Callable[[TakenT], object]) -> str:
    """A JSON list of what `of` makes of the newest of `items`: all that fit into MAX_LIST_BYTES, oldest first."""
    texts, room = list[str](), MAX_LIST_BYTES
    for item in reversed(items):
        text = as_json(of(item))  # nothing but ASCII: a character is a byte
        room -= len(text) + 2
        if room < 0:
            break
        texts.append(text)
    return f"[{', '.join(reversed(texts))}]"


def check_names(request: web.Request, known: Sequence[Number]) -> None:
    """Return when the query has no other parameters than `known`. Raises: HTTPBadRequest naming one that it has."""
    names = [number.name for number in known]
    unknown = next((name for name in request.query if name not in names), None)
    if unknown is not None:
        raise web.HTTPBadRequest(text=f"unknown parameter {unknown[:40]!r}; known here: {', '.join(names) or 'none'}")


def number(request: web.Request, wanted: Number) -> int:
    """The query parameter `wanted`, or what it is when it is left out.

    Raises: HTTPBadRequest with the value seen and what is allowed.
    """
    given = request.query.getall(wanted.name, [str(wanted.default)])
    text = given[0] if len(given) == 1 else ",".join(given)
    if not (text.isascii() and text.isdigit() and len(text) <= 15 and wanted.low <= int(text) <= wanted.high):
        raise web.HTTPBadRequest(text=f"{wanted.name}={text[:40]!r}: give a whole number from {wanted.low} to {wanted.high}")
    return min(int(text), wanted.most)
