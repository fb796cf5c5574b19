"""Our tokenizers as JSON of the `tokenizers` library, which other programs read: the same text, the same ids.

Pure; neither the library nor a file is touched. Invariant: what the library makes of the JSON encodes and decodes as
`data.tokenizer` does. (Its users' own special tokens apart: the library reads "<|endoftext|>" within a text as that token.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plt_tui.data.tokenizer import END_OF_TEXT, ByteTokenizer, CharTokenizer, SubwordTokenizer, Tokenizer

_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def library_json(tokenizer: Tokenizer) -> dict[str, Any] | None:
    """The library's description of `tokenizer`; None for one of ids without text."""
    match tokenizer:
        case SubwordTokenizer():
            described: dict[str, Any] = tokenizer.to_json()["tokenizer"]
            return described
        case ByteTokenizer():
            alphabet = {symbol: byte for byte, symbol in enumerate(_byte_alphabet())}
            return _without_merges(alphabet, pre_tokenizer=_BYTE_LEVEL, decoder=_BYTE_LEVEL)
        case CharTokenizer():
            characters = {character: index for index, character in enumerate(tokenizer.characters)}
            return _without_merges(characters, pre_tokenizer=None, decoder={"type": "Fuse"})
    return None


def token_text(library: Mapping[str, Any], token_id: int) -> str | None:
    """How the library writes a special token; None when `token_id` is none."""
    return next((token["content"] for token in library["added_tokens"] if token["id"] == token_id), None)


def _without_merges(
    vocabulary: Mapping[str, int], *, pre_tokenizer: Mapping[str, Any] | None, decoder: Mapping[str, Any]
) -> dict[str, Any]:
    """Byte-pair encoding that has learned no pair: it looks up one symbol after the other and leaves out unknown ones."""
    switches = ("single_word", "lstrip", "rstrip", "normalized")
    end = {"id": len(vocabulary), "content": END_OF_TEXT, **dict.fromkeys(switches, False), "special": True}
    model = {"type": "BPE", "vocab": dict(vocabulary), "merges": []}
    return {
        "version": "1.0",
        "added_tokens": [end],
        "pre_tokenizer": pre_tokenizer,
        "decoder": dict(decoder),
        "model": model,
    }


def _byte_alphabet() -> list[str]:
    """The printable character that stands for each byte: itself, or the next one from U+0100 on (GPT-2's `encoder.py`)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) if byte in printable else chr(0x100 + others.index(byte)) for byte in range(256)]
