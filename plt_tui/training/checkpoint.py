"""Checkpoints on disk: written so that a reader sees a whole one or none, and verified to the byte before they are loaded.

    step-00000500/ model.safetensors  optimizer.safetensors  state.json  manifest.json (last: size and sha256 of the others)

A save goes to `.tmp-...`: every file is synced, the manifest is written last, all are read back from the disk, the folder is
renamed and its parent synced; only then the checkpoint exists, and it is never written again. No pickle. Only rank 0 writes;
every rank may read. Knows nothing of models: it moves named tensors. Invariant: at every instant, also that of a power cut, a
folder `step-*` that this module made or deletes is whole; what is not, is called `.tmp-*`, and anybody may delete it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from plt_tui import __version__, failpoints
from plt_tui.errors import StorageError
from plt_tui.protocol.durable import make_folder, sync_folder
from plt_tui.protocol.manifest import (
    ASIDE,
    CHUNK_BYTES,
    FORMAT,
    MANIFEST,
    MODEL,
    OPTIMIZER,
    STATE,
    Manifest,
    folder_name,
    manifest_at,
    read_manifest,
    step_of,
    to_json,
    verify,
    verify_file,
)
from plt_tui.weights.digest import weights_sha256
from plt_tui.weights.stream import pieces

_UNFINISHED = ".tmp-"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_HINTS: Mapping[int | None, str] = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space of your quota",
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f)",
    errno.EACCES: "make the folder writable",
    errno.EPERM: "make the folder writable",
    errno.EROFS: "the disk is read-only, look for the reason in the kernel's log (dmesg)",
    errno.EIO: "the disk may be failing, look at the kernel's log (dmesg)",
    errno.EEXIST: "rename what is there",
    errno.ENOTEMPTY: "rename what is there",
    errno.ENOTDIR: "rename the file that is in the place of a folder",
}


class NoSpace(StorageError):
    """There is no room for a checkpoint: the disk is full, or the quota used up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A copy of everything a resume needs, taken at a step boundary; later steps do not change it."""

    step: int
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    state: Mapping[str, Any]
    """Built-in values: cursor, tokens, fingerprint, tokenizer, shape, loss scale, and what the bits depend on."""
    name: str = ""

    @property
    def bytes(self) -> int:
        """Size of all tensors."""
        return sum(tensor.nbytes for tensor in (*self.model.values(), *self.optimizer.values()))


def copy_tensors(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Copies in main memory that later steps do not change."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors}


def write(root: Path, snapshot: Snapshot) -> tuple[Path, Manifest]:
    """Put `snapshot` on disk as `root/step-N`, which must not exist yet, and read it back; returns its folder and manifest.

    It is read back before it gets its name: what the disk does not give back as it was written, no reader ever sees.
    Raises: StorageError, NoSpace where there is no room; nothing of it is left on disk then.
    """
    final = root / folder_name(snapshot.step)
    temporary = _unfinished(root, snapshot.step)
    try:
        with _refusals_of(final):
            make_folder(root)
            temporary.mkdir(mode=0o700)
            failpoints.reach("save.folder-made")
        manifest = _write_files(temporary, final, snapshot)
        with _refusals_of(final):
            sync_folder(temporary)
            failpoints.reach("save.folder-synced")
            _read_back(temporary, final)
            failpoints.reach("save.read-back")
            _publish(temporary, final)
    finally:
        _remove(temporary)
    return final, manifest


def give_name(folder: Path, name: str) -> Manifest:
    """Name the checkpoint in `folder`, which keeps it from being pruned; returns its manifest.

    Raises: StorageError; the checkpoint is whole then, under the old name or the new one.
    """
    manifest = replace(read_manifest(folder), name=name)
    temporary = folder / f"{_UNFINISHED}{secrets.token_hex(4)}"
    try:
        with _refusals_of(folder / MANIFEST, "not named"):
            _write_file(temporary, [to_json(manifest)], f"name.{MANIFEST}")
            if manifest_at(temporary) != manifest:
                raise StorageError(
                    f"{folder / MANIFEST}: not named: the disk does not give back what is written; {_HINTS[errno.EIO]}"
                )
            temporary.replace(folder / MANIFEST)
            failpoints.reach("name.replaced")
            sync_folder(folder)
            failpoints.reach("name.folder-synced")
    finally:
        _remove(temporary)
    return manifest


def read(folder: Path) -> Snapshot:
    """The checkpoint in `folder`, all of it compared with the hashes in its manifest.

    Raises: StorageError naming what is not as it was written.
    """
    manifest = read_manifest(folder)
    for name in (OPTIMIZER, STATE):
        verify_file(folder, manifest, name)
    try:
        model = load_file(folder / MODEL)
        optimizer = load_file(folder / OPTIMIZER)
        state = json.loads((folder / STATE).read_text())
    except (OSError, ValueError, SafetensorError) as error:
        raise StorageError(f"{folder}: {error}") from None
    if weights_sha256(model) != manifest.weights_sha256:
        raise StorageError(f"{folder / MODEL}: these are not the weights that were saved (sha256 differs)")
    return Snapshot(step=manifest.step, model=model, optimizer=optimizer, state=state, name=manifest.name)


def find(root: Path) -> list[Path]:
    """All checkpoint folders under `root`, the newest step first; says nothing about whether they are whole.

    A link is none: what it leads to is not this run's, and cannot be told from what somebody else laid there.
    """
    try:
        folders = [path for path in root.iterdir() if step_of(path) >= 0 and not path.is_symlink()]
    except OSError:
        return []
    return sorted(folders, key=step_of, reverse=True)


def newest_good(root: Path, last: float = math.inf) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that verifies, of step `last` at most, and why newer ones of those were passed over."""
    rejected: list[str] = []
    for folder in (found for found in find(root) if step_of(found) <= last):
        try:
            verify(folder)
        except StorageError as error:
            rejected.append(str(error))
        else:
            return folder, rejected
    return None, rejected


