"""`load`: the weights at a path, whatever their format, checked against the shape that comes with them.

Writes nothing. Invariant: weights that come with a shape fit a model of that shape, and a tokenizer that
comes with them has its ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from plt_tui.config.blueprint import Blueprint
from plt_tui.config.fields import printable
from plt_tui.config.pretrained import HEADER, MANIFEST, STATE, Header, Place, locate, our_header, read_header, read_json
from plt_tui.data.tokenizer import from_json, load_file
from plt_tui.errors import StorageError, UsageError
from plt_tui.weights import hf
from plt_tui.weights.bundle import Weights, mismatches, parameters_of, some
from plt_tui.weights.digest import weights_sha256
from plt_tui.weights.formats import as_float32, json_tensors, only_tensors, read_safetensors, read_torch

SAFETENSORS, TORCH = "model.safetensors", "model.pt"
"""Files of tensors in a folder of ours; without either they stand in the header itself, as JSON."""


def load(path: str | Path) -> Weights:
    """The weights that `train.init_from` can name: see `config.pretrained.locate`.

    Raises: UsageError when there are none, or they do not match their shape; StorageError for damaged files; DataError for a
    tokenizer that cannot be read.
    """
    place = locate(path)
    match place.kind:
        case "hf":
            return _from_hf(place)
        case "checkpoint":
            return _from_checkpoint(place)
        case "safetensors":
            header = read_header(place)  # first: says of a file of another kind that it is one
            return _made(place.path, read_safetensors(place.path), header)
        case "torch":
            return _from_torch(place.path)
        case "json":
            return _from_json(place.path)
        case "folder":
            return _from_folder(place.path)


def _from_hf(place: Place) -> Weights:
    header = read_header(place)
    made = header.blueprint
    assert made is not None, "a config.json gives a shape or an error"
    tensors, tokenizer = hf.read_tensors(place.path, made), _tokenizer(header)
    if tokenizer is not None and (vocab_size := from_json(dict(tokenizer)).vocab_size) < made.vocab_size:
        tensors = hf.without_padding(tensors, vocab_size)
        made = Blueprint(shape=made.shape, context=made.context, vocab_size=vocab_size)
    return _of_one_model(Weights(source=str(place.path), tensors=tensors, blueprint=made, tokenizer=tokenizer))


def _from_checkpoint(place: Place) -> Weights:
    path = place.path / SAFETENSORS
    tensors = read_safetensors(path)
    if weights_sha256(tensors) != read_json(place.path / MANIFEST, StorageError).get("weights_sha256"):
        raise StorageError(
            f"{_text(path)}: these are not the weights that were saved (sha256 differs); choose an older checkpoint"
        )
    state = read_json(place.path / STATE, StorageError)
    return _checked(place.path, tensors, read_header(place).blueprint, state["tokenizer"])


def _from_torch(path: Path) -> Weights:
    """A file of ours, or a state dict alone."""
    content = read_torch(path)
    if "model" not in content:
        return _made(path, only_tensors(content, path), Header())
    header = our_header({**content, "tokenizer": None}, path)
    tokenizer = content.get("tokenizer")
    if tokenizer is not None and not isinstance(tokenizer, Mapping):
        raise UsageError(f"{_text(path)}: tokenizer: expected a dict, found a {type(tokenizer).__name__}")
    return _checked(path, only_tensors(content["model"], path), header.blueprint, tokenizer)


def _from_json(path: Path) -> Weights:
    content = read_json(path)
    header = our_header(content, path)
    return _made(path, json_tensors(content.get("tensors"), path), header)


def _from_folder(folder: Path) -> Weights:
    if (folder / SAFETENSORS).is_file():
        return _made(folder, read_safetensors(folder / SAFETENSORS), read_header(Place("folder", folder)))
    if (folder / TORCH).is_file():
        return _from_torch(folder / TORCH)
    return _from_json(folder / HEADER)


def _made(path: Path, tensors: Mapping[str, Tensor], header: Header) -> Weights:
    return _checked(path, tensors, header.blueprint, _tokenizer(header))


def _checked(path: Path, tensors: Mapping[str, Tensor], of: Blueprint | None, tokenizer: Mapping[str, Any] | None) -> Weights:
    """Weights whose tensors are those of their shape; a plug-in's model only it knows."""
    converted = as_float32(tensors, path)
    if of is not None and of.shape.arch == "transformer":
        problems = mismatches(converted, parameters_of(of)) if of.shape.layers <= len(converted) else ["layers are missing"]
        if problems:
            raise UsageError(
                f"{_text(path)}: not the tensors of the shape that it names: {some(problems)}; choose other weights"
            )
    return _of_one_model(Weights(source=str(path), tensors=converted, blueprint=of, tokenizer=tokenizer))


def _of_one_model(weights: Weights) -> Weights:
    """`weights`, whose tokenizer has the model's ids. Raises: UsageError when it has others; DataError when it is none."""
    if weights.blueprint is None or weights.tokenizer is None:
        return weights
    ids, known = from_json(dict(weights.tokenizer)).vocab_size, weights.blueprint.vocab_size
    if ids != known:
        raise UsageError(
            f"{printable(weights.source)}: its tokenizer has {ids} ids, but the model {known}; they do not belong together; "
            "take both from the same model"
        )
    return weights


def _tokenizer(header: Header) -> Mapping[str, Any] | None:
    """What the header's `data.tokenizer` stands for. Raises: DataError."""
    if header.blueprint is None:
        return None
    if header.tokenizer == "byte":
        return {"kind": "byte"}
    if header.tokenizer:
        return load_file(Path(header.tokenizer)).to_json()
    return {"kind": "ids", "vocab_size": header.blueprint.vocab_size}


def _text(path: Path) -> str:
    return printable(str(path))
