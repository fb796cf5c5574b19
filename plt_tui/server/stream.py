"""One reader's way through the feed: what comes next, in which order, and as which bytes.

Does no I/O and waits for nothing, so every door sends the same. A reader costs a few positions in the feed and a batch of at
most BATCH_ROWS steps, however slow it is and however long the run. Invariant: steps and events go out in the order of their
numbers in the record, and log lines before what was recorded after them, so whoever was given number N was given all that came
before it, and can go on behind it; the steps of a branch go out right before the rewind that left it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from plt_tui.control.feed import Cursor, Feed
from plt_tui.protocol.events import CommandStatus, Event, Logs
from plt_tui.protocol.framing import encode

BATCH_ROWS = 2_500
"""Most steps in one batch, about 250 kB of JSON: what a client that reads slowly can hold in memory."""
BATCH_EVENTS = 1_000
"""Most events in one batch."""
MAX_LOG_LINES = 1_000
"""Most log lines in one event: a few megabytes of JSON at worst, where all that the feed holds could be a hundred."""
PIECE_BYTES = 64 * 1024
"""Encoded events are joined until they are this long: to send costs more than to join."""

Wrap = Callable[[bytes], bytes]
"""What one kind of wire makes of an encoded event."""


class Reader:
    """A place in the feed. Rows are cut from the history here, not by `Feed.read`, to bound a batch and to put it in order."""

    def __init__(self, feed: Feed, after: int = 0) -> None:
        """after: number of the last thing that is known already; 0: nothing is. Raises: UsageError as `Feed.after`."""
        self._feed = feed
        self.cursor = feed.after(after)
        self.is_behind = True
        """False when the last `read` left nothing that it could have given."""

    def read(self) -> list[Event]:
        """What comes next, at most BATCH_ROWS steps of it; empty when nothing is new.

        After a resume or rewind has cut the history, the rows behind the cut come, as they are now. What is newest-only comes
        behind the last event: it is about now, and events before it could take it back.
        """
        feed, at, out, num_given = self._feed, self.cursor, list[Event](), 0
        for logs in feed.logs_since(at):
            out.extend(_pieces(logs))
        steps = _Steps(feed, at, out)
        for event in feed.events[at.events : at.events + BATCH_EVENTS]:
            if not steps.lead_to(event):
                break
            out.append(event)
            num_given += 1
        tip = feed.tip()
        if at.events + num_given == tip.events:
            steps.take_line(len(feed.history))
            out.extend(feed.newest_since(at))
            self.cursor = replace(tip, rows=steps.rows)
        else:
            self.cursor = replace(
                tip,
                events=at.events + num_given,
                rows=steps.rows,
                branches=steps.branches,
                branch_rows=steps.branch_rows,
                newest=at.newest,
            )
        self.is_behind = self.cursor != tip
        return out

    def join(self, other: Reader) -> None:
        """Be where `other` is."""
        self.cursor, self.is_behind = other.cursor, other.is_behind


class _Steps:
    """The steps that go into one batch, each behind what was recorded before it."""

    def __init__(self, feed: Feed, at: Cursor, out: list[Event]) -> None:
        self._feed = feed
        self._out = out
        self._room = BATCH_ROWS
        """Rows that still fit in the batch."""
        self.rows = feed.history.unchanged(at.rows, at.generation)
        """Rows given of the line that the run is on."""
        self.branches, self.branch_rows = at.branches, at.branch_rows

    def lead_to(self, event: Event) -> bool:
        """Give the rows that come before `event`, and the branch that it has left; True when all of them have been given."""
        history = self._feed.history
        if event.seq and not self.take_line(history.numbers.before(event.seq)):
            return False
        match event, self._feed.state.branches[self.branches : self.branches + 1]:
            case CommandStatus(name="rewind", status="applied"), (left,) if left.id == event.id:
                stop = len(history.line(left.number)["step"])
                self.branch_rows = self._take(left.number, self.branch_rows, stop)
                if self.branch_rows < stop:
                    return False
                self.branches, self.branch_rows = left.number, 0
        return True

    def take_line(self, stop: int) -> bool:
        """Give the rows of the line up to `stop`; True when all of them have been given."""
        self.rows = self._take(0, self.rows, stop)
        return self.rows >= stop

    def _take(self, branch: int, start: int, stop: int) -> int:
        """Give the rows of a branch from `start` up to `stop` while there is room. Returns where the next one stands."""
        end = min(stop, start + self._room)
        if start < end:
            self._out.append(self._feed.history.block(branch, start, end))
            self._room -= end - start
        return max(start, end)


def _pieces(logs: Logs) -> Iterable[Logs]:
    """`logs`, or for many log lines several that say the same."""
    if len(logs.lines) <= MAX_LOG_LINES:
        return [logs]
    starts = range(0, len(logs.lines), MAX_LOG_LINES)
    return [
        replace(logs, lines=logs.lines[start : start + MAX_LOG_LINES], dropped=0 if start else logs.dropped) for start in starts
    ]


class Batch:
    """Events on their way to clients. `is_shared`: several send it, so what was encoded is kept for the others."""

    def __init__(self, events: list[Event], *, is_shared: bool = False) -> None:
        self.events = events
        self._is_shared = is_shared
        self._encoded: list[bytes] = []
        self._joined: dict[Wrap, list[bytes]] = {}

    def pieces(self, wrap: Wrap) -> Iterable[bytes]:
        """All events as bytes, each in `wrap`, in pieces that hold whole events and are no longer than they must be."""
        if not self._is_shared:
            return _joined(map(encode, self.events), wrap)
        if len(self._encoded) < len(self.events):
            self._encoded = [encode(event) for event in self.events]
        if wrap not in self._joined:
            self._joined[wrap] = list(_joined(self._encoded, wrap))
        return self._joined[wrap]


def as_line(event: bytes) -> bytes:
    """An encoded event as a line: the hub's socket speaks lines."""
    return event + b"\n"


def _joined(encoded: Iterable[bytes], wrap: Wrap) -> Iterator[bytes]:
    parts, num_bytes = list[bytes](), 0
    for event in encoded:
        parts.append(wrap(event))
        num_bytes += len(parts[-1])
        if num_bytes >= PIECE_BYTES:
            yield b"".join(parts)
            parts, num_bytes = [], 0
    if parts:
        yield b"".join(parts)
