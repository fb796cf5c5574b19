"""plt_tui.views.tui.chart.raster: exact characters for tiny inputs, and cells that never mix two curves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plt_tui.views.tui.chart import raster
from plt_tui.views.tui.chart.raster import DOTS, Canvas, Mode, Scale
from plt_tui.views.tui.chart.series import MINUS_INF, NAN, Series

NAN_, INF = float("nan"), float("inf")


def drawn(
    y: list[float],
    mode: Mode,
    width: int,
    height: int,
    scale: Scale,
    x: list[float] | None = None,
    window: tuple[float, float] = (0, 1),
) -> list[str]:
    """The characters of a curve, one string a row; x defaults to the middles of the columns of dots."""
    dots_x, dots_y = DOTS[mode]
    columns = width * dots_x
    series = Series()
    xs = (np.arange(len(y)) + 0.5) / columns if x is None else np.array(x)
    series.extend(xs, np.array(y, dtype=float))
    spans = raster.trace(series.columns(*window, columns), scale, height * dots_y)
    codes = raster.pack(raster.fill(*spans, height * dots_y), mode)
    return ["".join(chr(code) if code else " " for code in row) for row in codes]


TABLE: list[tuple[str, Mode, list[float], int, int, list[str]]] = [
    ("one dot at the top", "braille", [3.0], 1, 1, ["⠁"]),
    ("one dot at the bottom", "braille", [0.0], 1, 1, ["⡀"]),
    ("level line", "braille", [1.0, 1.0, 1.0, 1.0], 2, 1, ["⠤⠤"]),
    ("rising", "braille", [0.0, 1.0, 2.0, 3.0], 2, 1, ["⡠⠊"]),
    ("falling", "braille", [3.0, 2.0, 1.0, 0.0], 2, 1, ["⠑⢄"]),
    ("a jump is shared by both columns", "braille", [0.0, 3.0], 1, 1, ["⡜"]),
    ("nothing leads across a NaN", "braille", [3.0, NAN_, 0.0, 0.0], 2, 1, ["⠁⣀"]),
    ("nothing leads to infinity", "braille", [3.0, INF, -INF, 0.0], 2, 1, ["⠁⢀"]),
    ("two rows", "block", [3.0, 2.0, 1.0, 0.0], 4, 2, ["▀▄  ", "  ▀▄"]),
    ("full cell", "block", [3.0, 0.0], 2, 2, ["█ ", " █"]),
    ("level block", "block", [0.0, 0.0], 2, 2, ["  ", "▄▄"]),
    ("two rows", "ascii", [3.0, 2.0, 1.0, 0.0], 4, 2, ["'.  ", "  '."]),
    ("full cell", "ascii", [3.0, 0.0], 2, 2, [": ", " :"]),
    ("level line", "ascii", [3.0, 3.0, 3.0], 3, 2, ["'''", "   "]),
]


@pytest.mark.parametrize(
    ("mode", "y", "width", "height", "rows"), [row[1:] for row in TABLE], ids=[f"{r[1]} {r[0]}" for r in TABLE]
)
def test_characters(mode: Mode, y: list[float], width: int, height: int, rows: list[str]) -> None:
    """Each mode draws these points with exactly these characters."""
    assert drawn(y, mode, width, height, Scale(0.0, 3.0)) == rows


def test_sparse_points_are_joined_by_a_straight_line() -> None:
    """Columns between two points lie on the line between them; outside the points there is nothing."""
    assert drawn([0.0, 3.0], "ascii", 8, 2, Scale(0.0, 3.0), x=[0.06, 0.69]) == ["   ..'  ", ".''     "]
    assert drawn([3.0, 0.0], "ascii", 8, 2, Scale(0.0, 3.0), x=[0.06, 0.69]) == ["'..     ", "   ''.  "]


def test_lines_come_in_from_points_outside_the_window() -> None:
    """Zoomed in between two points the line between them is still there."""
    assert drawn([0.0, 3.0], "ascii", 4, 2, Scale(0.0, 3.0), x=[-1.0, 2.0]) == ["  ..", "''  "]
    assert drawn([0.0, NAN_, 3.0], "ascii", 4, 2, Scale(0.0, 3.0), x=[-1.0, -0.5, 2.0]) == ["    ", "    "]


def test_all_points_of_a_column_are_spanned() -> None:
    """Many points in one column of dots: the dots reach from the smallest to the largest."""
    assert drawn([0.0, 3.0, 1.0], "ascii", 1, 2, Scale(0.0, 3.0), x=[0.1, 0.2, 0.3]) == [":", ":"]


@pytest.mark.parametrize(
    ("y", "rows"),
    [
        ([1.0, 10.0, 100.0, 1000.0], ["  .'", ".'  "]),
        ([1000.0, 0.0, 1.0, 1.0], ["'   ", "  .."]),
        ([1000.0, -5.0, NAN_, 1.0], ["'   ", "   ."]),
    ],
)
def test_log_scale(y: list[float], rows: list[str]) -> None:
    """Decades are equally high; zero and below are gaps."""
    assert drawn(y, "ascii", 4, 2, Scale(1.0, 1000.0, log=True)) == rows


def test_what_a_log_axis_cannot_show_is_flagged() -> None:
    """Zero and negative values count as minus infinity on a log axis, and as themselves on a linear one."""
    series = Series()
    series.extend(np.arange(4.0), np.array([1.0, 0.0, -3.0, np.nan]))
    columns = series.columns(-0.5, 3.5, 4)
    assert raster.off_scale(columns, log=True).tolist() == [0, MINUS_INF, MINUS_INF, NAN]
    assert raster.off_scale(columns, log=False).tolist() == [0, 0, 0, NAN]
    assert raster.extremes(columns, log=True) == (1.0, 1.0)
    assert raster.extremes(columns, log=False) == (-3.0, 1.0)


@settings(max_examples=150, deadline=None)
@given(
    y=st.lists(
        st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, 5e-324, -1.7e308]), min_size=1, max_size=300
    ),
    mode=st.sampled_from(["braille", "block", "ascii"]),
    width=st.integers(1, 30),
    height=st.integers(1, 8),
    log=st.booleans(),
)
def test_every_point_leaves_a_dot(y: list[float], mode: Mode, width: int, height: int, log: bool) -> None:
    """At any size every value that has a place on the axis has a dot in its column and row."""
    series = Series()
    series.extend(np.arange(len(y), dtype=float), np.array(y))
    dots_x, dots_y = DOTS[mode]
    columns = series.columns(0.0, max(len(y) - 1.0, 1.0), width * dots_x)
    low, high = raster.extremes(columns, log)
    if low > high:
        return
    scale = Scale.around(low, high, log=log)
    num_rows = height * dots_y
    dots = raster.fill(*raster.trace(columns, scale, num_rows), num_rows)
    for values in (columns.high, columns.low_positive if log else columns.low):
        rows = np.floor(scale.rows(np.where(np.isfinite(columns.low_positive) | (not log), values, np.nan), num_rows) + 0.5)
        shown = np.flatnonzero(np.isfinite(rows))
        assert dots[rows[shown].astype(int), shown].all()


def test_a_spike_is_drawn_at_any_width() -> None:
    """One step of a hundred thousand reaches the top of the plot on a plot of any width."""
    y = np.ones(100_000)
    y[54_321] = 9.0
    series = Series()
    series.extend(np.arange(100_000.0), y)
    for width in (1, 2, 3, 17, 80, 200):
        dots = raster.fill(*raster.trace(series.columns(0, 99_999, width * 2), Scale(1.0, 9.0), 40), 40)
        assert dots[0].sum() == 1
        assert dots[39].any()


def test_the_layer_stamped_last_owns_the_cell() -> None:
    """Where two curves meet, one cell shows one of them only."""
    canvas = Canvas(3, 1)
    canvas.stamp(0, 0, np.array([[ord("a"), ord("a"), 0]], dtype=np.uint32), 1)
    canvas.stamp(0, 0, np.array([[0, ord("b"), 0]], dtype=np.uint32), 2)
    assert canvas.runs(0) == [("a", 1), ("b ", 2)]


@pytest.mark.parametrize(
    ("x", "text", "shown", "end"),
    [
        (0, "abc", "abc ", 3),
        (2, "abc", "  ab", 5),
        (-1, "abc", "bc  ", 2),
        (-5, "abc", "    ", -2),
        (-1, "àbç", "bç  ", 2),
        (2, "àbç", "  àb", 5),
        (0, "語x", "語x ", 3),
        (3, "語", "    ", 5),
        (0, "a\u0301b", "ab  ", 2),
    ],
    ids=[
        "plain",
        "cut right",
        "cut left",
        "left of it",
        "accents cut left",
        "accents cut right",
        "wide",
        "half a wide one",
        "combining",
    ],
)
def test_text_on_the_canvas(x: int, text: str, shown: str, end: int) -> None:
    """Text is cut at the edges, never in the middle of a wide character, and rows keep their width."""
    canvas = Canvas(4, 1)
    assert canvas.text(x, 0, text, 1) == end
    assert "".join(run for run, _ in canvas.runs(0)) == shown


def test_blanks_join_the_run_before_them() -> None:
    """Few runs mean few bytes: a gap between two pieces of one ink does not end it."""
    canvas = Canvas(8, 1)
    canvas.text(1, 0, "a", 3)
    canvas.text(4, 0, "b", 3)
    canvas.text(6, 0, "c", 5)
    assert canvas.runs(0) == [(" a  b ", 3), ("c ", 5)]
    assert Canvas(3, 1).runs(0) == [("   ", 0)]


def test_changes_are_the_cells_that_look_different() -> None:
    """Equal canvases differ nowhere; a blank of another ink is no difference."""
    before = Canvas(5, 3)
    after = before.copy()
    assert list(after.changes(before)) == []
    after.inks[0, 0] = 7
    after.text(1, 2, "xyz", 1)
    assert list(after.changes(before)) == [(2, 1, 4)]
