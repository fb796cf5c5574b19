"""Tokenises a text corpus with all cores: each part of it into a file of its own, a shard, then all joined in order.

Threads do the work, not processes: a rank has torch in memory and may be killed at any time, and the tokenizers, hashing and
files leave Python's lock alone (measured on 2 cores: BPE at 5.1 instead of 2.6 MB/s with two threads). A finished shard is a
file `<corpus>-00007.bin` and beside it, written last, what joining needs to know of it; so a killed preparation goes on behind
its finished shards. A compressed file is one shard, whatever its size. A thread holds a piece of text at a time. Invariant:
the joined tokens do not depend on the number of workers or on interruptions; end-of-text stands between documents that have
any tokens, and nowhere else.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np

from plt_tui.data.corpus import UNIT_BYTES, Piece, Unit, read_unit, split
from plt_tui.data.progress import INTERVAL_S, Meter
from plt_tui.data.tokenizer import TokenArray, Tokenizer
from plt_tui.data.tokens import TokenFile, dtype_for
from plt_tui.errors import DataError

Work = Callable[[], Iterable[Piece]]
"""Gives the pieces of one shard; called by a worker."""

SHARD_BYTES = UNIT_BYTES
"""Text of a shard: what a kill can cost each worker."""
PIECE_BYTES = 128 << 10
"""Text read and encoded at once. BPE takes about 200 bytes of memory for each (measured: 0.46 GB for two pieces of 1 MiB)."""
LONGEST_PART = 2 * PIECE_BYTES
"""Characters encoded at once, of a document that comes whole, such as a JSON line; what is read from a text file is shorter."""
MAX_WORKERS = 16
READ_BYTES = 4 << 20
_WENT_AWAY = "tokens that an interrupted preparation left are damaged and are removed now; start again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """What joining needs to know of a shard: `count` ids of which the hash is `sha256`, and how documents lie in it."""

    count: int
    sha256: str
    source_bytes: int
    ends_before: bool
    """A document ends before the first id."""
    is_open: bool
    """The document of the last id goes on behind the shard."""
    has_text: bool
    """Not everything is white space, or zero bytes, as a copy leaves them that a power failure cut off."""


def num_workers() -> int:
    """Threads to tokenise with: one for each core that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_WORKERS)


def unit_works(units: Sequence[Unit], text_field: str) -> Iterator[Work]:
    """One work for about SHARD_BYTES of `units` in order: small files share one."""
    group: list[Unit] = []
    num_bytes = 0
    for unit in units:
        group.append(unit)
        num_bytes += nominal_bytes(unit)
        if num_bytes >= SHARD_BYTES:
            yield _reading(group, text_field)
            group, num_bytes = [], 0
    if group:
        yield _reading(group, text_field)


def piece_works(pieces: Iterable[Piece]) -> Iterator[Work]:
    """One work for about a megabyte of `pieces`, which are read here and now."""
    group: list[Piece] = []
    num_characters = 0
    for piece in pieces:
        group.append(piece)
        num_characters += len(piece.text)
        if num_characters >= 1 << 20:
            yield group.copy
            group, num_characters = [], 0
    if group:
        yield group.copy


def discard(target: Path) -> None:
    """Forget the shards of `target`, because what they were made of cannot be known to be the same."""
    for path in (target, *target.parent.glob(f"shards/{target.stem}-*")):
        path.unlink(missing_ok=True)


def nominal_bytes(unit: Unit) -> int:
    """About the bytes of `unit`; a Parquet unit, which counts row groups, is cut to this size."""
    return UNIT_BYTES if unit.file.format == "parquet" else unit.stop - unit.start


