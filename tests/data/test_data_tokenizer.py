"""Promises of the tokenizers: text survives the round trip, prompts never fail, JSON restores them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.data.tokenizer import (
    END_OF_TEXT,
    ByteTokenizer,
    CharTokenizer,
    IdTokenizer,
    from_json,
    load_file,
    train_bpe,
    train_char,
)
from plt_tui.errors import DataError

TEXTS = ["the cat sat on the mat. " * 20, "über naïve façade 你好 🙂\n\n", f"words like {END_OF_TEXT} in a text"]


@pytest.fixture(scope="module")
def bpe():
    """A small BPE; one for all tests, because none changes it."""
    return train_bpe(TEXTS, 300)


@given(text=st.text())
def test_bytes_round_trip(text):
    """Any text comes back from the byte tokenizer, one id per byte."""
    ids = ByteTokenizer().encode(text)
    assert ByteTokenizer().decode(ids) == text
    assert len(ids) == len(text.encode()) == ByteTokenizer().num_bytes(ids)


@given(text=st.text(min_size=1))
def test_characters_round_trip(text):
    """Any text comes back from its own character tokenizer, one id per character, all below end-of-text."""
    tokenizer = train_char([text])
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(ids) == len(text)
    assert ids.max() < tokenizer.end_of_text == tokenizer.vocab_size - 1
    assert tokenizer.num_bytes(ids) == len(text.encode())


@given(text=st.text())
def test_bpe_round_trips(bpe, text):
    """Any text comes back from a byte-level BPE, also text that it was not trained on."""
    ids = bpe.encode(text)
    assert bpe.decode(ids) == text
    assert bpe.num_bytes(ids) == len(text.encode())


@pytest.mark.parametrize("text", [END_OF_TEXT, f"a{END_OF_TEXT}b"])
def test_text_cannot_spell_end_of_text(bpe, text):
    """The words <|endoftext|> inside a document stay words."""
    assert bpe.end_of_text not in bpe.encode(text).tolist()
    assert bpe.decode(bpe.encode(text)) == text


def test_bpe_learns_and_is_deterministic(bpe):
    """The same texts give the same vocabulary; a frequent word is one token; a small corpus gives fewer tokens than asked."""
    assert train_bpe(TEXTS, 300).to_json() == bpe.to_json()
    assert bpe.vocab_size == 300
    assert len(bpe.encode(" cat")) == 1
    assert 257 <= train_bpe(["ab"], 5000).vocab_size < 5000


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([0xC3, 0xA9], "é"),
        ([0x41, 0xC3], "A\ufffd"),
        ([0xFF, 0x41], "\ufffdA"),
        ([0x41, 256, 0x42], "AB"),
        ([], ""),
    ],
)
def test_bytes_that_are_no_utf8_become_replacement_characters(ids, text):
    """A sample cut in a character is still text, and end-of-text has none."""
    assert ByteTokenizer().decode(ids) == text


def test_unknown_character_is_named():
    """A held-out text with a new character fails with that character and a way out."""
    with pytest.raises(DataError, match=r"'é' \(U\+00E9\) is none of the 3 characters .* byte or bpe"):
        CharTokenizer("abc").encode("abécb")


@pytest.mark.parametrize(
    ("tokenizer", "prompt", "expected"),
    [
        (CharTokenizer("abc"), "a?b\udcff!c", "abc"),
        (CharTokenizer("abc"), "???", ""),
        (ByteTokenizer(), "a\udcff", "a?"),
        (ByteTokenizer(), "", ""),
        (IdTokenizer(300), "<17> 4, 5000", "<17> <4>"),
        (IdTokenizer(300), "words", "<0>"),
    ],
)
def test_prompts_never_fail(tokenizer, prompt, expected):
    """What the vocabulary lacks is left out of a prompt, and at least one token remains."""
    ids = tokenizer.encode_prompt(prompt)
    assert ids.dtype == np.uint32
    assert len(ids) >= 1
    assert tokenizer.decode(ids) == expected


def test_bpe_prompts_never_fail(bpe):
    """An empty prompt starts a new text; half a surrogate pair becomes a question mark."""
    assert bpe.encode_prompt("").tolist() == [bpe.end_of_text]
    assert bpe.decode(bpe.encode_prompt("the\udcff")) == "the?"


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), CharTokenizer("\n abcé🙂"), IdTokenizer(50_257)])
def test_json_restores(tokenizer):
    """A tokenizer that went through JSON text decodes alike."""
    restored = from_json(json.loads(json.dumps(tokenizer.to_json())))
    assert type(restored) is type(tokenizer)
    assert (restored.vocab_size, restored.end_of_text) == (tokenizer.vocab_size, tokenizer.end_of_text)
    assert restored.decode([0, 3, 5]) == tokenizer.decode([0, 3, 5])


def test_json_restores_bpe(bpe):
    """A BPE that went through JSON text encodes alike, special words included."""
    restored = from_json(json.loads(json.dumps(bpe.to_json())))
    for text in TEXTS:
        assert restored.encode(text).tolist() == bpe.encode(text).tolist()
    assert restored.end_of_text == bpe.end_of_text


def test_file_is_the_librarys_or_ours(bpe, tmp_path):
    """`data.tokenizer` may name a tokenizer.json of the library or the one in a cache entry or checkpoint."""
    library, own = tmp_path / "library.json", tmp_path / "own.json"
    library.write_text(json.dumps(bpe.to_json()["tokenizer"]))
    own.write_text(json.dumps(bpe.to_json()))
    assert [load_file(library).kind, load_file(own).kind] == ["file", "bpe"]
    assert load_file(library).encode("the cat").tolist() == load_file(own).encode("the cat").tolist()


def test_file_with_truncation_does_not_cut_the_corpus(bpe, tmp_path):
    """Truncation and padding that a tokenizer.json asks for are meant for its old model, not for a corpus."""
    value = bpe.to_json()["tokenizer"]
    value["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "t.json").write_text(json.dumps(value))
    assert load_file(tmp_path / "t.json").decode(bpe.encode(TEXTS[0])) == TEXTS[0]
    assert load_file(tmp_path / "t.json").encode(TEXTS[0]).tolist() == bpe.encode(TEXTS[0]).tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[1]", "a list, not an object"),
        ("{}", "not a tokenizer.json of the tokenizers library"),
        ('{"kind": "char", "characters": "ba"}', "no tokenizer is described"),
        ('{"kind": "char", "characters": ""}', "no tokenizer is described"),
        ('{"kind": "char", "characters": "\\ud800"}', "surrogates not allowed"),
        ('{"kind": "pickle"}', "no tokenizer is described by JSON of kind 'pickle'"),
    ],
)
def test_broken_file_is_refused(tmp_path, content, message):
    """A file that holds no tokenizer is named together with what is wrong."""
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as raised:
        load_file(path)
    assert str(path) in str(raised.value)
