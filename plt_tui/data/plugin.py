"""Corpora that a plug-in gives, document by document: `plugin:NAME` or `plugin:NAME:ARGUMENT`.

The plug-in is a callable `documents(argument: str) -> Iterator[str]` that yields one text per document, the same ones in the
same order at each call: it is called once to learn a vocabulary, and once to tokenise. Its optional attribute
`fingerprint(argument) -> str` names the content; without it a corpus that changes elsewhere is not noticed while the plug-in's
code stays the same. What a plug-in gives cannot be cut into parts that are read by themselves: one thread reads it from the
start, also after an interruption. Invariant: an error in a plug-in's code names the plug-in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from plt_tui.data.corpus import Piece
from plt_tui.data.sources import PLUGIN_PREFIX, Source
from plt_tui.errors import DataError, PltTuiError
from plt_tui.plugins import Plugins, split_name


def is_plugin(source: Source) -> bool:
    """True when a plug-in gives the text of `source`."""
    return source.files[0].format == "plugin"


def documents(spec: str, plugins: Plugins) -> Iterator[Piece]:
    """The documents of the plug-in corpus `spec`, each as one piece.

    Raises: UsageError when there is no such plug-in; DataError when it fails, gives something that is no text, or gives none.
    """
    name, argument = split_name(spec.removeprefix(PLUGIN_PREFIX))
    produce = plugins.find("datasets", name)
    number = -1
    try:
        for number, text in enumerate(produce(argument)):
            yield _piece(text, f"{spec}: document {number}")
    except (PltTuiError, GeneratorExit):
        raise
    except Exception as error:
        raise DataError(
            f"{spec}: failed after {number + 1} documents: {type(error).__name__}: {error}; mend the plug-in or its argument"
        ) from error
    if number < 0:
        raise DataError(f"{spec}: gives no documents; mend the plug-in or its argument")


def identity(spec: str, plugins: Plugins) -> list[str]:
    """What the cache knows this corpus by: the plug-in's code, its argument and its own fingerprint.

    Raises: UsageError when there is no such plug-in; DataError when its fingerprint fails or is no text.
    """
    name, argument = split_name(spec.removeprefix(PLUGIN_PREFIX))
    fingerprint = getattr(plugins.find("datasets", name), "fingerprint", None)
    content: Any = ""
    if fingerprint is not None:
        try:
            content = fingerprint(argument)
        except Exception as error:
            raise DataError(
                f"{spec}: its fingerprint failed: {type(error).__name__}: {error}; mend the plug-in or its argument"
            ) from error
    if not isinstance(content, str):
        raise DataError(f"{spec}: its fingerprint must be a str, not {type(content).__name__}; mend the plug-in")
    return [plugins.identity("datasets", name), argument, content]


def _piece(text: object, place: str) -> Piece:
    if not isinstance(text, str):
        raise DataError(f"{place} must be a str, not {type(text).__name__}; mend the plug-in")
    try:
        num_bytes = len(text.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise DataError(f"{place} holds half a surrogate pair at character {error.start}; mend the plug-in") from None
    return Piece(text.replace("\r\n", "\n"), ends_document=True, source_bytes=num_bytes)
