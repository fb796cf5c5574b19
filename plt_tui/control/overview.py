"""What a list of runs shows of each: its state, its newest numbers, and a sketch of its loss, brought up to date look by look.

Asks no hub and reads no whole metrics. Invariants: a run is read again only where its files or its holder changed, and then
only what is new in them; a run that nobody holds is never told as live.
"""

from __future__ import annotations

import heapq
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from plt_tui.control.folder import RunFolder, list_runs
from plt_tui.control.record import crash_of
from plt_tui.control.state import RunState, apply
from plt_tui.protocol.events import Event, Step
from plt_tui.protocol.framing import decode_lines

TAIL_BYTES = 4 * 1024
"""What is read at once of the end of the metrics: some 20 steps."""
PROBES = 64
"""Places at which the metrics before that are looked at, for the sketch."""
PROBE_BYTES = 1024
"""Two whole lines at least."""
STRETCHES = 32
"""Equal stretches of steps in a sketch; of each the lowest and the highest loss are kept."""

Point: TypeAlias = tuple[int, float]
"""A step and its loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """One run in short."""

    name: str
    state: RunState
    losses: tuple[float, ...]
    """Losses of the line that the run is on, oldest first, evenly spread over its steps."""


class Overviews:
    """All runs under a folder, as they were at the last look. Used by one thread at a time."""

    def __init__(self, runs_dir: Path) -> None:
        self.names: tuple[str, ...] = ()
        """Of the runs that are there, the newest first."""
        self._runs_dir = runs_dir
        self._known: dict[str, _Follower] = {}

    def look(self) -> Iterator[Overview]:
        """The runs that changed since the last look, the newest first; `names` are told before the first of them is read.

        Raises: StorageError where nothing can be listed; what is known stays.
        """
        folders = list_runs(self._runs_dir)
        self.names = tuple(folder.name for folder in folders)
        self._known = {folder.name: self._known.get(folder.name) or _Follower(folder) for folder in folders}
        for follower in tuple(self._known.values()):
            found = follower.look()
            if found is not None:
                yield found


class _Follower:
    """What is known of one run, and how much of its files that is."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._seen: tuple[object, ...] = ()
        self._forget()

    def _forget(self) -> None:
        self._journal, self._metrics = _Growing(self._folder.journal), _Growing(self._folder.metrics)
        self._state = RunState()
        self._last_seq = 0
        self._points: list[Point] = []

    def look(self) -> Overview | None:
        """The run as it is now; None when nothing has changed."""
        # Asked before the files are read: who lets go of a run has written its last line by then.
        is_live = self._folder.is_live()
        seen = (is_live, _stamp(self._folder.journal), _stamp(self._folder.metrics))
        if seen == self._seen:
            return None
        self._seen = seen
        try:
            self._read()
        except (OSError, ValueError) as error:
            self._forget()
            reason = f"its record cannot be read: {error}"
            return Overview(name=self._folder.name, state=RunState(phase="failed", reason=reason), losses=())
        crash = None if is_live else crash_of(self._folder, self._state)
        state = self._state if crash is None else apply(self._state, crash)
        line = [point for point in self._points if point[0] <= state.step]
        return Overview(name=self._folder.name, state=state, losses=sketch(line))

    def _read(self) -> None:
        """Fold what is new. Raises: OSError; ValueError for a line that is none of ours."""
        if self._journal.is_another() or self._metrics.is_another():
            self._forget()
        journal, _ = self._journal.gained(math.inf)
        metrics, skipped = self._metrics.gained(TAIL_BYTES)
        for point in probed(self._folder.metrics, *skipped):
            add_point(self._points, *point)
        events: Iterator[Event] = heapq.merge(decode_lines(journal), decode_lines(metrics), key=lambda event: event.seq)
        for event in events:
            # A step that reached a slow disk after an event that followed it is history: that event has been folded.
            if event.seq > self._last_seq:
                self._last_seq = event.seq
                self._state = apply(self._state, event)
                if isinstance(event, Step):
                    add_point(self._points, event.step, event.loss)
        if len(self._points) > 8 * STRETCHES:
            self._points = [point for stretch in _stretches(self._points) for point in _extremes(stretch)]


