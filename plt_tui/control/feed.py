"""What a run has said so far, as append-only streams that any number of readers follow at their own pace.

Every reader holds a `Cursor`; `Feed.read` gives what came since. Nothing is queued per reader, so a slow one costs no memory
and disturbs nobody: steps and events are never lost to it, log lines beyond the ring are counted as dropped, and of gauges,
rank reports and lines without an end it gets the newest only. Used from one thread (the hub's event loop, or the reader of a
finished run's record).
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from plt_tui.control.state import RunState, apply, apply_rows
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
        """Rows `start` to `stop` (exclusive) of a branch, or for 0 of the line that the run is on."""
        return replace(Steps.from_columns(self.line(branch), start, stop), branch=branch)

    def append(self, step: Step) -> None:
        """Add one step; a step that is not after the last one first cuts the rows from it on."""
        steps = self.columns["step"]
        if steps and step.step <= steps[-1]:
            self.cut(step.step - 1)
        for name, values in self.columns.items():
            values.append(getattr(step, name))

    def extend(self, columns: Mapping[str, Sequence[float]]) -> None:
        """Add rows whose steps only grow, as `append` does one by one."""
        self.cut(int(columns["step"][0]) - 1)
        for name, values in self.columns.items():
            values.extend(columns[name])

    def cut(self, last_step: int) -> None:
        """Forget every step after `last_step`."""
        keep = bisect_right(self.columns["step"], last_step)
        if keep < len(self):
            self._cuts.append(keep)
            for values in self.columns.values():
                del values[keep:]

    def leave(self, last_step: int) -> None:
        """Make every step after `last_step` the next branch, which has no rows where none are known."""
        keep = bisect_right(self.columns["step"], last_step)
        self.branches[len(self.branches) + 1] = {name: values[keep:] for name, values in self.columns.items()}
        self.cut(last_step)


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far one reader has come. The default is the beginning."""

    events: int = 0
    rows: int = 0
    generation: int = 0
    branches: int = 0
    log_lines: int = 0
    left_out: int = 0
    """Log lines that their source left out, as far as the reader was told."""
    latest: dict[str, float] = field(default_factory=dict)
    """Version of the newest-only events already seen, by topic."""


class Feed:
    """The streams of one run and the state folded from them."""

    def __init__(self) -> None:
        self.state = RunState()
        self.history = History()
        self.last_seq = 0
        """Number of the newest recorded event."""
        self.events: list[Event] = []
        """Everything but steps, log lines, gauges, rank reports and progress, in order."""
        self._logs: deque[LogLine] = deque()
        self._log_chars = 0
        self._log_count = 0
        self._left_out = 0
        self._latest: dict[str, tuple[float, Event]] = {}
        self._versions = 0
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
                self._keep(event.lines)
                self._log_count += len(event.lines)
                self._left_out += event.dropped
            case Gauges() | RankStatus() | Progress() | Recent() | OpenLine():
                self._versions += 1
                self._latest[_topic(event)] = (self._versions, event)
            case _:
                self._abandon(event, is_left=len(self.state.branches) > num_branches)
                self._forget()
                self.events.append(event)
        self._wake()

    def publish_rows(self, columns: Mapping[str, Sequence[float]], last: Step) -> None:
        """Like publishing steps one by one, for a long record; `columns`: their values, the steps growing; `last`: the last."""
        self.state = apply_rows(self.state, columns["time"], columns["step_ms"], last)
        self.last_seq = max(self.last_seq, last.seq)
        self.history.extend(columns)
        self._wake()

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` after every publish, until the returned function is called."""
        self._listeners.append(wake)
        return lambda: self._listeners.remove(wake)

    def read(self, cursor: Cursor) -> tuple[list[Event], Cursor]:
        """What came since `cursor`, in order within each stream, and the cursor after it; each branch comes once and whole."""
        out: list[Event] = self.events[cursor.events :]
        num_branches = len(self.history.branches)
        for branch in range(cursor.branches + 1, num_branches + 1):
            out.extend(self._blocks(branch, 0))
        out.extend(self._blocks(0, self.history.unchanged(cursor.rows, cursor.generation)))
        lines, dropped = self._log_lines_since(cursor)
        if lines or dropped:
            out.append(Logs(lines=lines, dropped=dropped))
        fresh = {topic: pair for topic, pair in self._latest.items() if pair[0] > cursor.latest.get(topic, 0)}
        out.extend(event for _, event in fresh.values())
        latest = {**cursor.latest, **{topic: version for topic, (version, _) in fresh.items()}}
        after = replace(
            cursor,
            events=len(self.events),
            rows=len(self.history),
            generation=self.history.generation,
            branches=num_branches,
            log_lines=self._log_count,
            left_out=self._left_out,
            latest=latest,
        )
        return out, after

    def log_tail(self, count: int) -> list[LogLine]:
        """The newest `count` log lines, oldest first."""
        return list(self._logs)[-count:] if count else []

    def _wake(self) -> None:
        for wake in tuple(self._listeners):
            wake()

    def _keep(self, lines: Sequence[LogLine]) -> None:
        """Put log lines into the ring, older ones making room."""
        self._logs.extend(lines)
        self._log_chars += sum(len(line[-1]) for line in lines)
        while len(self._logs) > LOG_LINES or self._log_chars > LOG_CHARS:
            self._log_chars -= len(self._logs.popleft()[-1])

    def _abandon(self, event: Event, *, is_left: bool) -> None:
        """Take the steps off the line that `event` ends; `is_left`: they are a branch of the state, and become one here too."""
        match event:
            case Run():  # after a fault the same steps are computed again: there is nothing to keep
                self.history.cut(event.start_step)
            case CommandStatus(name="rewind", status="applied"):
                abandon = self.history.leave if is_left else self.history.cut
                abandon(event.step)

    def _forget(self) -> None:
        """Drop what the state has dropped: a late reader would take it for what is now."""
        for topic, (_, event) in list(self._latest.items()):
            match event:
                case Progress():
                    is_known = self.state.progress is not None
                case Recent():
                    is_known = self.state.recent is not None
                case RankStatus():
                    is_known = event.rank in self.state.ranks
                case _:
                    is_known = True
            if not is_known:
                del self._latest[topic]

    def _blocks(self, branch: int, start: int) -> Iterator[Steps]:
        stop = len(self.history.line(branch)["step"])
        for first in range(start, stop, BLOCK_ROWS):
            yield self.history.block(branch, first, min(stop, first + BLOCK_ROWS))

    def _log_lines_since(self, cursor: Cursor) -> tuple[list[LogLine], int]:
        missing = self._log_count - cursor.log_lines
        kept = min(missing, len(self._logs))
        return self.log_tail(kept), missing - kept + self._left_out - cursor.left_out


def _topic(event: Event) -> str:
    """What the newest `event` of takes the place of the one before."""
    match event:
        case RankStatus():
            return f"rank {event.rank}"
        case OpenLine():
            return f"open line of {event.source}"
        case _:
            return event.kind
