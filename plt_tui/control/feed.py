"""What a run has said so far, as append-only streams that any number of readers follow at their own pace.

Every reader holds a `Cursor`; `Feed.read` gives what came since. Nothing is queued per reader, so a slow one costs no memory
and disturbs nobody: steps and events are never lost to it, log lines beyond the ring are counted as dropped, and of gauges
and rank reports it gets the newest only. Used from one thread (the hub's event loop, or the reader of a finished run's record).
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from plt_tui.control.state import RunState, apply, apply_rows
from plt_tui.protocol.events import STEP_COLUMNS, Event, Gauges, LogLine, Logs, Progress, RankStatus, Run, Step, Steps

LOG_LINES = 20_000
"""Log lines kept in memory; the files in `logs/` keep all."""
BLOCK_ROWS = 50_000
"""Most steps in one `Steps` event: about 5 MB of JSON."""


class History:
    """The steps of a run by column, 8 bytes a value; after a resume or rewind the abandoned rows are cut off."""

    def __init__(self) -> None:
        self.columns: dict[str, array[float]] = {name: array("d") for name in STEP_COLUMNS}
        self.generation = 0
        """Counts cuts: a reader whose generation is older starts again from row 0."""

    def __len__(self) -> int:
        return len(self.columns["step"])

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
        steps = self.columns["step"]
        keep = len(steps)
        while keep and steps[keep - 1] > last_step:
            keep -= 1
        if keep < len(steps):
            self.generation += 1
            for values in self.columns.values():
                del values[keep:]


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far one reader has come. The default is the beginning."""

    events: int = 0
    rows: int = 0
    generation: int = 0
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
        self._logs: deque[LogLine] = deque(maxlen=LOG_LINES)
        self._log_count = 0
        self._left_out = 0
        self._latest: dict[str, tuple[float, Event]] = {}
        self._versions = 0
        self._listeners: list[Callable[[], None]] = []

    def publish(self, event: Event) -> None:
        """Add `event` to its stream, fold it into the state, and wake the listeners."""
        self.state = apply(self.state, event)
        self.last_seq = max(self.last_seq, event.seq)
        match event:
            case Step():
                self.history.append(event)
            case Logs():
                self._logs.extend(event.lines)
                self._log_count += len(event.lines)
                self._left_out += event.dropped
            case Gauges() | RankStatus() | Progress():
                topic = f"rank {event.rank}" if isinstance(event, RankStatus) else event.kind
                self._versions += 1
                self._latest[topic] = (self._versions, event)
            case _:
                if isinstance(event, Run):
                    self.history.cut(event.start_step)
                self.events.append(event)
        self._wake()

    def publish_rows(self, columns: Mapping[str, Sequence[float]], last: Step) -> None:
        """Like publishing steps one by one, for a long record; `columns`: their values, the steps growing; `last`: the last."""
        self.state = apply_rows(self.state, columns["step"], columns["time"], last)
        self.last_seq = max(self.last_seq, last.seq)
        self.history.extend(columns)
        self._wake()

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` after every publish, until the returned function is called."""
        self._listeners.append(wake)
        return lambda: self._listeners.remove(wake)

    def read(self, cursor: Cursor) -> tuple[list[Event], Cursor]:
        """What came since `cursor`, in order within each stream, and the cursor after it."""
        out: list[Event] = self.events[cursor.events :]
        rows, stop = cursor.rows, len(self.history)
        if cursor.generation != self.history.generation:
            rows = 0
        out.extend(self._blocks(rows, stop))
        lines, dropped = self._log_lines_since(cursor)
        if lines or dropped:
            out.append(Logs(lines=lines, dropped=dropped))
        fresh = {topic: pair for topic, pair in self._latest.items() if pair[0] > cursor.latest.get(topic, 0)}
        out.extend(event for _, event in fresh.values())
        latest = {**cursor.latest, **{topic: version for topic, (version, _) in fresh.items()}}
        after = replace(
            cursor,
            events=len(self.events),
            rows=stop,
            generation=self.history.generation,
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

    def _blocks(self, start: int, stop: int) -> Iterator[Steps]:
        for first in range(start, stop, BLOCK_ROWS):
            yield Steps.from_columns(self.history.columns, first, min(stop, first + BLOCK_ROWS))

    def _log_lines_since(self, cursor: Cursor) -> tuple[list[LogLine], int]:
        missing = self._log_count - cursor.log_lines
        kept = min(missing, len(self._logs))
        return self.log_tail(kept), missing - kept + self._left_out - cursor.left_out
