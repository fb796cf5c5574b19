"""Checkpoints on disk: written so that a reader sees a whole one or none, and verified to the byte before they are loaded.

    step-00000500/ model.safetensors  optimizer.safetensors  state.json  manifest.json (last: size and sha256 of the others)

A save goes to `.tmp-...`, every file is synced, the manifest is written last, the folder is renamed and its parent synced; only
then the checkpoint exists, and it is never written again. No pickle. Only rank 0 writes; every rank may read. Knows nothing of
models: it moves named tensors.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from plt_tui import __version__
from plt_tui.errors import StorageError
from plt_tui.protocol.manifest import CHUNK_BYTES, FORMAT, MANIFEST, MODEL, OPTIMIZER, STATE, Manifest, read_manifest, verify
from plt_tui.weights.digest import weights_sha256

_FOLDER = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A copy of everything a resume needs, taken at a step boundary; later steps do not change it."""

    step: int
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    state: Mapping[str, Any]
    """Built-in values: cursor, tokens, fingerprint, tokenizer, shape, loss scale, and what the bits depend on."""
    name: str = ""


def copy_tensors(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Copies in main memory that later steps do not change."""
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors}


def write(root: Path, snapshot: Snapshot) -> tuple[Path, Manifest]:
    """Put `snapshot` on disk as `root/step-N`, which must not exist yet; returns its folder and manifest.

    Raises: StorageError; nothing of it is left on disk then.
    """
    final = root / folder_name(snapshot.step)
    temporary = root / f".tmp-{snapshot.step:08d}-{secrets.token_hex(4)}"
    try:
        temporary.mkdir(parents=True, mode=0o700)
        contents: Mapping[str, Callable[[], bytes]] = {  # made one by one: each is a second copy in memory
            MODEL: lambda: save(dict(snapshot.model)),
            OPTIMIZER: lambda: save(dict(snapshot.optimizer)),
            STATE: lambda: json.dumps(snapshot.state, indent=1).encode(),
        }
        files = {name: _write_file(temporary / name, content()) for name, content in contents.items()}
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
        _write_file(temporary / MANIFEST, json.dumps(asdict(manifest), indent=1).encode())
        _sync_folder(temporary)
        temporary.rename(final)
        _sync_folder(root)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{final}: {error}; the checkpoint before it is untouched") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return final, manifest


def give_name(folder: Path, name: str) -> Manifest:
    """Name the checkpoint in `folder`, which keeps it from being pruned; returns its manifest. Raises: StorageError."""
    manifest = replace(read_manifest(folder), name=name)
    temporary = folder / f".{MANIFEST}.{secrets.token_hex(4)}"
    try:
        _write_file(temporary, json.dumps(asdict(manifest), indent=1).encode())
        temporary.replace(folder / MANIFEST)
        _sync_folder(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(f"{folder}: cannot be named: {error.strerror}") from None
    return manifest


def read(folder: Path) -> Snapshot:
    """The checkpoint in `folder`, its weights compared with the hash in its manifest; `verify` compares every byte.

    Raises: StorageError naming what is not as it was written.
    """
    manifest = read_manifest(folder)
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
    """All checkpoint folders under `root`, the newest step first; says nothing about whether they are whole."""
    try:
        folders = [path for path in root.iterdir() if step_of(path) >= 0]
    except OSError:
        return []
    return sorted(folders, key=step_of, reverse=True)


def newest_good(root: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that verifies, and why newer ones were passed over."""
    rejected: list[str] = []
    for folder in find(root):
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


def prune(root: Path, keep: int, good: Collection[Path]) -> None:
    """Delete what is older than the `keep` newest of the checkpoints in `good`, which are known to be whole; named ones stay.

    The manifest goes first, so that a half-deleted checkpoint is never taken for a whole one.
    """
    kept = 0
    for folder in find(root):
        if kept >= keep and not _is_named(folder):
            with contextlib.suppress(OSError):  # a checkpoint that cannot be deleted costs space, not the run
                (folder / MANIFEST).unlink(missing_ok=True)
                shutil.rmtree(folder)
        kept += folder in good


def set_aside(root: Path, after_step: int) -> list[Path]:
    """Rename every checkpoint of a later step than `after_step` out of the way, and return the new names.

    They are damaged, or belong to a past that the run leaves by resuming before them: neither may ever be resumed by itself,
    nor count as one that is kept. Nothing is deleted. Only while holding the run's lock. Raises: StorageError.
    """
    moved = []
    for folder in find(root):
        if step_of(folder) > after_step:
            aside = folder.with_name(f"{folder.name}.aside-{secrets.token_hex(3)}")
            try:
                folder.rename(aside)
            except OSError as error:
                raise StorageError(f"{folder}: cannot be renamed: {error.strerror}") from None
            moved.append(aside)
    return moved


def folder_name(step: int) -> str:
    """Name of the folder of a step's checkpoint."""
    return f"step-{step:08d}"


def step_of(folder: Path) -> int:
    """The step in a checkpoint folder's name, -1 when it is not named like one."""
    match = _FOLDER.fullmatch(folder.name)
    return int(match[1]) if match is not None else -1


def clear_leftovers(root: Path) -> None:
    """Delete what killed saves left behind; call only while holding the run's lock."""
    for path in root.glob(".tmp-*"):
        shutil.rmtree(path, ignore_errors=True)


def _is_named(folder: Path) -> bool:
    try:
        return bool(read_manifest(folder).name)
    except StorageError:
        return False


def _write_file(path: Path, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("xb") as file:
        for start in range(0, len(content), CHUNK_BYTES):
            chunk = memoryview(content)[start : start + CHUNK_BYTES]
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return {"bytes": len(content), "sha256": digest.hexdigest()}


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
