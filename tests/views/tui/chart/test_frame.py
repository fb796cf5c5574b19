"""plt_tui.views.tui.chart.frame, legend and scene: what a picture shows, at any size, and that it does not shimmer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plt_tui.views.axis import NumberFormat
from plt_tui.views.formats import format_duration, format_value
from plt_tui.views.tui.chart.frame import Frame, compose
from plt_tui.views.tui.chart.ink import BEHIND_FAINT, Ink, Inks
from plt_tui.views.tui.chart.lane import AXES, BY_STEP, AxisName, Lane, Rows, Track
from plt_tui.views.tui.chart.overlay import overlaid, step_at
from plt_tui.views.tui.chart.raster import DOTS, Canvas, Mode
from plt_tui.views.tui.chart.scene import Curve, Mark, Scene
from plt_tui.views.tui.chart.series import Derived, Series
from plt_tui.views.tui.chart.smoothing import Ema
from plt_tui.views.tui.chart.viewport import Viewport


def loss(points: int) -> np.ndarray:
    """A falling, noisy curve."""
    noise = np.random.default_rng(7).normal(0.0, 0.1, points)
    return 2.0 + 6.0 * np.exp(-np.arange(points) / 200.0) + noise


def series_of(y: np.ndarray | list[float]) -> Series:
    """The values at steps 1, 2, 3, ..."""
    series = Series()
    series.extend(np.arange(1.0, len(y) + 1), np.asarray(y, dtype=float))
    return series


def scene_of(
    *series: Series,
    mode: Mode = "braille",
    log_y: bool = False,
    smoothing: float = 0.0,
    marks: tuple[Mark, ...] = (),
    viewport: Viewport | None = None,
) -> Scene:
    """A scene with one line a series."""
    colors = ("primary", "warning", "success")
    return Scene(
        title="loss",
        y_format=None,
        mode=mode,
        log_y=log_y,
        smoothing=smoothing,
        curves=tuple(Curve(f"run{index}", each, colors[index]) for index, each in enumerate(series)),
        smoothed=tuple(Derived(each, lambda: Ema(smoothing)).series() if smoothing else None for each in series),
        marks=marks,
        viewport=viewport or Viewport(),
    )


def lines(canvas: Canvas) -> list[str]:
    """The rows of a canvas as text."""
    return ["".join(text for text, _ in canvas.runs(y)) for y in range(canvas.size[1])]


def picture(scene: Scene, width: int = 60, height: int = 12) -> tuple[Frame, list[str], Inks]:
    """The frame of a scene, its rows as text, and its inks."""
    inks = Inks()
    frame = compose(scene, width, height, inks)
    return frame, lines(frame.canvas), inks


def even_rows(first: int, last: int) -> Rows:
    """Steps of 100 ms, one a second, ten tokens each."""
    steps = np.arange(float(first), last + 1.0)
    return Rows(step=steps, time=1e9 + steps, tokens=10 * steps, step_ms=np.full(len(steps), 100.0))


def test_a_small_picture() -> None:
    """Title and newest value above, round ticks left and below, the curve between: character by character."""
    _, rows, _ = picture(scene_of(series_of([0.0, 1.0, 2.0, 3.0, 4.0]), mode="ascii"), 30, 8)
    assert rows == [
        "loss              - run0 4.000",
        "    4                       ..",
        "                       ...''  ",
        "                   ..''       ",
        "    2         ..'''           ",
        "         ..'''                ",
        "    0 '''                     ",
        " step       2           4     ",
    ]


@pytest.mark.parametrize(
    ("y_format", "labels"),
    [(None, ["4", "2", "0"]), (format_value, ["4", "2", "0"]), (format_duration, ["4.0s", "2.0s", "0ms"])],
)
def test_y_labels_carry_the_unit_but_no_noise(y_format: NumberFormat | None, labels: list[str]) -> None:
    """Round ticks are written short; a format with a unit is used on the axis too."""
    scene = scene_of(series_of([0.0, 1.0, 2.0, 3.0, 4.0]))
    scene = Scene(**{name: getattr(scene, name) for name in scene.__slots__} | {"y_format": y_format})
    frame, _, _ = picture(scene, 40, 8)
    assert frame.plot is not None
    assert list(frame.plot.y_labels) == labels[::-1]


def test_before_the_first_step_it_says_so() -> None:
    """An empty chart is one quiet sentence in its middle, not an error or an empty frame."""
    _, rows, inks = picture(scene_of(Series()), 40, 9)
    assert rows[4].strip() == "waiting for the first step"
    assert rows[0].strip() == "loss"
    assert Ink("foreground", 0.4) in inks.all


@pytest.mark.parametrize(
    ("y", "log_y", "sign", "row"),
    [
        ([2.0, float("nan"), 3.0], False, "×", -2),
        ([2.0, float("inf"), 3.0], False, "^", 1),
        ([2.0, float("-inf"), 3.0], False, "v", -2),
        ([2.0, 0.0, 3.0], True, "v", -2),
        ([float("nan")], False, "×", -2),
    ],
)
def test_what_cannot_be_drawn_is_marked_in_red(y: list[float], log_y: bool, sign: str, row: int) -> None:
    """NaN, infinities, and on a log axis zero, are seen in their column and never hidden."""
    frame, rows, inks = picture(scene_of(series_of(y), log_y=log_y))
    assert frame.plot is not None
    cell = frame.plot.cell_of(2.0 if len(y) > 1 else 1.0)
    assert cell is not None
    assert rows[row][cell] == sign
    assert inks.all[frame.canvas.inks[row, cell]] == Ink("error", bold=True)


def test_marks_stand_on_the_top_row_above_a_faint_line() -> None:
    """An intervention is a glyph at its step; the line under it never covers a curve."""
    mark = Mark(200.0, "◆", "lr 0.001 -> 0.0005", "secondary")
    frame, rows, inks = picture(scene_of(series_of(loss(400)), marks=(mark, Mark(9e9, "!", "elsewhere", "error"))))
    assert frame.plot is not None
    cell = frame.plot.cell_of(200.0)
    assert cell is not None
    assert rows[1][cell] == "◆"
    column = [row[cell] for row in rows[2:-1]]
    assert "┊" in column
    assert any("\u2800" < char <= "\u28ff" for char in column)
    assert Ink("secondary", 0.55) in inks.all


@pytest.mark.parametrize(
    ("glyph", "mode"), [("語", "braille"), ("ab", "block"), ("\x1b", "braille"), ("◆", "ascii"), ("", "block")]
)
def test_a_glyph_that_is_not_one_cell_is_replaced(glyph: str, mode: Mode) -> None:
    """No mark shifts its row, leaks a control character, or needs a font that ASCII terminals lack."""
    _, rows, _ = picture(scene_of(series_of(loss(50)), mode=mode, marks=(Mark(25.0, glyph, "", "error"),)))
    assert rows[1].count("!" if mode == "ascii" else "◆") == 1
    assert all(len(row) == 60 for row in rows)
    if mode == "ascii":
        assert "".join(rows).isascii()


def test_smoothing_keeps_the_raw_line_faint_below() -> None:
    """The smoothed line is drawn in full colour, the raw one stays visible in a faint one."""
    frame, rows, inks = picture(scene_of(series_of(loss(400)), smoothing=0.9))
    used = {inks.all[number] for number in np.unique(frame.canvas.inks[1:-1])}
    assert {Ink("primary"), Ink("primary", 0.52)} <= used
    assert "smooth 0.9" in rows[0]


def test_nothing_drawn_leaves_the_plot() -> None:
    """A smoothed line that lags behind a steep fall widens the axis instead of leaving it."""
    y = np.concatenate((np.full(100, 100.0), np.full(100, 1.0)))
    scene = scene_of(series_of(y), smoothing=0.99, viewport=Viewport(span=40.0))
    frame, _, inks = picture(scene)
    assert frame.plot is not None
    assert frame.plot.scale is not None
    mean = scene.smoothed[0]
    assert mean is not None
    assert frame.plot.scale.low < 1.0
    assert frame.plot.scale.high > mean.y[165]
    strong = inks.of("primary")
    assert (frame.canvas.inks[1:-1, 6:] == strong).any(axis=0).all()


def test_names_and_labels_cannot_reach_the_terminal_raw() -> None:
    """Escapes in a run's name or a note become visible text."""
    series = series_of(loss(10))
    scene = scene_of(series, marks=(Mark(5.0, "◆", "\x1b[31mred\x07", "error"),))
    evil = Curve("\x1b]0;x\x07", series, "primary")
    scene = Scene(**{name: getattr(scene, name) for name in scene.__slots__} | {"curves": (evil,), "title": "a\nb"})
    inks = Inks()
    frame = compose(scene, 120, 10, inks)
    text = "".join(lines(frame.canvas) + lines(overlaid(frame, scene, inks, hover=5.0)))
    assert text.isprintable()
    assert "\\x1b[31mred\\x07" in text


