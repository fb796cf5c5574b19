"""Differences of two texts, word by word."""

import random
import time

import pytest

from plt_tui.views.word_diff import MAX_WORDS, Piece, word_diff


@pytest.mark.parametrize(
    ("before", "after", "marked"),
    [
        ("the cat sat", "the cat sat", "the cat sat"),
        ("the cat sat", "the dog sat", "the [cat ]{dog }sat"),
        ("the cat", "the cat sat", "the cat {sat}"),
        ("", "new words", "{new words}"),
        ("old words", "", "[old words]"),
        ("", "", ""),
        ("a  b\nc", "a b c", "a b c"),
        ("猫が好き", "犬が好き", "[猫]{犬}が好き"),
        ("one two", "three four", "[one two]{three four}"),
    ],
)
def test_words_that_differ_are_told(before: str, after: str, marked: str) -> None:
    """What is gone stands before what is new; blanks make no difference; scripts without blanks go sign by sign."""
    marks = {"same": ("", ""), "gone": ("[", "]"), "new": ("{", "}"), "rest": ("…", "")}
    pieces = [piece for piece in word_diff(before, after) if piece.text.strip()]
    assert "".join(f"{marks[piece.kind][0]}{piece.text}{marks[piece.kind][1]}" for piece in pieces).strip() == marked


def test_what_is_not_gone_is_the_new_text() -> None:
    """Character by character, whatever the two texts are."""
    rng = random.Random(1)
    for _ in range(300):
        before, after = ("".join(rng.choice("ab c\n\t猫") for _ in range(rng.randrange(40))) for _ in range(2))
        pieces = word_diff(before, after)
        assert "".join(piece.text for piece in pieces if piece.kind != "gone") == after
        kept = "".join(piece.text for piece in pieces if piece.kind in ("gone", "same"))
        assert sorted("".join(kept.split())) == sorted("".join(before.split()))


@pytest.mark.parametrize("words", [["the"], ["a", "b"], [str(number) for number in range(300)]])
def test_long_texts_cost_little(words: list[str]) -> None:
    """A model that repeats itself for ever holds nothing up, and what is not compared is told apart."""
    rng = random.Random(1)
    texts = [" ".join(rng.choice(words) for _ in range(100_000)) for _ in range(2)]
    began = time.process_time()
    pieces = word_diff(*texts)
    assert time.process_time() - began < 2.0
    assert pieces[-1].kind == "rest"
    assert len(pieces[-1].text.split()) == 100_000 - MAX_WORDS
    assert Piece("rest", "") not in pieces
