"""What vouches for a checkpoint: `manifest.json`, written last, with the size and the hash of every other file of its folder.

Read here without torch, by whoever wants to know whether a checkpoint is whole; written by `training.checkpoint`. Invariant: a
folder that verifies holds every byte that was saved, under the name that it was saved under.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plt_tui.errors import StorageError, UsageError
from plt_tui.protocol.text import safe_line

FORMAT = 1
MODEL, OPTIMIZER, STATE, MANIFEST = "model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"
CHUNK_BYTES = 1 << 24
"""Read, hashed and written at once."""

ASIDE = ".aside-"
"""Behind the name of a checkpoint that was renamed out of the way."""

_FOLDER = re.compile(r"step-([0-9]{8,})")
_OWN_SHA256 = "manifest_sha256"
"""Key of the hash of all other fields; the first version's manifests have none."""


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


_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "format": int,
    "step": int,
    "name": str,
    "weights_sha256": str,
    "files": dict,
    "written_at": (int, float),
    "plt_tui": str,
    "torch": str,
}


def folder_name(step: int) -> str:
    """Name of the folder of a step's checkpoint."""
    return f"step-{step:08d}"


def step_of(folder: Path) -> int:
    """The step in a checkpoint folder's name, -1 when it is not exactly the name that a checkpoint is saved under."""
    match = _FOLDER.fullmatch(folder.name)
    return int(match[1]) if match is not None and folder_name(int(match[1])) == folder.name else -1


def own_checkpoint(folder: Path, root: Path) -> Path | None:
    """`folder` as `root` calls it, however its path is written; None when it is none of its checkpoints, or was set aside."""
    if step_of(folder) < 0 or folder.resolve().parent != root.resolve():
        return None
    return root / folder.name


def chosen_step(resume: str) -> int | None:
    """The step of the checkpoint folder that `resume` names; None for "auto" and "never".

    Raises: UsageError when it is no whole checkpoint.
    """
    if resume in ("auto", "never"):
        return None
    try:
        return int(json.loads((Path(resume) / MANIFEST).read_text())["step"])
    except OSError:
        raise UsageError(
            f"--resume {resume}: no checkpoint there (no {MANIFEST}); give auto, never or a step-... folder"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"--resume {resume}: its {MANIFEST} is no manifest; choose another checkpoint") from None


def aside_words(root: Path) -> str:
    """What the checkpoints take that were set aside under `root`, which nobody but a person deletes; empty for none."""
    aside = list(root.glob(f"step-*{ASIDE}*"))
    if not aside:
        return ""
    taken = 0
    for path in (path for folder in aside for path in folder.glob("*")):
        with contextlib.suppress(OSError):
            taken += path.lstat().st_size
    what = "1 set-aside checkpoint takes" if len(aside) == 1 else f"{len(aside)} set-aside checkpoints take"
    return f"{what} {size_words(taken)} in {safe_line(str(root))} (*{ASIDE}*)"


def size_words(count: float) -> str:
    """Bytes in the unit that leaves three digits: "512 B", "1.53 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"


def to_json(manifest: Manifest) -> bytes:
    """The content of `manifest.json`, with a hash of its own."""
    fields = asdict(manifest)
    return json.dumps({**fields, _OWN_SHA256: _fields_sha256(fields)}, indent=1).encode()


def manifest_at(path: Path) -> Manifest:
    """The manifest in the file `path`. Raises: StorageError when it is unreadable, of another format, damaged or incomplete."""
    try:
        fields = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise StorageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not isinstance(fields, dict):
        raise StorageError(f"{path}: no manifest of a checkpoint")
    if fields.get("format") != FORMAT:
        written = safe_line(str(fields.get("format")), 16)
        raise StorageError(f"{path}: format {written}, but this version reads format {FORMAT}")
    own_sha256 = fields.pop(_OWN_SHA256, None)
    if problem := _problem(fields):
        raise StorageError(f"{path}: {problem}")
    if own_sha256 is not None and own_sha256 != _fields_sha256(fields):
        raise StorageError(f"{path}: its content has changed since it was written (sha256 differs)")
    return Manifest(**fields)


def read_manifest(folder: Path) -> Manifest:
    """What `folder` says it holds. Raises: StorageError as `manifest_at`, and when it is of another step than the folder."""
    manifest = manifest_at(folder / MANIFEST)
    if step_of(folder) not in (-1, manifest.step):
        raise StorageError(
            f"{folder / MANIFEST}: of step {manifest.step}, so this folder was renamed or its files are another's"
        )
    return manifest


def verify(folder: Path) -> Manifest:
    """The manifest, once every file has the size and hash that it says. Raises: StorageError naming the file."""
    manifest = read_manifest(folder)
    for name in manifest.files:
        verify_file(folder, manifest, name)
    return manifest


def verify_file(folder: Path, manifest: Manifest, name: str) -> None:
    """Compare one file of `folder` with what `manifest` says of it. Raises: StorageError naming the file."""
    path, expected = folder / name, manifest.files[name]
    try:
        size = path.stat().st_size
        if size != expected["bytes"]:
            raise StorageError(f"{path}: {size} bytes instead of {expected['bytes']}")
        if _file_sha256(path) != expected["sha256"]:
            raise StorageError(f"{path}: its content has changed since it was written (sha256 differs)")
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from None


def is_whole(folder: Path) -> bool:
    """True when `folder` verifies."""
    try:
        verify(folder)
    except StorageError:
        return False
    return True


def _problem(fields: Mapping[str, Any]) -> str:
    """Why these are not the fields of a manifest, whoever wrote them; empty when they are."""
    if fields.keys() != _TYPES.keys() or not all(isinstance(fields[key], kind) for key, kind in _TYPES.items()):
        return f"its fields are not those of format {FORMAT}"
    files = fields["files"]
    if files.keys() != {MODEL, OPTIMIZER, STATE} or not all(_vouches(file) for file in files.values()):
        return f"it must vouch for {MODEL}, {OPTIMIZER} and {STATE}, and nothing else"
    return ""


def _vouches(file: object) -> bool:
    return isinstance(file, dict) and isinstance(file.get("bytes"), int) and isinstance(file.get("sha256"), str)


def _fields_sha256(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def _file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
