"""Promises of the words in the lab log: whatever a text holds, a reader of Markdown sees its characters and nothing else."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from plt_tui.protocol.text import safe_text
from plt_tui.views.markdown import code, plain, table

nasty = st.text(st.sampled_from("ab1 \n\t\\`*_[]()<>|~!#&:/.@-+=\x1b\u202e\u00e9")) | st.text()


def cells(source: str) -> list[list]:
    """The inline tokens of every cell of the table in `source`; an independent parser reads it."""
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    return [token.children or [] for token in parser.parse(source) if token.type == "inline"]


@given(nasty)
@example("<b>&amp;`x`*y*_z_[a](http://x) ![i](u) ~~s~~ <http://x>")
@example("a|b\\|c\\\nd\\")
@example("_a_b_ **bold** __x__")
def test_a_reader_sees_the_characters_of_a_text(text: str) -> None:
    """No tag, link, emphasis, code or further cell comes out of it; only line breaks are marked up."""
    _, between, after = cells(f"| x | y |\n|---|---|\n| a{plain(text)}z | end |\n")[1:]
    assert {token.type for token in between} <= {"text", "text_special", "html_inline"}
    assert {token.content for token in between if token.type == "html_inline"} <= {"<br>"}
    shown = "".join("\n" if token.type == "html_inline" else token.content for token in between)
    lines = safe_text(text, max_line_chars=len(text)).strip().split("\n")
    assert shown == f"a{chr(10).join(line.strip() for line in lines)}z"
    assert after[0].content == "end"


@given(nasty)
def test_no_terminal_acts_on_a_text(text: str) -> None:
    """One line, and nothing in it that is not printable but blanks."""
    assert re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u202e]", plain(text)) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("grad_clip of tui ana@box: 0.5", "grad_clip of tui ana@box: 0.5"),
        ("see https://x.org", "see https:\\//x.org"),
        ("www.x.org, a@b.org", "www\\.x.org, a\\@b.org"),
        ("  one\r\n two ", "one\\\\x0d<br>two"),
        ("x" * 9000, "x" * 9000),
    ],
)
def test_plain_words_stay_readable(text: str, words: str) -> None:
    """Only what acts is escaped, what GitHub would make a link of among it, and nothing is cut."""
    assert plain(text) == words


@pytest.mark.parametrize(
    ("text", "words"), [("torch 2.13.0+cpu", "`torch 2.13.0+cpu`"), ("a`b", "a\\`b"), ("a|b", "a\\|b"), ("", ""), (" ", "")]
)
def test_names_are_set_in_code(text: str, words: str) -> None:
    """What is no harmless name is plain text."""
    assert code(text) == words


def test_a_table_has_lines_for_its_rows_and_none_without() -> None:
    """A blank line ends it, so that the next text is no row."""
    assert table(("a", "b"), [("1", "2")]) == ["| a | b |", "|---|---|", "| 1 | 2 |", ""]
    assert table(("a", "b"), []) == []
