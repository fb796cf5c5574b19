"""What people type to look for lines: smart case, errors in words, and no expression that holds the program up."""

import contextlib
import re
import signal
import time

import pytest

from plt_tui.errors import UsageError
from plt_tui.views.pattern import LIMIT_S, MATCHED_CHARS, MAX_PATTERN_CHARS, MAX_SPANS, Pattern, TooSlow, within

ENDLESS = ("(a+)+$", "(a|aa)+$", r"(a|a)*b", "(.*,){12}x")
VICTIM = "a" * 60 + "," * 40 + "!"


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("loss", ["loss 1", "LOSS 2", "train/Loss"]),
        ("Loss", ["train/Loss"]),
        ("LOSS", ["LOSS 2"]),
        (r"\Soss", ["loss 1", "LOSS 2", "train/Loss"]),
        (r"loss \d", ["loss 1", "LOSS 2"]),
        ("^loss|nan$", ["loss 1", "LOSS 2", "grad NaN"]),
        (".*loss", ["loss 1", "LOSS 2", "train/Loss"]),
        (".*?.*loss 1", ["loss 1"]),
        (".*NaN|Loss", ["train/Loss", "grad NaN"]),
        ("größe", ["Größe"]),
    ],
)
def test_case_counts_where_a_capital_was_typed(pattern: str, found: list[str]) -> None:
    r"""Small letters find both; \S is no capital; what stands in front does not change what is found."""
    texts = ["loss 1", "LOSS 2", "train/Loss", "grad NaN", "Größe", ""]
    assert [texts[place] for place in Pattern(pattern).find(texts)] == found


@pytest.mark.parametrize(
    "text",
    [
        "(",
        "[",
        "a**",
        "*",
        "\\",
        "(?<=a*)b",
        "a{1,99999999999}",
        "(?P<x",
        "[b-a]",
        "(" * MAX_PATTERN_CHARS,
        "(?i)a(?i)",
        "\\400",
    ],
)
def test_what_is_no_expression_is_said(text: str) -> None:
    """Whatever is typed on the way to an expression is an error in words, never an exception of another kind."""
    with pytest.raises(UsageError, match=r"\w+"):
        Pattern(text)


def test_an_error_tells_its_place() -> None:
    """Also behind a beginning that is left out of the search."""
    with pytest.raises(UsageError, match="position 3"):
        Pattern(".*a(")


@pytest.mark.parametrize("text", ["[[a", "a||b", "[a--b]", "[a&&b]"])
def test_what_python_may_read_otherwise_one_day_is_no_noise(text: str) -> None:
    """Warnings of the expression compiler reach neither the screen nor the tests, which take them for errors."""
    with contextlib.suppress(UsageError):
        Pattern(text)


@pytest.mark.parametrize("text", ENDLESS)
def test_an_endless_expression_ends(text: str) -> None:
    """Where the engine would go on for years it is stopped, and the CPU clock of others is left as it was."""
    before = signal.getsignal(signal.SIGVTALRM)
    began = time.process_time()
    with pytest.raises(TooSlow):
        Pattern(text).find([VICTIM] * 3)
    assert time.process_time() - began < 20 * LIMIT_S
    assert signal.getsignal(signal.SIGVTALRM) is before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_an_endless_expression_is_marked_nowhere() -> None:
    """Drawing a line is bounded as finding it is."""
    with pytest.raises(TooSlow):
        Pattern("(a+)+!,").spans(VICTIM)


def test_work_in_time_is_not_disturbed() -> None:
    """Hundreds of searches in a row each have their own time."""
    assert [within(LIMIT_S, lambda number=number: number * number) for number in range(500)] == [n * n for n in range(500)]


def test_an_error_of_the_work_comes_through() -> None:
    """The limit hides nothing, and is off afterwards."""
    with pytest.raises(re.error):
        within(LIMIT_S, lambda: re.compile("("))
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_only_the_beginning_of_a_long_line_is_looked_at() -> None:
    """A line of a megabyte costs what a page costs."""
    text = "x" * MATCHED_CHARS + "ab"
    assert Pattern("a").find([text]) == []
    assert Pattern("x").find([text]) == [0]


def test_places_in_a_line() -> None:
    """Every match that has a length, bounded."""
    assert Pattern("a+").spans("aa b a") == [(0, 2), (5, 6)]
    assert Pattern("x*").spans("ab") == []
    assert len(Pattern("a").spans("a" * 1000)) == MAX_SPANS