def is_finite(weights: Iterable[Tensor]) -> bool:
    """True when all weights are numbers: a NaN or an infinity never becomes anything else."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in weights)


def prune(root: Path, keep: int, good: Collection[Path], *, spared: Collection[Path] = ()) -> None:
    """Delete what is older than the `keep` newest of the checkpoints in `good`, which are known to be whole.

    Named ones stay, those in `spared`, and those whose manifest cannot be read: nobody can say that they have no name.
    """
    kept, old = 0, []
    for folder in find(root):
        with contextlib.suppress(StorageError):
            is_named = bool(read_manifest(folder).name)
            if kept >= keep and not is_named and folder not in spared:
                old.append(folder)
            kept += folder in good
    _delete(root, old)


def make_room(root: Path, needed_bytes: int) -> Path | None:
    """Delete the oldest unnamed checkpoint where that makes room for `needed_bytes`; returns what it was called.

    Only where another unnamed one stays that is newer and whole: all that count are read for it.
    """
    unnamed = []
    for folder in find(root):
        with contextlib.suppress(StorageError):
            manifest = verify(folder)
            if not manifest.name:
                unnamed.append((folder, manifest.bytes))
    if len(unnamed) < 2:
        return None
    oldest, its_bytes = unnamed[-1]
    if shutil.disk_usage(root).free + its_bytes < needed_bytes:
        return None
    _delete(root, [oldest])
    return oldest


def set_aside(root: Path, after_step: int) -> list[Path]:
    """Rename every checkpoint of a later step than `after_step` out of the way, and return the new names.

    They are damaged, or belong to a past that the run leaves by resuming before them: neither may ever be resumed by itself,
    nor count as one that is kept. Nothing is deleted. The newest goes last: until then a reader finds what it found before.
    Only while holding the run's lock. Raises: StorageError.
    """
    moved = [put_aside(folder) for folder in reversed(find(root)) if step_of(folder) > after_step]
    if moved:
        with _refusals_of(root, "not synced"):
            sync_folder(root)
            failpoints.reach("aside.root-synced")
    return moved


def put_aside(folder: Path) -> Path:
    """Rename one checkpoint out of the way, and return its new name. Raises: StorageError."""
    aside = folder.with_name(f"{folder.name}{ASIDE}{secrets.token_hex(3)}")
    with _refusals_of(folder, "cannot be renamed"):
        folder.rename(aside)
        failpoints.reach("aside.renamed")
    return aside


def clear_leftovers(root: Path) -> None:
    """Delete what killed saves, names and deletions left behind; call only while holding the run's lock."""
    for path in (*root.glob(f"{_UNFINISHED}*"), *root.glob(f"step-*/{_UNFINISHED}*")):
        _remove(path)


