"""From `[data]` to token arrays: the one door of this package for whoever trains, evaluates or inspects.

Resolves the corpora, makes the tokenizer, writes the tokens to the cache or finds them there, splits off the held-out part,
and packs documents when asked to. Any number of processes may call `prepare` with the same config at once: one works, the
others wait and share its files. Invariant: two datasets with the same fingerprint hold the same tokens, split at the same
places, of the same tokenizer, to be mixed and packed in the same way.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from plt_tui.config.schema import DataSection
from plt_tui.data import cache, packing, shards
from plt_tui.data.corpus import units
from plt_tui.data.packing import Packing
from plt_tui.data.plugin import documents, identity, is_plugin
from plt_tui.data.progress import Meter, Report
from plt_tui.data.sources import Corpora, Source, SourceFile, resolve, tokenizer_file
from plt_tui.data.tokenizer import TokenArray, Tokenizer
from plt_tui.data.tokens import TokenFile, adopt_tokens, blocks_of, dtype_for, open_tokens, write_tokens
from plt_tui.data.vocabulary import make_tokenizer
from plt_tui.errors import DataError
from plt_tui.plugins import Plugins


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """Tokens to train on and tokens held out. All arrays are read-only memory maps of uint16 or uint32, (T,)."""

    train: tuple[TokenArray, ...]
    """One array per training corpus, in the order of the config."""
    eval: TokenArray
    tokenizer: Tokenizer
    fingerprint: str
    """sha256 in hex over all tokens, the places of the splits, the tokenizer, and for several corpora or another packing their
    weights and the packing: names the data wherever the files lie."""
    bytes_per_token: float
    """Bytes of UTF-8 per held-out token, end-of-text counted as a token without bytes; NaN when the ids have no known text."""
    packed: tuple[Packing, ...] = ()
    """The rows of each training corpus when `data.packing` is best_fit; otherwise empty."""

    @property
    def num_train_tokens(self) -> int:
        """Tokens of all training corpora."""
        return sum(map(len, self.train))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What is to be prepared, and whom to tell."""

    config: DataSection
    plugins: Plugins
    corpora: Corpora
    report: Report


def prepare(
    config: DataSection,
    *,
    plugins: Plugins = Plugins(),  # noqa: B008  (frozen)
    cache_dir: Path | None = None,
    on_progress: Report | None = None,
) -> Dataset:
    """The dataset that `config` describes, from the cache when nothing changed since it was prepared. Any rank, any process.

    `cache_dir`: instead of `cache.default_cache_dir()`. What a killed call has finished is found by the next one.

    Raises: DataError when a corpus or tokenizer is missing, unusable, too short for `config.context`, or changes while it is
    read, when documents are to be packed that have no end-of-text, and when the cache cannot be written. UsageError when a
    plug-in is not there.
    """
    job = _Job(config=config, plugins=plugins, corpora=resolve(config), report=on_progress or _no_report)
    root = cache.default_cache_dir() if cache_dir is None else cache_dir
    folder = root.absolute() / "tokens" / _cache_key(job)
    try:
        entry = cache.load(folder)
        if entry is None:
            with cache.exclusive(folder):
                entry = cache.load(folder) or _build(job, folder)
        _require_length(config, entry.num_train, entry.num_eval)
        return _arranged(_open(entry, folder), job, folder)
    except OSError as error:
        raise DataError(
            f"cannot keep prepared tokens in {root}: {error.strerror or error}; "  # numpy gives no strerror for a full disk
            "set PLT_TUI_CACHE to a folder with space where you may write"
        ) from error


def _build(job: _Job, folder: Path) -> cache.Entry:
    """Prepare the tokens and publish them as the entry `folder`, whose lock the caller holds."""
    config, corpora = job.config, job.corpora
    plan = {"format": cache.ENTRY_FORMAT, "piece_bytes": shards.PIECE_BYTES, "shard_bytes": shards.SHARD_BYTES}
    with cache.staging(folder) as stage:
        tokenizer = cache.planned_tokenizer(stage, plan)
        if tokenizer is None:
            tokenizer = make_tokenizer(config, corpora, job.plugins, job.report)
            cache.write_plan(stage, plan, tokenizer)
        train, held_out = _write_all(job, tokenizer, stage)
        if _cache_key(replace(job, corpora=resolve(config))) != folder.name:
            raise DataError(f"{_all_names(config)}: a file changed while it was read; start again once it is complete")
        entry = _entry(config, tokenizer, train, held_out, stage)
        cache.publish(stage, folder, entry, note={"train_corpora": config.corpora, "eval_corpus": config.eval})
    return entry


