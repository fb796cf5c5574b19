"""A quick look at the data before anything starts: are the files there, readable, and do they begin like text?

Standard library only (and the library that a zst or Parquet file takes), so that a mistyped path ends the command before torch
is imported. Does not read the whole corpus; what this passes can still fail in `prepare`. Plug-ins are not touched: their code
runs when their documents are wanted. Invariant: opens files for reading only, and reads of each about HEAD_BYTES.
"""

from __future__ import annotations

from plt_tui.config.schema import DataSection
from plt_tui.data.corpus import file_pieces
from plt_tui.data.sources import SourceFile, resolve, tokenizer_file
from plt_tui.errors import DataError

HEAD_BYTES = 64 * 1024
HEAD_FILES = 256
"""Files of a corpus that are opened; the others are only looked up."""


def check_corpus(config: DataSection) -> None:
    """Return when the corpora and the tokenizer file that `config` names look usable.

    Raises: DataError with the path, and the byte offset, line or row where there is one.
    """
    for source in resolve(config).all:
        for file in source.files[:HEAD_FILES]:
            _check_head(file, config.text_field)
    tokenizer = tokenizer_file(config)
    if tokenizer is not None:
        _check_tokenizer(tokenizer)


def _check_head(file: SourceFile, text_field: str) -> None:
    match file.format:
        case "text" | "jsonl" | "parquet":
            _read_head(file, text_field)
        case "tokens" | "topics" | "python":
            _check_readable(file)
        case "plugin":
            pass


def _check_tokenizer(file: SourceFile) -> None:
    _check_readable(file)
    try:
        _read_head(file, "")
    except DataError:
        raise DataError(
            f"{file.path}: no text, so no tokenizer.json or *.tiktoken file; set data.tokenizer to the tokenizer.json of the "
            "same vocabulary"
        ) from None


def _read_head(file: SourceFile, text_field: str) -> None:
    seen_bytes = 0
    for piece in file_pieces(file, text_field, HEAD_BYTES):
        seen_bytes += piece.source_bytes
        if seen_bytes >= HEAD_BYTES:
            return


def _check_readable(file: SourceFile) -> None:
    try:
        file.path.open("rb").close()
    except OSError as error:
        raise DataError(f"{file.path}: cannot be read: {error.strerror}") from None
