"""Which files the corpora are: `data.train` and `data.eval` resolved to files, each with the way to read it.

Imports nothing heavy and reads no content, so the CLI can afford it before anything else. Reading is the work of `corpus`, and
of `plugin` for what `plugin:` names. Invariant: every file of a `Source` was a regular file when it was resolved, and at least
one of them was not empty; but a plug-in's one "file" is its name.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import stat
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from plt_tui.config.schema import DataSection
from plt_tui.errors import DataError

FileFormat = Literal["text", "jsonl", "parquet", "tokens", "topics", "python", "plugin"]
"""How a file is read. topics: CPython's `pydoc_data.topics`; python: source code, left out when it is not UTF-8; plugin: not a
file, a plug-in gives the documents."""
Compression = Literal["", "gz", "zst"]

PLUGIN_PREFIX = "plugin:"
BUILTIN_PREFIX = "builtin:"
BUILTIN_CORPORA = ("python-docs", "python-source")
TRAINED_TOKENIZERS = ("byte", "char", "bpe")
"""Values of `data.tokenizer` that are no path."""

_FORMAT_BY_ENDING: Mapping[str, FileFormat] = {
    ".jsonl": "jsonl",
    ".parquet": "parquet",
    ".bin": "tokens",
    ".npy": "tokens",
}
_COMPRESSION_BY_ENDING: Mapping[str, Compression] = {".gz": "gz", ".zst": "zst"}
_STREAMED_FORMATS = ("text", "jsonl")
"""Formats that are read from the beginning to the end, and so may be compressed as a whole."""
_FOLDER_ENDINGS: Mapping[str, tuple[str, ...]] = {
    "auto": (".txt", ".md"),
    "text": (".txt", ".md"),
    "jsonl": (".jsonl",),
    "parquet": (".parquet",),
    "tokens": (".bin", ".npy"),
}
"""Files that a folder stands for, by `data.format`; text and JSON lines also with .gz or .zst behind."""
_TOKEN_BYTES: Mapping[str, int] = {"uint16": 2, "uint32": 4}
_NOT_STDLIB_PROSE = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file of a corpus; `size` in bytes (as it lies there) and `mtime_ns` are what the cache knows it by."""

    path: Path
    format: FileFormat
    size: int
    mtime_ns: int
    compression: Compression = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A corpus as files in reading order. `name` is what messages call it."""

    name: str
    files: tuple[SourceFile, ...]

    @property
    def holds_tokens(self) -> bool:
        """True when the files hold token ids, False when they hold text."""
        return self.files[0].format == "tokens"

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpora:
    """All that `[data]` names: the training corpora, at least one, and the held-out one, if there is one of its own."""

    train: tuple[Source, ...]
    eval: Source | None

    @property
    def all(self) -> tuple[Source, ...]:
        """The training corpora, then the held-out one."""
        return self.train if self.eval is None else (*self.train, self.eval)


def resolve(config: DataSection) -> Corpora:
    """One `Source` for each name in `config.corpora`, and one for `data.eval` when it names one.

    Raises: DataError when a corpus is missing, empty or no regular file, when text and token ids are mixed, and when
    `data.vocab_size` counts more ids than `data.token_dtype` can tell apart.
    """
    train = tuple(_resolve(f"data.train ({spec})", spec, config) for spec in config.corpora)
    corpora = Corpora(train=train, eval=_resolve(f"data.eval ({config.eval})", config.eval, config) if config.eval else None)
    first, *others = corpora.all
    for other in others:
        if other.holds_tokens != first.holds_tokens:
            kinds = {True: "token ids", False: "text"}
            raise DataError(
                f"{first.name} holds {kinds[first.holds_tokens]}, but {other.name} holds {kinds[other.holds_tokens]}; "
                "give all in the same form"
            )
    return corpora


def tokenizer_file(config: DataSection) -> SourceFile | None:
    """The file that `data.tokenizer` names, a `tokenizer.json` or tiktoken's ranks; None for byte, char and bpe.

    Raises: DataError when it names neither.
    """
    if config.tokenizer in TRAINED_TOKENIZERS:
        return None
    path = _expanded(config.tokenizer)
    try:
        if path.is_dir():
            inner = path / "tokenizer.json"
            raise DataError(f"{path} is a folder; give {inner if inner.is_file() else 'the tokenizer.json in it'}")
        return _regular_file(path, "text")
    except (OSError, ValueError, DataError) as error:
        raise DataError(
            f"data.tokenizer: {config.tokenizer!r} is none of {', '.join(TRAINED_TOKENIZERS)}, "
            f"and no readable tokenizer.json or *.tiktoken file ({_reason(error)})"
        ) from None


def require_ids_fit(path: Path, token_dtype: str, vocab_size: int) -> None:
    """Raises: DataError when a file of `token_dtype` cannot hold all ids below `vocab_size`: writing it has lost some."""
    limit = 1 << 8 * _TOKEN_BYTES[token_dtype]
    if vocab_size > limit:
        raise DataError(
            f"{path}: a vocabulary of {vocab_size} ids does not fit into data.token_dtype {token_dtype}, which holds {limit}; "
            "set data.token_dtype, and data.vocab_size or data.tokenizer, to what the file was written with"
        )


def _resolve(name: str, spec: str, config: DataSection) -> Source:
    if spec.startswith(PLUGIN_PREFIX):
        return _plugin_source(name, spec)
    try:
        files = tuple(_files(spec, config))
    except (OSError, ValueError, DataError) as error:
        raise DataError(f"{name}: {_reason(error)}") from None
    if not any(file.size for file in files):
        raise DataError(f"{name}: {'the file is' if len(files) == 1 else f'all {len(files)} files are'} empty; give some text")
    if len({file.format == "tokens" for file in files}) > 1:
        raise DataError(f"{name}: mixes text files and token files; name only one of the two")
    return Source(name=name, files=files)


def _plugin_source(name: str, spec: str) -> Source:
    if spec.split(":")[1] == "":
        raise DataError(f"{name}: names no plug-in; write plugin:NAME or plugin:NAME:ARGUMENT")
    return Source(name=name, files=(SourceFile(path=Path(spec), format="plugin", size=0, mtime_ns=0),))


def _files(spec: str, config: DataSection) -> Iterator[SourceFile]:
    if spec.startswith(BUILTIN_PREFIX):
        yield from _builtin_files(spec.removeprefix(BUILTIN_PREFIX))
        return
    for path in _paths(spec, config.format):
        ending, compression = _endings(path)
        by_ending = _FORMAT_BY_ENDING.get(ending, "text")
        file = _regular_file(path, by_ending if config.format == "auto" else config.format, compression)
        if compression and file.format not in _STREAMED_FORMATS:
            raise DataError(f"{path}: {file.format} files are not read from .{compression} files; unpack it first")
        if file.format == "tokens" and ending != ".npy":
            _require_whole_tokens(file, config)
        yield file


def _endings(path: Path) -> tuple[str, Compression]:
    """The ending that tells the format, and the compression: `.txt` and "gz" of `a.txt.gz`; in small letters."""
    compression = _COMPRESSION_BY_ENDING.get(path.suffix.lower(), "")
    return (path.with_suffix("") if compression else path).suffix.lower(), compression


def _paths(spec: str, file_format: str) -> list[Path]:
    """The file itself, the files of a folder whose names end as `file_format` tells, or the files that a glob matches."""
    path = _expanded(spec)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if not any(sign in spec for sign in "*?["):
            raise
        matches = glob.glob(str(path), recursive=True)  # noqa: PTH207  (Path.glob refuses absolute patterns)
        found = [match for match in map(Path, sorted(matches)) if not match.is_dir()]
        if not found:
            raise DataError("no file matches; check the pattern and the folder it starts from") from None
        return found
    return _folder_files(path, file_format) if stat.S_ISDIR(mode) else [path]


def _folder_files(folder: Path, file_format: str) -> list[Path]:
    wanted = _FOLDER_ENDINGS[file_format]
    may_be_packed = _FORMAT_BY_ENDING.get(wanted[0], "text") in _STREAMED_FORMATS
    found = []
    for path in _walk(folder):
        ending, compression = _endings(path)
        if ending in wanted and (may_be_packed or not compression):
            found.append(path)
    if not found:
        names = " or ".join("*" + ending for ending in wanted)
        packed = " (nor one with .gz or .zst behind)" if may_be_packed else ""
        raise DataError(f"the folder holds no {names} file{packed}; name files by a glob, or set data.format")
    return found


def _builtin_files(name: str) -> Iterator[SourceFile]:
    if name not in BUILTIN_CORPORA:
        raise DataError(f"no such built-in corpus; known: {', '.join(BUILTIN_PREFIX + known for known in BUILTIN_CORPORA)}")
    if name == "python-docs":
        module = importlib.util.find_spec("pydoc_data.topics")
        if module is None or module.origin is None:
            raise DataError("this Python comes without pydoc_data; install the full standard library or name a text file")
        yield _regular_file(Path(module.origin), "topics")
        return
    for path in _walk(Path(sysconfig.get_paths()["stdlib"]), skip=_NOT_STDLIB_PROSE):
        if path.suffix == ".py":
            yield _regular_file(path, "python")


def _walk(folder: Path, skip: frozenset[str] = frozenset()) -> Iterator[Path]:
    """All files under `folder` by sorted path; hidden ones and linked folders (which can form a loop) are left out."""

    def fail(error: OSError) -> None:
        raise error

    found = []
    for parent, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if name not in skip and not name.startswith(".")]
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    yield from sorted(found)


def _regular_file(path: Path, file_format: FileFormat, compression: Compression = "") -> SourceFile:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is {_kind(status.st_mode)}, not a regular file; copy its content to a file first")
    return SourceFile(path=path, format=file_format, size=status.st_size, mtime_ns=status.st_mtime_ns, compression=compression)


def _require_whole_tokens(file: SourceFile, config: DataSection) -> None:
    """What size and settings tell about a file of bare ids without opening it."""
    if file.size % _TOKEN_BYTES[config.token_dtype]:
        raise DataError(
            f"{file.path}: {file.size} bytes are no whole number of {config.token_dtype} ids; set data.token_dtype to the type "
            "it was written with, or write it again"
        )
    if config.tokenizer in TRAINED_TOKENIZERS:  # else the vocabulary is the tokenizer file's, which nobody has read yet
        require_ids_fit(file.path, config.token_dtype, config.vocab_size)


def _kind(mode: int) -> str:
    kinds = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket", stat.S_ISCHR: "a device"}
    return next((word for test, word in kinds.items() if test(mode)), "a special file")


def _expanded(spec: str) -> Path:
    return Path(os.path.expanduser(spec))  # noqa: PTH111  (Path.expanduser raises where there is no home)


def _reason(error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return f"no such file or folder: {Path(error.filename).absolute()}"
        case PermissionError():
            return f"no permission to read {error.filename}"
        case OSError():
            return f"{error.filename}: {error.strerror}"
        case _:
            return str(error)
