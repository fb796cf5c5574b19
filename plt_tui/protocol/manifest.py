"""What vouches for a checkpoint: `manifest.json`, written last, with the size and the hash of every other file of its folder.

Read here without torch, by whoever wants to know whether a checkpoint is whole; written by `training.checkpoint`. Invariant: a
folder that verifies holds every byte that was saved.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plt_tui.errors import StorageError

FORMAT = 1
MODEL, OPTIMIZER, STATE, MANIFEST = "model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"
CHUNK_BYTES = 1 << 24
"""Read, hashed and written at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Content of `manifest.json`."""

    format: int
    step: int
    name: str
    weights_sha256: str
    files: dict[str, dict[str, Any]]
    """Per file: bytes and sha256."""
    written_at: float
    plt_tui: str
    torch: str

    @property
    def bytes(self) -> int:
        """Size of all files but the manifest."""
        return sum(int(file["bytes"]) for file in self.files.values())


def read_manifest(folder: Path) -> Manifest:
    """What `folder` says it holds. Raises: StorageError when it is not readable, of another format, or not complete."""
    try:
        manifest = Manifest(**json.loads((folder / MANIFEST).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise StorageError(f"{folder / MANIFEST}: {error}") from None
    if manifest.format != FORMAT:
        raise StorageError(f"{folder}: format {manifest.format}, but this version reads format {FORMAT}")
    files = manifest.files
    is_table = isinstance(files, dict) and all(isinstance(file, dict) for file in files.values())  # whoever wrote it
    if not is_table or set(files) != {MODEL, OPTIMIZER, STATE}:
        raise StorageError(f"{folder / MANIFEST}: it must vouch for {MODEL}, {OPTIMIZER} and {STATE}, and nothing else")
    return manifest


def verify(folder: Path) -> Manifest:
    """The manifest, once every file has the size and hash that it says. Raises: StorageError naming the file."""
    manifest = read_manifest(folder)
    for name, expected in manifest.files.items():
        path = folder / name
        try:
            size, sha256 = path.stat().st_size, _file_sha256(path)
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}") from None
        if size != expected.get("bytes"):
            raise StorageError(f"{path}: {size} bytes instead of {expected.get('bytes')}")
        if sha256 != expected.get("sha256"):
            raise StorageError(f"{path}: its content has changed since it was written (sha256 differs)")
    return manifest


def is_whole(folder: Path) -> bool:
    """True when `folder` verifies."""
    try:
        verify(folder)
    except StorageError:
        return False
    return True


def _file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
