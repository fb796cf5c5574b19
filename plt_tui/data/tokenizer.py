"""Text to token ids and back: bytes, characters, byte-pair encoding, a tokenizer from a file, or ids without text.

`encode` never yields the end-of-text id: callers put it between documents, and the same words inside a document stay words.
Does not read corpora. Invariant: for byte, char and bpe `decode(encode(text)) == text`, and `from_json(t.to_json())` encodes
like `t`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from plt_tui.data import tiktoken
from plt_tui.errors import DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as LibraryTokenizer

Ids = npt.NDArray[np.uint32]
TokenArray = npt.NDArray[np.unsignedinteger[Any]]

END_OF_TEXT = "<|endoftext|>"
_END_OF_TEXT_NAMES = (
    END_OF_TEXT,
    "<|end_of_text|>",
    "</s>",
    "<eos>",
    "<|eos|>",
    "<|im_end|>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
)
"""How well-known tokenizers spell it, in the order in which they are looked for."""


class Tokenizer(Protocol):
    """What every tokenizer can do. Ids are below `vocab_size`."""

    @property
    def kind(self) -> str:
        """byte, char, bpe, file or ids."""

    @property
    def vocab_size(self) -> int:
        """Number of ids, end-of-text included."""

    @property
    def end_of_text(self) -> int | None:
        """Id that stands between documents; None when the vocabulary has none."""

    def encode(self, text: str) -> Ids:
        """Ids of corpus text, uint32 (T,). Raises: DataError when the vocabulary cannot express it."""

    def encode_prompt(self, text: str) -> Ids:
        """Ids of a person's text, uint32 (T,) with T >= 1; what the vocabulary cannot express is left out."""

    def decode(self, ids: Sequence[int] | TokenArray) -> str:
        """Text of `ids`; incomplete UTF-8 becomes U+FFFD, end-of-text has no text."""

    def num_bytes(self, ids: TokenArray) -> int | None:
        """Bytes of UTF-8 that `ids` stand for; None when that is unknown."""

    def to_json(self) -> dict[str, Any]:
        """Everything that `from_json` needs, as built-in values."""


class ByteTokenizer:
    """The 256 bytes of UTF-8, and end-of-text."""

    kind = "byte"
    vocab_size = 257
    end_of_text = 256

    def encode(self, text: str) -> Ids:
        """One id per byte."""
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.uint32)

    def encode_prompt(self, text: str) -> Ids:
        """Like `encode`, with "?" for half a surrogate pair (an undecodable byte of a command line)."""
        return _at_least_one(self.encode(text.encode("utf-8", "replace").decode("utf-8")), self.end_of_text)

    def decode(self, ids: Sequence[int] | TokenArray) -> str:
        """The bytes as UTF-8."""
        values = np.asarray(ids, dtype=np.uint32)
        return values[values < self.end_of_text].astype(np.uint8).tobytes().decode("utf-8", "replace")

    def num_bytes(self, ids: TokenArray) -> int:
        """All ids but end-of-text."""
        return int(np.count_nonzero(ids < self.end_of_text))

    def to_json(self) -> dict[str, Any]:
        """Nothing but the kind."""
        return {"kind": self.kind}


class CharTokenizer:
    """The characters of one corpus by code point, and end-of-text as the last id."""

    kind = "char"

    def __init__(self, characters: str) -> None:
        """`characters`: sorted, each once."""
        self.characters = characters
        self.vocab_size = len(characters) + 1
        self.end_of_text = len(characters)
        self._code_points = _code_points(characters)
        self._byte_lengths = np.array([*(len(char.encode("utf-8")) for char in characters), 0], dtype=np.int64)

    def encode(self, text: str) -> Ids:
        """One id per character. Raises: DataError naming the first character that is not in the vocabulary."""
        ids, known = self._look_up(text)
        if not known.all():
            unknown = text[int(np.argmin(known))]
            raise DataError(
                f"the character {unknown!r} (U+{ord(unknown):04X}) is none of the {len(self.characters)} characters of the "
                "training corpus; use data.tokenizer = byte or bpe, or remove it"
            )
        return ids

    def encode_prompt(self, text: str) -> Ids:
        """One id per known character."""
        ids, known = self._look_up(text)
        return _at_least_one(ids[known], self.end_of_text)

    def decode(self, ids: Sequence[int] | TokenArray) -> str:
        """The characters."""
        values = np.asarray(ids, dtype=np.uint32)
        text: str = self._code_points[values[values != self.end_of_text]].tobytes().decode("utf-32-le")
        return text

    def num_bytes(self, ids: TokenArray) -> int:
        """Bytes of the characters in UTF-8."""
        return int(self._byte_lengths[ids].sum())

    def to_json(self) -> dict[str, Any]:
        """The characters."""
        return {"kind": self.kind, "characters": self.characters}

    def _look_up(self, text: str) -> tuple[Ids, npt.NDArray[np.bool_]]:
        """Id of each character, and whether it is one at all; both (len(text),)."""
        code_points = _code_points(text)
        ids = np.searchsorted(self._code_points, code_points)
        known = self._code_points[np.minimum(ids, len(self.characters) - 1)] == code_points
        return ids.astype(np.uint32), known


