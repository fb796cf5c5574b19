"""What a run has said so far, as append-only streams that any number of readers follow at their own pace.

Every reader holds a `Cursor`; `Feed.read` gives what came since. Nothing is queued per reader, so a slow one costs no memory
and disturbs nobody: steps and events are never lost to it, log lines beyond the ring are counted as dropped, and of gauges,
rank reports, viewers and lines without an end it gets the newest only. A reader that broke off goes on behind the number of the
last recorded thing that it was given (`Feed.after`). Used from one thread (the hub's event loop, or the reader of a finished
run's record).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeGuard

from plt_tui.control.numbers import Numbers
from plt_tui.control.state import RunState, apply, apply_rows
from plt_tui.errors import UsageError
from plt_tui.protocol.events import (
    STEP_COLUMNS,
    CommandStatus,
    Event,
    Gauges,
    LogLine,
    Logs,
    OpenLine,
    Progress,
    RankStatus,
    Recent,
    Run,
    Step,
    Steps,
    Viewers,
)

LOG_LINES = 20_000
"""Log lines kept in memory; the files in `logs/` keep all."""
LOG_CHARS = 16_000_000
"""Characters of log lines kept in memory: 64 MB at 4 bytes each, where 20 000 of the longest lines would be 330 MB."""
BLOCK_ROWS = 50_000
"""Most steps in one `Steps` event: about 5 MB of JSON."""


class History:
    """The steps of a run by column, 8 bytes a value: those of the line that it is on, and those of its branches."""

    def __init__(self) -> None:
        self.columns: dict[str, array[float]] = {name: array("d") for name in STEP_COLUMNS}
        self.numbers = Numbers()
        """Those of the line's rows in the record."""
        self.branches: dict[int, dict[str, array[float]]] = {}
        """What rewinds left, by the numbers of `RunState.branches`; never changed again."""
        self._cuts: list[int] = []
        """How many rows each cut has left."""

    def __len__(self) -> int:
        return len(self.columns["step"])

    @property
    def generation(self) -> int:
        """Counts cuts: to a reader whose generation is older, `unchanged` says which of its rows still stand."""
        return len(self._cuts)

    def unchanged(self, rows: int, generation: int) -> int:
        """How many of the first `rows` rows, as they were at `generation`, no cut since has removed."""
        return min([rows, *self._cuts[generation:]])

    def line(self, branch: int) -> Mapping[str, array[float]]:
        """The columns of a branch, or for 0 of the line that the run is on."""
        return self.branches[branch] if branch else self.columns

    def block(self, branch: int, start: int, stop: int) -> Steps:
        """Rows `start` to `stop` (exclusive, at least one) of a branch, or for 0 of the line that the run is on."""
        steps = Steps.from_columns(self.line(branch), start, stop)
        return replace(steps, branch=branch, seq=0 if branch else self.numbers.at(stop - 1))

    def append(self, step: Step) -> None:
        """Add one step; a step that is not after the last one first cuts the rows from it on."""
        steps = self.columns["step"]
        if steps and step.step <= steps[-1]:
            self.cut(step.step - 1)
        for name, values in self.columns.items():
            values.append(getattr(step, name))
        self.numbers.append(step.seq)

    def extend(self, columns: Mapping[str, Sequence[float]], first_seq: int) -> None:
        """Add rows whose steps only grow, as `append` does one by one; their record numbers follow each other."""
        self.cut(int(columns["step"][0]) - 1)
        for name, values in self.columns.items():
            values.extend(columns[name])
        self.numbers.append(first_seq, len(columns["step"]))

    def cut(self, last_step: int) -> None:
        """Forget every step after `last_step`."""
        keep = bisect_right(self.columns["step"], last_step)
        if keep < len(self):
            self._cuts.append(keep)
            self.numbers.cut(keep)
            for values in self.columns.values():
                del values[keep:]

    def leave(self, last_step: int) -> None:
        """Make every step after `last_step` the next branch, which has no rows where none are known."""
        keep = bisect_right(self.columns["step"], last_step)
        self.branches[len(self.branches) + 1] = {name: values[keep:] for name, values in self.columns.items()}
        self.cut(last_step)


