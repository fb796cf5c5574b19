"""The record of a run on disk: written by its hub, read by whoever opens a finished run, resumes it or replays it.

`journal.jsonl` holds what changes the run and is synced line by line; `metrics.jsonl` (steps, evaluations) and `samples.jsonl`
are flushed at every write and synced with each checkpoint. A file that cannot be written does not stop the run: the failure
is reported once and the writer goes on trying. Invariant: what `journal` returned from is on disk.
"""

from __future__ import annotations

import contextlib
import heapq
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import BinaryIO

from plt_tui.control.feed import Feed
from plt_tui.control.folder import RunFolder
from plt_tui.control.metrics import Rows, read_metrics
from plt_tui.control.state import RunState, apply
from plt_tui.errors import StorageError
from plt_tui.protocol.events import (
    CaughtUp,
    Eval,
    Event,
    Gauges,
    Logs,
    Phase,
    Progress,
    RankStatus,
    Recent,
    Sample,
    Step,
    Steps,
)
from plt_tui.protocol.framing import decode_lines, encode

TAIL_BYTES = 64 * 1024
"""What is read at once of a file's end; for an overview all of the metrics that is read: some hundred steps."""

_NOT_RECORDED = (Progress, RankStatus, Recent, Gauges, Logs, Steps, CaughtUp)


class LineFile:
    """A file of JSON lines that is only appended to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO = path.open("ab", buffering=0)
        os.fchmod(self._file.fileno(), 0o600)
        self._end_torn_line()

    def write(self, event: Event, *, sync: bool) -> None:
        """Append one event; with `sync` it is on disk when this returns. Raises: OSError, and the file has no piece of it."""
        line = encode(event) + b"\n"
        start = self._file.seek(0, os.SEEK_END)
        try:
            while line:
                line = line[self._file.write(line) :]  # a disk that is nearly full takes a part
        except OSError:
            self._file.truncate(start)
            raise
        if sync:
            self.sync()

    def sync(self) -> None:
        """Force what was written to disk. Raises: OSError."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _end_torn_line(self) -> None:
        """Cut off the piece of a line that a killed writer left, so that the next line does not glue itself to it."""
        with self.path.open("rb+") as file:
            end = file.seek(0, os.SEEK_END)
            whole = _end_of_last_line(file, end)
            if whole < end:
                file.truncate(whole)


def _end_of_last_line(file: BinaryIO, end: int) -> int:
    """Size of the part of a file of `end` bytes that is whole lines."""
    while end:
        start = max(0, end - TAIL_BYTES)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


class Recorder:
    """Numbers each event and writes it to the file it belongs to. Used by the hub's event loop only."""

    def __init__(self, folder: RunFolder, last_seq: int, on_error: Callable[[str], None]) -> None:
        self._last_seq = last_seq
        self._journal = LineFile(folder.journal)
        self._metrics = LineFile(folder.metrics)
        self._samples = LineFile(folder.samples)
        self._on_error = on_error
        self._failing: set[LineFile] = set()

    def record(self, event: Event) -> Event:
        """Write `event` where it belongs and return it with its number.

        What is not recorded comes back as it was, without a number: a full disk is reported, not raised.
        """
        if isinstance(event, _NOT_RECORDED):
            return event
        self._last_seq += 1
        numbered = replace(event, seq=self._last_seq)
        file = self._file_of(event)
        try:
            file.write(numbered, sync=file is self._journal)
        except OSError as error:
            self._failed(file, f"{error.strerror}: the record is incomplete; free some space")
            return event
        self._worked(file)
        return numbered

    def sync(self) -> None:
        """Force metrics and samples to disk, before a checkpoint counts as saved."""
        for file in (self._metrics, self._samples):
            try:
                file.sync()
            except OSError as error:
                self._failed(file, f"{error.strerror}: {file.path.name} is not on disk")

    def close(self) -> None:
        """Sync and close all files."""
        self.sync()
        for file in (self._journal, self._metrics, self._samples):
            file.close()

    def _file_of(self, event: Event) -> LineFile:
        match event:
            case Step() | Eval():
                return self._metrics
            case Sample():
                return self._samples
            case _:
                return self._journal

    def _failed(self, file: LineFile, problem: str) -> None:
        if not self._failing:
            self._on_error(problem)
        self._failing.add(file)

    def _worked(self, file: LineFile) -> None:
        """Say that all is well again once no file is failing: one that is written must not hide another that is not."""
        if file in self._failing:
            self._failing.remove(file)
            if not self._failing:
                self._on_error("")


def read_journal(folder: RunFolder) -> list[Event]:
    """The events of the journal, oldest first. Raises: StorageError for a journal broken before its end."""
    return list(_read(folder.journal))


def read_feed(folder: RunFolder) -> Feed:
    """The whole record folded: what the hub of this run had last. Raises: StorageError.

    Journal, metrics and samples are merged by the number that their writer gave each event. Of a live run the metrics end where
    they ended before the journal was read: a step computed under an edit is never here without the edit.
    """
    feed = Feed()
    size = _size(folder.metrics)
    others = list(heapq.merge(_read(folder.journal), _read(folder.samples), key=_seq))
    metrics = _read_metrics(folder.metrics, size, [event.seq for event in others])
    for item in heapq.merge(others, metrics, key=_seq):
        if isinstance(item, Event):
            feed.publish(item)
        else:
            feed.publish_rows(item.columns, item.last)
    return feed


def read_overview(folder: RunFolder) -> RunState:
    """The state of a run without its history: the whole journal, and the end of the metrics. Raises: StorageError.

    A run that nobody holds and that did not say how it ended has crashed; its state says so.
    """
    events = heapq.merge(_read(folder.journal), _tail(folder.metrics), key=lambda event: event.seq)
    state = reduce(apply, events, RunState())
    crash = crash_of(folder, state)
    return state if crash is None else apply(state, crash)


def crash_of(folder: RunFolder, state: RunState) -> Phase | None:
    """What must be added to the record of a run whose hub died without a word; None for all others."""
    if state.is_over or state.started_at == 0.0 or folder.is_live():
        return None
    reason = f"its hub is gone without a word; resume: plt-tui run --resume auto --name {folder.name}"
    return Phase(phase="failed", reason=reason, step=state.step)


def _read_metrics(path: Path, size: int, others: Sequence[int]) -> Iterator[Event | Rows]:
    """Like `_read` of the first `size` bytes, steps as rows that end before the numbers in `others`. Raises: StorageError."""
    with _readable(path) as file:
        yield from read_metrics(_lines_within(file, size), others)


def _lines_within(file: BinaryIO, size: int) -> Iterator[bytes]:
    for line in file:
        size -= len(line)
        if size < 0:
            return
        yield line


def _size(path: Path) -> int:
    with _readable(path) as file:
        return file.seek(0, os.SEEK_END)


def _seq(item: Event | Rows) -> int:
    return item.seq


def _tail(path: Path) -> Iterator[Event]:
    """The events in the last TAIL_BYTES of a file of lines. Raises: StorageError."""
    with _readable(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL_BYTES))
        lines = file.read().splitlines()
        yield from decode_lines(lines[1:] if size > TAIL_BYTES else lines)


def _read(path: Path) -> Iterator[Event]:
    """The events of a file of lines. Raises: StorageError."""
    with _readable(path) as file:
        yield from decode_lines(file)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[BinaryIO]:
    """The file, or an empty one when there is none; what goes wrong inside is a StorageError."""
    try:
        with path.open("rb") if path.exists() else io.BytesIO() as file:
            yield file
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} cannot be read: {error}; move it away to open the run without it") from None
