"""What a program knows of one run: its state and its tables, folded from events or taken from a record.

Does no I/O. All text passes the escape filter here, so it may be printed. Invariant: state and tables are those that the run's
hub has after the same events; a rewind or a restart cuts them in the same places.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from plt_tui.client.history import Evals, Floats, History
from plt_tui.client.table import Kinds, Table
from plt_tui.control.feed import Feed
from plt_tui.control.state import RunState, apply
from plt_tui.protocol.clean import cleaned
from plt_tui.protocol.events import STEP_COLUMNS, CommandStatus, Eval, Event, Run, Steps
from plt_tui.protocol.text import safe_text

_ValueT = TypeVar("_ValueT")

_WHOLE = ("step", "tokens")


def _kinds(names: tuple[str, ...]) -> Kinds:
    return {name: np.int64 if name in _WHOLE else np.float64 for name in names}


_STEPS = _kinds(STEP_COLUMNS)
_EVALS = _kinds(tuple(field.name for field in dataclasses.fields(Evals)))


class Picture:
    """One run as far as it was told. Used from one thread; the values that it gives may be used by any."""

    def __init__(self) -> None:
        self.state = RunState()
        self._line = Table(_STEPS)
        self._branches: dict[int, Table] = {}
        self._evals = Table(_EVALS)

    @classmethod
    def of(cls, feed: Feed) -> Picture:
        """What a whole record says. `feed` must not grow any more: its columns are not copied."""
        picture = cls()
        picture.state = _safe(feed.state)
        picture._line = Table(_STEPS, feed.history.columns)
        picture._branches = {number: Table(_STEPS, columns) for number, columns in feed.history.branches.items()}
        for event in feed.events:
            picture._fold_evals(event)
        return picture

    @property
    def history(self) -> History:
        """The steps of the line that the run is on."""
        return History(**self._line.columns())

    @property
    def branches(self) -> Mapping[int, History]:
        """The steps that rewinds left, by the numbers of `state.branches`; without rows where none are known."""
        tables = {left.number: self._branches.get(left.number) or Table(_STEPS) for left in self.state.branches}
        return {number: History(**table.columns()) for number, table in tables.items()}

    @property
    def evals(self) -> Evals:
        """The evaluations of the line that the run is on."""
        return Evals(**self._evals.columns())

    def fold(self, event: Event) -> Event:
        """Take in what the hub says next; returns it with its texts made safe."""
        event = cleaned(event)
        self.state = apply(self.state, event)
        match event:
            case Steps(branch=0):
                self._line.extend(_columns(event))
            case Steps():
                self._branches.setdefault(event.branch, Table(_STEPS)).extend(_columns(event))
            case Run(start_step=last) | CommandStatus(name="rewind", status="applied", step=last):
                self._line.cut(last)
        self._fold_evals(event)
        return event

    def _fold_evals(self, event: Event) -> None:
        match event:
            case Eval():
                self._evals.extend({name: [getattr(event, name)] for name in _EVALS})
            case Run(start_step=last) | CommandStatus(name="rewind", status="applied", step=last):
                self._evals.cut(last)


def _columns(block: Steps) -> dict[str, Floats]:
    """The rows of a block, without a look at each of them."""
    return {name: np.frombuffer(block.column(name), np.float64) for name in STEP_COLUMNS}


def _safe(value: _ValueT) -> _ValueT:
    """`value` with every text in it through the escape filter, at any depth."""
    match value:
        case str():
            return safe_text(value)  # type: ignore[return-value]  # the type of each case is that of the value
        case list() | tuple():
            return type(value)(map(_safe, value))
        case dict():
            return {_safe(key): _safe(item) for key, item in value.items()}  # type: ignore[return-value]
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return dataclasses.replace(value, **{field.name: _safe(getattr(value, field.name)) for field in _fields(value)})
        case _:
            return value


def _fields(value: object) -> tuple[dataclasses.Field[object], ...]:
    return dataclasses.fields(value)  # type: ignore[arg-type]