def tokenise(works: Iterable[Work], tokenizer: Tokenizer, target: Path, name: str, meter: Meter) -> TokenFile:
    """Tokenise `works` into the file `target`; shards that an earlier call has finished there are not made again.

    Shards lie in the folder `shards` beside `target`; what is known of them stays there, so that a later call finds `target`
    complete. At most two works for each worker are taken from `works` at once. `name`: of the corpus, for messages.

    Raises: DataError when a text cannot be read or encoded, or none of them holds text; OSError.
    """
    shelf = _Shelf(target)
    shelf.path(0).parent.mkdir(exist_ok=True)
    workers, stop = num_workers(), threading.Event()
    running: dict[Future[Shard], int] = {}
    with _Joiner(shelf, tokenizer) as joiner, ThreadPoolExecutor(workers, thread_name_prefix="tokenise") as pool:
        try:
            for number, work in enumerate(works):
                known = shelf.finished(number)
                if known is None:
                    running[pool.submit(_make, work, tokenizer, shelf.path(number), name, meter, stop)] = number
                else:
                    meter.add(known.source_bytes)
                    joiner.offer(number, known)
                meter.tell()
                while len(running) >= 2 * workers:
                    _collect(running, joiner, meter)
            while running:
                _collect(running, joiner, meter)
        finally:
            stop.set()
            for future in running:
                future.cancel()
        return joiner.finish(name)