class SubwordTokenizer:
    """A tokenizer of the `tokenizers` library: `bpe` trained here, or one from elsewhere (`file`)."""

    def __init__(self, kind: Literal["bpe", "file"], library: LibraryTokenizer) -> None:
        """`library` must not be used by others: its truncation, padding and parsing of special tokens are switched off."""
        library.no_truncation()
        library.no_padding()
        library.encode_special_tokens = True
        self.kind = kind
        self._library = library
        self.vocab_size = max(library.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        ids = (library.token_to_id(name) for name in _END_OF_TEXT_NAMES)
        self.end_of_text: int | None = next((found for found in ids if found is not None), None)

    def encode(self, text: str) -> Ids:
        """Ids without the special tokens that a tokenizer adds by itself."""
        (encoding,) = self._library.encode_batch_fast([text], add_special_tokens=False)  # 1.8 times as fast: makes no offsets
        return np.array(encoding.ids, dtype=np.uint32)

    def encode_prompt(self, text: str) -> Ids:
        """Like `encode`, with "?" for half a surrogate pair."""
        return _at_least_one(self.encode(text.encode("utf-8", "replace").decode("utf-8")), self.end_of_text or 0)

    def decode(self, ids: Sequence[int] | TokenArray) -> str:
        """The text without special tokens."""
        return str(self._library.decode(np.asarray(ids, dtype=np.uint32).tolist(), skip_special_tokens=True))

    def num_bytes(self, ids: TokenArray) -> int:
        """Bytes of the decoded text."""
        return len(self.decode(ids).encode("utf-8"))

    def to_json(self) -> dict[str, Any]:
        """The library's own JSON."""
        return {"kind": self.kind, "tokenizer": json.loads(self._library.to_str())}


class IdTokenizer:
    """Stands in where only ids are known: a sample is then "<17> <4> ..."."""

    kind = "ids"
    end_of_text = None

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def encode(self, text: str) -> Ids:
        """Not possible. Raises: DataError always."""
        raise DataError(
            "token ids without a tokenizer cannot express text; set data.tokenizer to the path of its tokenizer.json"
        )

    def encode_prompt(self, text: str) -> Ids:
        """The numbers in `text` that are ids, such as 17 and 4 of "<17> <4>"."""
        numbers = (int(digits) for digits in re.findall(r"[0-9]{1,10}", text))
        return _at_least_one(np.array([number for number in numbers if number < self.vocab_size], dtype=np.uint32), 0)

    def decode(self, ids: Sequence[int] | TokenArray) -> str:
        """The ids as numbers."""
        return " ".join(f"<{value}>" for value in np.asarray(ids, dtype=np.uint32).tolist())

    def num_bytes(self, ids: TokenArray) -> None:
        """Unknown."""

    def to_json(self) -> dict[str, Any]:
        """The size."""
        return {"kind": self.kind, "vocab_size": self.vocab_size}


def train_char(texts: Iterable[str]) -> CharTokenizer:
    """The characters that occur in `texts`, which must not all be empty."""
    seen: set[str] = set()
    for text in texts:
        seen.update(text)
    return CharTokenizer("".join(sorted(seen)))


def train_bpe(texts: Iterable[str], vocab_size: int) -> SubwordTokenizer:
    """Byte-level BPE (Radford et al. 2019, section 2.2) of at most `vocab_size` tokens; a small corpus yields fewer.

    The same texts in the same order give the same vocabulary.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library.train_from_iterator(texts, trainer)
    return SubwordTokenizer("bpe", library)


def load_file(path: Path) -> Tokenizer:
    """The tokenizer in `path`: tiktoken's ranks (`*.tiktoken`), a `tokenizer.json` of the `tokenizers` library, or one of ours.

    Raises: DataError when the file cannot be read or holds none of them.
    """
    try:
        if path.suffix.lower() == tiktoken.ENDING:
            return SubwordTokenizer("file", tiktoken.load_ranks(path, END_OF_TEXT))
        return _load_json(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _load_json(path: Path) -> Tokenizer:
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a tokenizer.json: not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: not a tokenizer.json: a {type(value).__name__}, not an object")
    inner = value.get("tokenizer")
    if "kind" not in value and isinstance(inner, dict) and "kind" in inner:
        value = inner  # the state of a checkpoint holds its tokenizer
    try:
        return from_json(value if "kind" in value else {"kind": "file", "tokenizer": value})
    except (DataError, ValueError) as error:
        raise DataError(f"{path}: {error}") from None


def from_json(value: dict[str, Any]) -> Tokenizer:
    """The tokenizer that `to_json` described. Raises: DataError when `value` describes none."""
    match value:
        case {"kind": "byte"}:
            return ByteTokenizer()
        case {"kind": "char", "characters": str(characters)} if characters and list(characters) == sorted(set(characters)):
            return CharTokenizer(characters)
        case {"kind": "bpe" | "file" as kind, "tokenizer": dict(library)}:
            return SubwordTokenizer(kind, _library_tokenizer(library))
        case {"kind": "ids", "vocab_size": int(vocab_size)} if vocab_size > 0:
            return IdTokenizer(vocab_size)
        case _:
            raise DataError(f"no tokenizer is described by JSON of kind {value.get('kind')!r} with keys {', '.join(value)}")


def _library_tokenizer(value: dict[str, Any]) -> LibraryTokenizer:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(json.dumps(value))
    except Exception as error:  # noqa: BLE001  (the library raises bare Exception)
        raise DataError(f"not a tokenizer.json of the tokenizers library: {error}") from None


def _code_points(text: str) -> Ids:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def _at_least_one(ids: Ids, fallback: int) -> Ids:
    """A model needs a token to start from."""
    return ids if len(ids) else np.array([fallback], dtype=np.uint32)