def test_the_crosshair_reads_off_every_curve() -> None:
    """The title row shows step, values and the mark under a hairline that leaves curves untouched."""
    first, second = series_of(loss(400)), series_of(loss(300) + 1)
    scene = scene_of(first, second, smoothing=0.9, marks=(Mark(390.0, "◆", "lr halved", "error"),))
    inks = Inks()
    frame = compose(scene, 110, 14, inks)
    canvas = overlaid(frame, scene, inks, hover=390.2)
    title = lines(canvas)[0]
    assert "step 390" in title
    assert f"run0 {format_value(first.y[389])} ~" in title
    assert f"run1 {format_value(second.y[-1])}" in title
    assert "@300" in title
    assert "◆ lr halved" in title
    assert frame.plot is not None
    cell = frame.plot.cell_of(390.0)
    differing = {(y, start, stop) for y, start, stop in canvas.changes(frame.canvas) if y > 0}
    assert {(start, stop) for _, start, stop in differing} == {(cell, (cell or 0) + 1)}
    assert lines(frame.canvas)[0].endswith(format_value(second.y[-1]))


def laned(scene: Scene, axis: AxisName, lane: Lane) -> Scene:
    """The scene on another axis."""
    return replace(scene, axis=AXES[axis], curves=tuple(replace(curve, lane=lane) for curve in scene.curves))


