"""The tokenizer that `[data]` names: loaded from its file, or made from the training corpora.

Invariant: the same corpora give the same tokenizer, whatever the machine.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import chain

from plt_tui.config.schema import DataSection
from plt_tui.data.corpus import Piece, read_unit, split, units
from plt_tui.data.plugin import documents, is_plugin
from plt_tui.data.progress import INTERVAL_S, Meter, Report
from plt_tui.data.shards import LONGEST_PART, nominal_bytes
from plt_tui.data.sources import Corpora, Source, tokenizer_file
from plt_tui.data.tokenizer import ByteTokenizer, IdTokenizer, Tokenizer, load_file, train_bpe, train_char
from plt_tui.errors import DataError
from plt_tui.plugins import Plugins

BPE_CHARACTERS = 256 << 20
"""Most text that a vocabulary is learned from, which bounds the time (some minutes) and memory of learning; more of the same
kind hardly changes which pairs are frequent. `char` reads everything, because a character it has not seen cannot be
written."""

PIECE_BYTES = 8 << 10
"""Text read at once. The library takes in 256 of them before it counts words: few bytes are little memory and steady
progress."""


def make_tokenizer(config: DataSection, corpora: Corpora, plugins: Plugins, report: Report) -> Tokenizer:
    """The tokenizer of a dataset. Raises: DataError when its file or the corpora cannot be used."""
    file = tokenizer_file(config)
    if file is not None:
        return load_file(file.path)
    if corpora.train[0].holds_tokens:
        if config.tokenizer != "byte":
            raise DataError(
                f"data.tokenizer: {config.tokenizer} is made from text, but {corpora.train[0].name} holds token ids; "
                "give the path of the tokenizer.json that made them, or leave the key out"
            )
        return IdTokenizer(config.vocab_size)
    if config.tokenizer == "byte":
        return ByteTokenizer()
    return _learned(config, corpora, plugins, report)


def _learned(config: DataSection, corpora: Corpora, plugins: Plugins, report: Report) -> Tokenizer:
    """The vocabulary of the training corpora, made by a thread of its own, so that the caller's can report."""
    limit = BPE_CHARACTERS // len(corpora.train) if config.tokenizer == "bpe" else 0
    meter = Meter("building the vocabulary", _expected_bytes(corpora, limit), report)
    stop = threading.Event()
    texts = _texts(config, corpora, plugins, limit, meter, stop)

    def learn() -> Tokenizer:
        return train_char(texts) if config.tokenizer == "char" else train_bpe(texts, config.vocab_size)

    with ThreadPoolExecutor(1, thread_name_prefix="vocabulary") as pool:
        try:
            learning = pool.submit(learn)
            while not wait([learning], timeout=INTERVAL_S).done:
                meter.tell()
        finally:
            stop.set()
    tokenizer = learning.result()
    meter.finish()
    return tokenizer


def spread(source: Source, text_field: str, limit: int) -> Iterator[Piece]:
    """Pieces of `source` of about `limit` characters, taken evenly from all its units. Raises: DataError like `read_unit`."""
    cut = units(source)
    total = sum(map(nominal_bytes, cut))
    passed = taken = 0
    for unit in cut:
        passed += nominal_bytes(unit)
        allowed = limit * passed // total
        if taken < allowed:
            for piece in read_unit(unit, text_field, PIECE_BYTES):
                yield piece
                taken += len(piece.text)
                if taken >= allowed:
                    break


def _texts(
    config: DataSection, corpora: Corpora, plugins: Plugins, limit: int, meter: Meter, stop: threading.Event
) -> Iterator[str]:
    """The text to learn from; `limit`: most characters of each corpus, 0: all. Ends early when `stop` is set."""
    for spec, source in zip(config.corpora, corpora.train, strict=True):
        if is_plugin(source):
            read: Iterable[Piece] = _first(documents(spec, plugins), limit)
        elif limit:
            read = spread(source, config.text_field, limit)
        else:
            read = (piece for unit in units(source) for piece in read_unit(unit, config.text_field, PIECE_BYTES))
        for piece in chain.from_iterable(split(whole, LONGEST_PART) for whole in read):
            if stop.is_set():
                return
            yield piece.text
            meter.add(piece.source_bytes)


def _first(pieces: Iterable[Piece], limit: int) -> Iterator[Piece]:
    taken = 0
    for piece in pieces:
        yield piece
        taken += len(piece.text)
        if limit and taken >= limit:
            return


def _expected_bytes(corpora: Corpora, limit: int) -> int:
    """Bytes that will be read, about; 0 when a plug-in gives them."""
    if any(is_plugin(source) for source in corpora.train):
        return 0
    return sum(min(source.size, limit or source.size) for source in corpora.train)


def vocab_size_ahead(config: DataSection, corpora: Corpora) -> int | None:
    """Size of the vocabulary before any corpus is read: for `bpe` the most it can be, None where only the text tells (`char`).

    Raises: DataError when the tokenizer's file cannot be used.
    """
    file = tokenizer_file(config)
    if file is not None:
        return load_file(file.path).vocab_size
    if corpora.train[0].holds_tokens or config.tokenizer == "bpe":
        return config.vocab_size
    return ByteTokenizer.vocab_size if config.tokenizer == "byte" else None
