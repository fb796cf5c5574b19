"""`python -m benchmarks [NAME ...]`: run the benchmarks one after the other and print their table in Markdown.

stdout belongs to the table; progress and tracebacks go to stderr. Exit code 1 when a benchmark could not be run; a missed
budget is a result, not a failure.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.machine import head_line
from benchmarks.notes import NOTES
from benchmarks.table import Row, render, write_between
from plt_tui.errors import EXIT_SIGTERM

BENCHMARKS = (
    "start",
    "throughput",
    "agreement",
    "ui_overhead",
    "disturbance",
    "door_load",
    "recovery",
    "latency",
    "checkpoint_stall",
    "rewind",
    "time_to_loss",
    "chart",
    "hub_memory",
)
"""Modules with a `measure`, in the order of the table."""
README = Path(__file__).with_name("README.md")


def main(words: Sequence[str] | None = None) -> int:
    """Measure what was asked for. Returns the exit code."""
    options = _parse(words)
    names = options.names or BENCHMARKS
    head = head_line()
    rows: list[Row] = []
    failed = [name for name in names if not _run(name, rows, quick=options.quick)]
    table = render(f"{head}, quick: not to be trusted" if options.quick else head, rows, NOTES)
    print(table)
    if tuple(names) == BENCHMARKS and not options.quick:
        _warn_of_stale_notes(rows)
    if failed:
        _say(f"not measured: {', '.join(failed)}; see the traceback above")
        return 1
    if options.write:
        README.write_text(write_between(README.read_text(encoding="utf-8"), table), encoding="utf-8")
    return 0


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure plt-tui against its budgets.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(BENCHMARKS)}; all if left out")
    parser.add_argument(
        "--quick", action="store_true", help="few repeats and short runs: shows that it works, measures nothing"
    )
    parser.add_argument("--write", action="store_true", help="replace the table in benchmarks/README.md")
    options = parser.parse_args(words)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]!r}; known: {', '.join(BENCHMARKS)}")
    if options.write and (options.quick or options.names):
        parser.error("--write replaces the whole table: leave out --quick and NAME")
    return options


def _run(name: str, rows: list[Row], *, quick: bool) -> bool:
    """Add the rows of one benchmark; False when it could not be run. The others run all the same."""
    _say(f"{name} ...")
    started_s = time.perf_counter()
    measure: Callable[..., list[Row]] = importlib.import_module(f"benchmarks.{name}").measure
    try:
        measured = measure(quick=quick)
    except Exception:  # noqa: BLE001  (the border of one benchmark: an hour of measuring is not lost with it)
        _say(traceback.format_exc())
        return False
    rows += measured
    for row in measured:
        _say(f"  {row.what}: {row.measured}")
    _say(f"{name} took {time.perf_counter() - started_s:.0f} s")
    return True


def _warn_of_stale_notes(rows: Sequence[Row]) -> None:
    for what in NOTES.keys() - {row.what for row in rows}:
        _say(f"benchmarks/notes.py: there is no row {what!r}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_SIGTERM))  # as by `timeout`: nothing may be left behind
    sys.exit(main())
