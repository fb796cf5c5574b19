"""Weights into a new folder, in one of four formats.

    hf           config.json  generation_config.json  model.safetensors  tokenizer.json  tokenizer_config.json
    safetensors  model.json (shape, context, vocabulary)  model.safetensors  tokenizer.json
    torch        model.json  model.pt  tokenizer.json
    json         model.json, the numbers included  tokenizer.json

Never writes into a folder that holds something. Invariant: the folder appears whole, or not at all.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from plt_tui.config.blueprint import Blueprint, header
from plt_tui.config.fields import printable, shown
from plt_tui.config.pretrained import HEADER, METADATA_KEY, TOKENIZER
from plt_tui.data.tokenizer import Tokenizer
from plt_tui.errors import StorageError, UsageError
from plt_tui.weights import hf
from plt_tui.weights.bundle import Weights, tokenizer_of
from plt_tui.weights.formats import refuse_large_json, write_json, write_safetensors, write_torch
from plt_tui.weights.read import SAFETENSORS, TORCH, load
from plt_tui.weights.tokenizers import library_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What `convert` has done."""

    source: str
    """Where the weights came from: of a run, the checkpoint."""
    files: tuple[str, ...]
    num_parameters: int
    notes: tuple[str, ...]
    """What a user should know of the result."""


def convert(source: str | Path, form: str, folder: Path, *, read: Callable[[str | Path], Weights] = load) -> Written:
    """Load the weights at `source` and write them to `folder`, which must not exist or be empty, in the format `form`.

    `read`: instead of `load`. Raises: UsageError, StorageError or DataError, as `load`; UsageError when the format cannot
    hold the model. Nothing is left at `folder` then.
    """
    if form not in WRITERS:
        raise UsageError(f"--format {shown(form)}: unknown; known: {', '.join(WRITERS)}")
    folder = folder.absolute()
    _refuse_taken(folder)
    weights = read(source)
    if weights.blueprint is None:
        raise UsageError(
            f"{printable(weights.source)}: tensors without their shape; name the file in train.init_from of a configuration "
            "whose [model] has it"
        )
    with _new_folder(folder) as temporary:
        notes = WRITERS[form](weights, weights.blueprint, temporary)
        files = tuple(sorted(path.name for path in temporary.iterdir()))
    if tokenizer_of(weights, weights.blueprint).kind == "ids":
        notes.append("there is no tokenizer: the model knows token ids only")
    num_parameters = sum(tensor.numel() for tensor in weights.tensors.values())
    return Written(source=weights.source, files=files, num_parameters=num_parameters, notes=tuple(notes))


def _safetensors(weights: Weights, of: Blueprint, folder: Path) -> list[str]:
    metadata = {METADATA_KEY: _write_header(weights, of, folder)}
    write_safetensors(folder / SAFETENSORS, weights.tensors, metadata)
    return []


def _torch(weights: Weights, of: Blueprint, folder: Path) -> list[str]:
    _write_header(weights, of, folder)
    tokenizer = tokenizer_of(weights, of)
    content = {**header(of, tokenizer.kind), "tokenizer": tokenizer.to_json(), "model": dict(weights.tensors)}
    write_torch(folder / TORCH, content)
    return []


def _json(weights: Weights, of: Blueprint, folder: Path) -> list[str]:
    refuse_large_json(weights.tensors)
    tokenizer = tokenizer_of(weights, of)
    _write_tokenizer(tokenizer, folder)
    write_json(folder / HEADER, header(of, tokenizer.kind), weights.tensors)
    return []


Writer = Callable[[Weights, Blueprint, Path], list[str]]
WRITERS: Mapping[str, Writer] = {"hf": hf.write_folder, "safetensors": _safetensors, "torch": _torch, "json": _json}
"""By format. Each writes into an empty folder and returns notes."""


def _write_header(weights: Weights, of: Blueprint, folder: Path) -> str:
    """`model.json` and the tokenizer. Returns the header as one line."""
    tokenizer = tokenizer_of(weights, of)
    content = header(of, tokenizer.kind)
    (folder / HEADER).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    _write_tokenizer(tokenizer, folder)
    return json.dumps(content)


def _write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """`tokenizer.json`, of a kind that needs one: the library's own form where there is one, else ours."""
    if tokenizer.kind in ("byte", "ids"):
        return
    content = tokenizer.to_json() if tokenizer.kind == "char" else library_json(tokenizer)
    (folder / TOKENIZER).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that takes its name when the block ends well, and is removed when not. Raises: StorageError."""
    temporary = folder.parent / f".{folder.name}.tmp-{secrets.token_hex(4)}"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in (*temporary.iterdir(), temporary):
            _sync(path)
        temporary.rename(folder)
        _sync(folder.parent)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{printable(str(folder))}: cannot be written: {error}; choose another folder") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _refuse_taken(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{printable(str(folder))} exists already; choose another folder, or remove it")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
