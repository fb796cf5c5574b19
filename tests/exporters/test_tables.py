"""Promises of tables: every number reads back to the same bits, branches are told apart, nothing is half there."""

from __future__ import annotations

import csv
import json
import struct
from pathlib import Path

import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plt_tui.control.feed import Feed
from plt_tui.control.folder import RunFolder
from plt_tui.control.record import read_feed
from plt_tui.errors import StorageError, UsageError
from plt_tui.exporters import tables as module
from plt_tui.exporters.tables import EVAL_COLUMNS, EVENT_COLUMNS, METRIC_COLUMNS, write_tables
from plt_tui.protocol.events import Step
from plt_tui.protocol.framing import from_json
from tests.exporters.records import new_folder, record, rewound, sample, scored, session, small_run, step, steps

Rows = list[dict[str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run folder without a record."""
    return new_folder(tmp_path / "a")


def bits(value: float) -> bytes:
    """The 64 bits of a float."""
    return struct.pack("<d", value)


def rows_of(path: Path) -> Rows:
    """The rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_csv(feed: Feed, out: Path) -> tuple[Rows, Rows, Rows]:
    """Metrics, evaluations and events, as CSV reads them back."""
    counts = write_tables(feed, "csv", out)
    tables = [rows_of(out / f"{name}.csv") for name in ("metrics", "evals", "events")]
    assert list(counts.values()) == list(map(len, tables))
    return tables[0], tables[1], tables[2]


def test_a_run_as_csv(folder: RunFolder, tmp_path: Path) -> None:
    """All columns of all steps and evaluations, and every other event whole."""
    events = record(folder, small_run())
    metrics, evals, others = write_csv(read_feed(folder), tmp_path / "out")
    assert [list(table[0]) for table in (metrics, evals, others)] == [
        list(METRIC_COLUMNS),
        list(EVAL_COLUMNS),
        list(EVENT_COLUMNS),
    ]
    made = [event for event in events if isinstance(event, Step)]
    for name in METRIC_COLUMNS[1:]:
        assert [bits(float(row[name])) for row in metrics] == [bits(float(getattr(one, name))) for one in made]
    assert [row["step"] for row in metrics] == [str(number) for number in range(1, 11)]
    assert {row["branch"] for row in metrics} == {"0"}
    assert [(row["step"], row["loss"], row["tokens"]) for row in evals] == [("5", "0.4", "9"), ("10", "0.2", "9")]
    assert [row["kind"] for row in others] == ["phase", "run", "sample", "end"]
    assert [from_json(json.loads(row["event"])) for row in others] == [
        event for event in events if event.kind not in ("step", "eval")
    ]
    assert [row["step"] for row in others] == ["0", "", "5", "10"]


def test_a_run_as_parquet(folder: RunFolder, tmp_path: Path) -> None:
    """The same, with whole numbers as such."""
    events = record(folder, small_run())
    assert write_tables(read_feed(folder), "parquet", tmp_path / "out") == {
        "metrics.parquet": 10,
        "evals.parquet": 2,
        "events.parquet": 4,
    }
    metrics = pyarrow.parquet.read_table(tmp_path / "out" / "metrics.parquet").to_pydict()
    made = [event for event in events if isinstance(event, Step)]
    assert metrics == {"branch": [0] * 10, **{name: [getattr(one, name) for one in made] for name in METRIC_COLUMNS[1:]}}
    assert all(isinstance(value, int) for value in metrics["tokens"])
    others = pyarrow.parquet.read_table(tmp_path / "out" / "events.parquet").to_pydict()
    assert others["step"] == [0, None, 5, 10]
    assert [from_json(json.loads(text)) for text in others["event"]][2] == events[8]


@settings(max_examples=30)
@given(st.lists(st.floats(), min_size=1, max_size=5))
def test_every_float_reads_back_to_the_same_bits(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    """Infinities and the smallest too; a NaN is one."""
    feed = Feed()
    feed.publish(session())
    for number, value in enumerate(values, start=1):
        feed.publish(step(number, value))
    out = tmp_path_factory.mktemp("tables") / "out"
    metrics, _, _ = write_csv(feed, out)
    assert [repr(float(row["loss"])) for row in metrics] == list(map(repr, values))
    write_tables(feed, "parquet", out.with_name("parquet"))
    columns = pyarrow.parquet.read_table(out.with_name("parquet") / "metrics.parquet").to_pydict()
    assert list(map(repr, columns["loss"])) == list(map(repr, values))


def test_what_a_rewind_left_has_the_number_of_its_branch(folder: RunFolder, tmp_path: Path) -> None:
    """Steps and evaluations alike; what was computed again after a crash stands there once."""
    record(folder, [session(), *steps(1, 4), scored(4), *steps(5, 8), scored(8), rewound(8, 5)])
    record(folder, [*steps(6, 9), scored(9), session(7), *steps(8, 10), scored(9)])
    metrics, evals, _ = write_csv(read_feed(folder), tmp_path / "out")
    assert [(row["branch"], row["step"]) for row in metrics] == [
        *(("0", str(number)) for number in range(1, 11)),
        *(("1", str(number)) for number in range(6, 9)),
    ]
    assert [(row["branch"], row["step"]) for row in evals] == [("0", "4"), ("0", "9"), ("1", "8")]


def test_a_long_run_is_written_in_pieces(folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost between them."""
    monkeypatch.setattr(module, "ROWS_PER_PIECE", 3)
    record(folder, [session(), *steps(1, 8)])
    for form in module.FORMS:
        assert write_tables(read_feed(folder), form, tmp_path / form)[f"metrics.{form}"] == 8
    assert [row["step"] for row in rows_of(tmp_path / "csv" / "metrics.csv")] == [str(number) for number in range(1, 9)]
    assert pyarrow.parquet.read_table(tmp_path / "parquet" / "metrics.parquet")["step"].to_pylist() == list(range(1, 9))


def test_a_run_without_steps_has_empty_tables(tmp_path: Path) -> None:
    """With their heads."""
    write_tables(Feed(), "csv", tmp_path / "out")
    assert (tmp_path / "out" / "evals.csv").read_text() == ",".join(EVAL_COLUMNS) + "\n"
    write_tables(Feed(), "parquet", tmp_path / "parquet")
    assert pyarrow.parquet.read_table(tmp_path / "parquet" / "metrics.parquet").num_rows == 0


def test_texts_cannot_act(folder: RunFolder, tmp_path: Path) -> None:
    """No escape sequence, no formula and no line of its own comes out of a sample."""
    record(folder, [session(), *steps(1, 1), sample(1, '=cmd()\x1b]0;x\x07\n"a",b\r\n')])
    _, _, others = write_csv(read_feed(folder), tmp_path / "out")
    content = (tmp_path / "out" / "events.csv").read_bytes()
    assert content.count(b"\n") == 3
    assert not {b"\x1b", b"\x07", b"\r"} & {bytes([byte]) for byte in content}
    assert json.loads(others[-1]["event"])["text"] == '=cmd()\x1b]0;x\x07\n"a",b\r\n'


def test_a_folder_that_holds_something_is_left_alone(folder: RunFolder, tmp_path: Path) -> None:
    """Nothing of another's is overwritten, and nothing is left of what could not be written."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").touch()
    with pytest.raises(UsageError, match="taken exists already; choose another folder"):
        write_tables(read_feed(folder), "csv", tmp_path / "taken")
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="choose another folder"):
        write_tables(read_feed(folder), "csv", tmp_path / "file" / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "file", "taken"]


def test_an_empty_folder_is_filled(folder: RunFolder, tmp_path: Path) -> None:
    """Somebody has made it already."""
    (tmp_path / "out").mkdir()
    assert set(write_tables(read_feed(folder), "csv", tmp_path / "out")) == {"metrics.csv", "evals.csv", "events.csv"}
