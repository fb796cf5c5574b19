"""Weights with what is known of them, and how they get into a model.

Reads and writes no files. Invariant: a model is filled whole or not touched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from plt_tui.config.blueprint import Blueprint
from plt_tui.config.fields import printable, shown
from plt_tui.config.schema import ModelSection
from plt_tui.data.tokenizer import IdTokenizer, Tokenizer, from_json
from plt_tui.errors import UsageError
from plt_tui.model.base import LanguageModel
from plt_tui.model.transformer import TransformerLM

POSITIONS = "positions.weight"
_MAX_NAMED = 5
_MEANINGS = ("arch", "heads", "kv_heads", "norm", "position", "activation", "qk_norm")
"""Keys of [model] that change what weights mean without changing their sizes; window, soft cap, epsilon and rotary base may be
changed for fine-tuning, and are learned anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """All parameters of a model."""

    source: str
    """Where they came from, for messages."""
    tensors: Mapping[str, Tensor]
    """By our names: float32, in main memory."""
    blueprint: Blueprint | None = None
    """None when the source holds tensors only."""
    tokenizer: Mapping[str, Any] | None = None
    """As `data.tokenizer.from_json` reads it."""


def load_into(weights: Weights, model: LanguageModel) -> None:
    """Copy `weights` into `model`, whose configuration may ask for a shorter context than they were trained with.

    Raises: UsageError naming each thing that does not fit; the model is unchanged then.
    """
    parameters = dict(model.named_parameters())
    tensors = {**weights.tensors}
    if POSITIONS in tensors and POSITIONS in parameters:
        tensors[POSITIONS] = tensors[POSITIONS][: model.context]
    meanings = _other_meanings(weights.blueprint.shape, model.shape) if weights.blueprint is not None else []
    problems = [*meanings, *mismatches(tensors, parameters)]
    if problems:
        raise UsageError(
            f"{printable(weights.source)}: the weights do not fit the configured model: {some(problems)}; "
            f"leave out the keys of [model], data.context and data.tokenizer that differ{_unseen_shape(weights)}"
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


def tokenizer_of(weights: Weights, of: Blueprint) -> Tokenizer:
    """The tokenizer of weights whose shape is `of`: theirs, or one of bare ids. Raises: DataError."""
    return from_json(dict(weights.tokenizer)) if weights.tokenizer is not None else IdTokenizer(of.vocab_size)


def parameters_of(of: Blueprint) -> dict[str, Tensor]:
    """Names and sizes of the parameters of the transformer that `of` describes, as tensors without memory."""
    with torch.device("meta"):
        return dict(TransformerLM(of.shape, vocab_size=of.vocab_size, context=of.context).named_parameters())


def mismatches(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """What keeps `found` from being values of `expected`: names that are missing or unknown, and other sizes."""
    missing = [f"{printable(name)} is missing" for name in expected if name not in found]
    unknown = [f"{printable(name)} is unknown" for name in found if name not in expected]
    sizes = [
        f"{name} is {_size(found[name])} instead of {_size(tensor)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    return [*sizes, *missing, *unknown]


def some(problems: list[str]) -> str:
    """The first problems and the number of others, in one line."""
    more = len(problems) - _MAX_NAMED
    return ", ".join(problems[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _unseen_shape(weights: Weights) -> str:
    """What else to do where the shape is in a pickle, which a configuration does not open."""
    if weights.blueprint is None or not weights.source.endswith((".pt", ".pth")):
        return ""
    return f"; or name the folder that this makes, which gives its shape: plt-tui import {printable(weights.source)} -o DIR"


def _other_meanings(saved: ModelSection, configured: ModelSection) -> list[str]:
    pairs = {key: (_meaning(saved, key), _meaning(configured, key)) for key in _MEANINGS}
    return [
        f"model.{key} is {shown(theirs)} instead of {shown(ours)}" for key, (theirs, ours) in pairs.items() if theirs != ours
    ]


def _meaning(shape: ModelSection, key: str) -> object:
    return getattr(shape, key) or shape.heads if key == "kv_heads" else getattr(shape, key)


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"
