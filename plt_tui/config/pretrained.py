"""Saved weights as a configuration sees them: what lies at a path, and which values it fixes. Reads headers, never tensors.

Knows no torch, so that a command line can use it; `weights.read` loads what is found here. Invariant: nothing is written, and
nothing in a file is executed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tomli

from plt_tui.config.blueprint import NO_SHAPE_KEYS, Blueprint, blueprint, from_header
from plt_tui.config.fields import printable, shown
from plt_tui.config.hf import from_hf
from plt_tui.config.past import checkpoint_root
from plt_tui.config.schema import CheckpointSection, ModelSection, RunConfig
from plt_tui.errors import PltTuiError, StorageError, UsageError

Kind = Literal["folder", "hf", "checkpoint", "safetensors", "torch", "json"]
"""A folder of ours, of Hugging Face, a checkpoint; or one file."""

HEADER, TOKENIZER, HF_CONFIG = "model.json", "tokenizer.json", "config.json"
STATE, MANIFEST = "state.json", "manifest.json"
METADATA_KEY = "plt_tui"
"""Key of our header in the metadata of a safetensors file."""
PRETRAINED_KEYS = frozenset(
    {f"model.{key}" for key in ModelSection.model_fields if key not in NO_SHAPE_KEYS}
    | {"data.context", "data.tokenizer", "data.vocab_size"}
)
"""Every key whose value weights can fix."""
_FREE_KEYS = frozenset({"window", "window_pattern", "softcap", "norm_eps", "rope_base"})
"""Keys of [model] that may be changed for fine-tuning: the model learns them anew."""
_SUFFIXES: Mapping[str, Kind] = {".safetensors": "safetensors", ".pt": "torch", ".pth": "torch", ".json": "json"}
_CHECKPOINT = re.compile(r"step-(\d{8,})")
_MAX_HEADER_BYTES = 100_000_000
"""The limit of the safetensors format."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where weights lie: a folder or a file, as `kind` says."""

    kind: Kind
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a place says about its weights. `blueprint`: None when it says nothing."""

    blueprint: Blueprint | None = None
    tokenizer: str = ""
    """Value of `data.tokenizer` that gives the tokenizer of the weights; empty for none."""


def pretrained_values(path: str) -> dict[str, Any]:
    """The "section.key" values that the weights at `path` fix; none for a file that does not say its shape.

    Raises: UsageError or StorageError when there are no weights, or their header is not valid.
    """
    found = read_header(locate(path))
    if found.blueprint is None:
        return {}
    shape = found.blueprint.shape.model_dump(mode="json", exclude=set(NO_SHAPE_KEYS))
    tokens = {"data.tokenizer": found.tokenizer} if found.tokenizer else {"data.vocab_size": found.blueprint.vocab_size}
    return {**{f"model.{key}": value for key, value in shape.items()}, "data.context": found.blueprint.context, **tokens}


def refuse_unfit(config: RunConfig) -> None:
    """Return when the weights at `train.init_from`, if any, can begin a run of `config`, as far as their header tells.

    Raises: UsageError naming the keys with another value than the weights have, or as `pretrained_values`; StorageError.
    """
    path = config.train.init_from
    of = read_header(locate(path)).blueprint if path else None
    if of is None:
        return
    pairs = {f"model.{key}": (_sized(of.shape, key), _sized(config.model, key)) for key in _fixed_keys(of.shape, config.model)}
    if config.model.position == "learned" and config.data.context > of.context:
        pairs["data.context"] = (of.context, config.data.context)
    other = [f"{key} is {shown(ours)} instead of {shown(theirs)}" for key, (theirs, ours) in pairs.items() if theirs != ours]
    if other:
        raise UsageError(f"train.init_from: not the shape of {printable(path)}: {', '.join(other)}; leave these keys out")


def locate(path: str | Path) -> Place:
    """What lies at `path`; of a run, its newest checkpoint. Raises: UsageError when that is nothing that holds weights."""
    try:
        return _located(Path(path))
    except OSError as error:  # a folder that is closed to us, a name that is too long
        why = f"cannot be looked at: {error.strerror}"
        raise UsageError(f"{_text(Path(path))}: {why}; give a file or folder that you may read") from None


def _located(path: Path) -> Place:
    """As `locate`. Raises: UsageError; OSError where one may not look."""
    if path.is_file():
        if path.suffix not in _SUFFIXES:
            raise UsageError(f"{_text(path)}: weights are read from files ending in {', '.join(_SUFFIXES)}, or from folders")
        return Place(_SUFFIXES[path.suffix], path)
    if not path.is_dir():
        raise UsageError(f"{_text(path)}: there is nothing; give a file or folder on this machine (nothing is downloaded)")
    if (path / HEADER).is_file():
        return Place("folder", path)
    if (path / MANIFEST).is_file():
        return Place("checkpoint", path)
    if (path / HF_CONFIG).is_file():
        return Place("hf", path)
    steps = checkpoints(path)
    if not steps:
        raise UsageError(
            f"{_text(path)}: no weights: neither {HEADER} (plt-tui), {HF_CONFIG} (Hugging Face), {MANIFEST} (a checkpoint) nor "
            "a run's saved checkpoint; choose another folder"
        )
    return Place("checkpoint", steps[max(steps)])


def checkpoints(run_dir: Path) -> dict[int, Path]:
    """The saved checkpoints of a run by their step; none when `run_dir` is no run, or has saved nothing."""
    try:
        text = (run_dir / "config.toml").read_text(encoding="utf-8")
        section = CheckpointSection(dir=tomli.loads(text).get("checkpoint", {}).get("dir", ""))
        folders = list(checkpoint_root(RunConfig(checkpoint=section), run_dir).iterdir())
    except (OSError, ValueError, AttributeError):
        return {}
    steps = {int(match[1]): folder for folder in folders if (match := _CHECKPOINT.fullmatch(folder.name))}
    return {step: folder for step, folder in steps.items() if (folder / MANIFEST).is_file()}


def read_header(place: Place) -> Header:
    """Shape and tokenizer of the weights at `place`. Raises: UsageError; StorageError for a damaged checkpoint."""
    match place.kind:
        case "hf":
            return Header(blueprint=_hf_blueprint(place.path), tokenizer=_file_beside(place.path / HF_CONFIG))
        case "checkpoint":
            return _state_header(place.path / STATE)
        case "safetensors":
            value = _safetensors_header(place.path)
            return our_header(value, place.path) if value is not None else Header()
        case "torch":
            return _header_beside(place.path)  # the file itself is a pickle: only torch reads it
        case "folder":
            return our_header(read_json(place.path / HEADER), place.path / HEADER)
        case "json":
            return our_header(read_json(place.path), place.path)


def our_header(value: Mapping[str, Any], path: Path) -> Header:
    """The header of one of our own files, which lies at `path`. Raises: UsageError."""
    try:
        made = from_header(value)
    except ValueError as error:
        raise UsageError(f"{_text(path)}: not weights of plt-tui: {error}; choose another file") from None
    return Header(blueprint=made, tokenizer=_tokenizer_value(value.get("tokenizer"), _file_beside(path)))


def read_json(path: Path, error: type[PltTuiError] = UsageError) -> dict[str, Any]:
    """The JSON object in a file. Raises: `error` when there is none."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as problem:
        raise error(f"{_text(path)}: cannot be read: {problem.strerror}") from None
    except (ValueError, RecursionError) as problem:
        raise error(f"{_text(path)}: not valid JSON: {problem}; choose another file") from None
    if not isinstance(value, dict):
        raise error(f"{_text(path)}: expected a JSON object, found a {type(value).__name__}")
    return value


