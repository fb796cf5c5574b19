"""Promises of compressed corpora: the same text as unpacked, damage is named, memory stays flat."""

from __future__ import annotations

import gzip
import random
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.config.schema import DataSection
from plt_tui.data.corpus import Piece, read_unit, units
from plt_tui.data.sources import Source, SourceFile, resolve
from plt_tui.errors import DataError

PACK: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "zst": zstandard.ZstdCompressor(write_checksum=True).compress}
compressions = pytest.mark.parametrize("compression", PACK)


def pieces_of(path: Path, block_bytes: int = 1 << 20) -> list[Piece]:
    """The pieces of the one file `path`, read as its name tells."""
    (unit,) = units(resolve(DataSection(train=str(path))).train[0])
    return list(read_unit(unit, "text", block_bytes))


def text_of(content: bytes, compression: str, block_bytes: int = 1 << 20) -> str:
    """The text of a file with `content`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a.txt.{compression}")
        path.write_bytes(content)
        return "".join(piece.text for piece in pieces_of(path, block_bytes))


@compressions
@given(parts=st.lists(st.text(), min_size=1, max_size=4), block_bytes=st.integers(1, 9))
def test_packed_text_is_the_text(compression, parts, block_bytes):
    """In one part or in several behind one another, and however few bytes are unpacked at once."""
    packed = b"".join(PACK[compression](part.encode()) for part in parts)
    assert text_of(packed, compression, block_bytes) == "".join(parts).removeprefix("\ufeff").replace("\r\n", "\n")


@compressions
def test_json_lines_may_be_packed(tmp_path, compression):
    """The ending before .gz or .zst tells what is inside."""
    path = tmp_path / f"a.jsonl.{compression}"
    path.write_bytes(PACK[compression](b'{"text": "one"}\n{"text": "two"}\n'))
    assert [piece.text for piece in pieces_of(path, 5)] == ["one", "two"]


@compressions
@given(data=st.data())
def test_truncated_file_is_never_a_shorter_one(compression, data):
    """Wherever the file ends too early, it is an error."""
    packed = PACK[compression](bytes(range(32, 127)) * 3)
    length = data.draw(st.integers(1, len(packed) - 1))
    with pytest.raises(DataError, match=rf"a\.txt\.{compression}: (ends in the middle|not a {compression} file)"):
        text_of(packed[:length], compression)


@compressions
@given(data=st.data())
def test_damaged_content_is_refused(compression, data):
    """A flipped byte of the content never passes."""
    packed = bytearray(PACK[compression](bytes(range(32, 127)) * 3))
    packed[data.draw(st.integers(16, len(packed) - 10))] ^= 0x10
    with pytest.raises(DataError, match=rf"a\.txt\.{compression}: .*; fetch or write it again"):
        text_of(bytes(packed), compression)


def test_skippable_zst_frames_hold_no_text():
    """As parallel compressors write them, with sizes for their own use."""
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00size"
    assert text_of(skippable + PACK["zst"](b"text") + skippable, "zst") == "text"


@compressions
def test_progress_counts_packed_bytes(tmp_path, compression):
    """The pieces together come to the size of the file on disk, which is all that is known beforehand."""
    path = tmp_path / f"a.txt.{compression}"
    path.write_bytes(PACK[compression](random.Random(0).randbytes(500_000).hex().encode()))
    read = pieces_of(path, 1000)
    assert len(read) > 2
    assert sum(piece.source_bytes for piece in read) == path.stat().st_size


@compressions
def test_memory_stays_flat(tmp_path, compression):
    """Reading holds some blocks, not the file."""
    path = tmp_path / f"a.txt.{compression}"
    path.write_bytes(PACK[compression](random.Random(0).randbytes(8_000_000).hex().encode()))
    (unit,) = units(resolve(DataSection(train=str(path))).train[0])
    tracemalloc.start()
    try:
        num_chars = sum(len(piece.text) for piece in read_unit(unit, "text", 100_000))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert num_chars == 16_000_000
    assert peak_bytes < 2_000_000


def test_missing_library_is_named(tmp_path, monkeypatch):
    """Without zstandard the message says how to get it."""
    (tmp_path / "a.zst").write_bytes(PACK["zst"](b"text"))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(DataError, match=r"a\.zst: .* pip install 'plt-tui\[zstd\]'"):
        pieces_of(tmp_path / "a.zst")


def test_packed_file_is_one_unit(tmp_path):
    """Nobody can begin in its middle."""
    file = SourceFile(path=tmp_path / "a.txt.gz", format="text", size=1000, mtime_ns=0, compression="gz")
    assert len(units(Source(name="corpus", files=(file,)), 10)) == 1
