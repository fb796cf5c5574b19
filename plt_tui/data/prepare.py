"""From `[data]` to token arrays: the one door of this package for whoever trains, evaluates or inspects.

Resolves the corpora, makes the tokenizer, writes the tokens to the cache or finds them there, and splits off the held-out part.
Any number of processes may call `prepare` with the same config at once: one works, the others wait and share its files.
Invariant: two datasets with the same fingerprint hold the same tokens, split at the same place, of the same tokenizer.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np

from plt_tui.config.schema import DataSection
from plt_tui.data import cache
from plt_tui.data.corpus import Piece, pieces
from plt_tui.data.sources import Source, SourceFile, resolve, tokenizer_file
from plt_tui.data.tokenizer import (
    ByteTokenizer,
    IdTokenizer,
    TokenArray,
    Tokenizer,
    load_file,
    train_bpe,
    train_char,
)
from plt_tui.data.tokens import TokenFile, adopt_tokens, blocks_of, dtype_for, open_tokens, write_tokens
from plt_tui.errors import DataError

Report = Callable[[str, float, float, str], None]
"""Called with task, done, total and unit; only in the process that does the work."""

REPORT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """Tokens to train on and tokens held out. Both arrays are read-only memory maps of uint16 or uint32, (T,)."""

    train: TokenArray
    eval: TokenArray
    tokenizer: Tokenizer
    fingerprint: str
    """sha256 in hex over all tokens, the place of the split and the tokenizer: names the data wherever the files lie."""
    bytes_per_token: float
    """Bytes of UTF-8 per held-out token, end-of-text counted as a token without bytes; NaN when the ids have no known text."""


def prepare(config: DataSection, *, cache_dir: Path | None = None, on_progress: Report | None = None) -> Dataset:
    """The dataset that `config` describes, from the cache when nothing changed since it was prepared. Any rank, any process.

    `cache_dir`: instead of `cache.default_cache_dir()`.

    Raises: DataError when a corpus or tokenizer is missing, unusable, too short for `config.context`, or changes while it is
    read, and when the cache cannot be written.
    """
    train, held_out = resolve(config)
    root = cache.default_cache_dir() if cache_dir is None else cache_dir
    folder = root.absolute() / "tokens" / _cache_key(config, train, held_out)
    entry = cache.load(folder)
    if entry is None:
        try:
            with cache.exclusive(folder):
                entry = cache.load(folder) or _build(config, (train, held_out), folder, on_progress or _no_report)
        except OSError as error:
            raise DataError(
                f"cannot keep prepared tokens in {root}: {error.strerror}; "
                "set PLT_TUI_CACHE to a folder with space where you may write"
            ) from error
    _require_length(config, entry.num_train, entry.num_eval)
    return _open(entry, folder)


def _build(config: DataSection, sources: tuple[Source, Source | None], folder: Path, report: Report) -> cache.Entry:
    """Prepare the tokens and publish them as the entry `folder`, whose lock the caller holds."""
    train, held_out = sources
    with cache.staging(folder) as stage:
        tokenizer = _make_tokenizer(config, train, report)

        def tokens_of(source: Source, name: str) -> TokenFile:
            if source.holds_tokens:
                watch = partial(_report_checked, report, source.size)
                return adopt_tokens(source, config.token_dtype, tokenizer.vocab_size, stage / name, watch)
            return _tokenize(source, tokenizer, config.text_field, stage / name, report)

        train_file = tokens_of(train, "train.bin")
        eval_file = None if held_out is None else tokens_of(held_out, "eval.bin")
        if resolve(config) != sources:
            raise DataError(f"{train.name}: a file changed while it was read; start again once it is complete")
        entry = _entry(config, tokenizer, train_file, eval_file, stage)
        cache.publish(stage, folder, entry, note={"train_corpus": config.train, "eval_corpus": config.eval})
    return entry


def _entry(config: DataSection, tokenizer: Tokenizer, train: TokenFile, held_out: TokenFile | None, stage: Path) -> cache.Entry:
    """Split and measure what was written to `stage`. Raises: DataError when a part is too short."""
    num_train = train.count - int(train.count * config.eval_fraction) if held_out is None else train.count
    num_eval = train.count - num_train if held_out is None else held_out.count
    _require_length(config, num_train, num_eval)
    eval_tokens = open_tokens(train, stage)[num_train:] if held_out is None else open_tokens(held_out, stage)
    eval_hash = "" if held_out is None else held_out.sha256
    identity = [train.sha256, eval_hash, num_train, tokenizer.to_json()]
    return cache.Entry(
        train=train,
        eval=held_out,
        num_train=num_train,
        bytes_per_token=_bytes_per_token(eval_tokens, tokenizer),
        fingerprint=hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest(),
        tokenizer=tokenizer,
    )


def _open(entry: cache.Entry, folder: Path) -> Dataset:
    try:
        tokens = open_tokens(entry.train, folder)
        held_out = tokens[entry.num_train :] if entry.eval is None else open_tokens(entry.eval, folder)
    except OSError as error:
        raise DataError(
            f"{error.filename}: prepared tokens went away while they were opened ({error.strerror}); start again"
        ) from None
    return Dataset(
        train=tokens[: entry.num_train],
        eval=held_out,
        tokenizer=entry.tokenizer,
        fingerprint=entry.fingerprint,
        bytes_per_token=math.nan if entry.bytes_per_token is None else entry.bytes_per_token,
    )


def _make_tokenizer(config: DataSection, train: Source, report: Report) -> Tokenizer:
    file = tokenizer_file(config)
    if file is not None:
        return load_file(file.path)
    if train.holds_tokens:
        if config.tokenizer != "byte":
            raise DataError(
                f"data.tokenizer: {config.tokenizer} is made from text, but {train.name} holds token ids; "
                "give the path of the tokenizer.json that made them, or leave the key out"
            )
        return IdTokenizer(config.vocab_size)
    if config.tokenizer == "byte":
        return ByteTokenizer()
    read = _metered(pieces(train, config.text_field), "building the vocabulary", train.size, report)
    texts = (piece.text for piece in _require_text(read, train))
    return train_char(texts) if config.tokenizer == "char" else train_bpe(texts, config.vocab_size)


def _tokenize(source: Source, tokenizer: Tokenizer, text_field: str, path: Path, report: Report) -> TokenFile:
    read = _metered(pieces(source, text_field), "tokenising", source.size, report)
    return write_tokens(path, dtype_for(tokenizer.vocab_size), _encoded(_require_text(read, source), tokenizer, source.name))


def _encoded(read: Iterable[Piece], tokenizer: Tokenizer, name: str) -> Iterator[TokenArray]:
    """The ids of each piece, and end-of-text between documents that have any."""
    separator = np.array([] if tokenizer.end_of_text is None else [tokenizer.end_of_text], dtype=np.uint32)
    in_document = between_documents = False
    for piece in read:
        try:
            ids = tokenizer.encode(piece.text)
        except DataError as error:
            raise DataError(f"{name}: {error}") from None
        if len(ids):
            if between_documents:
                yield separator
            yield ids
            in_document, between_documents = True, False
        if in_document and piece.ends_document:
            in_document, between_documents = False, True


def _require_text(read: Iterable[Piece], source: Source) -> Iterator[Piece]:
    """`read` itself. Raises: DataError at its end when there was nothing but white space."""
    any_text = False
    for piece in read:
        any_text = any_text or bool(piece.text.strip())
        yield piece
    if not any_text:
        raise DataError(f"{source.name}: holds nothing but white space; give some text")


def _metered(read: Iterable[Piece], task: str, total: int, report: Report) -> Iterator[Piece]:
    """`read` itself, told to `report` about every megabyte."""
    done = reported = 0
    report(task, 0, total, "bytes")
    for piece in read:
        yield piece
        done += piece.source_bytes
        if done - reported >= REPORT_BYTES:
            reported = done
            report(task, min(done, total), total, "bytes")
    report(task, total, total, "bytes")


def _report_checked(report: Report, total: int, done: int) -> None:
    report("checking token ids", done, total, "bytes")


def _bytes_per_token(tokens: TokenArray, tokenizer: Tokenizer) -> float | None:
    """A character that a block or the split cuts in two may count up to three bytes too many."""
    counts = [tokenizer.num_bytes(block) for block in blocks_of(tokens)]
    known = [count for count in counts if count is not None]
    return sum(known) / len(tokens) if len(known) == len(counts) else None


def _require_length(config: DataSection, num_train: int, num_eval: int) -> None:
    need = config.context + 1
    if num_train >= need and num_eval >= need:
        return
    where = f"held out (data.eval {config.eval})" if config.eval else f"held out (data.eval_fraction {config.eval_fraction:g})"
    raise DataError(
        f"data.train ({config.train}): too short: {num_train} tokens to train on and {num_eval} {where}, but data.context "
        f"{config.context} needs at least {need} of each; give more text or a smaller data.context"
    )


def _cache_key(config: DataSection, train: Source, held_out: Source | None) -> str:
    """Cheap: looks at names, sizes and times, not at content (which the fingerprint is about)."""
    own_tokenizer = tokenizer_file(config)
    uses_library = config.tokenizer == "bpe" or own_tokenizer is not None
    identity = {
        "format": cache.ENTRY_FORMAT,
        "train": _file_identities(train.files),
        "eval": None if held_out is None else _file_identities(held_out.files),
        "tokenizer": config.tokenizer if own_tokenizer is None else _file_identities((own_tokenizer,)),
        "library": version("tokenizers") if uses_library else "",
        "settings": config.model_dump(include={"eval_fraction", "text_field", "token_dtype", "vocab_size"}),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def _file_identities(files: tuple[SourceFile, ...]) -> list[list[str | int]]:
    return [[str(file.path.absolute()), file.format, file.size, file.mtime_ns] for file in files]


def _no_report(task: str, done: float, total: float, unit: str) -> None:
    """Progress that nobody asked for."""
