"""Which files a corpus is: `data.train` and `data.eval` resolved to files, each with the way to read it.

Imports nothing heavy and reads no content, so the CLI can afford it before anything else. Reading is the work of `corpus`.
Invariant: every file of a `Source` was a regular file when it was resolved, and at least one of them was not empty.
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

Split = Literal["train", "eval"]

FileFormat = Literal["text", "jsonl", "tokens", "topics", "python"]
"""How a file is read. topics: CPython's `pydoc_data.topics`; python: source code, left out when it is not UTF-8."""

BUILTIN_PREFIX = "builtin:"
BUILTIN_CORPORA = ("python-docs", "python-source")
TRAINED_TOKENIZERS = ("byte", "char", "bpe")
"""Values of `data.tokenizer` that are no path."""

_FORMAT_BY_ENDING: Mapping[str, FileFormat] = {".jsonl": "jsonl", ".bin": "tokens", ".npy": "tokens"}
_FOLDER_ENDINGS: Mapping[str, tuple[str, ...]] = {
    "auto": (".txt", ".md"),
    "text": (".txt", ".md"),
    "jsonl": (".jsonl",),
    "tokens": (".bin", ".npy"),
}
_TOKEN_BYTES: Mapping[str, int] = {"uint16": 2, "uint32": 4}
_NOT_STDLIB_PROSE = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file of a corpus; `size` in bytes and `mtime_ns` are what the cache knows it by."""

    path: Path
    format: FileFormat
    size: int
    mtime_ns: int


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


def resolve(config: DataSection) -> tuple[Source, Source | None]:
    """The training corpus, and the held-out one when `data.eval` names one.

    Raises: DataError when a corpus is missing, empty or no regular file, or when text and token ids are mixed.
    """
    train = _resolve_split(config, "train")
    held_out = _resolve_split(config, "eval") if config.eval else None
    if held_out is not None and held_out.holds_tokens != train.holds_tokens:
        kinds = {True: "token ids", False: "text"}
        raise DataError(
            f"{train.name} holds {kinds[train.holds_tokens]}, but {held_out.name} holds {kinds[held_out.holds_tokens]}; "
            "give both in the same form"
        )
    return train, held_out


def tokenizer_file(config: DataSection) -> SourceFile | None:
    """The `tokenizer.json` that `data.tokenizer` names; None for byte, char and bpe.

    Raises: DataError when it names neither.
    """
    if config.tokenizer in TRAINED_TOKENIZERS:
        return None
    try:
        return _regular_file(_expanded(config.tokenizer), "text")
    except (OSError, ValueError, DataError) as error:
        raise DataError(
            f"data.tokenizer: {config.tokenizer!r} is none of {', '.join(TRAINED_TOKENIZERS)}, "
            f"and no readable tokenizer.json ({_reason(error)})"
        ) from None


def _resolve_split(config: DataSection, split: Split) -> Source:
    spec = config.train if split == "train" else config.eval
    name = f"data.{split} ({spec})"
    try:
        files = tuple(_files(spec, config))
    except (OSError, ValueError, DataError) as error:
        raise DataError(f"{name}: {_reason(error)}") from None
    if not any(file.size for file in files):
        raise DataError(f"{name}: {'the file is' if len(files) == 1 else f'all {len(files)} files are'} empty; give some text")
    if len({file.format == "tokens" for file in files}) > 1:
        raise DataError(f"{name}: mixes text files and token files; name only one of the two")
    return Source(name=name, files=files)


def _files(spec: str, config: DataSection) -> Iterator[SourceFile]:
    if spec.startswith(BUILTIN_PREFIX):
        yield from _builtin_files(spec.removeprefix(BUILTIN_PREFIX))
        return
    for path in _paths(spec, _FOLDER_ENDINGS[config.format]):
        by_ending = _FORMAT_BY_ENDING.get(path.suffix.lower(), "text")
        file = _regular_file(path, by_ending if config.format == "auto" else config.format)
        if file.format == "tokens" and path.suffix.lower() != ".npy":
            _require_whole_tokens(file, config.token_dtype)
        yield file


def _paths(spec: str, endings: tuple[str, ...]) -> list[Path]:
    """The file itself, the files of a folder whose name ends in one of `endings`, or the files that a glob matches."""
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
    if not stat.S_ISDIR(mode):
        return [path]
    found = [file for file in _walk(path) if file.suffix.lower() in endings]
    if not found:
        raise DataError(f"the folder holds no {' or '.join('*' + ending for ending in endings)} file; name files by a glob")
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


def _regular_file(path: Path, file_format: FileFormat) -> SourceFile:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is {_kind(status.st_mode)}, not a regular file; copy its content to a file first")
    return SourceFile(path=path, format=file_format, size=status.st_size, mtime_ns=status.st_mtime_ns)


def _require_whole_tokens(file: SourceFile, token_dtype: str) -> None:
    if file.size % _TOKEN_BYTES[token_dtype]:
        raise DataError(
            f"{file.path}: {file.size} bytes are no whole number of {token_dtype} ids; set data.token_dtype to the type it was "
            "written with, or write it again"
        )


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
