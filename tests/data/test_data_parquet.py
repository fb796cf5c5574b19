"""Promises of Parquet corpora: the column's texts in order, cut at row groups, and bad files named."""

from __future__ import annotations

import sys
import tracemalloc

import pyarrow as pa
import pytest
from pyarrow import parquet

from plt_tui.config.schema import DataSection
from plt_tui.data.check import check_corpus
from plt_tui.data.corpus import Piece, read_unit, units
from plt_tui.data.sources import resolve
from plt_tui.errors import DataError

TEXTS = [f"document {number} é\n" * (number % 7) for number in range(1000)]


@pytest.fixture
def path(tmp_path):
    """A file of a thousand documents in row groups of 100."""
    parquet.write_table(pa.table({"id": range(1000), "text": TEXTS}), tmp_path / "a.parquet", row_group_size=100)
    return tmp_path / "a.parquet"


def pieces_of(path, unit_bytes=1 << 20, text_field="text") -> list[Piece]:
    """The pieces of the corpus `path`, the units read last to first."""
    (source,) = resolve(DataSection(train=str(path))).train
    read = [list(read_unit(unit, text_field)) for unit in reversed(units(source, unit_bytes))]
    return [piece for of_unit in reversed(read) for piece in of_unit]


@pytest.mark.parametrize(("unit_bytes", "num_units"), [(1, 10), (12_000, 5), (1 << 30, 1)])
def test_rows_are_documents(path, unit_bytes, num_units):
    """All texts in the order of the rows, however many row groups make a unit; the pieces come to the file's size."""
    (source,) = resolve(DataSection(train=str(path))).train
    assert len(units(source, unit_bytes)) == num_units
    read = pieces_of(path, unit_bytes)
    assert [piece.text for piece in read] == TEXTS
    assert all(piece.ends_document for piece in read)
    assert sum(piece.source_bytes for piece in read) == path.stat().st_size


def test_folder_of_parquet_files(path):
    """A folder gives its *.parquet files when the format is named."""
    (source,) = resolve(DataSection(train=str(path.parent), format="parquet")).train
    assert [file.format for file in source.files] == ["parquet"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_every_string_column_is_read(tmp_path, kind):
    """Large and dictionary-encoded strings too; a null is no document, CR LF becomes LF."""
    column = pa.array(["one", None, "", "a\r\nb"], pa.string()).cast(kind)
    parquet.write_table(pa.table({"body": column}), tmp_path / "a.parquet")
    assert [piece.text for piece in pieces_of(tmp_path / "a.parquet", text_field="body")] == ["one", "", "a\nb"]


@pytest.mark.parametrize(
    ("text_field", "message"),
    [
        ("body", "no column 'body'; columns here: 'id', 'text'; set data.text_field"),
        ("id", "column 'id' must hold strings, not int64; set data.text_field"),
    ],
)
def test_wrong_column_is_named_before_anything_starts(path, text_field, message):
    """The quick look knows the columns."""
    with pytest.raises(DataError, match=rf"a\.parquet: {message}"):
        check_corpus(DataSection(train=str(path), text_field=text_field))


def test_row_that_is_no_utf8_is_named(tmp_path):
    """By its number in the file."""
    column = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"b", b"caf\xe9"]).buffers())
    parquet.write_table(pa.table({"text": column}), tmp_path / "a.parquet", row_group_size=2)
    with pytest.raises(DataError, match=r"a\.parquet: row 3: 'text' is not UTF-8 at its byte 3"):
        pieces_of(tmp_path / "a.parquet", unit_bytes=1)


def test_damaged_file_is_refused(path):
    """Cut short, it has no footer; with other bytes in it, a page does not unpack."""
    content = bytearray(path.read_bytes())
    path.write_bytes(content[:-100])
    with pytest.raises(DataError, match=r"a\.parquet: not a Parquet file, or a damaged one"):
        pieces_of(path)
    content[100:3000] = bytes(2900)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet: not a Parquet file, or a damaged one .*; fetch or write it again"):
        pieces_of(path)


def test_file_that_went_away_is_named(path):
    """Between resolving and reading."""
    (source,) = resolve(DataSection(train=str(path))).train
    path.unlink()
    with pytest.raises(DataError, match=r"a\.parquet: cannot be read: No such file"):
        units(source)


def test_missing_library_is_named(path, monkeypatch):
    """Without pyarrow the message says how to get it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"a\.parquet: .* pip install 'plt-tui\[parquet\]'"):
        check_corpus(DataSection(train=str(path)))


def test_memory_stays_flat(tmp_path):
    """Reading holds some rows, not a row group."""
    table = pa.table({"text": [f"{number} " * 500 for number in range(10_000)]})
    parquet.write_table(table, tmp_path / "a.parquet")
    del table
    (source,) = resolve(DataSection(train=str(tmp_path / "a.parquet"))).train
    before_bytes = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        (unit,) = units(source, 1 << 30)
        num_chars = peak_arrow_bytes = 0
        for piece in read_unit(unit, "text"):
            num_chars += len(piece.text)
            peak_arrow_bytes = max(peak_arrow_bytes, pa.total_allocated_bytes() - before_bytes)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert num_chars > 20_000_000
    assert peak_bytes < 2_000_000
    assert peak_arrow_bytes < 10_000_000