class LogRing:
    """The newest log lines, and how many there were at which place of the record."""

    def __init__(self) -> None:
        self.count = 0
        """Lines so far, also those that have made room."""
        self.left_out = 0
        """Lines that their sources left out."""
        self._lines: deque[LogLine] = deque()
        self._chars = 0
        self._seqs, self._counts, self._lefts = array("q"), array("q"), array("q")
        """Where lines came behind another event of the record than the lines before: its number, and `count` and `left_out`
        as they were."""

    def add(self, logs: Logs, seq: int) -> None:
        """Take in lines, older ones making room; `seq`: number of the newest recorded event."""
        if not self._seqs or self._seqs[-1] != seq:
            self._seqs.append(seq)
            self._counts.append(self.count)
            self._lefts.append(self.left_out)
        if len(self._seqs) > 2 * LOG_LINES:
            del self._seqs[:LOG_LINES], self._counts[:LOG_LINES], self._lefts[:LOG_LINES]
        self.count += len(logs.lines)
        self.left_out += logs.dropped
        self._lines.extend(logs.lines)
        self._chars += sum(len(line[-1]) for line in logs.lines)
        while len(self._lines) > LOG_LINES or self._chars > LOG_CHARS:
            self._chars -= len(self._lines.popleft()[-1])

    def tail(self, count: int) -> list[LogLine]:
        """The newest `count` lines, oldest first."""
        return list(self._lines)[-count:] if count else []

    def since(self, count: int, left_out: int) -> Logs | None:
        """What came after there were `count` lines and `left_out` left out; None: nothing."""
        missing = self.count - count
        kept = min(missing, len(self._lines))
        dropped = missing - kept + self.left_out - left_out
        return Logs(lines=self.tail(kept), dropped=dropped) if kept or dropped else None

    def at(self, seq: int) -> tuple[int, int]:
        """`count` and `left_out` when the event of number `seq` was recorded, or as they were at an earlier event."""
        place = bisect_left(self._seqs, seq)
        if place == len(self._seqs):
            return self.count, self.left_out
        oldest = self.count - len(self._lines) if place == 0 else self._counts[place]
        return min(oldest, self._counts[place]), self._lefts[place]


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far one reader has come. The default is the beginning."""

    events: int = 0
    rows: int = 0
    generation: int = 0
    branches: int = 0
    """Branches given as a whole."""
    branch_rows: int = 0
    """Rows given of the branch after them."""
    log_lines: int = 0
    left_out: int = 0
    """Log lines that their source left out, as far as the reader was told."""
    newest: int = 0
    """Newest-only events published before those that were not given yet."""


class Feed:
    """The streams of one run and the state folded from them."""

    def __init__(self) -> None:
        self.state = RunState()
        self.history = History()
        self.last_seq = 0
        """Number of the newest recorded event."""
        self.events: list[Event] = []
        """Everything but steps, log lines and what is newest-only, in order."""
        self._logs = LogRing()
        self._newest: dict[str, tuple[int, Event]] = {}
        """By topic the newest event of those that only count while they are, and how many there were up to it."""
        self._num_newest = 0
        self._listeners: list[Callable[[], None]] = []

    def publish(self, event: Event) -> None:
        """Add `event` to its stream, fold it into the state, and wake the listeners."""
        num_branches = len(self.state.branches)
        self.state = apply(self.state, event)
        self.last_seq = max(self.last_seq, event.seq)
        match event:
            case Step():
                self.history.append(event)
            case Logs():
                self._logs.add(event, self.last_seq)
            case Gauges() | RankStatus() | Progress() | Recent() | OpenLine() | Viewers():
                self._num_newest += 1
                self._newest[_topic(event)] = (self._num_newest, event)
            case _:
                self._abandon(event, is_left=len(self.state.branches) > num_branches)
                self._forget()
                self.events.append(event)
        self._wake()

    def publish_rows(self, columns: Mapping[str, Sequence[float]], last: Step) -> None:
        """Like publishing steps one by one, for a long record; `columns`: their values, steps growing; `last`: the last.

        Nothing else was recorded between the first and the last of them.
        """
        self.state = apply_rows(self.state, columns["time"], columns["step_ms"], last)
        self.last_seq = max(self.last_seq, last.seq)
        self.history.extend(columns, last.seq + 1 - len(columns["step"]))
        self._wake()

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` after every publish, until the returned function is called."""
        self._listeners.append(wake)
        return lambda: self._listeners.remove(wake)

    def read(self, cursor: Cursor) -> tuple[list[Event], Cursor]:
        """What came since `cursor`, in order within each stream, and the cursor after it; each branch comes once and whole."""
        out: list[Event] = self.events[cursor.events :]
        for branch in range(cursor.branches + 1, len(self.history.branches) + 1):
            out.extend(self._blocks(branch, 0))
        out.extend(self._blocks(0, self.history.unchanged(cursor.rows, cursor.generation)))
        out.extend(self.logs_since(cursor))
        out.extend(self.newest_since(cursor))
        return out, self.tip()

    def tip(self) -> Cursor:
        """That of a reader which was given everything."""
        return Cursor(
            events=len(self.events),
            rows=len(self.history),
            generation=self.history.generation,
            branches=len(self.history.branches),
            log_lines=self._logs.count,
            left_out=self._logs.left_out,
            newest=self._num_newest,
        )

    def after(self, seq: int) -> Cursor:
        """That of a reader which was given what is recorded up to number `seq`; 0: nothing.

        What is not recorded and was said after that event is still to come: log lines, and alerts that could not be written.
        Raises: UsageError when the record does not reach that far.
        """
        if seq > self.last_seq:
            raise UsageError(f"after {seq}: the record of this run ends with number {self.last_seq}; begin without a number")
        if seq <= 0:
            return Cursor()
        num_events = len(self.events)
        while num_events and not 0 < self.events[num_events - 1].seq <= seq:
            num_events -= 1
        later = {event.id for event in self.events[num_events:] if _is_rewind(event)}
        log_lines, left_out = self._logs.at(seq)
        return Cursor(
            events=num_events,
            rows=self.history.numbers.before(seq + 1),
            generation=self.history.generation,
            branches=sum(left.id not in later for left in self.state.branches),
            log_lines=log_lines,
            left_out=left_out,
        )

    def logs_since(self, cursor: Cursor) -> list[Logs]:
        """The log lines since `cursor`, as one event or none."""
        logs = self._logs.since(cursor.log_lines, cursor.left_out)
        return [] if logs is None else [logs]

    def newest_since(self, cursor: Cursor) -> list[Event]:
        """Of gauges, rank reports and the like those that are newer than `cursor`."""
        return [event for number, event in self._newest.values() if number > cursor.newest]

    def log_tail(self, count: int) -> list[LogLine]:
        """The newest `count` log lines, oldest first."""
        return self._logs.tail(count)

    def _wake(self) -> None:
        for wake in tuple(self._listeners):
            wake()

    def _abandon(self, event: Event, *, is_left: bool) -> None:
        """Take the steps off the line that `event` ends; `is_left`: they are a branch of the state, and become one here too."""
        match event:
            case Run():  # after a fault the same steps are computed again: there is nothing to keep
                self.history.cut(event.start_step)
            case CommandStatus(name="rewind", status="applied"):
                abandon = self.history.leave if is_left else self.history.cut
                abandon(event.step)

    def _forget(self) -> None:
        """Drop what the state has dropped, and what it knows better: a late reader would take it for what is now."""
        for topic, (number, event) in list(self._newest.items()):
            match event:
                case Progress():
                    known: Event | None = self.state.progress
                case Recent():
                    known = self.state.recent
                case RankStatus():
                    known = self.state.ranks.get(event.rank)
                case _:
                    continue
            if known is None:
                del self._newest[topic]
            else:
                self._newest[topic] = (number, known)

    def _blocks(self, branch: int, start: int) -> Iterator[Steps]:
        stop = len(self.history.line(branch)["step"])
        for first in range(start, stop, BLOCK_ROWS):
            yield self.history.block(branch, first, min(stop, first + BLOCK_ROWS))


def _is_rewind(event: Event) -> TypeGuard[CommandStatus]:
    return isinstance(event, CommandStatus) and (event.name, event.status) == ("rewind", "applied")


def _topic(event: Event) -> str:
    """What the newest `event` of takes the place of the one before."""
    match event:
        case RankStatus():
            return f"rank {event.rank}"
        case OpenLine():
            return f"open line of {event.source}"
        case _:
            return event.kind
