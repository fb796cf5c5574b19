"""The terminal's answer about its background, told from what a person types."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.views.tui.background import Answers, reads_dark

DARK = "\x1b]11;rgb:1e1e/1e1e/1e1e\x1b\\"
LIGHT = "\x1b]11;rgb:ffff/ffff/ffff\x07"


@pytest.mark.parametrize(
    ("color", "is_dark"),
    [
        ("rgb:0000/0000/0000", True),
        ("rgb:ffff/ffff/ffff", False),
        ("rgb:fd/f6/e3", False),
        ("rgb:0/2/3", True),
        ("rgba:0000/0000/ffff/8000", True),
        ("rgb:ffff/ffff/0000", False),
        ("rgb:00/00", None),
        ("#ffffff", None),
        ("", None),
        ("rgb:gg/00/00", None),
    ],
)
def test_a_colour_is_dark_or_light_or_none(color: str, is_dark: bool | None) -> None:
    """Colours of any precision are read by what the eye makes of them; what is no colour tells nothing."""
    assert reads_dark(color) is is_dark


@pytest.mark.parametrize(("answer", "is_dark"), [(DARK, True), (LIGHT, False)])
@pytest.mark.parametrize("cut", range(len(DARK)))
def test_an_answer_is_taken_out_wherever_it_is_cut(answer: str, is_dark: bool, cut: int) -> None:
    """In two pieces with keys before and after it: the keys come out in order, and of the answer at most its escape."""
    answers = Answers()
    first, told_first = answers.feed("p" + answer[:cut])
    second, told_second = answers.feed(answer[cut:] + "q")
    assert first + second == ("p\x1bq" if cut == 1 else "pq")
    assert (told_first if told_second is None else told_second) is is_dark


@pytest.mark.parametrize(
    "typed",
    ["\x1b", "\x1b]", "\x1b[A", "\x1b]1", "\x1b]11", "\x1b]10;rgb:0/0/0\x07", "\x1b]11;" + "x" * 80, "äöü漢", "11;rgb:"],
)
def test_what_is_no_answer_comes_out_again(typed: str) -> None:
    """Escape, alt with a bracket, arrow keys, other answers: all of it reaches the app, at the latest when nothing follows."""
    answers = Answers()
    assert answers.feed(typed)[0] + answers.release() == typed
    assert answers.release() == ""


def test_nobody_waits_for_escape() -> None:
    """It is given at once, although an answer begins with it too, and only once."""
    answers = Answers()
    assert answers.feed("\x1b") == ("\x1b", None)
    assert answers.feed("]x") == ("]x", None)
    assert answers.feed("\x1b") == ("\x1b", None)
    assert answers.release() == ""
    assert answers.feed("]11;") == ("]11;", None)


PARTS = st.lists(st.one_of(st.sampled_from([DARK, LIGHT]), st.text("abp:[]1;\x1b\\rg/", max_size=4)), max_size=12)


@given(parts=PARTS, data=st.data())
def test_keys_come_through_whole_and_in_order(parts: list[str], data: st.DataObject) -> None:
    """Whatever is typed and answered, in whatever pieces: what comes out is the stream without the answers, escapes aside."""
    stream = "".join(parts)
    answers, came = Answers(), ""
    while stream:
        length = data.draw(st.integers(1, len(stream)))
        came += answers.feed(stream[:length])[0]
        stream = stream[length:]
    came += answers.release()
    whole = Answers()
    expected = whole.feed("".join(parts))[0] + whole.release()
    assert came.replace("\x1b", "") == expected.replace("\x1b", "")
    assert came.count("\x1b") >= expected.count("\x1b")