@dataclass(frozen=True, slots=True)
class _Shelf:
    """Where the shards of `target` lie."""

    target: Path

    def path(self, number: int) -> Path:
        return self.target.parent / "shards" / f"{self.target.stem}-{number:05d}.bin"

    def finished(self, number: int) -> Shard | None:
        """What is known of a shard that is whole, or joined already; None when it must be made."""
        path = self.path(number)
        try:
            shard = Shard(**json.loads(path.with_suffix(".json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        if not path.exists():
            return shard  # `_Joiner` has removed it, when it was in the target
        return shard if _hash_of(path) == shard.sha256 else None


def _reading(units: Sequence[Unit], text_field: str) -> Work:
    return lambda: (piece for unit in units for piece in read_unit(unit, text_field, PIECE_BYTES))


def _collect(running: dict[Future[Shard], int], joiner: _Joiner, meter: Meter) -> None:
    """Hand what is finished to `joiner`; wait a moment when nothing is. Raises: what a worker raised."""
    done, _ = wait(running, timeout=INTERVAL_S, return_when=FIRST_COMPLETED)
    for future in sorted(done, key=running.__getitem__):
        joiner.offer(running.pop(future), future.result())
        meter.tell()
    meter.tell()


class _Stopped(Exception):
    """Another worker failed, or the caller gave up."""


def _make(work: Work, tokenizer: Tokenizer, path: Path, name: str, meter: Meter, stop: threading.Event) -> Shard:
    """Write one shard to `path`, then what is known of it. In a worker."""
    encoder, dtype, digest = _Encoder(tokenizer, name), dtype_for(tokenizer.vocab_size), hashlib.sha256()
    with path.open("wb") as file:
        for piece in chain.from_iterable(split(whole, LONGEST_PART) for whole in work()):
            if stop.is_set():
                raise _Stopped
            for ids in encoder.encode(piece):
                content = ids.astype(dtype).tobytes()
                digest.update(content)
                file.write(content)
            meter.add(piece.source_bytes)
    shard = encoder.shard(digest.hexdigest())
    record = path.with_suffix(".json")
    stage = record.with_suffix(".partial")
    stage.write_text(json.dumps(asdict(shard)), encoding="ascii")
    stage.rename(record)
    return shard


class _Encoder:
    """Turns the pieces of a shard into ids, and remembers how documents lie in it."""

    def __init__(self, tokenizer: Tokenizer, name: str) -> None:
        self._tokenizer, self._name = tokenizer, name
        self._separator = _separator(tokenizer)
        self._in_document = self._between_documents = self._ends_before = self._has_text = False
        self._count = self._source_bytes = 0

    def encode(self, piece: Piece) -> Iterator[TokenArray]:
        """The ids of `piece`, behind end-of-text when an earlier document of the shard has ended."""
        try:
            ids = self._tokenizer.encode(piece.text)
        except DataError as error:
            raise DataError(f"{self._name}: {error}") from None
        self._source_bytes += piece.source_bytes
        self._has_text = self._has_text or bool(piece.text.replace("\0", " ").strip())
        if len(ids):
            if self._between_documents:
                self._count += len(self._separator)
                yield self._separator
            self._count += len(ids)
            yield ids
            self._in_document, self._between_documents = True, False
        if piece.ends_document:
            if self._in_document:
                self._in_document, self._between_documents = False, True
            elif not self._between_documents:
                self._ends_before = True

    def shard(self, sha256: str) -> Shard:
        """What is known of the shard now that all is encoded. `sha256`: of the ids as they were written."""
        return Shard(
            count=self._count,
            sha256=sha256,
            source_bytes=self._source_bytes,
            ends_before=self._ends_before,
            is_open=self._in_document,
            has_text=self._has_text,
        )


class _Joiner:
    """Appends shards to the target in their order, and removes each when it is there.

    A shard that is known but has no file was appended by an earlier call, which was killed: it is read again, for the hash of
    everything and to be sure of it. So nothing needs to be synced before the end.
    """

    def __init__(self, shelf: _Shelf, tokenizer: Tokenizer) -> None:
        self._shelf = shelf
        self._dtype = np.dtype(dtype_for(tokenizer.vocab_size))
        self._separator = _separator(tokenizer).astype(self._dtype).tobytes()
        self._digest = hashlib.sha256()
        self._waiting: dict[int, Shard] = {}
        self._next = 0
        self._in_document = self._between_documents = self._has_text = False

    def __enter__(self) -> _Joiner:
        self._shelf.target.touch()
        self._target = self._shelf.target.open("r+b")
        return self

    def __exit__(self, *_: object) -> None:
        self._target.close()

    def offer(self, number: int, shard: Shard) -> None:
        """Append shard `number`, and those that waited for it, unless an earlier one is missing. Raises: OSError."""
        self._waiting[number] = shard
        while self._next in self._waiting:
            self._append(self._shelf.path(self._next), self._waiting.pop(self._next))
            self._next += 1

    def finish(self, name: str) -> TokenFile:
        """What was joined. Raises: DataError when there was no text in it."""
        if not self._has_text:
            raise DataError(f"{name}: holds nothing but white space or zero bytes; give some text")
        num_bytes = self._target.tell()
        self._target.truncate()
        self._target.flush()
        os.fsync(self._target.fileno())
        return TokenFile(
            path=self._shelf.target.name,
            dtype=self._dtype.str,
            offset=0,
            count=num_bytes // self._dtype.itemsize,
            sha256=self._digest.hexdigest(),
        )

    def _append(self, path: Path, shard: Shard) -> None:
        before = self._separator if self._is_separated(shard) else b""
        num_bytes = shard.count * self._dtype.itemsize
        if not path.exists():
            own_digest = hashlib.sha256()
            self._digest.update(self._target.read(len(before)))
            for content in _read(self._target, num_bytes):
                self._digest.update(content)
                own_digest.update(content)
            if own_digest.hexdigest() != shard.sha256:
                raise DataError(f"{self._target.name}: {_WENT_AWAY}")
            return
        with path.open("rb") as source:
            for content in chain((before,), _read(source, num_bytes)):
                self._digest.update(content)
                self._target.write(content)
        self._target.flush()  # a kill must find the ids in one of the two files
        path.unlink()

    def _is_separated(self, shard: Shard) -> bool:
        """Whether end-of-text stands before the ids of the next shard."""
        self._has_text = self._has_text or shard.has_text
        if self._in_document and shard.ends_before:
            self._in_document, self._between_documents = False, True
        is_separated = self._between_documents and shard.count > 0
        if shard.count:
            self._in_document, self._between_documents = shard.is_open, not shard.is_open
        return is_separated


def _read(file: BinaryIO, num_bytes: int) -> Iterator[bytes]:
    """The next `num_bytes` of `file`, some megabytes at once. Raises: DataError when there are fewer."""
    while num_bytes:
        content = file.read(min(num_bytes, READ_BYTES))
        if not content:
            raise DataError(f"{file.name}: {_WENT_AWAY}")
        yield content
        num_bytes -= len(content)


def _hash_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for content in _read(file, path.stat().st_size):
            digest.update(content)
    return digest.hexdigest()


def _separator(tokenizer: Tokenizer) -> TokenArray:
    """End-of-text as an array; empty when the tokenizer has none."""
    return np.array([] if tokenizer.end_of_text is None else [tokenizer.end_of_text], dtype=np.uint32)
