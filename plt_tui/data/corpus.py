"""Reads text corpora as pieces of about a megabyte, document by document, cut into units of work for any number of workers.

Standard library only, but for what `compressed` and `parquet` import when such a file is read. Text is strict UTF-8; a
byte-order mark is dropped and CR LF becomes LF. Token files and plug-ins are not read here. Invariants: the texts of the pieces
of one document, joined, are that document; the units of a file, read in order, are that file; both wherever they were cut.
"""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from plt_tui.data import parquet
from plt_tui.data.compressed import Block, unpacked_blocks
from plt_tui.data.sources import Source, SourceFile
from plt_tui.errors import DataError

PIECE_BYTES = 1 << 20
"""Bytes read at once: memory stays flat however long a text file is."""
UNIT_BYTES = 8 << 20
"""Size of a unit: seconds of tokenising, so that workers end at about the same time."""
SCAN_BYTES = 64 << 10
"""Bytes read at once in search of a newline."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a document. `source_bytes`: bytes of the file that were read for it, for progress."""

    text: str
    ends_document: bool
    source_bytes: int


@dataclass(frozen=True, slots=True)
class Unit:
    """A part of one file that can be read by itself: from `start` to `stop` in bytes, in a Parquet file in row groups.

    Bytes are meant roughly: the unit begins behind the first newline at or after `start` (unless that is 0) and ends behind the
    first one at or after `stop`. So no line is cut, and units whose ranges touch miss nothing and share nothing. What cannot be
    read from the middle is one unit. A `stop` at or beyond the size of the file is its end.
    """

    file: SourceFile
    start: int
    stop: int

    @property
    def ends_file(self) -> bool:
        """True for the last unit of a file of bytes."""
        return self.stop >= self.file.size


def units(source: Source, unit_bytes: int = UNIT_BYTES) -> list[Unit]:
    """`source` as units in reading order; the same ones whoever reads them. Opens Parquet files, and no others.

    Raises: DataError when a Parquet file cannot be opened.
    """
    return [unit for file in source.files for unit in _file_units(file, unit_bytes)]


def file_pieces(file: SourceFile, text_field: str, block_bytes: int = PIECE_BYTES) -> Iterator[Piece]:
    """The whole text of one file, lazily. Raises: DataError like `read_unit`."""
    return read_unit(Unit(file, 0, file.size), text_field, block_bytes)


def read_unit(unit: Unit, text_field: str, block_bytes: int = PIECE_BYTES) -> Iterator[Piece]:
    """The text of `unit`; `block_bytes`: most bytes read at once where the format allows it.

    A text file is one document, and its last unit ends it, if only with an empty piece.

    Raises: DataError with path and byte offset, line or row for what cannot be read, decoded or parsed.
    """
    file = unit.file
    try:
        match file.format:
            case "text" | "jsonl":
                yield from _read_bytes(unit, text_field, block_bytes)
            case "parquet":
                for text, source_bytes in parquet.column_texts(file.path, unit.start, unit.stop, text_field):
                    yield Piece(_with_plain_newlines(text), ends_document=True, source_bytes=source_bytes)
            case "topics":
                yield from _read_topics()
            case "python":
                yield from _read_python(file.path)
            case "tokens" | "plugin":
                raise AssertionError(f"{file.format} files are not read as text")
    except OSError as error:
        raise _unreadable(file, error) from None


def split(piece: Piece, num_characters: int) -> Iterator[Piece]:
    """`piece` in parts of at most `num_characters`, cut after their last newline when they have one, else anywhere.

    A row or a JSON line is a piece however long it is. The first part counts the bytes of all.
    """
    text, start, source_bytes = piece.text, 0, piece.source_bytes
    while len(text) - start > num_characters:
        cut = text.rfind("\n", start, start + num_characters) + 1 or start + num_characters
        yield Piece(text[start:cut], ends_document=False, source_bytes=source_bytes)
        start, source_bytes = cut, 0
    yield Piece(text[start:], ends_document=piece.ends_document, source_bytes=source_bytes)


def _file_units(file: SourceFile, unit_bytes: int) -> Iterator[Unit]:
    starts: Iterable[int] = (0,)
    if file.format == "parquet":
        try:
            starts = parquet.unit_starts(file.path, unit_bytes)
        except OSError as error:
            raise _unreadable(file, error) from None
    elif file.format in ("text", "jsonl") and not file.compression:
        starts = range(0, max(file.size, 1), unit_bytes)
    for start, stop in pairwise((*starts, file.size)):
        yield Unit(file, start, stop)


def _read_bytes(unit: Unit, text_field: str, block_bytes: int) -> Iterator[Piece]:
    with unit.file.path.open("rb") as file:
        if unit.file.compression:
            begin, blocks = 0, unpacked_blocks(file, unit.file.compression, block_bytes)
        else:
            begin, end = _whole_lines(file, unit)
            blocks = _plain_blocks(file, begin, end, block_bytes)
        if unit.file.format == "jsonl":
            yield from _json_pieces(blocks, begin, unit.file, text_field)
        else:
            yield from _text_pieces(blocks, begin, unit)


def _whole_lines(file: BinaryIO, unit: Unit) -> tuple[int, int | None]:
    """Where the text of `unit` begins and ends in the file; None: at its end."""
    begin = 0 if unit.start == 0 else _behind_newline(file, unit.start, unit.stop)
    if begin is None:
        return unit.stop, unit.stop  # inside of a line, which belongs to an earlier unit
    return begin, None if unit.ends_file else _behind_newline(file, unit.stop, None)


