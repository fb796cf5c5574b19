"""Promises of the picture: well-formed whatever it is given, small however long the run is, and no spike averaged away."""

from __future__ import annotations

import math
import random
import re
import time
from array import array
from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.views.svg import LEFT, LETTERS, RIGHT, Columns, Mark, Scale, picture, smoothed, thinned, usual_top

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "<script>&amp;]]>\x1b[2J\u202e\n\x00\udc80\"'"


def columns(losses: list[float], first: int = 1) -> Columns:
    """A line of steps with these losses."""
    steps = array("d", range(first, first + len(losses)))
    return {"step": steps, "loss": array("d", losses), "lr": array("d", [1e-3] * len(losses)), "grad_norm": array("d", losses)}


def noisy(count: int) -> list[float]:
    """Losses that fall from 5 to 2 with some noise."""
    draw = random.Random(1)
    return [2 + 3 * math.exp(-5 * index / count) + draw.gauss(0, 0.05) for index in range(count)]


def drawn(line: Columns, **more: object) -> Element:
    """The picture of `line`, parsed."""
    return ElementTree.fromstring(picture(title="the run", subtitle="its size", line=line, **more))  # type: ignore[arg-type]


def texts(root: Element) -> list[str]:
    """What is written in the picture."""
    return [element.text or "" for element in root.iter(f"{SVG}text")]


