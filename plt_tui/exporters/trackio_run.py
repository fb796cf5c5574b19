"""Exporter for trackio: one trackio run for one run here, in trackio's own folder, a Hugging Face Space, or a trackio server.

TRACKIO_DIR, TRACKIO_SPACE_ID or TRACKIO_SERVER_URL say which; nothing of them is kept here. A rewind gives steps a second row
each. trackio never fails the program that uses it: it warns, and drops what it cannot store. Here a warning of a local run is a
failure. What a server does not take trackio keeps itself, and sends later.
Invariant: nothing is handed to trackio before `flush`, so what a killed exporter had not flushed is not there twice.
"""

from __future__ import annotations

import os
import re
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from plt_tui.errors import UsageError
from plt_tui.exporters.base import ExportTarget, Row, RunFacts, Waiting, eval_values, flat, needs
from plt_tui.exporters.notes import Note, note_of
from plt_tui.exporters.parameters import described
from plt_tui.protocol.events import End, Eval, Event
from plt_tui.protocol.text import safe_line

FLUSH_S = 60.0
"""How long trackio's own thread may take to store what it was given; it wakes twice a second."""
POLL_S = 0.02
LEVELS = {"info": "INFO", "warning": "WARN", "error": "ERROR"}
START_S = {"TRACKIO_SPACE_ID": 100.0, "TRACKIO_SERVER_URL": 20.0}
"""How long a server is waited for, by what names it. A Space may be built first; whoever started us tries again then."""


class TrackioExporter:
    """Logs through the `trackio` package."""

    def __init__(self, target: ExportTarget) -> None:
        self._target = target
        self._step = 0
        self._trackio: Any = None
        self._run: Any = None
        self._waiting = Waiting()
        """Calls of trackio, in order, that `flush` makes."""
        self._warnings = _Warnings()

    def open(self, run: RunFacts) -> None:
        """Begin or resume the run. Raises: UsageError; TimeoutError; RuntimeError for a warning; what trackio raises."""
        self._trackio = needs("trackio", "trackio", "trackio")
        self._step = run.step
        self._warnings.hear()
        try:
            self._run = self._trackio.init(
                project=self._target.project,
                name=f"{run.name}-{run.id[:6]}",  # trackio resumes by name
                config=flat(described(run.run)),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        except ValueError as error:  # a name or an address that it does not take
            raise UsageError(f"trackio refuses: {_without_token(safe_line(str(error)))}") from None
        self._meet_server()
        self._check()

    def _meet_server(self) -> None:
        """Wait until trackio has reached its server: what it is given before that it would send later, and we once more."""
        if (limit := _patience()) is None:
            return
        deadline = time.monotonic() + limit
        while self._run._client is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"trackio's server has not answered for {limit:.0f} s")
            time.sleep(POLL_S)

    def metrics(self, rows: Sequence[Row]) -> None:
        """Take rows for the next `flush`."""
        for row in rows:
            self._log(row.values, row.step)
        self._step = rows[-1].step

    def event(self, event: Event) -> None:
        """Evaluations are rows, samples Markdown, and all other notes alerts (trackio has no plain notes)."""
        if isinstance(event, Eval):
            self._log(eval_values(event), event.step)
        if note := note_of(event, self._step):
            if note.kind == "sample":
                self._log({"sample": self._trackio.Markdown(_fenced(note.text))}, note.step)
            else:
                self._waiting.add(partial(self._alert, note))

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        self._waiting.add(partial(self._run.log, dict(values), step=step))

    def _alert(self, note: Note) -> None:
        level = getattr(self._trackio.AlertLevel, LEVELS[note.level])
        self._run.alert(title=note.title, text=note.text or None, level=level, step=note.step)

    def flush(self) -> None:
        """Hand everything over, and wait until trackio has stored it. Raises: TimeoutError; RuntimeError for a warning."""
        self._waiting.hand_over()
        deadline = time.monotonic() + FLUSH_S
        while _is_busy(self._run):
            if time.monotonic() > deadline:
                raise TimeoutError(f"trackio has not stored what it was given {FLUSH_S:.0f} s ago")
            time.sleep(POLL_S)
        self._check()

    def close(self, end: End | None) -> None:
        """Store what waits, with how the run ended as the last alert, and end trackio's thread."""
        if end is not None:
            self.event(end)
        try:
            self.flush()
            self._run.finish()
            self._check()
        finally:
            self._warnings.stop()

    def _check(self) -> None:
        heard = self._warnings.taken()
        if heard and _patience() is None:
            raise RuntimeError(f"trackio warns: {safe_line(heard[0])}")


def _patience() -> float | None:
    """Seconds that the server may take to answer; None: the run stays on this machine."""
    return next((limit for name, limit in START_S.items() if os.environ.get(name)), None)


def _without_token(text: str) -> str:
    return re.sub(r"(write_token=)[^&\s'\"]+", r"\1***", text)


class _Warnings:
    """What trackio says by `warnings.warn`, from any thread; warnings of others go where they went before."""

    def __init__(self) -> None:
        self._heard: list[str] = []
        self._others: Callable[..., None] | None = None

    def hear(self) -> None:
        """Begin to listen."""
        warnings.filterwarnings("always", module=r"trackio\.")
        self._others, warnings.showwarning = warnings.showwarning, self._show

    def stop(self) -> None:
        """Listen no more."""
        if self._others is not None:
            warnings.showwarning = self._others

    def taken(self) -> list[str]:
        """What was said since the last time."""
        heard, self._heard = self._heard, []
        return heard

    def _show(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if Path(filename).parent.name == "trackio" and issubclass(category, UserWarning):
            self._heard.append(str(message))
        if self._others is not None:
            self._others(message, category, filename, lineno, file, line)


def _is_busy(run: Any) -> bool:
    """Whether trackio (0.43) still holds something that it was given; there is no public way to ask."""
    with run._queue_lock:
        return bool(run._queued_logs or run._queued_alerts or run._sending_batch)


def _fenced(text: str) -> str:
    """`text` as a block of code in Markdown, whatever it holds."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"