def _write_files(temporary: Path, final: Path, snapshot: Snapshot) -> Manifest:
    contents: Mapping[str, Iterable[bytes | memoryview]] = {
        MODEL: pieces(snapshot.model),
        OPTIMIZER: pieces(snapshot.optimizer),
        STATE: [json.dumps(snapshot.state, indent=1).encode()],
    }
    files = {}
    for name, content in contents.items():
        with _refusals_of(final / name):
            files[name] = _write_file(temporary / name, content, f"save.{name}")
    manifest = Manifest(
        format=FORMAT,
        step=snapshot.step,
        name=snapshot.name,
        weights_sha256=weights_sha256(snapshot.model),
        files=files,
        written_at=time.time(),
        plt_tui=__version__,
        torch=str(torch.__version__),
    )
    with _refusals_of(final / MANIFEST):
        _write_file(temporary / MANIFEST, [to_json(manifest)], f"save.{MANIFEST}")
    return manifest


def _read_back(temporary: Path, final: Path) -> None:
    try:
        verify(temporary)
    except StorageError as error:
        read = str(error).replace(str(temporary), str(final))
        raise StorageError(f"{read}; the disk does not give back what is written: {_HINTS[errno.EIO]}") from None


def _publish(temporary: Path, final: Path) -> None:
    """Give a checkpoint its name, or leave it without one: a name that a power cut could take away is taken back at once."""
    temporary.rename(final)
    try:
        failpoints.reach("save.renamed")
        sync_folder(final.parent)
        failpoints.reach("save.root-synced")
    except BaseException:
        final.rename(temporary)
        raise


def _delete(root: Path, folders: Iterable[Path]) -> None:
    """Delete checkpoints; one that cannot be deleted costs space, not the run.

    First they lose their names, for good: a half-deleted checkpoint is never taken for a whole one.
    """
    with contextlib.suppress(OSError):
        nameless = []
        for folder in folders:
            nameless.append(folder.rename(_unfinished(root, step_of(folder))))
            failpoints.reach("prune.renamed")
        if nameless:
            sync_folder(root)
            failpoints.reach("prune.root-synced")
        for path in nameless:
            _remove(path)
            failpoints.reach("prune.removed")


def _unfinished(root: Path, step: int) -> Path:
    return root / f"{_UNFINISHED}{step:08d}-{secrets.token_hex(4)}"


def _remove(path: Path) -> None:
    """Delete what is there, if anything is; what cannot be deleted is left to `clear_leftovers`."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _write_file(path: Path, content: Iterable[bytes | memoryview], point: str) -> dict[str, Any]:
    """Write and sync a new file. When that fails it is never tried again with the same file: a second sync tells nothing."""
    digest, size = hashlib.sha256(), 0
    with path.open("xb") as file:
        failpoints.reach(point, "opened")
        for piece in content:
            size += len(piece)
            for start in range(0, len(piece), CHUNK_BYTES):
                chunk = memoryview(piece)[start : start + CHUNK_BYTES]
                digest.update(chunk)
                file.write(chunk)
        file.flush()
        failpoints.reach(point, "written")
        os.fsync(file.fileno())
        failpoints.reach(point, "synced")
        if hasattr(os, "posix_fadvise"):  # who reads it back shall ask the disk, not this memory
            with contextlib.suppress(OSError):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return {"bytes": size, "sha256": digest.hexdigest()}


@contextlib.contextmanager
def _refusals_of(path: Path, what: str = "not saved") -> Iterator[None]:
    """What the disk or the format refuses becomes a StorageError that names `path` and says what to do."""
    try:
        yield
    except OSError as error:
        kind = NoSpace if error.errno in _NO_SPACE else StorageError
        hint = _HINTS.get(error.errno, "see that the folder can be written")
        raise kind(f"{path}: {what}: {error.strerror or error}; {hint}") from None
    except SafetensorError as error:
        raise StorageError(f"{path}: {what}: {error}") from None