@pytest.mark.parametrize(
    ("viewport", "mode", "axis"),
    [(Viewport(), mode, "step") for mode in DOTS]
    + [(Viewport(span=150.0), mode, "step") for mode in DOTS]
    + [
        (Viewport(), "braille", "tokens"),
        (Viewport(span=150.0), "braille", "wall"),
        (Viewport(span=15.0), "braille", "active"),
    ],
)
def test_the_picture_does_not_shimmer(viewport: Viewport, mode: Mode, axis: AxisName) -> None:
    """A new point changes the newest cell only, as long as the axes stay; then old cells move together or not at all."""
    y = loss(600)
    inks, before, still = Inks(), None, 0
    series, track = series_of(y[:400]), Track(axis)
    track.extend(even_rows(1, 400))
    for step in range(400, 600):
        series.extend(np.array([step + 1.0]), y[step : step + 1])
        track.extend(even_rows(step + 1, step + 1))
        scene = laned(scene_of(series, mode=mode, viewport=viewport), axis, BY_STEP if axis == "step" else track)
        frame = compose(scene, 90, 20, inks)
        plot = frame.plot
        assert plot is not None
        if before is not None and before.plot == plot:
            newest = plot.cell_of(scene.place(step + 1.0))
            assert newest is not None
            for row, start, stop in frame.canvas.changes(before.canvas):
                assert row == 0 or newest - 1 <= start < stop <= newest + 1
            still += 1
        before = frame
    assert still > 60


def test_a_tail_scrolls_without_changing_its_shape() -> None:
    """When the live tail moves on by one cell, every old cell moves by one cell and keeps its character."""
    y = 3.0 + np.sin(np.arange(600) / 9.0) + np.random.default_rng(7).normal(0.0, 0.02, 600)
    y[::20] = 5.0
    viewport = Viewport(span=160.0)  # two steps a cell on a plot of 80 cells

    def plot_cells(points: int) -> tuple[np.ndarray, tuple[object, object]]:
        frame = compose(scene_of(series_of(y[:points]), mode="block", viewport=viewport), 86, 20, Inks())
        assert frame.plot is not None
        assert frame.plot.width == 80
        return frame.canvas.glyphs[1:-1, 6:], (frame.plot.scale, frame.plot.y_ticks)

    (old, old_axis), (new, new_axis) = plot_cells(500), plot_cells(502)
    assert old_axis == new_axis
    grid = ord("·")
    old, new = (np.where(cells == grid, ord(" "), cells) for cells in (old, new))
    np.testing.assert_array_equal(old[:, 2:-2], new[:, 1:-3])


