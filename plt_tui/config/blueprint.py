"""What must be known of saved weights to build their model: shape, context, vocabulary; and the header that says so in files.

Pure; reads no files. Invariant: a Blueprint that exists has a valid shape, and `from_header(header(b, kind)) == b`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from plt_tui.config.fields import shown
from plt_tui.config.schema import LARGEST, ModelSection

FORMAT = "plt-tui weights 1"
"""Value of the key "format" of our own files."""
NO_SHAPE_KEYS = frozenset({"preset", "dropout", "init"})
"""Keys of [model] that say nothing about trained weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """A model without its numbers."""

    shape: ModelSection
    """Its keys of NO_SHAPE_KEYS have their defaults."""
    context: int
    vocab_size: int


def blueprint(shape: object, *, context: object, vocab_size: object) -> Blueprint:
    """The blueprint of values out of a file; keys of [model] that the file does not know have their defaults.

    Raises: ValueError naming the key and its value.
    """
    if not isinstance(shape, Mapping):
        raise ValueError(f"shape: expected a table, found {seen(shape)}")
    try:
        section = ModelSection.model_validate({key: shape[key] for key in shape if key not in NO_SHAPE_KEYS})
    except ValidationError as error:
        raise ValueError("; ".join(map(_sentence, error.errors(include_url=False)))) from None
    return Blueprint(shape=section, context=count("context", context), vocab_size=count("vocab_size", vocab_size))


def count(key: str, value: object) -> int:
    """`value`, which must be a number of things. Raises: ValueError naming `key`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST:
        raise ValueError(f"{key}: expected a whole number >= 1, found {seen(value)}")
    return value


def header(of: Blueprint, tokenizer_kind: str) -> dict[str, Any]:
    """What our files begin with; the tokenizer itself lies beside them, unless its kind says everything."""
    return {
        "format": FORMAT,
        "shape": of.shape.model_dump(mode="json", exclude=set(NO_SHAPE_KEYS)),
        "context": of.context,
        "vocab_size": of.vocab_size,
        "tokenizer": tokenizer_kind,
    }


def from_header(value: Mapping[str, Any]) -> Blueprint:
    """The blueprint in a file's header. Raises: ValueError when it is none of ours, or not valid."""
    if value.get("format") != FORMAT:
        raise ValueError(f'format: expected text "{FORMAT}", found {seen(value.get("format"))}')
    return blueprint(value.get("shape"), context=value.get("context"), vocab_size=value.get("vocab_size"))


def seen(value: object) -> str:
    """A JSON value as a message shows it."""
    return "null" if value is None else shown(value)


def _sentence(detail: Mapping[str, Any]) -> str:
    text = str(detail["ctx"]["error"]) if detail["type"] == "value_error" else detail["msg"]
    return f"model.{'.'.join(map(str, detail['loc']))} = {seen(detail['input'])}: {text}"
