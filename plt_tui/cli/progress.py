"""How far a long piece of work is, on stderr: one line that is drawn over on a terminal, else a line now and then.

Does no work itself. Invariant: at the end no line is left open, whatever ended the work.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from plt_tui.data.progress import Report

NUM_LINES = 10
"""Lines of a task where nothing can be drawn over: one every tenth of it."""
_CLEAR_LINE = "\r\x1b[K"


@contextmanager
def shown_progress() -> Iterator[Report]:
    """A `Report` that shows on stderr what it is told."""
    lines = _Lines(is_terminal=sys.stderr.isatty(), write=_write, now=time.monotonic)
    try:
        yield lines.report
    finally:
        lines.close()


def progress_text(task: str, done: float, total: float, unit: str, seconds: float) -> str:
    """One line: "tokenising  43 %  120 / 280 MB  35 MB/s  0:05 left". `seconds`: since the task began; total 0: unknown."""
    if unit == "bytes":
        scale, unit = (1e6, "MB") if max(done, total) >= 1e6 else (1e3, "kB")
        done, total = done / scale, total / scale
    share = f"  {done / total:4.0%}" if total else ""
    amount = f"{done:,.1f} / {total:,.1f} {unit}" if total else f"{done:,.1f} {unit}"
    if not done or seconds < 0.1:
        return f"{task}{share}  {amount}"
    speed = done / seconds
    left = f"  {_clock((total - done) / speed)} left" if total > done else f"  in {_clock(seconds)}"
    return f"{task}{share}  {amount}  {speed:,.1f} {unit}/s{left if total else ''}"


class _Lines:
    """What was shown of the task under way."""

    def __init__(self, *, is_terminal: bool, write: Callable[[str], None], now: Callable[[], float]) -> None:
        self._is_terminal, self._write, self._now = is_terminal, write, now
        self._task = ""
        self._began_s = 0.0
        self._shown_tenth = 0
        self._is_open = False

    def report(self, task: str, done: float, total: float, unit: str) -> None:
        """Show it, if it is time for it."""
        if task != self._task:
            self.close()
            self._task, self._began_s, self._shown_tenth = task, self._now(), 0
        text = progress_text(task, done, total, unit, self._now() - self._began_s)
        is_done = total > 0 and done >= total
        if self._is_terminal:
            self._write(_CLEAR_LINE + text)
            self._is_open = True
            if is_done:
                self.close()
            return
        tenth = int(done / total * NUM_LINES) if total else 0
        if tenth > self._shown_tenth:
            self._shown_tenth = tenth
            self._write(text + "\n")

    def close(self) -> None:
        """End the line under way."""
        if self._is_open:
            self._write("\n")
        self._is_open = False


def _write(text: str) -> None:
    typer.echo(text, nl=False, err=True)


def _clock(seconds: float) -> str:
    """Minutes and seconds, or hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
