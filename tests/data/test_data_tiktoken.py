"""Promises of tiktoken's ranks: the ids are those of the real library, for every family; bad files are named by their line."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from tiktoken_ext import openai_public
from tokenizers import Regex, pre_tokenizers

from plt_tui.data.tiktoken import FAMILIES
from plt_tui.data.tokenizer import END_OF_TEXT, Tokenizer, from_json, load_file
from plt_tui.errors import DataError

BYTES = {bytes([byte]): byte for byte in range(256)}
TRAINING_TEXT = (
    "The cat's hat: it's 1234 o'clock, we'll SEE!! über naïve façade 你好世界 🙂🙂 'TIS I'M\r\n\r\n  if x == y:\n\t\treturn "
    "aaaaaaaa -------- ======= hahahaha    \n" * 3
)
NASTY = (
    "",
    " ",
    "\n",
    " \n\n \t",
    "a  b   c    ",
    "don'T DON'T 'S 'ſ x'LL",
    "1 12 123 1234 12345 ١٢٣٤ Ⅻ²½",
    "ÀÉÎ ǅ ʰ ñ n\u0303 ﬆ ß İ ı",
    "مرحبا שלום हिन्दी ไทย 한국어 日本語",
    "👩‍👩‍👧‍👦🏳️‍🌈🇩🇪\u200d\u200b\ufeff\u00a0\u2028\u2029\u0085",
    "\x00\x01\x7f\x80\xad\u0378\U0010ffff",
    "aaaaaaaaaaaaaaaaaaaaaaa hahahahahahahah ------------- \r\r\n\n\r",
    f"{END_OF_TEXT} a{END_OF_TEXT}b <|fim_prefix|>",
    "http://a/b//\n/c/\r\n",
    " " * 1000 + "x" * 1000,
)
SIGNS = st.sampled_from([*"aeht'SsTLl19 \t\n\r\u00a0\u2028-=/.éЖǅʰ你🙂\u0301\u200d", "'ll", "  ", "\r\n", "aaa", "haha"])


def learned(pattern: str) -> dict[bytes, int]:
    """Ranks of a byte-pair encoding learned from TRAINING_TEXT: merge the most frequent neighbours while there are any."""
    split = pre_tokenizers.Split(Regex(pattern), "isolated").pre_tokenize_str(TRAINING_TEXT)
    words = [[bytes([byte]) for byte in word.encode()] for word, _ in split]
    ranks = dict(BYTES)
    while counts := Counter(pair for word in words for pair in pairwise(word)):
        best = max(counts, key=counts.__getitem__)
        ranks.setdefault(b"".join(best), len(ranks))
        words = [merged(word, best) for word in words]
    return ranks


def merged(word: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    """`word` with each `pair` of neighbours joined."""
    result: list[bytes] = []
    rest = list(word)
    while rest:
        width = 2 if tuple(rest[:2]) == pair else 1
        result.append(b"".join(rest[:width]))
        del rest[:width]
    return result


def write(path: Path, ranks: Mapping[bytes, int]) -> Path:
    """`ranks` in tiktoken's format."""
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items()))
    return path


