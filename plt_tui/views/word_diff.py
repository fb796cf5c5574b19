"""What is another word in one text than in the one before, for two samples of the same prompt.

Compares words; blanks between them do not count. Pure. Invariant: what is not "gone" is the new text, character by character.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby
from typing import Literal

MAX_WORDS = 2_000
"""Words of each text that are compared: with difflib's own rule for frequent words 100 ms at most."""

Kind = Literal["same", "gone", "new", "rest"]
"""In both texts; in the one before only; in the new one only; behind the words that are compared."""

_CJK = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef"
_WORD = re.compile(rf"(?:[{_CJK}]|[^\s{_CJK}]+)\s*|\s+")
"""A word with the blanks behind it. Scripts that write no blanks are compared sign by sign."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some words in a row that have the same fate."""

    kind: Kind
    text: str


def word_diff(before: str, after: str) -> list[Piece]:
    """The words of both texts in reading order; of a change the words that are gone come first."""
    old, new = _WORD.findall(before)[:MAX_WORDS], _WORD.findall(after)
    rest, new = new[MAX_WORDS:], new[:MAX_WORDS]
    pieces = [*_changes(old, new), Piece("rest", "".join(rest))]
    kinds = groupby((piece for piece in pieces if piece.text), key=lambda piece: piece.kind)
    return [Piece(kind, "".join(piece.text for piece in group)) for kind, group in kinds]


def _changes(old: list[str], new: list[str]) -> Iterator[Piece]:
    matcher = SequenceMatcher(None, [word.rstrip() for word in old], [word.rstrip() for word in new])
    for tag, old_start, old_stop, new_start, new_stop in matcher.get_opcodes():
        if tag == "equal":
            yield Piece("same", "".join(new[new_start:new_stop]))
        else:
            yield Piece("gone", "".join(old[old_start:old_stop]))
            yield Piece("new", "".join(new[new_start:new_stop]))
