"""What the HTTP server answers: the feed of one run as JSON, read-only.

Every answer is bounded, however long the run is. Who may ask is `guard`'s decision. Invariant: an answer is valid JSON, with
non-finite floats as strings, and nothing here changes the run.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from plt_tui.control.feed import LOG_LINES, Feed
from plt_tui.control.summary import json_ready, summary
from plt_tui.protocol.events import CommandStatus, Eval, Event, Run, Sample
from plt_tui.protocol.framing import to_json
from plt_tui.server.columns import between, bucketed
from plt_tui.server.prometheus import exposition

DEFAULT_POINTS = 2_000
MAX_POINTS = 5_000
DEFAULT_LOG_LINES = 200
DEFAULT_LAST = 1_000
MAX_NUMBER = 10**15 - 1
MAX_LAST = 20_000
"""Most entries of evals, samples or journal in one answer."""


class Api:
    """The handlers, one per route. `name`: of the run."""

    def __init__(self, feed: Feed, name: str) -> None:
        self._feed = feed
        self._name = name

    async def run(self, _: web.Request) -> web.Response:
        """State of the run, the fields of `show --json`."""
        return answer(summary(self._feed.state, self._name))

    async def metrics(self, request: web.Request) -> web.Response:
        """Steps of the run's present line by column: ?from=STEP &to=STEP &points=N; more rows come as buckets of extremes."""
        first, last = number(request, "from", 0, 0), number(request, "to", MAX_NUMBER, 0)
        points = min(number(request, "points", DEFAULT_POINTS, 1), MAX_POINTS)
        rows = between(self._feed.history.columns, first, last)
        return answer(await asyncio.to_thread(bucketed, rows, points))  # a million rows take a fraction of a second

    async def evals(self, request: web.Request) -> web.Response:
        """Evaluations of the run's present line, newest last: ?last=N."""
        return answer(_newest(request, evals_of(self._feed.events)))

    async def samples(self, request: web.Request) -> web.Response:
        """Samples, also those of branches, newest last: ?last=N."""
        return answer(_newest(request, [event for event in self._feed.events if isinstance(event, Sample)]))

    async def journal(self, request: web.Request) -> web.Response:
        """Everything that happened to the run but steps, log lines and gauges, newest last: ?last=N."""
        return answer(_newest(request, self._feed.events))

    async def checkpoints(self, _: web.Request) -> web.Response:
        """Saved checkpoints, newest last."""
        return answer([to_json(saved) for saved in self._feed.state.checkpoints])

    async def logs(self, request: web.Request) -> web.Response:
        """Newest log lines, newest last: ?lines=N."""
        count = min(number(request, "lines", DEFAULT_LOG_LINES, 1), LOG_LINES)
        keys = ("time", "source", "level", "text")
        return answer([dict(zip(keys, line, strict=True)) for line in self._feed.log_tail(count)])

    async def gauges(self, _: web.Request) -> web.Response:
        """Use of cores, memory and GPUs, and what each rank does."""
        state = self._feed.state
        machine = to_json(state.gauges) if state.gauges is not None else None
        return answer({"machine": machine, "ranks": [to_json(rank) for _, rank in sorted(state.ranks.items())]})

    async def prometheus(self, _: web.Request) -> web.Response:
        """The newest numbers as Prometheus text."""
        return web.Response(body=exposition(self._feed.state, self._name), headers={"Content-Type": CONTENT_TYPE_LATEST})


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


def answer(value: Any) -> web.Response:
    """`value` as a JSON response."""
    return web.json_response(text=json.dumps(json_ready(value), allow_nan=False))


def number(request: web.Request, name: str, default: int, low: int) -> int:
    """The query parameter `name`, a whole number from `low` to MAX_NUMBER.

    Raises: HTTPBadRequest with the value seen and what is allowed.
    """
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 15 and int(text) >= low):
        raise web.HTTPBadRequest(text=f"{name}={text[:40]!r}: give a whole number from {low} to {MAX_NUMBER}")
    return int(text)


def _newest(request: web.Request, events: Sequence[Event]) -> list[dict[str, Any]]:
    last = min(number(request, "last", DEFAULT_LAST, 1), MAX_LAST)
    return [to_json(event) for event in events[-last:]]