@pytest.fixture(scope="module")
def published():
    """What the real library says of its encodings, without their ranks, which it would have to download."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_public, "load_tiktoken_bpe", lambda *_, **__: {})
        return {name: getattr(openai_public, name)() for name in ("r50k_base", "p50k_base", "cl100k_base", "o200k_base")}


@pytest.fixture(scope="module", params=["r50k_base", "cl100k_base", "o200k_base"])
def encodings(request, published, tmp_path_factory) -> tuple[Tokenizer, tiktoken.Encoding]:
    """Ours and the real library's, of the same ranks."""
    family = next(family for family in FAMILIES if request.param.removesuffix("_base") in family.names)
    ranks = learned(family.pattern)
    path = write(tmp_path_factory.mktemp("ranks") / f"{request.param}.tiktoken", ranks)
    pattern = published[request.param]["pat_str"]
    return load_file(path), tiktoken.Encoding("real", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_ids_are_those_of_the_real_library(encodings, text):
    """For every family's way to split text; and the text comes back."""
    ours, real = encodings
    assert ours.encode(text).tolist() == real.encode_ordinary(text)
    assert ours.decode(ours.encode(text)) == text


@given(text=st.text() | st.lists(SIGNS, max_size=40).map("".join))
def test_ids_of_any_text_are_those_of_the_real_library(encodings, text):
    """Also where signs of all kinds, spaces and repetitions meet."""
    ours, real = encodings
    assert ours.encode(text).tolist() == real.encode_ordinary(text)


def test_json_restores(encodings):
    """A checkpoint keeps the tokenizer as JSON: it encodes alike, and needs the ranks no more."""
    ours, _ = encodings
    restored = from_json(json.loads(json.dumps(ours.to_json())))
    assert (restored.vocab_size, restored.end_of_text) == (ours.vocab_size, ours.end_of_text)
    assert [restored.encode(text).tolist() for text in NASTY] == [ours.encode(text).tolist() for text in NASTY]


@pytest.mark.parametrize(
    ("name", "num_ranks", "skipped_rank"),
    [("r50k_base", 50256, -1), ("p50k_base", 50280, 50256), ("cl100k_base", 100256, -1), ("o200k_base", 199998, -1)],
)
def test_published_encodings_are_known_by_their_number_of_ranks(published, tmp_path, name, num_ranks, skipped_rank):
    """Whatever the file is called, it is split as published, and end-of-text has the published id."""
    tokens = [*BYTES, *(b"%x" % number for number in range(0x100_000, 0x100_000 + num_ranks - 256))]
    ids = (number for number in range(num_ranks + 1) if number != skipped_rank)
    tokenizer = load_file(write(tmp_path / "x.tiktoken", dict(zip(tokens, ids, strict=False))))
    assert tokenizer.end_of_text == published[name]["special_tokens"][END_OF_TEXT]
    assert tokenizer.decode([0x41, tokenizer.end_of_text, 0x42]) == "AB"
    text = "it's 1234567\n"
    real = tiktoken.Encoding(
        "real",
        pat_str=published[name]["pat_str"],
        mergeable_ranks=dict(zip(tokens, range(num_ranks), strict=True)),
        special_tokens={},
    )
    assert tokenizer.encode(text).tolist() == real.encode_ordinary(text)


def test_end_of_text_comes_behind_unpublished_ranks(encodings):
    """A vocabulary of one's own is as large as it looks."""
    ours, real = encodings
    assert (ours.end_of_text, ours.vocab_size) == (real.n_vocab, real.n_vocab + 1)


def test_unknown_family_is_not_guessed(tmp_path):
    """A wrong way to split gives plausible ids, so the user has to say."""
    with pytest.raises(DataError, match=r"mine\.tiktoken: 256 ranks are of no known .* put one of r50k, p50k, gpt2, cl100k"):
        load_file(write(tmp_path / "mine.tiktoken", BYTES))


LINES = b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in BYTES.items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no rank for the byte 0x00"),
        (LINES[:-9], "no rank for the byte 0xff; not a file of tiktoken's ranks, or an incomplete one"),
        (LINES + b"YQ==\n", "line 257 is no token in base64 and its rank"),
        (LINES + b"Y Q == 256\n", "line 257 is no token"),
        (LINES + b"Y*== 256\n", "line 257 is no token"),
        (LINES + b"YWI= x\n", "line 257 is no token"),
        (LINES + b"YWI= -1\n", "line 257: need a token and a rank from 0 to 2147483647, not b'ab' and -1"),
        (LINES + b"YWI= 9999999999\n", "line 257: need a token and a rank"),
        (LINES + b"\n\nYQ== 256\n", "line 259: the token b'a' has a rank already"),
        (LINES + b"YWI= 7\n", "two tokens have the same rank"),
        (b"{}", "line 1 is no token"),
    ],
)
def test_broken_file_is_refused(tmp_path, content, message):
    """A file that holds no ranks is named together with the line and what is wrong."""
    path = tmp_path / "cl100k.tiktoken"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as raised:
        load_file(path)
    assert str(path) in str(raised.value)
