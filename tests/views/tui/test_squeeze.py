"""The same picture in fewer bytes: a terminal that gets less shows the same, cell by cell."""

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.views.tui.squeeze import PLAIN, Squeezer, Style, applied, change

WIDTH, HEIGHT = 20, 5
CODES = ["0", "1", "2", "3", "4", "7", "9", "31", "97", "39", "42", "105", "49", "38;5;9", "48;2;1;2;3", "38;2;0;0;0"]
PLACES = st.tuples(st.integers(1, HEIGHT), st.integers(1, WIDTH - 8)).map(lambda place: f"\x1b[{place[0]};{place[1]}H")
PIECES = st.one_of(
    st.lists(st.sampled_from(CODES), max_size=4).map(lambda codes: f"\x1b[{';'.join(codes)}m"),
    st.tuples(PLACES, st.text("ab ─漢😀", min_size=1, max_size=4)).map("".join),
    PLACES,
)
FRAMES = st.lists(PIECES, max_size=8).map(lambda pieces: "".join(pieces) + "\x1b[0m\x1b[1;1H")


class Twins:
    """Two terminals: one gets all that is drawn, the other what is left of it."""

    def __init__(self) -> None:
        self.screens = [pyte.Screen(WIDTH, HEIGHT) for _ in range(2)]
        self.streams = [pyte.Stream(screen) for screen in self.screens]
        self.squeezer = Squeezer()
        self.sent = 0

    def draw(self, text: str) -> str:
        """Draw on both; returns what the second one got."""
        less = self.squeezer.squeezed(text, WIDTH, HEIGHT)
        for stream, part in zip(self.streams, (text, less), strict=True):
            stream.feed(part)
        return less

    @property
    def are_alike(self) -> bool:
        """The same characters, colours and attributes everywhere, and the cursor in the same place."""
        one, other = ([[screen.buffer[y][x] for x in range(WIDTH)] for y in range(HEIGHT)] for screen in self.screens)
        cursors = [(screen.cursor.x, screen.cursor.y, screen.cursor.attrs) for screen in self.screens]
        return one == other and cursors[0] == cursors[1]


@given(frames=st.lists(FRAMES, max_size=6))
def test_a_terminal_shows_the_same(frames: list[str]) -> None:
    """After each of some frames, whatever they draw over each other; where a wide character is cut in half all is sent."""
    twins = Twins()
    for frame in frames:
        twins.draw(frame)
        assert twins.are_alike


def test_what_is_there_is_not_sent_again() -> None:
    """A frame that changes one cell sends one cell; one that changes nothing sends nothing."""
    twins = Twins()
    frame = "\x1b[1;1H\x1b[31;42mstep 10\x1b[0m\x1b[1;31;42m · x\x1b[0m\x1b[1;1H"
    assert twins.draw(frame) == "\x1b[1;1H\x1b[31;42mstep 10\x1b[1m · x\x1b[0m\x1b[1;1H"
    assert twins.draw(frame) == ""
    assert twins.draw(frame.replace("10", "11")) == "\x1b[1;7H\x1b[31;42m1\x1b[0m\x1b[1;1H"
    assert twins.draw("\x1b[3;3H") == "\x1b[3;3H"
    assert twins.are_alike


def test_a_short_gap_is_written_over() -> None:
    """Rather than to move: a move takes more bytes than some cells."""
    twins = Twins()
    twins.draw("\x1b[1;1Habcdefghijkl\x1b[1;1H")
    assert twins.draw("\x1b[1;1HXbcXefghijkX\x1b[1;1H") == "\x1b[1;1HXbcX\x1b[1;12HX\x1b[1;1H"
    assert twins.are_alike


@pytest.mark.parametrize(
    "text",
    [
        "\x1b[1;1Ha\x1b[38;9mb\x1b[0m",
        "\x1b[1;1H\x1b[73mx\x1b[0m",
        "no place",
        "\nx",
        "\x1b[2J",
        "\x1b[1;1Ha\tb",
        "\x1b[1;1H\x1b[31mno end",
        "\x1b[1;1H漢\x1b[1;2Hx",
        "\x1b[1;1H漢\x1b[1;1Hx",
        "\x1b[1;1H\u0301",
        "\x1b[1;1H" + "x" * 21,
    ],
)
def test_what_is_not_understood_is_sent_as_it_is(text: str) -> None:
    """And nothing that was known before it is relied on after it."""
    squeezer, frame = Squeezer(), "\x1b[1;1Habc\x1b[1;1H"
    assert squeezer.squeezed(frame, WIDTH, HEIGHT) == frame
    assert squeezer.squeezed(text, WIDTH, HEIGHT) == text
    assert squeezer.squeezed(frame, WIDTH, HEIGHT) == frame


@pytest.mark.parametrize(
    ("switch", "is_known"),
    [
        ("\x1b[?2026h", True),
        ("\x1b]52;c;YQ==\x07", True),
        ("\x07\x1b]9;done\x07", True),
        ("\x1b[?2026$p", True),
        ("\x1b[?1049h", False),
    ],
)
def test_what_draws_nothing_goes_through(switch: str, is_known: bool) -> None:
    """Modes, the clipboard, the bell; only another screen is another picture."""
    squeezer, frame = Squeezer(), "\x1b[1;1Habc\x1b[1;1H"
    squeezer.squeezed(frame, WIDTH, HEIGHT)
    assert squeezer.squeezed(switch, WIDTH, HEIGHT) == switch
    assert squeezer.squeezed(frame, WIDTH, HEIGHT) == ("" if is_known else frame)


def test_another_size_is_another_picture() -> None:
    """A terminal that has been resized shows nobody knows what."""
    squeezer, frame = Squeezer(), "\x1b[1;1Habc\x1b[1;1H"
    squeezer.squeezed(frame, WIDTH, HEIGHT)
    assert squeezer.squeezed(frame, WIDTH + 1, HEIGHT) == frame


def test_marks_stay_with_their_character() -> None:
    """A character without a width is part of the one before it, also of a wide one."""
    squeezer = Squeezer()
    squeezer.squeezed("\x1b[1;1Ha漢b\x1b[1;1H", WIDTH, HEIGHT)
    assert squeezer.squeezed("\x1b[1;1Ha漢\u0301b\u0308\x1b[1;1H", WIDTH, HEIGHT) == "\x1b[1;2H漢\u0301b\u0308\x1b[1;1H"


@pytest.mark.parametrize(
    ("before", "after", "sequence"),
    [
        (PLAIN, Style("31"), "\x1b[31m"),
        (Style("31", "42"), PLAIN, "\x1b[0m"),
        (Style("31", "48;2;1;2;3"), Style("", "48;2;1;2;3"), "\x1b[39m"),
        (Style("31", "42", frozenset({1})), Style("31", "42"), "\x1b[0;31;42m"),
        (Style("31"), Style("31", "", frozenset({1, 4})), "\x1b[1;4m"),
    ],
)
def test_the_change_of_a_rendition_is_the_shortest(before: Style, after: Style, sequence: str) -> None:
    """Attributes can only be taken back all at once."""
    assert change(before, after) == sequence
    assert applied(before, sequence[2:-1]) == after
