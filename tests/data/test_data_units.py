"""Promises of cutting: a corpus read unit by unit is the corpus, wherever it was cut and whoever reads which part."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.data.corpus import Piece, Unit, read_unit, units
from plt_tui.data.sources import FileFormat, Source, SourceFile
from plt_tui.errors import DataError

SIGNS = st.sampled_from(["a", "b", " ", "é", "🙂", "\r", "\n", "\r\n", "\ufeff", "long words " * 9])
TEXTS = st.lists(SIGNS, max_size=40).map("".join)
SIZES = st.integers(1, 30)


def source_of(path: Path, content: bytes, file_format: FileFormat = "text") -> Source:
    """A corpus of the one file `path` with `content`."""
    path.write_bytes(content)
    return Source(name="corpus", files=(SourceFile(path=path, format=file_format, size=len(content), mtime_ns=0),))


def read_apart(source: Source, unit_bytes: int, block_bytes: int = 1 << 20) -> list[Piece]:
    """All pieces, the units read last to first, as another worker for each might."""
    read = [list(read_unit(unit, "text", block_bytes)) for unit in reversed(units(source, unit_bytes))]
    return [piece for of_unit in reversed(read) for piece in of_unit]


@given(text=TEXTS, unit_bytes=SIZES, block_bytes=st.integers(1, 9))
def test_units_join_to_the_text(text, unit_bytes, block_bytes):
    """Nothing is lost and nothing comes twice; a text file stays one document, and every byte is accounted for at most once."""
    with tempfile.TemporaryDirectory() as folder:
        read = read_apart(source_of(Path(folder, "a.txt"), text.encode()), unit_bytes, block_bytes)
    assert "".join(piece.text for piece in read) == text.removeprefix("\ufeff").replace("\r\n", "\n")
    assert [piece.ends_document for piece in read] == [False] * (len(read) - 1) + [True]
    assert sum(piece.source_bytes for piece in read) == len(text.encode())


@given(
    documents=st.lists(TEXTS, max_size=8),
    separator=st.sampled_from(["\n", "\r\n", "\n \n\r\n"]),
    begin=st.sampled_from(["", "\ufeff", "\n"]),
    unit_bytes=st.integers(1, 200),
    block_bytes=SIZES,
)
def test_units_hold_the_same_json_lines(documents, separator, begin, unit_bytes, block_bytes):
    """The documents are those of the file, in its order."""
    content = begin + separator.join(json.dumps({"text": text}, ensure_ascii=False) for text in documents)
    with tempfile.TemporaryDirectory() as folder:
        read = read_apart(source_of(Path(folder, "a.jsonl"), content.encode(), "jsonl"), unit_bytes, block_bytes)
    assert [piece.text for piece in read] == [text.replace("\r\n", "\n") for text in documents]
    assert all(piece.ends_document for piece in read)


@given(before=TEXTS, after=TEXTS, unit_bytes=SIZES, bad=st.sampled_from([b"\xff", b"\xc3(", b"\xe2\x82\n"]))
def test_bad_byte_is_named_by_its_place_in_the_file(before, after, unit_bytes, bad):
    """Not by its place in the unit."""
    with tempfile.TemporaryDirectory() as folder:
        source = source_of(Path(folder, "a.txt"), before.encode() + bad + after.encode())
        with pytest.raises(DataError, match=f"not UTF-8 at byte {len(before.encode())} "):
            read_apart(source, unit_bytes)


@pytest.mark.parametrize("unit_bytes", [5, 17, 1000])
def test_bad_json_line_is_named_by_its_number_in_the_file(tmp_path, unit_bytes):
    """Though nobody counts the lines of earlier units before that."""
    source = source_of(tmp_path / "a.jsonl", b'{"text": "a"}\n\n{"text": "b"}\n{"no text": 1}\n', "jsonl")
    with pytest.raises(DataError, match=r"a\.jsonl:4: no field 'text'"):
        read_apart(source, unit_bytes)


def test_units_are_about_as_large_as_asked(tmp_path):
    """So many lines are spread over so many units, none empty and none above twice the size."""
    source = source_of(tmp_path / "a.txt", b"line of text\n" * 1000)
    sizes = [sum(piece.source_bytes for piece in read_unit(unit, "text")) for unit in units(source, 1000)]
    assert len(sizes) == 13
    assert 990 <= min(sizes[:-1]) <= max(sizes) <= 1013


def test_line_without_end_belongs_to_its_first_unit(tmp_path):
    """A file without newlines is one piece of work, and the other units look no farther than their own end."""
    source = source_of(tmp_path / "a.txt", b"x" * 1000)
    first, *others = units(source, 100)
    assert "".join(piece.text for piece in read_unit(first, "text")) == "x" * 1000
    assert [piece for unit in others for piece in read_unit(unit, "text")] == [Piece("", ends_document=True, source_bytes=0)]


def test_files_do_not_run_together(tmp_path):
    """Each file has units of its own, an empty file too; builtin files are one unit each."""
    names = {"a.txt": b"one\ntwo\n", "b.txt": b"", "c.txt": b"three"}
    files = [source_of(tmp_path / name, content).files[0] for name, content in names.items()]
    python = source_of(tmp_path / "d.py", b"four\n" * 9, "python").files[0]
    source = Source(name="corpus", files=(*files, python))
    assert units(source, 5) == [
        Unit(files[0], 0, 5),
        Unit(files[0], 5, 8),
        Unit(files[1], 0, 0),
        Unit(files[2], 0, 5),
        Unit(python, 0, 45),
    ]
    ends = [piece.ends_document for piece in read_apart(source, 5)]
    assert ends.count(True) == 4