def _fixed_keys(saved: ModelSection, configured: ModelSection) -> list[str]:
    """The keys of [model] that must be the weights' own; what a plug-in's model makes of the others only it knows."""
    if saved.arch != "transformer" or saved.arch != configured.arch:
        return ["arch"]
    free = {*NO_SHAPE_KEYS, *_FREE_KEYS}
    if not (saved.ffn and configured.ffn):  # the model knows its size
        free.add("ffn")
    if saved.heads != configured.heads:  # then as many key-value heads would be the same mistake again
        free.add("kv_heads")
    return [key for key in ModelSection.model_fields if key not in free]


def _sized(shape: ModelSection, key: str) -> object:
    return shape.kv_heads or shape.heads if key == "kv_heads" else getattr(shape, key)


def _hf_blueprint(folder: Path) -> Blueprint:
    try:
        return from_hf(read_json(folder / HF_CONFIG))
    except ValueError as error:
        raise UsageError(f"{_text(folder / HF_CONFIG)}: {error}") from None


def _state_header(path: Path) -> Header:
    """Of a checkpoint, whose state holds the tokenizer too."""
    state = read_json(path, StorageError)
    shape, tokenizer = state.get("shape"), state.get("tokenizer")
    if not isinstance(shape, dict) or not isinstance(tokenizer, dict):
        raise StorageError(f"{_text(path)}: not the state of a checkpoint: no shape and tokenizer; choose another checkpoint")
    section = {key: value for key, value in shape.items() if key not in ("context", "vocab_size")}
    try:
        made = blueprint(section, context=shape.get("context"), vocab_size=shape.get("vocab_size"))
    except ValueError as error:
        raise StorageError(f"{_text(path)}: {error}; choose another checkpoint") from None
    # A run keeps its tokenizer beside the checkpoints too: those may be pruned while somebody else still needs it.
    kept = path.parent.parent.parent / TOKENIZER
    return Header(blueprint=made, tokenizer=_tokenizer_value(tokenizer.get("kind"), str(kept if kept.is_file() else path)))


def _safetensors_header(path: Path) -> dict[str, Any] | None:
    """Our header in a safetensors file's metadata, None when it has none. Layout: u64 size, then that many bytes of JSON."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > _MAX_HEADER_BYTES:
                raise ValueError(f"a header of {size} bytes")
            text = json.loads(file.read(size)).get("__metadata__", {}).get(METADATA_KEY)
            value = None if text is None else json.loads(text)
    except OSError as error:
        raise UsageError(f"{_text(path)}: cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{_text(path)}: not a safetensors file ({error}); choose another file") from None
    return value if isinstance(value, dict) else None


def _header_beside(path: Path) -> Header:
    """Of a torch file that still lies in the folder of our export, what `model.json` says there."""
    beside = path.parent / HEADER
    return read_header(Place("folder", path.parent)) if beside.is_file() else Header()


def _tokenizer_value(kind: object, file: str) -> str:
    """`data.tokenizer` for a tokenizer of `kind`, which lies in `file` if it needs one."""
    if kind == "byte":
        return "byte"
    return "" if kind is None or kind == "ids" else file


def _file_beside(path: Path) -> str:
    """The tokenizer file in the folder of `path`; empty when there is none."""
    tokenizer = path.parent / TOKENIZER
    return str(tokenizer) if tokenizer.is_file() else ""


def _text(path: Path) -> str:
    return printable(str(path))