def _write_all(job: _Job, tokenizer: Tokenizer, stage: Path) -> tuple[tuple[TokenFile, ...], TokenFile | None]:
    """The tokens of every corpus as files in `stage`, or where they lie."""
    sources = job.corpora.all
    holds_tokens = sources[0].holds_tokens
    is_size_known = not any(map(is_plugin, sources))
    total_bytes = sum(source.size for source in sources) if is_size_known else 0
    meter = Meter("checking token ids" if holds_tokens else "tokenising", total_bytes, job.report)
    names = [f"train{number or ''}.bin" for number in range(len(job.corpora.train))]
    specs = [*job.config.corpora, job.config.eval]
    files = {}
    jobs = list(zip(specs, sources, [*names, "eval.bin"], strict=False))  # without a held-out corpus one less
    for spec, source, name in reversed(jobs):  # the held-out one first: it is small, and what is wrong with it shows at once
        if holds_tokens:
            watch = _increments(meter)
            files[name] = adopt_tokens(source, job.config.token_dtype, tokenizer.vocab_size, stage / name, watch)
        else:
            works = _works(job, spec, source, stage / name)
            files[name] = shards.tokenise(works, tokenizer, stage / name, source.name, meter)
    meter.finish()
    return tuple(files[name] for name in names), files.get("eval.bin")


def _works(job: _Job, spec: str, source: Source, target: Path) -> Iterator[shards.Work]:
    if is_plugin(source):
        shards.discard(target)
        return shards.piece_works(documents(spec, job.plugins))
    return shards.unit_works(units(source, shards.SHARD_BYTES), job.config.text_field)


def _increments(meter: Meter) -> Callable[[int], None]:
    """A callback for bytes done so far that tells `meter` what was added."""
    before = 0

    def on_bytes(done: int) -> None:
        nonlocal before
        meter.add(done - before)
        meter.tell()
        before = done

    return on_bytes


def _entry(
    config: DataSection, tokenizer: Tokenizer, train: tuple[TokenFile, ...], held_out: TokenFile | None, stage: Path
) -> cache.Entry:
    """Split and measure what was written to `stage`. Raises: DataError when a part is too short."""
    fraction = config.eval_fraction if held_out is None else 0.0
    num_train = tuple(file.count - int(file.count * fraction) for file in train)
    if held_out is None and len(train) > 1:
        held_out = _join_tails(train, num_train, tokenizer, stage)
    num_eval = train[0].count - num_train[0] if held_out is None else held_out.count
    _require_length(config, num_train, num_eval)
    eval_tokens = open_tokens(train[0], stage)[num_train[0] :] if held_out is None else open_tokens(held_out, stage)
    eval_hash = "" if held_out is None else held_out.sha256
    return cache.Entry(
        train=train,
        eval=held_out,
        num_train=num_train,
        bytes_per_token=_bytes_per_token(eval_tokens, tokenizer),
        fingerprint=_hash_of([[file.sha256 for file in train], eval_hash, num_train, tokenizer.to_json()]),
        tokenizer=tokenizer,
    )


def _join_tails(train: tuple[TokenFile, ...], num_train: tuple[int, ...], tokenizer: Tokenizer, stage: Path) -> TokenFile:
    """The held-out ends of several corpora, where there are any, as one file with end-of-text between them."""
    tails = [open_tokens(file, stage)[count:] for file, count in zip(train, num_train, strict=True) if count < file.count]
    between = [] if tokenizer.end_of_text is None else [np.array([tokenizer.end_of_text], dtype=np.uint32)]
    blocks = chain.from_iterable(chain(between if number else (), blocks_of(tail)) for number, tail in enumerate(tails))
    return write_tokens(stage / "eval.bin", dtype_for(tokenizer.vocab_size), blocks)


def _open(entry: cache.Entry, folder: Path) -> Dataset:
    try:
        tokens = [open_tokens(file, folder) for file in entry.train]
        held_out = tokens[0][entry.num_train[0] :] if entry.eval is None else open_tokens(entry.eval, folder)
    except OSError as error:
        raise DataError(
            f"{error.filename}: prepared tokens went away while they were opened ({error.strerror}); start again"
        ) from None
    return Dataset(
        train=tuple(array[:count] for array, count in zip(tokens, entry.num_train, strict=True)),
        eval=held_out,
        tokenizer=entry.tokenizer,
        fingerprint=entry.fingerprint,
        bytes_per_token=math.nan if entry.bytes_per_token is None else entry.bytes_per_token,
    )