@settings(max_examples=120, deadline=None)
@given(
    width=st.integers(0, 70),
    height=st.integers(0, 16),
    y=st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=80),
    mode=st.sampled_from(["braille", "block", "ascii"]),
    log_y=st.booleans(),
    smoothing=st.sampled_from([0.0, 0.9]),
    style=st.sampled_from(["line", "dots"]),
    at=st.floats(-10, 100),
)
def test_no_size_and_no_data_raise(
    width: int, height: int, y: list[float], mode: Mode, log_y: bool, smoothing: float, style: str, at: float
) -> None:
    """From 0x0 cells up, whatever the points, there is a picture of exactly that size, in ASCII if asked for."""
    scene = scene_of(series_of(y), mode=mode, log_y=log_y, smoothing=smoothing, marks=(Mark(3.0, "*", "m", "error"),))
    dots = Curve("run", scene.curves[0].series, "primary", style=style)  # type: ignore[arg-type]
    scene = Scene(**{name: getattr(scene, name) for name in scene.__slots__} | {"curves": (dots,)})
    inks = Inks()
    frame = compose(scene, width, height, inks)
    for canvas in (frame.canvas, overlaid(frame, scene, inks, hover=at, pointed=at)):
        assert canvas.size == (width, height)
        assert all(len(row) == width for row in lines(canvas))
        if mode == "ascii":
            assert "".join(lines(canvas)).isascii()


def branched(branch: list[float], *, smoothing: float = 0.0, log_y: bool = False) -> Scene:
    """A live line of 100 points at height 1 to 2, and a branch that leaves it at 51."""
    behind = Series()
    behind.extend(np.arange(51.0, 51.0 + len(branch)), np.array(branch))
    scene = scene_of(behind, series_of(np.linspace(2.0, 1.0, 100)), smoothing=smoothing, log_y=log_y)
    curves = (replace(scene.curves[0], name="branch 1", color="foreground", left_behind=True), scene.curves[1])
    return replace(scene, curves=curves)


@pytest.mark.parametrize("branch", [[1.5] * 20 + [1e9] * 20, [float("nan")] * 40, [1.5] * 4000, [-5.0] * 40])
@pytest.mark.parametrize("smoothing", [0.0, 0.9])
@pytest.mark.parametrize("log_y", [False, True])
def test_a_line_left_behind_widens_no_axis(branch: list[float], smoothing: float, log_y: bool) -> None:
    """Wherever a branch went, to the sky or far ahead, the live line is drawn as if it were alone, and no sign is red."""
    scene = branched(branch, smoothing=smoothing, log_y=log_y)
    alone = replace(scene, curves=scene.curves[1:], smoothed=scene.smoothed[1:])
    frame, rows, inks = picture(scene)
    frame_alone, rows_alone, inks_alone = picture(alone)
    assert frame.plot == frame_alone.plot
    assert [row[:7] for row in rows] == [row[:7] for row in rows_alone]
    assert not (frame.canvas.inks == inks.of("error", bold=True)).any()
    live = frame_alone.canvas.inks[1:] == inks_alone.of("warning")
    assert live.any()
    np.testing.assert_array_equal(frame.canvas.glyphs[1:][live], frame_alone.canvas.glyphs[1:][live])


def test_a_line_left_behind_is_faint_below_the_live_one() -> None:
    """It is seen where the live line is not; its values are told under the crosshair only, and only where it lies."""
    scene = branched([1.5] * 40)
    frame, rows, inks = picture(scene)
    faint = inks.of("foreground", BEHIND_FAINT)
    assert (frame.canvas.inks[1:] == faint).any()
    assert "branch" in rows[0]
    assert "branch 1" not in rows[0]
    assert "branch 1 1.500" in lines(overlaid(frame, scene, inks, hover=70.0))[0]
    assert "branch" not in lines(overlaid(frame, scene, inks, hover=20.0))[0]


@pytest.mark.parametrize("mode", ["braille", "block", "ascii"])
def test_evaluations_left_behind_are_dots_within_the_scale(mode: Mode) -> None:
    """Those above or below what the live line shows are not drawn, whatever they are."""
    scene = replace(branched([*[1.8] * 3, *[1e9] * 3, *[float("nan")] * 3, *[-5.0] * 3, *[1.9] * 3]), mode=mode)
    dots = replace(scene.curves[0], style="dots", smooth=False)
    frame, rows, inks = picture(replace(scene, curves=(dots, scene.curves[1])))
    assert frame.plot is not None
    plot = slice(frame.plot.top, frame.plot.top + frame.plot.height)
    faint = frame.canvas.inks[plot] == inks.of("foreground", BEHIND_FAINT)
    drawn = [row[column] for row, inked in zip(rows[plot], faint, strict=True) for column in np.flatnonzero(inked)]
    assert len(drawn) >= 2
    assert set(drawn) == {scene.glyph("dots")}


