"""The record of a run on disk: written by its hub, read by whoever opens a finished run, resumes it or replays it.

`journal.jsonl` holds what changes the run and is synced line by line; `metrics.jsonl` (steps, evaluations) and `samples.jsonl`
are flushed at every write and synced with each checkpoint. A file that cannot be written does not stop the run: its lines wait
in memory, in order, and every further event is another attempt. Invariant: a line is on disk whole or not at all, and behind
every line of its file with a lower number.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import io
import logging
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import BinaryIO

from plt_tui.control.feed import Feed
from plt_tui.control.folder import RunFolder
from plt_tui.control.line_file import TAIL_BYTES, LineFile
from plt_tui.control.metrics import Rows, read_metrics
from plt_tui.control.state import RunState, apply
from plt_tui.errors import StorageError
from plt_tui.protocol.durable import sync_folder
from plt_tui.protocol.events import (
    CaughtUp,
    End,
    Eval,
    Event,
    Gauges,
    Logs,
    OpenLine,
    Phase,
    Progress,
    RankStatus,
    Recent,
    Sample,
    Step,
    Steps,
    Viewers,
)
from plt_tui.protocol.framing import decode_lines, encode

MAX_WAITING_BYTES = 32 << 20
"""Most bytes of metrics, and of samples, that wait in memory for a disk: 100 000 steps. Then the oldest lines are lost."""

_logger = logging.getLogger(__name__)

NOT_RECORDED = (Progress, RankStatus, Recent, Gauges, Viewers, Logs, OpenLine, Steps, CaughtUp)
"""What is only of the moment."""


class Recorder:
    """Numbers each event and writes it to the file it belongs to. Used by the hub's event loop only.

    A fact has happened and is recorded, late if need be (`record`). A wish is written down now or is refused (`record_now`).
    """

    def __init__(
        self, folder: RunFolder, last_seq: int, on_error: Callable[[str], None], step: Callable[[], int] = int
    ) -> None:
        """on_error: told what is wrong, once, and "" when all is well again; step: where the run is. Raises: StorageError."""
        self._last_seq = last_seq
        self._on_error = on_error
        self._step = step
        self._recorded_step = 0
        """Where the run was when the first line that waits could not be written."""
        self._folder = folder
        self._files = _opened(folder)
        self._journal, self._metrics, self._samples = self._files
        self._cause = ""
        """Why the last write that failed did, and what to do about it."""
        self._problems: dict[str, str] = {}
        """What is wrong now, in words, by what failed."""
        self._num_told = 0
        """Lines that were missing when that was last told."""

    def record(self, event: Event) -> Event:
        """Write `event` where it belongs, at the latest when its disk works again, and return it with its number.

        What is only of the moment is not recorded and comes back as it was.
        """
        if not isinstance(event, NOT_RECORDED):
            event, line = self._numbered(event)
            self._file_of(event).put(line)
            self._last_seq = event.seq
        if isinstance(event, End):
            self._folder.free_reserve()
        self._write_out()
        return event

    def record_now(self, event: Event) -> Event:
        """Write `event` to the journal and return it with its number: it is on disk. Raises: OSError, and it never will be."""
        numbered, line = self._numbered(event)
        try:
            self._journal.flush()
            self._journal.write(line)
        except OSError as error:
            self._tell_failure(error)
            raise
        self._last_seq = numbered.seq
        self._tell_success()
        return numbered

    @property
    def problem(self) -> str:
        """All that is wrong with the record, in words; empty when nothing is."""
        return "; ".join(filter(None, self._problems.values()))

    def unwritten(self) -> str:
        """How much of the record is in memory only, why, and what to do about it; empty when none is."""
        count = sum(len(file.waiting) for file in self._files)
        return f"{_lines(count)} of the record in memory only: {self._cause}" if count else ""

    def sync(self) -> None:
        """Force metrics and samples to disk, before a checkpoint counts as saved."""
        self._write_out()
        for file in (self._metrics, self._samples):
            try:
                file.sync()
            except OSError as error:  # never taken back: the kernel may have dropped what the next sync would be asked for
                lost = f"a power cut may take lines of {file.path.name} up to step {self._step()}"
                self._tell(file.path.name, f"{lost}: {_cause_and_remedy(error, self._folder)}")

    def close(self) -> None:
        """Write what waits, sync and close all files; what still cannot be written is said in the log, and lost."""
        self._folder.free_reserve()
        self.sync()
        if unwritten := self.unwritten():
            _logger.error("lost with this process: %s", unwritten)
        for file in self._files:
            file.close()

    def _numbered(self, event: Event) -> tuple[Event, bytes]:
        numbered = replace(event, seq=self._last_seq + 1)
        return numbered, encode(numbered) + b"\n"

    def _file_of(self, event: Event) -> LineFile:
        match event:
            case Step() | Eval():
                return self._metrics
            case Sample():
                return self._samples
            case _:
                return self._journal

    def _write_out(self) -> None:
        """Write what waits. Steps wait for the journal too: none is on disk without the edit that it was computed under."""
        if not any(file.waiting for file in self._files):
            return
        try:
            for file in self._files:
                file.flush()
        except OSError as error:
            self._tell_failure(error)
        else:
            self._tell_success()

    def _tell_success(self) -> None:
        """Take back what was said, once nothing waits any more; but what was lost stays lost."""
        if self._problems.get("write") and not self.unwritten():
            self._num_told = 0
            num_lost = sum(file.num_lost for file in self._files)
            lost = f"{_lines(num_lost)} of steps and samples lost while nothing could be written"
            self._tell("write", lost if num_lost else "")

    def _tell_failure(self, error: OSError) -> None:
        """Say what is missing, again whenever that has doubled."""
        self._cause = _cause_and_remedy(error, self._folder)
        self._recorded_step = self._recorded_step if self._num_told else self._step()
        num_lost = sum(file.num_lost for file in self._files)
        num_missing = num_lost + sum(len(file.waiting) for file in self._files)
        if num_missing >= 2 * self._num_told:
            self._num_told = num_missing
            lost = f"{_lines(num_lost)} lost, " if num_lost else ""
            at_risk = f"a kill of the hub loses what was told since step {self._recorded_step}, checkpoints and edits too"
            waiting = self.unwritten() and f"{self.unwritten()}; {at_risk}"
            self._tell("write", lost + (waiting or f"nothing can be recorded: {self._cause}"))

    def _tell(self, about: str, problem: str) -> None:
        if self._problems.get(about, "") != problem:
            self._problems[about] = problem
            self._on_error(self.problem)


def _opened(folder: RunFolder) -> tuple[LineFile, LineFile, LineFile]:
    """Journal, metrics and samples. Raises: StorageError, and none is open."""
    with contextlib.ExitStack() as files:
        try:
            journal = files.enter_context(contextlib.closing(LineFile(folder.journal, is_synced=True)))
            metrics = files.enter_context(contextlib.closing(LineFile(folder.metrics, max_waiting_bytes=MAX_WAITING_BYTES)))
            samples = files.enter_context(contextlib.closing(LineFile(folder.samples, max_waiting_bytes=MAX_WAITING_BYTES)))
            sync_folder(folder.path)
        except OSError as error:
            raise StorageError(f"the record of the run cannot be opened: {_cause_and_remedy(error, folder)}") from None
        files.pop_all()
    return journal, metrics, samples


def _lines(count: int) -> str:
    """A number of lines in words: "1 line", "12 400 lines"."""
    return "1 line" if count == 1 else f"{count:,} lines".replace(",", " ")


def _cause_and_remedy(error: OSError, folder: RunFolder) -> str:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            remedy = f"free some space on {folder.path}"
        case errno.EFBIG:
            remedy = "raise the limit on the size of files (ulimit -f)"
        case _:
            remedy = f"make {folder.path} writable again"
    return f"{error.strerror or error}; {remedy}"


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
    streams: list[Iterator[Event | Rows]] = [_read(folder.journal), _read(folder.samples), _read_metrics(folder.metrics, size)]
    for item in heapq.merge(*streams, key=_seq):
        if isinstance(item, Event):
            feed.publish(item)
        else:
            feed.publish_rows(item.columns, item.last)
    return feed


def read_since(folder: RunFolder, seq: int) -> list[Event]:
    """What was recorded after the event of number `seq`, in order. Raises: StorageError.

    Of steps and evaluations only those in the last TAIL_BYTES of their file are looked at: for who followed the run until now.
    """
    events = heapq.merge(_read(folder.journal), _read(folder.samples), _tail(folder.metrics), key=lambda event: event.seq)
    return [event for event in events if event.seq > seq]


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
    has_record = state != RunState()
    if state.is_over or folder.is_live() or (has_record and state.started_at == 0.0):
        return None
    what = "its hub is gone without a word; resume" if has_record else "it has never begun; start it"
    reason = f"{what}: plt-tui run --resume auto --name {folder.name}"
    return Phase(phase="failed", reason=reason, step=state.step)


def _read_metrics(path: Path, size: int) -> Iterator[Event | Rows]:
    """Like `_read` of the first `size` bytes, steps as rows. Raises: StorageError."""
    with _readable(path) as file:
        yield from read_metrics(_lines_within(file, size))


def _lines_within(file: BinaryIO, size: float) -> Iterator[bytes]:
    """The lines in the first `size` bytes; what has no end is none yet: the next writer cuts it off."""
    for line in file:
        size -= len(line)
        if size < 0 or not line.endswith(b"\n"):
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
        lines = list(_lines_within(file, TAIL_BYTES))
        yield from decode_lines(lines[1:] if size > TAIL_BYTES else lines)


def _read(path: Path) -> Iterator[Event]:
    """The events of a file of lines. Raises: StorageError."""
    with _readable(path) as file:
        yield from decode_lines(_lines_within(file, math.inf))


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[BinaryIO]:
    """The file, or an empty one when there is none; what goes wrong inside is a StorageError."""
    try:
        with path.open("rb") if path.exists() else io.BytesIO() as file:
            yield file
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} cannot be read: {error}; move it away to open the run without it") from None
