"""Which lines of a log ring are wanted (source, level), which of those match a search, and which are therefore shown.

Holds numbers of lines, copies none. Looks at every line once, the newest first, piece by piece as long as its caller has time:
a filter over a million lines never holds a key up. Pure but for the CPU clock of `pattern`. Invariant: numbers grow strictly,
and after a look that was done they are exactly those of the lines in the ring that are wanted.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, TypeVar

from plt_tui.views.log_ring import BAR_REACH, LogRing, Row
from plt_tui.views.pattern import Pattern, TooSlow

ChoiceT = TypeVar("ChoiceT")
Level = Literal["all", "warnings", "errors"]
LEVELS: tuple[Level, ...] = ("all", "warnings", "errors")
_ERRORS = frozenset({"ERROR", "CRITICAL"})
_ADMITTED = {"warnings": _ERRORS | {"WARNING"}, "errors": _ERRORS}

PIECE_LINES = 128
"""Lines that are looked at between two looks at the clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a person wants to see of a log."""

    source: str = ""
    """Only this one's lines; empty: everybody's."""
    level: Level = "all"
    pattern: Pattern | None = None
    """What is searched for."""
    hits_only: bool = False
    """Lines that do not match `pattern` are not shown."""

    @property
    def is_everything(self) -> bool:
        """Every line passes; some may match."""
        return not self.source and self.level == "all"

    def admits(self, row: Row) -> bool:
        """True for a line of the wanted source and level, whether it matches or not."""
        return (not self.source or row[1] == self.source) and (self.level == "all" or row[2] in _ADMITTED[self.level])


class LogIndex:
    """The numbers of the lines of one ring that fit one `Wanted`."""

    def __init__(self, ring: LogRing, wanted: Wanted) -> None:
        self.ring = ring
        self.wanted = wanted
        self.hits = array("q")
        """Lines that are wanted and match."""
        self.is_too_slow = False
        """The search was given up: its expression takes too long on these lines."""
        self._passing = array("q")
        """Wanted lines, where those are not simply all."""
        self._low = self._high = ring.stop
        """All lines from `_low` on and before `_high` have been looked at."""

    @property
    def is_done(self) -> bool:
        """Every line in the ring has been looked at; one that nobody has to look at is done at once."""
        looks = not self.wanted.is_everything or self._searches
        return not looks or (self._low <= self.ring.first and self._high >= self.ring.stop)

    @property
    def shown(self) -> Sequence[int]:
        """Numbers of the lines to show, as far as they are known."""
        if self.wanted.hits_only and self.wanted.pattern is not None:
            return self.hits
        return range(self.ring.first, self.ring.stop) if self.wanted.is_everything else self._passing

    def look(self, is_late: Callable[[], bool]) -> None:
        """Take note of lines not looked at yet, new ones first, until `is_late` says so; one piece at least."""
        ring = self.ring
        self._forget()
        older: list[tuple[array[int], array[int]]] = []
        is_in_time = True
        while is_in_time and not self.is_done:
            if self._high < ring.stop:
                stop = min(ring.stop, self._high + PIECE_LINES)
                passing, hits = self._sorted_out(self._high, stop)
                self._passing.extend(passing)
                self.hits.extend(hits)
                self._high = stop
            else:
                start = max(ring.first, self._low - PIECE_LINES)
                older.append(self._sorted_out(start, self._low))
                self._low = start
            is_in_time = not is_late()
        # In one go: whatever is put before a million numbers moves them all.
        self._passing[0:0] = array("q", chain.from_iterable(passing for passing, _ in reversed(older)))
        self.hits[0:0] = array("q", chain.from_iterable(hits for _, hits in reversed(older)))

    def older_hit(self, number: int) -> int | None:
        """The newest hit before line `number`; None when there is none."""
        place = bisect_left(self.hits, number)
        return self.hits[place - 1] if place else None

    def newer_hit(self, number: int) -> int | None:
        """The oldest hit after line `number`; None when there is none."""
        place = bisect_left(self.hits, number + 1)
        return self.hits[place] if place < len(self.hits) else None

    @property
    def _searches(self) -> bool:
        return self.wanted.pattern is not None and not self.is_too_slow

    def _forget(self) -> None:
        """Lines that have left the ring, and the last ones, which a progress bar may have changed since."""
        first = self.ring.first
        self._low, self._high = max(self._low, first), max(self._high, first)
        unsettled = max(self._low, self._high - BAR_REACH)
        for numbers in (self._passing, self.hits):
            del numbers[bisect_left(numbers, unsettled) :]
            del numbers[: bisect_left(numbers, first)]
        self._high = unsettled

    def _sorted_out(self, start: int, stop: int) -> tuple[array[int], array[int]]:
        """Which of the lines `start` to `stop` (exclusive) pass, where that is kept, and which of those match."""
        rows = self.ring.lines[start - self.ring.first : stop - self.ring.first]
        admits, is_everything = self.wanted.admits, self.wanted.is_everything
        places = range(len(rows)) if is_everything else [place for place, row in enumerate(rows) if admits(row)]
        found: Sequence[int] = ()
        if self._searches and self.wanted.pattern is not None:
            try:
                found = self.wanted.pattern.find([rows[place][3] for place in places])
            except TooSlow:
                self.is_too_slow = True
        passing = array("q", [] if is_everything else [start + place for place in places])
        return passing, array("q", [start + places[place] for place in found])


def sources_in_order(sources: Collection[str]) -> list[str]:
    """The hub first, then ranks by their number, then others by name."""
    return sorted(sources, key=lambda source: (source != "hub", _by_number(source)))


def next_of(choices: Sequence[ChoiceT], chosen: ChoiceT) -> ChoiceT:
    """The choice behind `chosen`, the first one behind the last, and also where `chosen` is none of them."""
    return choices[(choices.index(chosen) + 1) % len(choices)] if chosen in choices else choices[0]


def _by_number(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", text)]
