"""Byte-pair encodings in tiktoken's file format, turned into tokenizers of the `tokenizers` library: same text, same ids.

The format is one token a line, base64 and rank, and nothing else: how text is split before merging belongs to the family of the
encoding. It is told by the name of the file or by the number of ranks, and never guessed, for a wrong one gives plausible ids.
Needs no tiktoken. Invariant: every byte has a rank, so every text has ids.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from plt_tui.errors import DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as LibraryTokenizer

ENDING = ".tiktoken"
LARGEST_RANK = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Encodings that split text alike. `end_of_text`: number of ranks of published files -> id of end-of-text there."""

    names: tuple[str, ...]
    pattern: str
    end_of_text: Mapping[int, int]


# Patterns and ids as in tiktoken 0.14, tiktoken_ext/openai_public.py, in the syntax of Oniguruma: \z for $, {1,3} for {1,3}+.
FAMILIES = (
    Family(
        names=("r50k", "p50k", "gpt2"),
        pattern=r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++\z|\s+(?!\S)|\s",
        end_of_text={50256: 50256, 50280: 50256},
    ),
    Family(
        names=("cl100k",),
        pattern=r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++\z|\s*[\r\n]"
        r"|\s+(?!\S)|\s",
        end_of_text={100256: 100257},
    ),
    Family(
        names=("o200k",),
        pattern=r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        end_of_text={199998: 199999},
    ),
)


def load_ranks(path: Path, end_of_text: str) -> LibraryTokenizer:
    """The tokenizer that the ranks in `path` make, with one special token `end_of_text`.

    Its id is the published one of the family, or behind all others when the number of ranks is another one.

    Raises: DataError naming the line, when the file holds no ranks, and when nothing tells their family; OSError.
    """
    try:
        ranks = _parsed(path.read_bytes())
        family = _family(path.name, len(ranks))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return _converted(ranks, family, end_of_text)


def _parsed(content: bytes) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        if line:
            token, rank = _entry(line, number)
            if token in ranks:
                raise DataError(f"line {number}: the token {token!r} has a rank already; not a file of tiktoken's ranks")
            ranks[token] = rank
    if len(set(ranks.values())) < len(ranks):
        raise DataError("two tokens have the same rank; not a file of tiktoken's ranks")
    if missing := [byte for byte in range(256) if bytes([byte]) not in ranks]:
        raise DataError(f"no rank for the byte 0x{missing[0]:02x}; not a file of tiktoken's ranks, or an incomplete one")
    return ranks


def _entry(line: bytes, number: int) -> tuple[bytes, int]:
    try:
        encoded, digits = line.split()
        token, rank = base64.b64decode(encoded, validate=True), int(digits)
    except (ValueError, binascii.Error):
        raise DataError(f"line {number} is no token in base64 and its rank; not a file of tiktoken's ranks") from None
    if not token or not 0 <= rank <= LARGEST_RANK:
        raise DataError(f"line {number}: need a token and a rank from 0 to {LARGEST_RANK}, not {token!r} and {rank}")
    return token, rank


def _family(name: str, num_ranks: int) -> Family:
    for family in FAMILIES:
        if any(part in name.lower() for part in family.names):
            return family
    for family in FAMILIES:
        if num_ranks in family.end_of_text:
            return family
    known = ", ".join(name for family in FAMILIES for name in family.names)
    raise DataError(
        f"{num_ranks} ranks are of no known encoding, and the name of the file tells no family, so nobody knows how to split "
        f"text; put one of {known} into its name, such as my.cl100k{ENDING}"
    )


def _converted(ranks: Mapping[bytes, int], family: Family, end_of_text: str) -> LibraryTokenizer:
    """Tiktoken merges the neighbours whose joined bytes rank lowest, but takes a word that has a rank as it is.

    The library merges listed pairs in the order of the list: here each way to split a token in two, ordered by its rank.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    spelled = {token: _spelled(token) for token in ranks}
    vocabulary = {spelled[token]: rank for token, rank in ranks.items()}
    vocabulary.setdefault(end_of_text, family.end_of_text.get(len(ranks), max(ranks.values()) + 1))
    merges = [
        (spelled[left], spelled[right])
        for token in sorted(ranks, key=ranks.__getitem__)
        for left, right in _splits(token, ranks)
    ]
    library = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(family.pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([end_of_text])
    return library


def _splits(token: bytes, ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The pairs of tokens that `token` can be merged from, the pair of the lowest ranks first."""
    cuts = ((token[:place], token[place:]) for place in range(1, len(token)))
    pairs = [(left, right) for left, right in cuts if left in ranks and right in ranks]
    return sorted(pairs, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))


def _spelled(token: bytes) -> str:
    """The library's byte-level spelling, one printable character a byte."""
    return token.decode("latin-1").translate(_SPELLING)


def _unprintable() -> Iterator[int]:
    yield from (*range(0x21), *range(0x7F, 0xA1), 0xAD)


_SPELLING = {byte: 0x100 + index for index, byte in enumerate(_unprintable())}
"""Bytes without a printable Latin-1 character stand as U+0100 and following (GPT-2, src/encoder.py, bytes_to_unicode)."""
