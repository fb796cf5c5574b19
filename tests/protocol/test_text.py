"""Promises of `protocol.text`: nothing that a terminal acts on passes the filter."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.protocol.text import MAX_LINE_CHARS, MAX_MARKS, safe_line, safe_text

CORPUS = {
    "\x1b]0;owned\x07": "\\x1b]0;owned\\x07",
    "\x1b]2;owned\x1b\\": "\\x1b]2;owned\\x1b\\",
    "\x1b]8;;http://x\x1b\\click\x1b]8;;\x1b\\": "\\x1b]8;;http://x\\x1b\\click\\x1b]8;;\\x1b\\",
    "\x1b]52;c;cm0gLXJm\x07": "\\x1b]52;c;cm0gLXJm\\x07",
    "\x1bP$q\x1b\\": "\\x1bP$q\\x1b\\",
    "\x1b[6n": "\\x1b[6n",
    "\x1b[2J\x1b[H": "\\x1b[2J\\x1b[H",
    "\x9b31m": "\\x9b31m",
    "\x9d0;t\x9c": "\\x9d0;t\\x9c",
    "\x1b": "\\x1b",
    "a\rb": "a\\x0db",
    "a\x08b": "a\\x08b",
    "\x00\x7f": "\\x00\\x7f",
    "\u202egnp.exe": "\\u202egnp.exe",
    "a\u200bb\u2060": "a\\u200bb\\u2060",
    "\u2028": "\\u2028",
    "\ufeff": "\\ufeff",
    "\udcff": "\\udcff",
    "\U000e0041": "\\U000e0041",
    "a" + "\u0301" * 8 + "b": "a" + "\u0301" * 8 + "b",
    "a" + "\u0301" * 10 + "b": "a" + "\u0301" * 8 + "\\u0301\\u0301b",
    "\u20e3" * 9 + "─" * 40: "\u20e3" * 8 + "\\u20e3" + "─" * 40,
    "plain äöü 漢字 😀\t[bold]x[/bold]": "plain äöü 漢字 😀\t[bold]x[/bold]",
}


@pytest.mark.parametrize(("raw", "shown"), CORPUS.items())
def test_escapes_become_visible(raw: str, shown: str) -> None:
    """Terminal escapes, C1 controls, bidirectional and zero-width characters are shown as what they are; the rest is kept."""
    assert safe_text(raw) == shown


@given(text=st.text(st.characters(), max_size=200))
def test_nothing_unprintable_passes(text: str) -> None:
    """Over all of Unicode only newline, tab and blanks remain of what is not printable, and `safe_line` keeps one line."""
    for filtered in (safe_text(text), safe_line(text)):
        assert all(char.isprintable() or char in "\n\t" or unicodedata.category(char) == "Zs" for char in filtered)
        assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs") for char in filtered if char not in "\n\t")
    assert "\n" not in safe_line(text)


MARKS = "\u0301\u0489\u0e47\u20dd\U0001e944"


@given(text=st.text("a漢─😀" + MARKS, max_size=80))
def test_marks_do_not_pile_up(text: str) -> None:
    """However many there are in a row, of whatever script, a character bears MAX_MARKS; nothing else is touched."""
    filtered = safe_text(text)
    assert all(any(char not in MARKS for char in filtered[i : i + MAX_MARKS + 1]) for i in range(len(filtered) - MAX_MARKS))
    assert [char for char in filtered if char in "漢─😀"] == [char for char in text if char in "漢─😀"]


@given(text=st.one_of(st.text(max_size=200), st.text("a─" + MARKS, max_size=80)))
def test_filtering_twice_changes_nothing(text: str) -> None:
    """A text that passed two borders is not escaped twice."""
    assert safe_text(safe_text(text)) == safe_text(text)
    assert safe_line(safe_line(text)) == safe_line(text)


def test_a_newline_is_kept_in_a_text_and_shown_in_a_line() -> None:
    """A log entry cannot forge a second one."""
    assert safe_text("a\nb") == "a\nb"
    assert safe_line("a\nERROR b") == "a\\nERROR b"


def test_a_long_line_is_cut_and_says_by_how_much() -> None:
    """Ten megabytes in one line cost a view no more than a screen; every line of a text has its own limit."""
    cut = safe_line("x" * 10_000_000)
    assert cut == "x" * MAX_LINE_CHARS + f" … (+{10_000_000 - MAX_LINE_CHARS} characters)"
    assert safe_text("abcd\nab", max_line_chars=3) == "abc … (+1 characters)\nab"
    assert safe_line("a" * MAX_LINE_CHARS) == "a" * MAX_LINE_CHARS


def test_a_line_of_escapes_is_cut_before_it_grows() -> None:
    """The limit counts what came in, so that the output is bounded too."""
    assert len(safe_line("\x1b" * 1_000_000)) < 5 * MAX_LINE_CHARS
