"""Unpacks gz and zst files as a stream: blocks of content, each with the bytes of the file that were read for it.

Knows nothing of text. Several members or frames behind one another are one content, as for `zcat` and `zstdcat`. Invariant: a
file that ends too early or is damaged raises; it never passes for a shorter one.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from types import ModuleType
from typing import BinaryIO

from plt_tui.data.sources import Compression
from plt_tui.errors import DataError

Block = tuple[bytes, int]
"""Content and the bytes of the file that were read for it."""

ZSTD_CHUNK_BYTES = 4 << 10
"""Packed bytes unpacked at once. 4 bytes of zstd may stand for 128 KiB (RFC 8878, 3.1.1.2), so this is at most 128 MiB."""
ZSTD_WINDOW_BYTES = 1 << 31
"""Largest distance of a repetition: what `zstd --long=31` writes, as some public corpora are."""


def unpacked_blocks(file: BinaryIO, compression: Compression, block_bytes: int) -> Iterator[Block]:
    """The content of `file` from where it stands, in blocks of about `block_bytes`.

    Raises: DataError with the name of `file` when it is damaged, ends too early, or needs a library that is not there; OSError.
    """
    try:
        yield from _gz_blocks(file, block_bytes) if compression == "gz" else _zst_blocks(file, block_bytes)
    except EOFError:
        raise DataError(f"{file.name}: ends in the middle of its compressed content; fetch or write it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{file.name}: not a gz file, or a damaged one ({error}); fetch or write it again") from None


def _gz_blocks(file: BinaryIO, block_bytes: int) -> Iterator[Block]:
    with gzip.GzipFile(fileobj=file) as stream:
        before = file.tell()
        while content := stream.read(block_bytes):
            now = file.tell()
            yield content, now - before
            before = now


def _zst_blocks(file: BinaryIO, block_bytes: int) -> Iterator[Block]:
    contents: list[bytes] = []
    num_bytes = source_bytes = 0
    for content, packed_bytes in _zst_chunks(file):
        contents.append(content)
        num_bytes += len(content)
        source_bytes += packed_bytes
        if num_bytes >= block_bytes:
            yield b"".join(contents), source_bytes
            contents, num_bytes, source_bytes = [], 0, 0
    if num_bytes:
        yield b"".join(contents), source_bytes


def _zst_chunks(file: BinaryIO) -> Iterator[Block]:
    """Frame by frame and not by the library's own reader, which takes a truncated file for a complete one."""
    zstandard = _zstandard(file.name)
    context = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
    frame = None
    while packed := file.read(ZSTD_CHUNK_BYTES):
        source_bytes = len(packed)
        while packed:
            frame = context.decompressobj() if frame is None or frame.eof else frame
            try:
                content = frame.decompress(packed)
            except zstandard.ZstdError as error:
                raise DataError(f"{file.name}: not a zst file, or a damaged one ({error}); fetch or write it again") from None
            yield content, source_bytes
            packed, source_bytes = frame.unused_data, 0
    if frame is not None and not frame.eof:
        raise EOFError


def _zstandard(path: str) -> ModuleType:
    try:
        import zstandard
    except ImportError:
        raise DataError(
            f"{path}: reading .zst files takes a library; pip install 'plt-tui[zstd]', or unpack the file"
        ) from None
    return zstandard