def _arranged(dataset: Dataset, job: _Job, folder: Path) -> Dataset:
    """`dataset` with its packing, and with what the fingerprint must say of weights and packing."""
    config = job.config
    if config.packing == "concatenate" and len(dataset.train) == 1:
        return dataset
    fingerprint = _hash_of([dataset.fingerprint, config.weights, config.packing])
    if config.packing == "concatenate":
        return replace(dataset, fingerprint=fingerprint)
    packed = [_packing(tokens, dataset.tokenizer, job, folder, number) for number, tokens in enumerate(dataset.train)]
    return replace(dataset, fingerprint=fingerprint, packed=tuple(packed))


def _packing(tokens: TokenArray, tokenizer: Tokenizer, job: _Job, entry: Path, number: int) -> Packing:
    """The rows of one corpus, found beside the tokens or made and kept there."""
    folder = entry / f"rows{number or ''}-{job.config.context}"
    with suppress(OSError, ValueError):
        return packing.load(folder)
    if tokenizer.end_of_text is None:
        raise DataError(
            f"data.packing best_fit needs to know where documents end, but the tokenizer of {job.corpora.train[number].name} "
            "has no end-of-text; give data.tokenizer a tokenizer.json that has one, or set data.packing to concatenate"
        )
    with cache.exclusive(entry):
        with suppress(OSError, ValueError):
            return packing.load(folder)  # made while this process waited
        meter = Meter("packing documents", tokens.nbytes, job.report)
        stops = packing.document_stops(_metered(blocks_of(tokens), meter), tokenizer.end_of_text)
        made = packing.pack(stops, job.config.context, is_last_open=int(tokens[-1]) != tokenizer.end_of_text)
        packing.save(made, folder)
        meter.finish()
    return packing.load(folder)


def _metered(blocks: Iterable[TokenArray], meter: Meter) -> Iterator[TokenArray]:
    for block in blocks:
        yield block
        meter.add(block.nbytes)
        meter.tell()


def _bytes_per_token(tokens: TokenArray, tokenizer: Tokenizer) -> float | None:
    """A character that a block or the split cuts in two may count up to three bytes too many."""
    counts = [tokenizer.num_bytes(block) for block in blocks_of(tokens)]
    known = [count for count in counts if count is not None]
    return sum(known) / len(tokens) if len(known) == len(counts) else None


def _require_length(config: DataSection, num_train: tuple[int, ...], num_eval: int) -> None:
    need = config.context + 1
    short = [(spec, count) for spec, count in zip(config.corpora, num_train, strict=True) if count < need]
    if not short and num_eval >= need:
        return
    name, count = (f"data.train ({short[0][0]})", short[0][1]) if short else (_all_names(config), sum(num_train))
    where = f"held out (data.eval {config.eval})" if config.eval else f"held out (data.eval_fraction {config.eval_fraction:g})"
    raise DataError(
        f"{name}: too short: {count} tokens to train on and {num_eval} {where}, but data.context {config.context} needs at "
        f"least {need} of each; give more text or a smaller data.context"
    )


def _all_names(config: DataSection) -> str:
    return f"data.train ({', '.join(config.corpora)})"


def _cache_key(job: _Job) -> str:
    """Cheap: looks at names, sizes and times, not at content (which the fingerprint is about)."""
    config, corpora = job.config, job.corpora
    own_tokenizer = tokenizer_file(config)
    uses_library = config.tokenizer == "bpe" or own_tokenizer is not None
    identities = {
        "format": cache.ENTRY_FORMAT,
        "train": [_identity(spec, source, job.plugins) for spec, source in zip(config.corpora, corpora.train, strict=True)],
        "eval": None if corpora.eval is None else _identity(config.eval, corpora.eval, job.plugins),
        "tokenizer": config.tokenizer if own_tokenizer is None else _file_identities((own_tokenizer,)),
        "library": version("tokenizers") if uses_library else "",
        "settings": config.model_dump(include={"eval_fraction", "text_field", "token_dtype", "vocab_size"}),
    }
    return _hash_of(identities)[:32]


def _identity(spec: str, source: Source, plugins: Plugins) -> list[Any]:
    return identity(spec, plugins) if is_plugin(source) else _file_identities(source.files)


def _file_identities(files: tuple[SourceFile, ...]) -> list[Any]:
    return [[str(file.path.absolute()), file.format, file.compression, file.size, file.mtime_ns] for file in files]


def _hash_of(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _no_report(task: str, done: float, total: float, unit: str) -> None:
    """Progress that nobody asked for."""