def test_only_what_was_left_behind_is_no_picture() -> None:
    """Back at the start there is no live point yet."""
    scene = branched([1.5] * 40)
    _, rows, _ = picture(replace(scene, curves=scene.curves[:1], smoothed=scene.smoothed[:1]))
    assert "waiting for the first step" in "\n".join(rows)


def test_the_heaviest_mark_of_a_column_is_seen() -> None:
    """A rewind is not hidden by the checkpoint that it went back to; of equal ones the newest is seen."""
    light, heavy, other = Mark(50.0, "C", "", "foreground"), Mark(50.0, "r", "", "warning", 3), Mark(50.2, "N", "", "warning")
    for marks, glyph in (((heavy, light, other), "r"), ((light, other), "N")):
        frame, rows, _ = picture(scene_of(series_of(loss(100)), marks=marks))
        assert frame.plot is not None
        assert rows[1][frame.plot.cell_of(50.0) or 0] == glyph


@pytest.mark.parametrize(
    ("axis", "name", "labels"),
    [
        ("tokens", "tokens", ["1k", "2k", "3k", "4k"]),
        ("wall", "wall", ["1m", "2m", "3m", "4m", "5m", "6m"]),
        ("active", "active", ["10s", "20s", "30s", "40s"]),
    ],
)
def test_every_axis_has_its_name_and_its_units(axis: AxisName, name: str, labels: list[str]) -> None:
    """Counts are written as counts, times as a clock shows them, and the crosshair tells the step as well."""
    track = Track(axis)
    track.extend(even_rows(1, 400))
    scene = laned(scene_of(series_of(loss(400))), axis, track)
    frame, rows, inks = picture(scene, 90, 14)
    assert rows[-1].split() == [name, *labels]
    title = lines(overlaid(frame, scene, inks, hover=scene.place(300.0)))[0]
    assert f"{name} {scene.axis.exact(scene.place(300.0))}, step 300" in title


def paused_scene(*marks: Mark) -> Scene:
    """Ten steps, a pause of half a minute at step 10, and ten more, on the wall axis."""
    steps = np.arange(1.0, 21.0)
    times = 1e9 + np.where(steps <= 10, steps, steps + 30.0)
    track = Track("wall")
    track.extend(Rows(step=steps, time=times, tokens=steps, step_ms=np.full(20, 1000.0)))
    return laned(scene_of(series_of(np.full(20, 2.0)), marks=marks), "wall", track)


def test_pause_and_resume_are_marked_at_both_ends_of_the_gap() -> None:
    """On the wall axis a mark lies at its own moment, also where all moments belong to one step."""
    pause, resume = Mark(10.0, "P", "pause", "warning", time=1e9 + 10.5), Mark(10.0, "R", "resume", "warning", time=1e9 + 39.5)
    frame, rows, _ = picture(paused_scene(pause, resume), 60, 8)
    line = next(row for row in rows[2:-1] if any("\u2800" < char <= "\u28ff" and char not in "⠁⠂⠄⡀" for char in row))
    left, right = rows[1].index("P"), rows[1].index("R")
    assert right - left > 20
    assert set(line[left + 2 : right - 1]) <= set(" ⠁⠂⠄⡀┊")
    assert frame.plot is not None
    on_steps = replace(paused_scene(pause, resume), axis=AXES["step"])
    steps_rows = picture(laned(on_steps, "step", BY_STEP), 60, 8)[1]
    assert ("R" in steps_rows[1], "P" in steps_rows[1]) == (True, False)


def test_no_mark_is_lost_at_the_ends_of_the_wall_axis() -> None:
    """What happened before the first step or after the newest one is marked there."""
    early, late = Mark(0.0, "E", "", "warning", time=1e9 - 99.0), Mark(20.0, "Z", "", "warning", time=1e9 + 9999.0)
    rows = picture(paused_scene(early, late), 60, 8)[1]
    assert "E" in rows[1]
    assert "Z" in rows[1]


def test_the_step_pointed_at_has_a_hairline_of_its_own() -> None:
    """It differs from the pointer's by its sign, both can be seen, and the title tells the values under the pointer first."""
    scene = scene_of(series_of(loss(400)))
    inks = Inks()
    frame = compose(scene, 90, 14, inks)
    held = lines(overlaid(frame, scene, inks, pointed=300.0))
    both = lines(overlaid(frame, scene, inks, hover=100.0, pointed=300.0))
    assert frame.plot is not None
    columns = [frame.plot.cell_of(step) or 0 for step in (100.0, 300.0)]
    assert "▸ step 300" in held[0]
    assert "step 100" in both[0]
    assert "▸" not in both[0]
    assert sum(row[columns[1]] == "┃" for row in held) > 6
    assert [sum(row[column] == sign for row in both) > 6 for column, sign in zip(columns, "│┃", strict=True)] == [True, True]


