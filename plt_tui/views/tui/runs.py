"""The list of runs as values: one row a run, which rows are seen and in which order, and the door to what needs files.

Pure but for the protocol, whose callables `cli` makes: nothing here opens a file. Invariant: a row whose run has ended, however
it did, never counts as live, and rows without a value come last in every order.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from plt_tui.config.schema import RunConfig
from plt_tui.control.state import RunState
from plt_tui.protocol.text import safe_line
from plt_tui.views.draft import NewRunPort
from plt_tui.views.files import RunFiles
from plt_tui.views.formats import format_count
from plt_tui.views.rewind import counted
from plt_tui.views.source import Source
from plt_tui.views.tui.words import PHASES, Word, one_line, ranks_words

Column = Literal["started", "name", "state", "step", "loss", "tokens/s", "took"]
"""What rows can be ordered by."""

ORDER: tuple[Column, ...] = ("started", "name", "state", "step", "loss", "tokens/s", "took")
"""The columns in the order in which a key goes through them."""
_FIRST = {
    "started": "newest first",
    "name": "from a to z",
    "state": "live first",
    "step": "furthest first",
    "loss": "lowest first",
    "tokens/s": "fastest first",
    "took": "longest first",
}
_LAST = {
    "started": "oldest first",
    "name": "from z to a",
    "state": "live last",
    "step": "least far first",
    "loss": "highest first",
    "tokens/s": "slowest first",
    "took": "shortest first",
}
_DESCENDING: frozenset[Column] = frozenset({"started", "step", "tokens/s", "took"})
_STATES = tuple(PHASES)
"""Live ones first, as the table of words has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run in short."""

    name: str
    state: RunState
    losses: tuple[float, ...] = ()
    """The loss in small, oldest first, evenly spread over its steps."""

    @property
    def word(self) -> Word:
        """Its state in a word."""
        return PHASES[self.state.phase]

    @property
    def reason(self) -> str:
        """Why it is in this state, on one line."""
        return safe_line(one_line(self.state.reason))

    @property
    def target_step(self) -> int:
        """Its last step; 0 while unknown."""
        return self.state.run.target_step if self.state.run is not None else 0

    @property
    def loss(self) -> float | None:
        """Newest loss."""
        return self.state.last_step.loss if self.state.last_step is not None else None

    @property
    def tokens_per_s(self) -> float | None:
        """Newest speed."""
        return self.state.last_step.tokens_per_s if self.state.last_step is not None else None

    @property
    def facts(self) -> list[str]:
        """What else is known of it, in words, the most telling first."""
        state, run = self.state, self.state.run
        facts = (
            [f"{format_count(run.params)} parameters", f"{ranks_words(run.world_size)} on {one_line(run.device)}"]
            if run
            else []
        )
        if state.last_step is not None:
            facts.append(f"{format_count(state.last_step.tokens)} tokens")
        counted_ones = {"restart": state.restarts, "checkpoint": len(state.checkpoints), "spike": state.num_spikes}
        facts += [counted(count, word, f"{word}s") for word, count in counted_ones.items() if count]
        branches = len(state.branches)
        return [safe_line(fact) for fact in [*facts, *([counted(branches, "branch", "branches")] if branches else [])]]

    def took_s(self, now: float) -> float | None:
        """From its first word to its last, or to `now` (Unix seconds) while it lives."""
        state = self.state
        if not state.started_at:
            return None
        last = state.end or state.last_step
        until = now if not state.is_over else last.time if last is not None else state.started_at
        return max(0.0, until - state.started_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look at the folder gave so far."""

    names: tuple[str, ...]
    """All runs that are there, the newest first."""
    rows: tuple[RunRow, ...] = ()
    """Those that were read again, as they changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedRun:
    """What is needed to watch one run."""

    name: str
    connect: Callable[[], Awaitable[Source]]
    config: RunConfig
    files: RunFiles | None = None
    readonly: bool = False


class RunsPort(Protocol):
    """The runs of one folder. All methods block: they are called in threads, `look` by one at a time."""

    place: str
    """The folder, in words."""

    @property
    def new_runs(self) -> NewRunPort:
        """What the form for a new run needs."""
        ...

    @property
    def first_values(self) -> Mapping[str, str]:
        """What a new draft begins with, by "section.key"."""
        ...

    def look(self) -> Iterator[Look]:
        """The runs as they are now: their names at once, then what changed since the last look, piece by piece."""
        ...

    def open(self, name: str, *, readonly: bool = False) -> OpenedRun:
        """What is needed to watch the run called `name`; `readonly`: and not to steer it. Raises: PltTuiError, OSError."""
        ...


@dataclass(frozen=True, slots=True)
class Order:
    """How rows are ordered."""

    column: Column = "started"
    is_reversed: bool = False

    @property
    def words(self) -> str:
        """The order in words: "loss, lowest first"."""
        return f"{self.column}, {(_LAST if self.is_reversed else _FIRST)[self.column]}"

    def next(self) -> Order:
        """By the next column."""
        return Order(ORDER[(ORDER.index(self.column) + 1) % len(ORDER)])

    def reversed(self) -> Order:
        """The other way round."""
        return Order(self.column, not self.is_reversed)


_Key: TypeAlias = float | str


def arranged(rows: Iterable[RunRow], query: str, order: Order, now: float) -> list[RunRow]:
    """The rows that `query` asks for, in `order`; equal ones stay as they were given. `now`: Unix seconds."""
    pairs = [(_key(row, order.column, now), row) for row in rows if matches(row, query)]
    keyed = [(key, row) for key, row in pairs if key is not None]
    is_descending = (order.column in _DESCENDING) != order.is_reversed
    keyed.sort(key=lambda pair: pair[0], reverse=is_descending)
    return [*(row for _, row in keyed), *(row for key, row in pairs if key is None)]


def matches(row: RunRow, query: str) -> bool:
    """True when each word of `query` is part of the name or of a word for the state; case does not matter."""
    texts = (row.name, row.word.text, row.state.phase, "over" if row.state.is_over else "live")
    return all(any(word in text.lower() for text in texts) for word in query.lower().split())


def _key(row: RunRow, column: Column, now: float) -> _Key | None:
    """What the row is ordered by; None where it has no such value. A NaN is worse than every loss."""
    match column:
        case "started":
            return row.state.started_at or None
        case "name":
            return row.name.lower()
        case "state":
            return _STATES.index(row.state.phase)
        case "step":
            return float(row.state.step)
        case "loss":
            return math.inf if row.loss is not None and math.isnan(row.loss) else row.loss
        case "tokens/s":
            return row.tokens_per_s
        case "took":
            return row.took_s(now)


def to_compare(names: Sequence[str], marked: Collection[str], current: str) -> list[str]:
    """The marked runs, else `current` and the newest of `names` (the newest first); one alone is compared with its branches."""
    if marked:
        return [name for name in names if name in marked]
    return list(dict.fromkeys([current, *names[:1]])) if current else []


def counted_words(rows: Sequence[RunRow], shown: int) -> str:
    """How many runs there are: "37 runs, 2 live, 5 shown"."""
    live = sum(not row.state.is_over for row in rows)
    parts = [f"{len(rows)} {'run' if len(rows) == 1 else 'runs'}", *([f"{live} live"] if live else [])]
    return ", ".join([*parts, *([f"{shown} shown"] if shown != len(rows) else [])])
