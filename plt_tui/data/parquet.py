"""Reads one text column of a Parquet file, row by row, in runs of row groups.

Needs pyarrow, an extra that is imported when a Parquet file is opened and not before. A null is a row without a document.
Invariant: memory holds pages of one row group, never a whole file.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from plt_tui.errors import DataError

if TYPE_CHECKING:
    from pyarrow import StringScalar
    from pyarrow.parquet import ParquetFile

BATCH_ROWS = 256
"""Rows decoded at once."""
BUFFER_BYTES = 1 << 20
"""Read from the file at once, instead of a row group's whole column."""


def unit_starts(path: Path, unit_bytes: int) -> list[int]:
    """Row groups at which to cut the file into runs of at least `unit_bytes` unpacked bytes; the last run may be smaller.

    Raises: DataError when the file is damaged or pyarrow is missing; OSError.
    """
    starts, run_bytes = [0], 0
    with _opened(path) as file:
        for group in range(file.num_row_groups):
            if run_bytes >= unit_bytes:
                starts.append(group)
                run_bytes = 0
            run_bytes += file.metadata.row_group(group).total_byte_size
    return starts


def column_texts(path: Path, start: int, stop: int, column: str) -> Iterator[tuple[str, int]]:
    """The texts of `column` in the row groups from `start` up to `stop` or the last one.

    With each comes its row's share of the file in bytes; all rows together make up the whole file.

    Raises: DataError when there is no such column of strings, when a text is not UTF-8, when the file is damaged or pyarrow is
    missing; OSError.
    """
    with _opened(path) as file:
        _require_strings(file, path, column)
        size, num_rows = path.stat().st_size, file.metadata.num_rows
        rows_before = sum(file.metadata.row_group(group).num_rows for group in range(start))
        for row, value in enumerate(_values(file, start, stop, column), start=rows_before + 1):
            try:
                text = value.as_py()
            except UnicodeDecodeError as error:
                raise DataError(f"{path}: row {row}: {column!r} is not UTF-8 at its byte {error.start}") from None
            if text is not None:
                yield text, size * row // num_rows - size * (row - 1) // num_rows


def _values(file: ParquetFile, start: int, stop: int, column: str) -> Iterator[StringScalar]:
    for group in range(start, min(stop, file.num_row_groups)):
        for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=[column], use_threads=False):
            yield from batch.column(0)


def _require_strings(file: ParquetFile, path: Path, column: str) -> None:
    from pyarrow import types

    schema = file.schema_arrow
    if column not in schema.names:
        known = ", ".join(map(repr, schema.names)) or "none"
        raise DataError(f"{path}: no column {column!r}; columns here: {known}; set data.text_field")
    found = schema.field(column).type
    values = found.value_type if types.is_dictionary(found) else found
    if not (types.is_string(values) or types.is_large_string(values) or types.is_string_view(values)):
        raise DataError(f"{path}: column {column!r} must hold strings, not {found}; set data.text_field to a column that does")


@contextmanager
def _opened(path: Path) -> Iterator[ParquetFile]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DataError(f"{path}: reading Parquet takes a library; pip install 'plt-tui[parquet]'") from None
    try:
        with ParquetFile(path, buffer_size=BUFFER_BYTES) as file:
            yield file
    except (ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno in errno.errorcode:
            raise
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: not a Parquet file, or a damaged one ({reason}); fetch or write it again") from None