def _behind_newline(file: BinaryIO, position: int, stop: int | None) -> int | None:
    """The place behind the first newline from `position` on; None when there is none before `stop` (None: the end)."""
    file.seek(position)
    while block := file.read(SCAN_BYTES if stop is None else min(SCAN_BYTES, stop - position)):
        found = block.find(b"\n")
        if found >= 0:
            return position + found + 1
        position += len(block)
    return None


def _plain_blocks(file: BinaryIO, begin: int, end: int | None, block_bytes: int) -> Iterator[Block]:
    file.seek(begin)
    while block := file.read(block_bytes if end is None else min(block_bytes, end - begin)):
        yield block, len(block)
        begin += len(block)


def _text_pieces(blocks: Iterable[Block], offset: int, unit: Unit) -> Iterator[Piece]:
    """`offset`: place in the text of the file at which `blocks` begin."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    held, at_start = "", offset == 0
    for block, source_bytes in blocks:
        text = _decoded(decoder, block, unit.file, offset)
        if at_start and text:
            text, at_start = text.removeprefix("\ufeff"), False
        text = held + text
        offset += len(block)
        cut = _safe_cut(text)
        held = text[cut:]
        yield Piece(_with_plain_newlines(text[:cut]), ends_document=False, source_bytes=source_bytes)
    held += _decoded(decoder, b"", unit.file, offset)
    if held or unit.ends_file:
        yield Piece(_with_plain_newlines(held), ends_document=unit.ends_file, source_bytes=0)


def _decoded(decoder: codecs.IncrementalDecoder, block: bytes, file: SourceFile, offset: int) -> str:
    """The text of `block`, which starts at byte `offset`; an empty block is the end."""
    pending, _ = decoder.getstate()
    try:
        return decoder.decode(block, final=not block)
    except UnicodeDecodeError as error:
        raise _undecodable(file, offset - len(pending), error) from None


def _safe_cut(text: str) -> int:
    """Where unfinished text may be cut: after its last newline (words stay whole), else anywhere but inside CR LF."""
    return text.rfind("\n") + 1 or len(text) - text.endswith("\r")


def _json_pieces(blocks: Iterable[Block], begin: int, file: SourceFile, text_field: str) -> Iterator[Piece]:
    offset, unreported_bytes = begin, 0
    for number, (line, source_bytes) in enumerate(_lines(blocks), start=1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise _undecodable(file, offset, error) from None
        text = text.removeprefix("\ufeff") if offset == 0 else text
        offset += len(line) + 1
        unreported_bytes += source_bytes
        if text.strip():
            try:
                value = _field_of(text, text_field)
            except DataError as error:
                raise DataError(f"{file.path}:{_count_newlines(file.path, begin) + number}: {error}") from None
            yield Piece(value, ends_document=True, source_bytes=unreported_bytes)
            unreported_bytes = 0


def _lines(blocks: Iterable[Block]) -> Iterator[tuple[bytes, int]]:
    """The lines in `blocks` without their newlines; the last line that ends in a block comes with the bytes read until then."""
    held: list[bytes] = []
    unreported_bytes = 0
    for block, source_bytes in blocks:
        *lines, rest = block.split(b"\n")
        unreported_bytes += source_bytes
        if lines:
            lines[0] = b"".join((*held, lines[0]))
            held = []
            last = lines.pop()
            yield from ((line, 0) for line in lines)
            yield last, unreported_bytes
            unreported_bytes = 0
        held.append(rest)
    if any(held):
        yield b"".join(held), unreported_bytes


def _count_newlines(path: Path, stop: int) -> int:
    """Newlines in the first `stop` bytes: nobody counts lines before something is wrong with one."""
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block, _ in _plain_blocks(file, 0, stop, PIECE_BYTES))


def _field_of(line: str, text_field: str) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not valid JSON ({error}); mend or remove the line") from None
    if not isinstance(row, dict):
        raise DataError(f"a JSON line must be an object with the field {text_field!r}, not {type(row).__name__}")
    if text_field not in row:
        known = ", ".join(map(repr, row)) or "none"
        raise DataError(f"no field {text_field!r}; fields here: {known}; set data.text_field")
    value = row[text_field]
    if not isinstance(value, str):
        raise DataError(f"field {text_field!r} must be text, not {type(value).__name__}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"field {text_field!r} holds half a surrogate pair at character {error.start}") from None
    return _with_plain_newlines(value)


def _read_topics() -> Iterator[Piece]:
    from pydoc_data.topics import topics  # 0.5 MB of literals: only for who asks for it

    for _, text in sorted(topics.items()):
        yield Piece(text, ends_document=True, source_bytes=len(text))


def _read_python(path: Path) -> Iterator[Piece]:
    content = path.read_bytes()
    try:
        text = content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError:
        return  # the standard library carries files in other encodings on purpose, as fixtures
    yield Piece(_with_plain_newlines(text), ends_document=True, source_bytes=len(content))


def _with_plain_newlines(text: str) -> str:
    return text.replace("\r\n", "\n")


def _undecodable(file: SourceFile, start: int, error: UnicodeDecodeError) -> DataError:
    """`start`: byte offset in the unpacked file of the bytes that `error` is about."""
    utf16 = start + error.start == 0 and error.object[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    seen = "the file looks like UTF-16" if utf16 else f"0x{error.object[error.start]:02x}, {error.reason}"
    place = f"byte {start + error.start}{' of the unpacked text' if file.compression else ''}"
    return DataError(f"{file.path}: not UTF-8 at {place} ({seen}); convert the file, for example with iconv, or leave it out")


def _unreadable(file: SourceFile, error: OSError) -> DataError:
    reason = os.strerror(error.errno) if error.errno else str(error)  # pyarrow puts a sentence of its own into strerror
    return DataError(f"{file.path}: cannot be read: {reason}")