@pytest.mark.parametrize("mode", ["braille", "block", "ascii"])
def test_a_hairline_hides_no_curve_no_mark_and_no_sign(mode: Mode) -> None:
    """Pointing at a NaN, at an infinity or at a mark takes nothing away that was drawn there."""
    y = loss(60)
    y[29], y[39] = np.nan, np.inf
    marks = (Mark(20.0, "N", "note", "warning"),)
    scene = scene_of(series_of(y), mode=mode, marks=marks)
    inks = Inks()
    frame = compose(scene, 66, 14, inks)
    assert frame.plot is not None
    for step in (20.0, 30.0, 40.0, 50.0):
        over = overlaid(frame, scene, inks, hover=step, pointed=step)
        assert frame.free is not None
        drawn = ~frame.free[1:]
        np.testing.assert_array_equal(over.glyphs[1:][drawn], frame.canvas.glyphs[1:][drawn])
    rows = lines(overlaid(frame, scene, inks, pointed=30.0))
    assert rows[-2][frame.plot.cell_of(30.0) or 0] == scene.glyph("nan")


def test_a_step_out_of_view_has_no_hairline() -> None:
    """Pointing at what cannot be seen changes nothing in the picture."""
    scene = scene_of(series_of(loss(400)), viewport=Viewport(span=50.0))
    inks = Inks()
    frame = compose(scene, 90, 14, inks)
    assert list(overlaid(frame, scene, inks, pointed=20.0).changes(frame.canvas)) == []


def test_a_click_finds_the_mark_of_its_column_and_else_the_nearest_step() -> None:
    """A mark covers a hundred steps of a long run: nobody could hit its own step; beside the plot there is none."""
    scene = scene_of(series_of(loss(5000)), marks=(Mark(2017.0, "L", "", "warning"), Mark(2018.0, "C", "", "foreground", -1)))
    frame = compose(scene, 66, 14, Inks())
    assert frame.plot is not None
    cell = frame.plot.cell_of(2017.0) or 0
    assert step_at(frame, scene, cell) == 2017
    beside = step_at(frame, scene, cell + 3)
    assert beside is not None
    assert frame.plot.cell_of(float(beside)) == cell + 3
    assert (step_at(frame, scene, 2), step_at(frame, scene, 66)) == (None, None)


def test_where_room_is_short_values_stay_longest() -> None:
    """The hairline shows the place too, so it is told last; a branch and a mark come behind the values of the run itself."""
    scene = replace(branched([1.5] * 40), marks=(Mark(70.0, "L", "a very long label of a mark", "warning"),))
    inks = Inks()

    def title(width: int) -> str:
        frame = compose(scene, width, 10, inks)
        return lines(overlaid(frame, scene, inks, hover=70.0))[0]

    assert "step 70  ━ run1 1.303  ━ branch 1 1.500  L a very long label of a mark" in title(90)
    assert title(62).endswith("step 70  ━ run1 1.303  ━ branch 1 1.500  L a very long …")
    assert title(34).split() == ["loss", "step", "70", "━", "run1", "1.303", "L", "a", "…"]
    assert title(24).split() == ["loss", "━", "run1", "1.303", "L", "a…"]
    assert title(20).split() == ["loss", "━", "run1", "1.303"]


def test_where_room_is_short_means_and_own_places_go_before_values() -> None:
    """Two curves are read off in little room: first without means and places of their own, then without the common place."""
    scene, inks = scene_of(series_of(loss(400)), series_of(loss(300) + 1), smoothing=0.9), Inks()

    def title(width: int) -> str:
        frame = compose(scene, width, 10, inks)
        return lines(overlaid(frame, scene, inks, hover=390.0))[0]

    values = [
        f"━ run{place} {format_value(curve.series.y[at])}"
        for place, (curve, at) in enumerate(zip(scene.curves, (389, 299), strict=True))
    ]
    assert "~" in title(100)
    assert "@300" in title(100)
    for width, words in ((50, ["step 390", *values]), (36, values)):
        assert title(width).split("  ")[-len(words) :] == words
        assert title(width).startswith("loss")
