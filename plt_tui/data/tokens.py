"""Token ids on disk: flat files of little-endian uint16 or uint32, written once and mapped into memory by every rank.

Knows no text and no cache. Invariant: a `TokenFile` describes ids that were all checked against the vocabulary, and its hash is
over exactly the bytes that `open_tokens` maps.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from plt_tui.data.sources import Source, SourceFile, require_ids_fit
from plt_tui.data.tokenizer import TokenArray
from plt_tui.errors import DataError

BLOCK_TOKENS = 1 << 20
"""Ids handled at once: memory stays flat however long a file is."""
MAPPED_DTYPES = ("<u2", "<u4")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFile:
    """`count` ids of type `dtype`, from byte `offset` of `path` on; a relative path lies in the cache entry."""

    path: str
    dtype: str
    offset: int
    count: int
    sha256: str

    @property
    def num_bytes(self) -> int:
        """Bytes of the ids."""
        return self.count * np.dtype(self.dtype).itemsize


def dtype_for(vocab_size: int) -> str:
    """The smallest type that holds ids below `vocab_size`."""
    return "<u2" if vocab_size <= 1 << 16 else "<u4"


def open_tokens(file: TokenFile, folder: Path) -> TokenArray:
    """The ids as a read-only memory map (T,), T >= 1; nothing is read yet."""
    return np.memmap(folder / file.path, dtype=file.dtype, mode="r", offset=file.offset, shape=(file.count,))


def write_tokens(path: Path, dtype: str, blocks: Iterable[TokenArray]) -> TokenFile:
    """Write `blocks` one after another to `path` and sync it. Raises: OSError."""
    digest, count = hashlib.sha256(), 0
    with path.open("wb") as file:
        for block in blocks:
            content = block.astype(dtype).tobytes()
            digest.update(content)
            file.write(content)
            count += len(block)
        file.flush()
        os.fsync(file.fileno())
    return TokenFile(path=path.name, dtype=dtype, offset=0, count=count, sha256=digest.hexdigest())


def adopt_tokens(
    source: Source, token_dtype: str, vocab_size: int, copy_to: Path, on_bytes: Callable[[int], None]
) -> TokenFile:
    """The ids of token files, checked: one file of a mappable type stays where it is, others are joined in `copy_to`.

    `on_bytes`: told the bytes checked so far, every few megabytes.

    Raises: DataError for an id that is not below `vocab_size`, for a file that is no flat array of ids, and for a `token_dtype`
    too small for `vocab_size`; OSError.
    """
    arrays = [(file, _map_source(file, token_dtype, vocab_size)) for file in source.files if file.size]
    checked = (block for file, array in arrays for block in _checked_blocks(file, array, vocab_size))
    blocks = _counted(checked, on_bytes)
    file, array = arrays[0]
    if len(arrays) > 1 or array.dtype.str not in MAPPED_DTYPES:
        return write_tokens(copy_to, dtype_for(vocab_size), blocks)
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block.tobytes())
    return TokenFile(
        path=str(file.path.absolute()),
        dtype=array.dtype.str,
        offset=array.offset,
        count=len(array),
        sha256=digest.hexdigest(),
    )


def blocks_of(tokens: TokenArray) -> Iterator[TokenArray]:
    """`tokens` in order, at most BLOCK_TOKENS at once."""
    for start in range(0, len(tokens), BLOCK_TOKENS):
        yield tokens[start : start + BLOCK_TOKENS]


def _map_source(
    file: SourceFile, token_dtype: str, vocab_size: int
) -> np.memmap[tuple[int], np.dtype[np.unsignedinteger[Any]]]:
    try:
        if file.path.suffix.lower() != ".npy":
            require_ids_fit(file.path, token_dtype, vocab_size)
            return np.memmap(file.path, dtype=np.dtype(token_dtype).newbyteorder("<"), mode="r")
        array: np.memmap[tuple[int], Any] = np.lib.format.open_memmap(file.path, mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{file.path}: cannot be read as token ids: {error}") from None
    if array.ndim != 1 or array.dtype.kind not in "iu" or not array.size:
        raise DataError(f"{file.path}: need one row of integers, not shape {array.shape} of {array.dtype}; save it flat")
    return array


def _counted(blocks: Iterable[TokenArray], on_bytes: Callable[[int], None]) -> Iterator[TokenArray]:
    done = 0
    for block in blocks:
        yield block
        done += block.nbytes
        on_bytes(done)


def _checked_blocks(file: SourceFile, array: TokenArray, vocab_size: int) -> Iterator[TokenArray]:
    for number, block in enumerate(blocks_of(array)):
        outside = (block < 0) | (block >= vocab_size)
        if outside.any():
            index = int(np.argmax(outside))
            raise DataError(
                f"{file.path}: token id {block[index]} at index {number * BLOCK_TOKENS + index} is outside the vocabulary of "
                f"{vocab_size}; set data.vocab_size and data.token_dtype to those of the tokenizer that wrote the file"
            )
        yield block
