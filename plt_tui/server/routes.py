"""Every route of the HTTP server in one table: what it says, takes and answers, and whether it is open.

The router, the guard, the index, the OpenAPI document and the checks of parameters are all made from it. Handles nothing.
Invariant: a route that does not say `is_open` answers nobody without the run's token, where the server has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from plt_tui.control.feed import LOG_LINES
from plt_tui.protocol.events import Checkpoint, Eval, Event, Gauges, RankStatus, Sample
from plt_tui.server import schemas
from plt_tui.server.schemas import COUNT, FLAG, FLOAT, LOG_LEVEL, TEXT, Schema, listed, maybe, record

MAX_NUMBER = 10**15 - 1
MAX_POINTS = 5_000
MAX_LAST = 20_000
"""Most entries of evals, samples or journal in one answer."""
MAX_WAIT_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A whole number in the query, from `low` to `high`; what is above `most` counts as `most`."""

    name: str
    help: str
    default: int
    low: int = 0
    high: int = MAX_NUMBER
    most: int = MAX_NUMBER


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One path. `answers`: schemas by media type; empty ones of what is no JSON, and no type where there is no body."""

    path: str
    help: str
    answers: Mapping[str, Schema]
    method: Literal["GET", "POST"] = "GET"
    numbers: tuple[Number, ...] = ()
    is_open: bool = False
    """It holds no data: a browser gets it without a token, to ask for one."""
    statuses: Mapping[int, str] = field(default_factory=dict)
    """What else than 200, and than what any route may answer, and when."""


FROM = Number(name="from", help="first step", default=0)
TO = Number(name="to", help="last step", default=MAX_NUMBER)
POINTS = Number(
    name="points", help="most points; more steps come as buckets of extremes", default=2_000, low=1, most=MAX_POINTS
)
LAST = Number(name="last", help="how many, the newest", default=1_000, low=1, most=MAX_LAST)
LINES = Number(name="lines", help="how many, the newest", default=200, low=1, most=LOG_LINES)
AFTER = Number(name="after", help="only what the record holds behind this number (`seq`); 0: everything", default=0)
WAIT = Number(name="wait", help="seconds to wait for the answer of the ranks", default=30, high=MAX_WAIT_S)


def _json(schema: Schema) -> Mapping[str, Schema]:
    return {"application/json": schema}


_INDEX = record(name=TEXT, token=FLAG, control=FLAG, routes={"type": "object", "additionalProperties": TEXT})
_METRICS = record(
    rows=COUNT, points=COUNT, columns=schemas.columns(), min=maybe({"type": "object"}), max=maybe({"type": "object"})
)
_VIEWER = record(actor=TEXT, door={"enum": ["socket", "http"]}, readonly=FLAG, since=FLOAT)
_LOG_LINE = record(time=FLOAT, source=TEXT, level=LOG_LEVEL, text=TEXT)
_REFUSALS = {
    202: "it is on its way, and did not finish in the time given to wait",
    400: "the body is no command, or a parameter is unknown or no such number",
    403: "this server takes no commands: the run was started without --http-control",
    408: "the body did not come in time",
    409: "the run refused it",
    413: "the body is longer than 64 KiB",
    415: "the body is not said to be application/json",
}

COMMANDS = Route(
    path="/api/v1/commands",
    method="POST",
    help="Send a command, and wait until it is in force or refused.",
    answers=_json(schemas.status()),
    numbers=(WAIT,),
    statuses=_REFUSALS,
)
STREAM = Route(
    path="/api/v1/stream",
    help="Live events over a WebSocket: history, caught_up, then what is live.",
    answers=_json(schemas.event(Event)),
    numbers=(AFTER,),
    statuses={
        101: "the WebSocket is open; each message is one event",
        400: "no WebSocket was asked for, or a parameter is unknown or no such number",
    },
)
PAGE = Route(
    path="/",
    help="The page; for who accepts application/json first: this index.",
    answers={"text/html": {}, **_json(_INDEX)},
    is_open=True,
)
FAVICON = Route(path="/favicon.ico", help="Nothing, for browsers that ask for it.", answers={}, is_open=True)
DATA = (
    Route(path="/api/v1/run", help="State of the run, the fields of `show --json`.", answers=_json(schemas.run())),
    Route(
        path="/api/v1/metrics",
        help="Steps of the run's present line by column; of buckets the last row, and the least and greatest value.",
        answers=_json(_METRICS),
        numbers=(FROM, TO, POINTS),
    ),
    Route(
        path="/api/v1/evals",
        help="Evaluations of the run's present line, newest last.",
        answers=_json(listed(schemas.event(Eval))),
        numbers=(LAST,),
    ),
    Route(
        path="/api/v1/samples",
        help="Samples, also those of branches, newest last.",
        answers=_json(listed(schemas.event(Sample))),
        numbers=(LAST,),
    ),
    Route(
        path="/api/v1/journal",
        help="Everything that happened to the run but steps, log lines and gauges, newest last.",
        answers=_json(listed(schemas.event(Event))),
        numbers=(LAST, AFTER),
    ),
    Route(
        path="/api/v1/logs",
        help="Newest log lines, newest last.",
        answers=_json(listed(_LOG_LINE)),
        numbers=(LINES,),
    ),
    Route(path="/api/v1/checkpoints", help="Saved checkpoints, newest last.", answers=_json(listed(schemas.event(Checkpoint)))),
    Route(
        path="/api/v1/gauges",
        help="Use of cores, memory and GPUs, and what each rank does.",
        answers=_json(record(machine=maybe(schemas.event(Gauges)), ranks=listed(schemas.event(RankStatus)))),
    ),
    Route(path="/api/v1/viewers", help="Who watches the run, by socket and by HTTP.", answers=_json(listed(_VIEWER))),
    Route(path="/api/v1/openapi.json", help="This API as an OpenAPI 3.1 document.", answers=_json({"type": "object"})),
    Route(path="/metrics", help="The newest numbers as Prometheus text.", answers={"text/plain": {}}),
)


def routes(static: Mapping[str, str], *, has_token: bool) -> tuple[Route, ...]:
    """The routes of a server. `static`: media types of the page's files by their paths.

    A server without a token has nothing that could be written to.
    """
    files = [Route(path=path, help="A file of the page.", answers={media: {}}, is_open=True) for path, media in static.items()]
    return (PAGE, *files, FAVICON, *DATA, STREAM, *([COMMANDS] if has_token else []))
