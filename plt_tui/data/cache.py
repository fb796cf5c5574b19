"""Prepared token files, kept between runs: `tokens/<key>/{train.bin, train1.bin, ..., eval.bin, tokenizer.json, meta.json}`.

Knows nothing of corpora: what a key means is `prepare`'s business. One process at a time works on a key, in `<key>.partial`; an
entry appears by one rename, after everything in it was synced. What a killed process leaves there is gone on with when its
`plan.json` fits. Invariant: what `load` returns is whole, or it returns None.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plt_tui.data.tokenizer import Tokenizer, from_json
from plt_tui.data.tokens import MAPPED_DTYPES, TokenFile
from plt_tui.errors import DataError

ENTRY_FORMAT = 3
ABANDONED_S = 14 * 24 * 3600
_PARTIAL = ".partial"
VERIFIED_BYTES = 64 << 20
"""Token files up to this size are hashed whenever they are opened (about 0.05 s); of larger ones only the size is compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Prepared corpora. `eval` is None when there is one corpus and the held-out tokens are those behind its training
    tokens.
    """

    train: tuple[TokenFile, ...]
    eval: TokenFile | None
    num_train: tuple[int, ...]
    """Tokens of each of `train` to train on: its first ones."""
    bytes_per_token: float | None
    fingerprint: str
    tokenizer: Tokenizer

    @property
    def num_eval(self) -> int:
        """Held-out tokens."""
        return self.train[0].count - self.num_train[0] if self.eval is None else self.eval.count


def default_cache_dir() -> Path:
    """`$PLT_TUI_CACHE`, else `$XDG_CACHE_HOME/plt-tui`, else `~/.cache/plt-tui`. Raises: DataError when there is no home."""
    if own := os.environ.get("PLT_TUI_CACHE"):
        return Path(own)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base, "plt-tui")
    try:
        return Path.home() / ".cache" / "plt-tui"
    except RuntimeError:
        raise DataError("no home folder to keep prepared tokens in; set PLT_TUI_CACHE to a folder") from None


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the lock of the entry `folder`; waits while another process has it. Raises: OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # freed when the file closes, also by a kill
        yield


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to build the entry in, with what an interrupted process left of it. Call under `exclusive`.

    It is removed when the data cannot be used. It stays when the process is stopped or killed, or the disk is full: what is
    finished need not be done again.
    """
    stage = folder.with_name(f"{folder.name}{_PARTIAL}")
    _remove_abandoned(folder.parent)
    stage.mkdir(exist_ok=True)
    try:
        yield stage
    except DataError:
        shutil.rmtree(stage, ignore_errors=True)
        raise


def planned_tokenizer(stage: Path, plan: dict[str, Any]) -> Tokenizer | None:
    """The tokenizer of an interrupted process that followed the same `plan`; without one, `stage` is emptied."""
    try:
        content = (stage / "tokenizer.json").read_bytes()
        if json.loads((stage / "plan.json").read_bytes()) == {**plan, "tokenizer_sha256": hashlib.sha256(content).hexdigest()}:
            return from_json(json.loads(content))
    except (OSError, ValueError, DataError):
        pass  # killed before there was a plan
    shutil.rmtree(stage)
    stage.mkdir()
    return None


def write_plan(stage: Path, plan: dict[str, Any], tokenizer: Tokenizer) -> None:
    """Keep `tokenizer` for `planned_tokenizer`."""
    _write_json(stage / "tokenizer.json", tokenizer.to_json())
    digest = hashlib.sha256((stage / "tokenizer.json").read_bytes()).hexdigest()
    _write_json(stage / "plan.json", {**plan, "tokenizer_sha256": digest})


def publish(stage: Path, folder: Path, entry: Entry, note: dict[str, Any]) -> None:
    """Complete the files in `stage` and make it the entry `folder`. `note`: for people who look into meta.json."""
    _write_json(stage / "tokenizer.json", entry.tokenizer.to_json())
    meta = {
        "format": ENTRY_FORMAT,
        "train": [asdict(file) for file in entry.train],
        "eval": None if entry.eval is None else asdict(entry.eval),
        "num_train": entry.num_train,
        "bytes_per_token": entry.bytes_per_token,
        "fingerprint": entry.fingerprint,
        "tokenizer_sha256": hashlib.sha256((stage / "tokenizer.json").read_bytes()).hexdigest(),
        **note,
    }
    _write_json(stage / "meta.json", meta)
    (stage / "plan.json").unlink()
    shutil.rmtree(stage / "shards", ignore_errors=True)
    _sync_folder(stage)
    if folder.exists():
        shutil.rmtree(folder)
    stage.rename(folder)
    _sync_folder(folder.parent)


def load(folder: Path) -> Entry | None:
    """The entry in `folder`; None when it is missing, half there, damaged or of another format."""
    try:
        meta = json.loads((folder / "meta.json").read_bytes())
        tokenizer_bytes = (folder / "tokenizer.json").read_bytes()
        if meta["format"] != ENTRY_FORMAT or hashlib.sha256(tokenizer_bytes).hexdigest() != meta["tokenizer_sha256"]:
            return None
        entry = Entry(
            train=tuple(TokenFile(**file) for file in meta["train"]),
            eval=None if meta["eval"] is None else TokenFile(**meta["eval"]),
            num_train=tuple(meta["num_train"]),
            bytes_per_token=meta["bytes_per_token"],
            fingerprint=meta["fingerprint"],
            tokenizer=from_json(json.loads(tokenizer_bytes)),
        )
        whole = all(_is_whole(file, folder) for file in (*entry.train, entry.eval) if file is not None)
    except (OSError, ValueError, TypeError, KeyError, DataError):
        return None
    return entry if whole else None


def _is_whole(file: TokenFile, folder: Path) -> bool:
    path = folder / file.path
    if file.dtype not in MAPPED_DTYPES or path.stat().st_size < file.offset + file.num_bytes:
        return False
    if file.num_bytes > VERIFIED_BYTES:
        return True
    with path.open("rb") as tokens:
        tokens.seek(file.offset)
        return hashlib.sha256(tokens.read(file.num_bytes)).hexdigest() == file.sha256


def _remove_abandoned(folder: Path) -> None:
    """Remove what interrupted processes left and nobody went on with for ABANDONED_S."""
    for stage in folder.glob(f"*{_PARTIAL}"):
        with suppress(OSError), stage.with_suffix(".lock").open("w") as lock:
            if time.time() - stage.stat().st_mtime > ABANDONED_S:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises while somebody works there
                shutil.rmtree(stage)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    """In ASCII, because a file name need not be valid UTF-8."""
    with path.open("w", encoding="ascii") as file:
        json.dump(value, file, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
