"""Reads a text corpus as pieces of at most about a megabyte, document by document.

Standard library only. Text is strict UTF-8; a byte-order mark is dropped and CR LF becomes LF. Token files are not text:
`tokens` reads them. Invariant: the texts of the pieces of one document, joined, are that document, wherever it was cut.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from plt_tui.data.sources import Source, SourceFile
from plt_tui.errors import DataError

PIECE_BYTES = 1 << 20
"""Bytes read at once: memory stays flat however long a document is."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a document. `source_bytes`: bytes of the file that were read for it, for progress."""

    text: str
    ends_document: bool
    source_bytes: int


def pieces(source: Source, text_field: str) -> Iterator[Piece]:
    """The text of `source` in reading order.

    Raises: DataError with path and byte offset or line for what cannot be read, decoded or parsed.
    """
    for file in source.files:
        yield from file_pieces(file, text_field)


def file_pieces(file: SourceFile, text_field: str, block_bytes: int = PIECE_BYTES) -> Iterator[Piece]:
    """The text of one file; `block_bytes`: most bytes read at once where the format allows it. Raises: DataError."""
    try:
        match file.format:
            case "text":
                yield from _read_text(file.path, block_bytes)
            case "jsonl":
                yield from _read_jsonl(file.path, text_field)
            case "topics":
                yield from _read_topics()
            case "python":
                yield from _read_python(file.path)
            case "tokens":
                raise AssertionError("token files hold no text")
    except OSError as error:
        raise DataError(f"{file.path}: cannot be read: {error.strerror}") from None


def _read_text(path: Path, block_bytes: int) -> Iterator[Piece]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        offset = len(codecs.BOM_UTF8) if file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8 else 0
        file.seek(offset)
        held = ""
        while block := file.read(block_bytes):
            text = held + _decoded(decoder, block, path, offset)
            offset += len(block)
            cut = _safe_cut(text)
            held = text[cut:]
            yield Piece(_with_plain_newlines(text[:cut]), ends_document=False, source_bytes=len(block))
        held += _decoded(decoder, b"", path, offset)
        yield Piece(_with_plain_newlines(held), ends_document=True, source_bytes=0)


def _decoded(decoder: codecs.IncrementalDecoder, block: bytes, path: Path, offset: int) -> str:
    """The text of `block`, which starts at byte `offset`; an empty block is the end of the file."""
    pending, _ = decoder.getstate()
    try:
        return decoder.decode(block, final=not block)
    except UnicodeDecodeError as error:
        raise _undecodable(path, offset - len(pending), error) from None


def _safe_cut(text: str) -> int:
    """Where unfinished text may be cut: after its last newline (words stay whole), else anywhere but inside CR LF."""
    return text.rfind("\n") + 1 or len(text) - text.endswith("\r")


def _read_jsonl(path: Path, text_field: str) -> Iterator[Piece]:
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise _undecodable(path, offset, error) from None
            text = text.removeprefix("\ufeff") if offset == 0 else text
            offset += len(line)
            if text.strip():
                yield Piece(_field_of(text, text_field, f"{path}:{number}"), ends_document=True, source_bytes=len(line))


def _field_of(line: str, text_field: str, place: str) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: not valid JSON ({error}); mend or remove the line") from None
    if not isinstance(row, dict):
        raise DataError(f"{place}: a JSON line must be an object with the field {text_field!r}, not {type(row).__name__}")
    if text_field not in row:
        known = ", ".join(map(repr, row)) or "none"
        raise DataError(f"{place}: no field {text_field!r}; fields here: {known}; set data.text_field")
    value = row[text_field]
    if not isinstance(value, str):
        raise DataError(f"{place}: field {text_field!r} must be text, not {type(value).__name__}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{place}: field {text_field!r} holds half a surrogate pair at character {error.start}") from None
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


def _undecodable(path: Path, start: int, error: UnicodeDecodeError) -> DataError:
    """`start`: byte offset in the file of the bytes that `error` is about."""
    utf16 = start + error.start == 0 and error.object[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    seen = "the file looks like UTF-16" if utf16 else f"0x{error.object[error.start]:02x}, {error.reason}"
    return DataError(
        f"{path}: not UTF-8 at byte {start + error.start} ({seen}); convert the file, for example with iconv, or leave it out"
    )