def curves_in(root: Element) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Colour and points of every curve."""
    for path in root.iter(f"{SVG}path"):
        if path.get("stroke-linejoin"):
            numbers = [float(number) for number in re.findall(r"-?\d+\.\d", path.get("d", ""))]
            yield path.get("stroke", ""), list(zip(numbers[::2], numbers[1::2], strict=True))


def test_one_step_of_a_hundred_thousand_is_seen() -> None:
    """A spike reaches its height in its pixel column; the smooth curve does not move; it takes well below a second of CPU."""
    losses = noisy(100_000)
    losses[70_000] = 4.5
    started_s = time.process_time()
    text = picture(title="t", subtitle="s", line=columns(losses))
    assert time.process_time() - started_s < 1.0
    assert len(text) < 200_000
    (_, raw), (_, smooth), *_ = curves_in(ElementTree.fromstring(text))
    x = LEFT + 0.7 * (RIGHT - LEFT)
    assert min(y for at, y in raw if abs(at - x) < 2) < min(y for at, y in raw if 10 < abs(at - x) < 100) - 50
    near = [y for at, y in smooth if abs(at - x) < 20]
    assert max(near) - min(near) < 3


@pytest.mark.parametrize("count", [5, 1000, 20_000])
def test_the_curve_is_as_wide_as_the_plot(count: int) -> None:
    """From the first step at the left edge to the last at the right one."""
    for _, points in curves_in(drawn(columns(noisy(count)))):
        assert points[0][0] == pytest.approx(LEFT, abs=3)
        assert points[-1][0] == pytest.approx(RIGHT, abs=3)


def test_few_steps_are_drawn_as_they_are() -> None:
    """One point each, no thinning."""
    line = columns([3.0, 1.0, 2.0])
    assert thinned(line, "loss", 900) == ([(1.0, 3.0), (2.0, 1.0), (3.0, 2.0)], [])


def test_a_part_keeps_its_extremes_in_their_order() -> None:
    """The smallest and the largest value of each part, at their steps."""
    line = columns([1.0, 9.0, 5.0, 0.0, 7.0, 7.0, 8.0, 2.0])
    assert thinned(line, "loss", 2) == ([(2.0, 9.0), (4.0, 0.0), (7.0, 8.0), (8.0, 2.0)], [])


def test_what_is_no_number_is_marked() -> None:
    """One cross per pixel column and curve, and the finite values beside it are drawn."""
    line = columns([1.0, math.nan, 3.0, math.inf, -math.inf, 2.0])
    assert thinned(line, "loss", 3) == ([(1.0, 1.0), (3.0, 3.0), (6.0, 2.0)], [2.0, 4.0, 5.0])
    assert thinned(line, "loss", 1) == ([(1.0, 1.0), (3.0, 3.0)], [2.0])
    crosses = [path for path in drawn(line).iter(f"{SVG}path") if "l8 8" in path.get("d", "")]
    assert len(crosses) == 6  # three in the loss, three in the gradient norm


def test_smoothing_follows_a_line_to_both_ends() -> None:
    """The mean of as many neighbours on both sides does not bend a straight line."""
    line = columns([float(value) for value in range(50)])
    assert smoothed(line, "loss", 200) == [(float(step), pytest.approx(step - 1)) for step in range(1, 51)]


@pytest.mark.parametrize(
    ("values", "top"),
    [
        ([2.0, 3.0, 4.0], 4.0),
        ([2.0] * 100, 2.0),
        ([*[2.0, 3.0] * 100, 5.0], 5.0),
        ([*[2.0, 3.0] * 100, 1e6], 5.0),
        ([*[2.0] * 100, 9.0], 9.0),
    ],
)
def test_a_few_far_values_do_not_press_the_rest_flat(values: list[float], top: float) -> None:
    """The range ends above what is usual; what is only twice as far out is shown."""
    assert usual_top(values) == top


def test_what_leaves_the_plot_is_named() -> None:
    """An arrow at the edge, and how far the largest value goes, at which step."""
    losses = noisy(1000)
    losses[300] = 4e6
    root = drawn(columns(losses))
    assert texts(root).count("4.00e6 at step 301") == 2  # loss and gradient norm
    assert len([path for path in root.iter(f"{SVG}path") if path.get("d", "").endswith("h8l-4 -7z")]) == 2


def test_branches_lie_behind_the_line() -> None:
    """They are drawn first, dim, where their steps are."""
    root = drawn(columns(noisy(100)), branches=[columns([6.0] * 20, first=50)])
    (first_colour, points), (second_colour, _), *_ = curves_in(root)
    assert first_colour != second_colour
    assert points[0][0] == pytest.approx(LEFT + (RIGHT - LEFT) * 49 / 99, abs=1)
    assert "left behind by a rewind" in texts(root)


def test_marks_have_letters_and_words() -> None:
    """In order of their steps; more than the alphabet has are counted; long words are cut."""
    marks = [Mark(step=step, kind="edit", text=f"edit {step} {'x' * 100}") for step in range(60, 0, -1)]
    written = texts(drawn(columns(noisy(100)), marks=marks))
    assert [text for text in written if text in LETTERS] == [*LETTERS, *LETTERS]  # above the plots, and in the legend
    assert len([text for text in written if re.match(r"step \d+: edit \d+ x+…$", text)]) == len(LETTERS)
    assert any(text.startswith("and 8 more") for text in written)


def test_letters_do_not_cover_each_other() -> None:
    """Marks at the same step stand in rows, then beside each other."""
    marks = [Mark(step=50, kind="spike", text="x") for _ in range(9)]
    root = drawn(columns(noisy(100)), marks=marks)
    discs = [(float(c.get("cx", 0)), float(c.get("cy", 0))) for c in root.iter(f"{SVG}circle") if c.get("r") == "8.5"][:9]
    gaps = [math.dist(one, other) for index, one in enumerate(discs) for other in discs[:index]]
    assert min(gaps) >= 17


def test_nothing_from_outside_acts() -> None:
    """Tags, entities, control characters and half surrogate pairs become visible text."""
    marks = [Mark(step=1, kind="edit", text=EVIL)]
    text = picture(title=EVIL, subtitle=EVIL, line=columns([1.0, 2.0]), marks=marks)
    root = ElementTree.fromstring(text)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {"svg", "title", "rect", "text", "path", "circle"}
    assert texts(root)[0] == "<script>&amp;]]>\\x1b[2J\\u202e\\n\\x00\\udc80\"'"
    text.encode()


@pytest.mark.parametrize("losses", [[], [2.0], [math.nan], [2.0, 2.0], [0.0, 1e-320], [1e308, -1e308], [math.inf] * 3])
def test_a_short_or_broken_line_has_a_picture(losses: list[float]) -> None:
    """No steps, one, constant ones, or none that is a number."""
    assert drawn(columns(losses)).tag == f"{SVG}svg"


@given(
    st.lists(st.floats() | st.sampled_from([1.7e308, -1.7e308]), max_size=40),
    st.lists(st.tuples(st.integers(0, 50), st.floats()), max_size=5),
    st.lists(st.integers(0, 10**12), max_size=5),
)
def test_any_numbers_give_a_well_formed_picture(
    losses: list[float], evals: list[tuple[float, float]], steps: list[int]
) -> None:
    """No coordinate is NaN or infinite, and all lie in the picture."""
    marks = [Mark(step=step, kind="rewind", text="x") for step in steps]
    root = drawn(columns(losses), evals=evals, marks=marks)
    for element in root.iter():
        for name in ("d", "x", "y", "cx", "cy"):
            assert re.search("nan|inf", element.get(name, "")) is None
    for _, points in curves_in(root):
        assert all(LEFT - 1 <= x <= RIGHT + 1 for x, _ in points)


def test_a_scale_keeps_inside_its_pixels() -> None:
    """What lies outside the range is drawn at its edge."""
    scale = Scale(low=0.0, high=10.0, start=100.0, stop=0.0)
    assert [scale(value) for value in (-5.0, 0.0, 5.0, 10.0, 1e9)] == [100.0, 100.0, 50.0, 0.0, 0.0]
