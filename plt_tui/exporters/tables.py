"""The numbers of a run as tables for other programs: CSV or Parquet files in a new folder.

    metrics   one row for each step: branch, step, time, loss, lr, grad_norm, tokens, tokens_per_s, step_ms, data_ms
    evals     one row for each evaluation: branch, step, time, loss, perplexity, bits_per_byte, accuracy, tokens, seconds
    events    everything else that was recorded, in order: seq, time, kind, step, event (JSON)

branch 0 is the line that the run is on; the others are those that rewinds left, by number. Reads a record that was folded
already. Invariant: every number reads back to the same bits, and the folder appears whole or not at all.
"""

from __future__ import annotations

import csv
import json
import secrets
import shutil
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plt_tui.control.feed import Feed
from plt_tui.errors import StorageError, UsageError
from plt_tui.exporters.base import needs
from plt_tui.protocol.events import STEP_COLUMNS, CommandStatus, Eval, Event, Run
from plt_tui.protocol.framing import to_json

FORMS = ("csv", "parquet")
METRIC_COLUMNS = ("branch", "step", *(name for name in STEP_COLUMNS if name != "step"))
EVAL_COLUMNS = ("branch", "step", "time", "loss", "perplexity", "bits_per_byte", "accuracy", "tokens", "seconds")
EVENT_COLUMNS = ("seq", "time", "kind", "step", "event")
WHOLE = frozenset({"branch", "step", "tokens", "seq"})
"""Columns of whole numbers."""
ROWS_PER_PIECE = 50_000
"""Rows of metrics that are turned into Python's numbers at once."""

Column = Sequence[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows in pieces, each a list of columns of one length in the order of `names`."""

    name: str
    names: tuple[str, ...]
    pieces: Iterator[list[Column]]


def write_tables(feed: Feed, form: str, folder: Path) -> dict[str, int]:
    """Write the tables of a run in one of FORMS to `folder`, which must not exist or be empty; returns rows by file name.

    Raises: UsageError for a folder that holds something, or for Parquet without its library; StorageError.
    """
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists already; choose another folder, or remove it")
    write = _write_csv if form == "csv" else _parquet_writer()
    tables = (_metrics(feed), _table("evals", EVAL_COLUMNS, _evals(feed)), _table("events", EVENT_COLUMNS, _events(feed)))
    with _new_folder(folder) as temporary:
        return {f"{table.name}.{form}": write(temporary / f"{table.name}.{form}", table) for table in tables}


def _metrics(feed: Feed) -> Table:
    history = feed.history
    lines = [(branch, history.line(branch)) for branch in (0, *sorted(history.branches))]
    return Table(name="metrics", names=METRIC_COLUMNS, pieces=_metric_pieces(lines))


def _metric_pieces(lines: Sequence[tuple[int, Mapping[str, array[float]]]]) -> Iterator[list[Column]]:
    for branch, columns in lines:
        for first in range(0, len(columns["step"]), ROWS_PER_PIECE):
            part = {name: columns[name][first : first + ROWS_PER_PIECE] for name in METRIC_COLUMNS[1:]}
            whole = {name: [int(value) for value in values] for name, values in part.items() if name in WHOLE}
            count = len(part["step"])
            yield [[branch] * count, *(whole.get(name, part[name]) for name in METRIC_COLUMNS[1:])]


def _evals(feed: Feed) -> list[tuple[Any, ...]]:
    """A row for each evaluation that still stands, on the run's line or on a branch. One that was made again counts once."""
    line: list[Eval] = []
    left: list[tuple[int, Eval]] = []
    numbers = {branch.id: branch.number for branch in feed.state.branches}
    for event in feed.events:
        match event:
            case Eval():
                line = [known for known in line if known.step < event.step] + [event]
            case Run(start_step=step) | CommandStatus(name="rewind", status="applied", step=step):
                number = numbers.get(event.id, 0) if isinstance(event, CommandStatus) else 0
                left += [(number, known) for known in line if known.step > step and number]
                line = [known for known in line if known.step <= step]
    return [_eval_row(number, event) for number, event in [*((0, event) for event in line), *sorted(left, key=_by_branch)]]


def _by_branch(pair: tuple[int, Eval]) -> tuple[int, int]:
    return pair[0], pair[1].step


def _eval_row(branch: int, event: Eval) -> tuple[Any, ...]:
    return (branch, *(getattr(event, name) for name in EVAL_COLUMNS[1:]))


def _events(feed: Feed) -> list[tuple[Any, ...]]:
    return [_event_row(event) for event in feed.events if not isinstance(event, Eval)]


def _event_row(event: Event) -> tuple[Any, ...]:
    step = getattr(event, "step", None)
    return event.seq, event.time, event.kind, step, json.dumps(to_json(event))


def _table(name: str, names: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> Table:
    columns: list[Column] = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in names]
    return Table(name=name, names=names, pieces=iter([columns]))


def _write_csv(path: Path, table: Table) -> int:
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table.names)
        for columns in table.pieces:
            writer.writerows([_cell(value) for value in row] for row in zip(*columns, strict=True))
            count += len(columns[0])
    return count


def _cell(value: Any) -> str:
    """A float as its shortest text that reads back to the same bits; nothing for what is not known."""
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def _parquet_writer() -> Any:
    arrow, parquet = needs("pyarrow", "parquet", "parquet"), needs("pyarrow.parquet", "parquet", "parquet")
    kinds = {**dict.fromkeys(WHOLE, arrow.int64()), "kind": arrow.string(), "event": arrow.string()}

    def write(path: Path, table: Table) -> int:
        schema = arrow.schema([(name, kinds.get(name, arrow.float64())) for name in table.names])
        count = 0
        with parquet.ParquetWriter(path, schema) as writer:
            for columns in table.pieces:
                arrays = [arrow.array(values, type=field.type) for values, field in zip(columns, schema, strict=True)]
                writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
                count += len(columns[0])
        return count

    return write


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that takes its name when the block ends well, and is removed when not. Raises: StorageError."""
    temporary = folder.parent / f".{folder.name}.tmp-{secrets.token_hex(4)}"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(folder)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written: {error.strerror or error}; choose another folder") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