class _Growing:
    """A file of lines that is only appended to, and how far it has been read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._inode = 0

    def is_another(self) -> bool:
        """True when what was read is not the beginning of this file any more."""
        inode, size, _ = _stamp(self._path)
        return self._offset > 0 and (inode != self._inode or size < self._offset)

    def gained(self, most: float) -> tuple[list[bytes], tuple[int, int]]:
        """The whole lines that are new, and the bytes (start, stop) that were skipped so as not to read more than `most`.

        Raises: OSError.
        """
        try:
            with self._path.open("rb") as file:
                self._inode = os.fstat(file.fileno()).st_ino
                size = file.seek(0, os.SEEK_END)
                begin, start = self._offset, int(max(self._offset, size - most))
                file.seek(start)
                data = file.read(size - start)
        except FileNotFoundError:
            return [], (0, 0)
        first, stop = data.find(b"\n") + 1 if start > begin else 0, data.rfind(b"\n") + 1
        if stop == 0:
            return [], (0, 0)
        self._offset = start + stop
        return data[first:stop].splitlines(keepends=True), (begin, start + first)


def _stamp(path: Path) -> tuple[int, int, int]:
    """Tells one state of a file from another: inode, size, time of the last change; zeros where there is none."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0
    return status.st_ino, status.st_size, status.st_mtime_ns


def probed(path: Path, start: int, stop: int) -> Iterator[Point]:
    """Steps of a metrics file at about PROBES places between the bytes `start` (of a line) and `stop`. Raises: OSError."""
    if stop <= start:
        return
    stride = max(PROBE_BYTES, (stop - start) // PROBES)
    with path.open("rb") as file:
        for offset in range(start, stop, stride):
            data = os.pread(file.fileno(), PROBE_BYTES, offset)
            lines = data.split(b"\n")[0 if offset == start else 1 : -1]
            point = next(filter(None, map(_point, lines)), None)
            if point is not None:
                yield point


def _point(line: bytes) -> Point | None:
    """The step in a line of the metrics, None for anything else."""
    try:
        value = json.loads(line)
        return (int(value["step"]), float(value["loss"])) if value["kind"] == Step.kind else None
    except (ValueError, KeyError, TypeError):
        return None


def add_point(points: list[Point], step: int, loss: float) -> None:
    """Add a step; one that is made again (a restart, a rewind) replaces what came from there on."""
    while points and points[-1][0] >= step:
        points.pop()
    points.append((step, loss))


def sketch(points: Sequence[Point]) -> tuple[float, ...]:
    """The losses of `points` for a small curve: all of few; of many the extremes of STRETCHES equal stretches of steps."""
    if len(points) <= 2 * STRETCHES:
        return tuple(loss for _, loss in points)
    losses: list[float] = []
    for stretch in _stretches(points):
        found = [loss for _, loss in _extremes(stretch)] or losses[-1:]
        losses += [found[0], found[-1]]
    return tuple(losses)


def _stretches(points: Sequence[Point]) -> list[list[Point]]:
    """`points` by equal stretches of steps; the first and the last are never empty."""
    first, last = points[0][0], points[-1][0]
    found: list[list[Point]] = [[] for _ in range(STRETCHES)]
    for point in points:
        found[min(STRETCHES - 1, (point[0] - first) * STRETCHES // max(1, last - first))].append(point)
    return found


def _extremes(stretch: Sequence[Point]) -> list[Point]:
    """Of a stretch the points of lowest and of highest loss, in order of steps; what is no finite number counts as highest."""
    if len(stretch) < 2:
        return list(stretch)
    height = [loss if math.isfinite(loss) else math.inf for _, loss in stretch]
    low, high = height.index(min(height)), height.index(max(height))
    return [stretch[place] for place in sorted({low, high})]
