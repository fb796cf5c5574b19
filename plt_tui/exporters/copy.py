"""One run on its way into one exporter: what was recorded goes in, and the place is kept.

Decides when an exporter is opened, flushed and closed; starts no process and waits for nothing. Invariant: the place that is
kept never lies ahead of what a flush has made safe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from plt_tui.control.folder import RunFolder
from plt_tui.control.record import read_journal
from plt_tui.exporters.base import Exporter, ExportTarget, Factory, RunFacts, goes_back, row_of
from plt_tui.exporters.place import Place, read_place, run_id, write_place
from plt_tui.exporters.tail import RecordTail
from plt_tui.protocol.events import End, Event, Run, Step

MAX_ROWS = 500
"""Most steps in one call of an exporter: between two calls it is seen that it does not hang."""
FLUSH_S = 2.0
"""Least time between two flushes, each of which writes the place to the disk."""


class Copy:
    """The copy of the run in `folder`, whose place is kept at `path`. The caller holds the place (`place.held`).

    directory: for the exporter's own files. project: see ExportTarget. beat: called between any two calls of the exporter.
    flushed: called when the place was kept. Raises, also from its methods: StorageError, UsageError, and what the exporter
    does.
    """

    def __init__(
        self,
        factory: Factory,
        folder: RunFolder,
        path: Path,
        *,
        directory: Path,
        project: str,
        beat: Callable[[], None] = lambda: None,
        flushed: Callable[[], None] = lambda: None,
    ) -> None:
        self._factory = factory
        self._folder = folder
        self._path = path
        self._directory = directory
        self._project = project
        self._beat = beat
        self._flushed = flushed
        self._place = read_place(path, run_id(folder))
        self._kept = dict(self._place.kept)
        self._step = self._place.step
        self._tail = RecordTail(folder, self._place.marks)
        self._started_at, self._run = _past(folder, self._place)
        self._exporter: Exporter | None = None
        self._waiting: list[Event] = []
        """What came before the first session began to train, which an exporter is opened with."""
        self._end: End | None = None
        """The newest event, where that is an end: it is the last word unless something follows it."""
        self._is_dirty = False
        self._flushed_at = 0.0
        self.num_steps = 0
        self.num_events = 0

    def go_on(self, now: float, *, to_the_end: bool) -> bool:
        """Hand over what is new, as much as is read at once; False when nothing is. `now`: of a clock that is never set,
        seconds.

        to_the_end: nobody records any more.
        """
        events = self._tail.read(now, to_the_end=to_the_end)
        self._give(events)
        if self._is_dirty and self._end is None and now - self._flushed_at >= FLUSH_S:
            self._flushed_at = now
            self.flush()
        return bool(events)

    def flush(self) -> None:
        """Make safe what was handed over, and keep the place."""
        if self._exporter is not None:
            self._exporter.flush()
            self._keep_place()

    def finish(self) -> None:
        """Close the exporter, with the run's last word if it has said one."""
        if self._exporter is not None:
            self._exporter.close(self._end)
            self._keep_place()

    def close(self) -> None:
        """Let go of the record. The exporter is not told."""
        self._tail.close()

    def _give(self, events: Sequence[Event]) -> None:
        for is_step, group in groupby(events, key=lambda event: isinstance(event, Step)):
            if is_step:
                self._give_steps([event for event in group if isinstance(event, Step)])
            else:
                for event in group:
                    self._give_event(event)

    def _give_steps(self, steps: Sequence[Step]) -> None:
        exporter = self._opened()
        if exporter is None:
            self._waiting.extend(steps)
            return
        self._give_old_end(exporter)
        for first in range(0, len(steps), MAX_ROWS):
            rows = [row_of(step) for step in steps[first : first + MAX_ROWS]]
            self._beat()
            exporter.metrics(rows)
            self._step = rows[-1].step
        self.num_steps += len(steps)
        self._is_dirty = True

    def _give_event(self, event: Event) -> None:
        if isinstance(event, Run):
            self._run = event
        self._started_at = self._started_at or event.time
        exporter = self._opened()
        if exporter is None:
            self._waiting.append(event)
            return
        self._give_old_end(exporter)
        if isinstance(event, End):
            self._end = event
        else:
            self._tell(exporter, event)

    def _give_old_end(self, exporter: Exporter) -> None:
        """An end that something follows is an event like others."""
        if self._end is not None:
            end, self._end = self._end, None
            self._tell(exporter, end)

    def _tell(self, exporter: Exporter, event: Event) -> None:
        self._beat()
        exporter.event(event)
        step = goes_back(event)
        if step is not None:
            self._step = min(self._step, step)
        self.num_events += 1
        self._is_dirty = True

    def _opened(self) -> Exporter | None:
        """The exporter, opened once it is known what is trained, and given what came before that."""
        if self._exporter is None and self._run is not None:
            self._beat()
            self._exporter = self._open(self._run)
            self._place = Place(
                run=self._place.run,
                marks=self._place.marks,
                step=self._place.step,
                kept=dict(self._kept),
                has_flushed=self._place.has_flushed,
            )
            write_place(self._path, self._place)
            waiting, self._waiting = self._waiting, []
            self._give(waiting)
        return self._exporter

    def _open(self, run: Run) -> Exporter:
        target = ExportTarget(
            name=self._folder.name,
            directory=self._directory,
            project=self._project,
            kept=dict(self._kept),
            keep=self._kept.__setitem__,
        )
        exporter = self._factory(target)
        facts = RunFacts(
            name=self._folder.name,
            id=self._place.run,
            run=run,
            started_at=self._started_at,
            step=self._step,
            is_new=not self._place.has_flushed,
        )
        exporter.open(facts)
        return exporter

    def _keep_place(self) -> None:
        self._is_dirty = False
        self._place = Place(
            run=self._place.run, marks=self._tail.marks(), step=self._step, kept=dict(self._kept), has_flushed=True
        )
        write_place(self._path, self._place)
        self._flushed()


def _past(folder: RunFolder, place: Place) -> tuple[float, Run | None]:
    """When the run began, and its newest session of those that were handed over. Raises: StorageError."""
    mark = place.marks.get(folder.journal.name)
    if mark is None:
        return 0.0, None
    started_at, newest = 0.0, None
    for event in read_journal(folder):
        started_at = started_at or event.time
        if isinstance(event, Run) and event.seq <= mark.seq:
            newest = event
    return started_at, newest
