"""plt_tui.views.tui.chart.lane: where steps lie on each axis, and where a line is broken because nothing was trained."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plt_tui.views.tui.chart import raster
from plt_tui.views.tui.chart.lane import AXES, BY_STEP, AxisName, Rows, Track, gaps, positions, without_evaluations
from plt_tui.views.tui.chart.raster import Scale
from plt_tui.views.tui.chart.series import Series

NAN, INF = math.nan, math.inf
T0 = 1_770_000_000.0


def rows_of(times: list[float], step_ms: float | list[float] = 1000.0, first: int = 1) -> Rows:
    """Steps first, first + 1, ... that ended at these seconds after T0, ten tokens each."""
    steps = np.arange(float(first), first + len(times))
    took = np.array([step_ms] * len(times) if isinstance(step_ms, float) else step_ms)
    return Rows(step=steps, time=T0 + np.array(times), tokens=steps * 10, step_ms=took)


def track_of(axis: AxisName, rows: Rows) -> Track:
    """The lane of these rows."""
    track = Track(axis)
    track.extend(rows)
    return track


@pytest.mark.parametrize(
    ("axis", "times", "step_ms", "expected"),
    [
        ("step", [1.0, 2.0, 3.0], 1000.0, [1, 2, 3]),
        ("tokens", [1.0, 2.0, 3.0], 1000.0, [10, 20, 30]),
        ("wall", [1.0, 2.0, 60.0], 1000.0, [1, 2, 60]),
        ("active", [1.0, 2.0, 60.0], 1000.0, [1, 2, 3]),
        ("active", [1.0, 2.0, 3.0], [500.0, 250.0, 250.0], [0.5, 0.75, 1.0]),
        ("wall", [1.0, 2.0, 1.5], 1000.0, [1, 2, 2]),
        ("wall", [1.0, NAN, 3.0], 1000.0, [1, 1, 3]),
        ("wall", [1.0, INF, 3.0], 1000.0, [1, 1, 3]),
        ("active", [1.0, 2.0, 3.0], [1000.0, NAN, -5.0], [1, 1, 1]),
    ],
)
def test_positions(axis: AxisName, times: list[float], step_ms: float | list[float], expected: list[float]) -> None:
    """Each axis counts its own thing, a pause counts on the wall only, and no clock or number makes a line go backwards."""
    assert positions(axis, rows_of(times, step_ms), zero=T0).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("times", "step_ms", "evaluations", "broken_before"),
    [
        ([1.0, 2.0, 3.0, 4.0], 1000.0, {}, []),
        ([1.0, 2.0, 62.0, 63.0], 1000.0, {}, [3]),
        ([1.0, 2.0, 5.9, 6.9], 1000.0, {}, []),
        ([1.0, 2.0, 62.0, 120.0], 1000.0, {}, [3, 4]),
        ([60.0, 120.0, 185.0], 60_000.0, {}, []),
        ([60.0, 120.0, 245.0], 60_000.0, {}, [3]),
        ([1.0, 2.0, 22.0, 23.0], 1000.0, {2: 18.5}, []),
        ([1.0, 2.0, 22.0, 23.0], 1000.0, {2: 4.0, 3: 90.0}, [3]),
        ([1.0, 2.0, -50.0, 3.0], 1000.0, {}, [4]),
        ([1.0, NAN, 90.0, 91.0], [1000.0, NAN, 1000.0, 1000.0], {}, []),
        ([1.0, INF, INF, 2.0], 1000.0, {}, [2]),
        ([1.0], 1000.0, {}, []),
        ([], 1000.0, {}, []),
    ],
    ids=[
        "none",
        "a pause",
        "shorter than a gap",
        "two restarts",
        "slow steps",
        "a pause between slow steps",
        "an evaluation",
        "more than the evaluation",
        "a clock set back and right again",
        "an unknown time",
        "an impossible time",
        "one step",
        "no step",
    ],
)
def test_gaps(
    times: list[float], step_ms: float | list[float], evaluations: dict[int, float], broken_before: list[int]
) -> None:
    """A line is broken where far more time went by than the step took and an evaluation explains, and nowhere else."""
    found = gaps(rows_of(times, step_ms))
    assert without_evaluations(found, evaluations).tolist() == broken_before


rows_strategy = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0, 7.0, 400.0]), st.floats(0.0, 5000.0)), min_size=1, max_size=60
)


@settings(max_examples=60)
@given(drawn=rows_strategy, pieces=st.integers(1, 5), axis=st.sampled_from(["tokens", "wall", "active"]))
def test_rows_that_come_in_pieces_lie_where_they_would_lie_together(
    drawn: list[tuple[float, float]], pieces: int, axis: AxisName
) -> None:
    """A live run and its record have the same positions and the same breaks, to the bit."""
    rows = rows_of(np.cumsum([1.0 + wait for wait, _ in drawn]).tolist(), [took for _, took in drawn])
    whole, grown = track_of(axis, rows), Track(axis)
    for part in np.array_split(np.arange(len(drawn)), pieces):
        grown.extend(Rows(**{name: getattr(rows, name)[part] for name in Rows.__slots__}))
    np.testing.assert_array_equal(grown.place(rows.step), whole.place(rows.step))
    np.testing.assert_array_equal(grown.breaks, whole.breaks)


@settings(max_examples=60)
@given(
    drawn=rows_strategy,
    axis=st.sampled_from(["tokens", "wall", "active"]),
    n=st.integers(1, 12),
    window=st.tuples(st.floats(-0.2, 1.0), st.floats(0.05, 1.3)),
)
def test_a_window_of_any_axis_holds_what_lies_in_it(
    drawn: list[tuple[float, float]], axis: AxisName, n: int, window: tuple[float, float]
) -> None:
    """Columns by way of a lane are the columns of a series that has the positions themselves as its x."""
    rows = rows_of(np.cumsum([1.0 + wait for wait, _ in drawn]).tolist(), [took for _, took in drawn])
    track, values = track_of(axis, rows), np.random.default_rng(3).normal(size=len(drawn))
    by_step, by_position = Series(), Series()
    by_step.extend(rows.step, values)
    by_position.extend(track.place(rows.step), values)
    x = by_position.x
    span = max(float(x[-1] - x[0]), 1.0)
    x0 = float(x[0]) + window[0] * span
    found, expected = by_step.columns(x0, x0 + window[1] * span, n, track), by_position.columns(x0, x0 + window[1] * span, n)
    for name in ("low", "high", "first", "last", "nonfinite", "occupied"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    np.testing.assert_allclose([found.before, found.after], [expected.before, expected.after])


@pytest.mark.parametrize("axis", ["tokens", "wall", "active"])
def test_a_step_is_found_again_where_it_was_placed(axis: AxisName) -> None:
    """Zoom and crosshair go from step to position and back without moving."""
    track = track_of(axis, rows_of([1.0, 2.0, 90.0, 91.0]))
    for step in (1.0, 2.0, 3.0, 4.0):
        (x,) = track.place(np.array([step])).tolist()
        assert track.step_at(x) == pytest.approx(step)
        assert track.nearest_step(x) == step
    assert track.nearest_step(-5.0) == 1.0
    assert track.nearest_step(1e9) == 4.0
    assert track.place(np.array([0.0, 99.0])).tolist() == track.place(np.array([1.0, 4.0])).tolist()


def test_between_two_steps_the_nearer_one_counts() -> None:
    """A pointer in the middle of a pause reads off the end of it that is nearer."""
    track = track_of("wall", rows_of([1.0, 2.0, 90.0, 91.0]))
    assert (track.nearest_step(40.0), track.nearest_step(60.0)) == (2.0, 3.0)


def test_what_happened_in_a_pause_lies_in_it_on_the_wall_axis_only() -> None:
    """Pause and resume are at one step, but at two moments."""
    rows = rows_of([1.0, 2.0, 90.0, 91.0])
    wall, active = track_of("wall", rows), track_of("active", rows)
    assert [wall.place_event(2.0, T0 + at) for at in (2.5, 88.0)] == [2.5, 88.0]
    assert wall.place_event(2.0, 0.0) == 2.0
    assert [wall.place_event(4.0, T0 + 500.0), wall.place_event(0.0, T0 - 9.0)] == [91.0, 1.0]
    assert active.place_event(2.0, T0 + 88.0) == 2.0
    assert BY_STEP.place_event(2.0, T0 + 88.0) == 2.0


def test_an_empty_lane_answers() -> None:
    """Before the first step nothing raises."""
    track = Track("wall")
    assert track.place(np.array([3.0])).tolist() == [0.0]
    assert (track.step_at(3.0), track.nearest_step(3.0), track.place_event(1.0, T0)) == (0.0, 0.0, 0.0)
    assert not Series().columns(0.0, 1.0, 4, track).occupied.any()
    track.extend(rows_of([]))
    assert len(track) == 0


def drawn(track: Track, y: list[float], width: int, window: tuple[float, float]) -> list[str]:
    """Two rows of ASCII of the values at steps 1, 2, ..."""
    series = Series()
    series.extend(np.arange(1.0, len(y) + 1), np.array(y))
    spans = raster.trace(series.columns(*window, width, track), Scale(0.0, 3.0), 4)
    codes = raster.pack(raster.fill(*spans, 4), "ascii")
    return ["".join(chr(code) if code else " " for code in row) for row in codes]


@pytest.mark.parametrize(
    ("axis", "times", "window", "rows"),
    [
        ("wall", [1.0, 2.0, 3.0, 10.0, 11.0, 12.0], (0.5, 12.5), ["...      ...", ""]),
        ("active", [1.0, 2.0, 3.0, 10.0, 11.0, 12.0], (0.5, 12.5), ["......", ""]),
        ("wall", [1.0, 2.0, 3.0, 5.0, 6.0, 7.0], (0.5, 12.5), [".......", ""]),
        ("wall", [1.0, 2.0, 3.0, 30.0, 31.0, 32.0], (0.5, 12.5), ["...", ""]),
        ("wall", [1.0, 2.0, 3.0, 30.0, 31.0, 32.0], (20.5, 32.5), ["         ...", ""]),
        ("wall", [1.0, 2.0, 3.0, 30.0, 31.0, 32.0], (10.5, 22.5), ["", ""]),
    ],
    ids=["a pause", "without pauses", "no pause", "it ends right of the window", "left of it", "all of the window"],
)
def test_a_pause_breaks_the_line(axis: AxisName, times: list[float], window: tuple[float, float], rows: list[str]) -> None:
    """On the wall axis there is nothing where nothing was trained, inside the window and at its edges."""
    assert [row.rstrip() for row in drawn(track_of(axis, rows_of(times)), [2.0] * 6, 12, window)] == rows


def test_a_pause_within_one_cell_joins_nothing_either() -> None:
    """Two columns that touch are not connected across a pause: the run may go on elsewhere."""
    track = track_of("wall", rows_of([1.0, 2.0, 32.0, 33.0]))
    assert drawn(track, [3.0, 3.0, 0.0, 0.0], 2, (0.0, 33.0)) == ["' ", " ."]
    calm = track_of("wall", rows_of([1.0, 2.0, 32.0, 33.0], [1000.0, 1000.0, 30_000.0, 1000.0]))
    assert drawn(calm, [3.0, 3.0, 0.0, 0.0], 2, (0.0, 33.0)) == [": ", " :"]


def test_evaluations_far_apart_are_not_joined_across_a_pause() -> None:
    """A break counts for every series on the lane, wherever its own points are."""
    track = track_of("wall", rows_of([1.0, 2.0, 32.0, 33.0]))
    evals = Series()
    evals.extend(np.array([1.0, 4.0]), np.array([1.0, 1.0]))
    assert evals.columns(0.0, 33.0, 11, track).broken.tolist() == [False] * 10 + [True, False]
    track.know_evaluations({2: 29.0})
    assert not evals.columns(0.0, 33.0, 11, track).broken.any()


def test_titles_fit_below_the_labels() -> None:
    """Every axis says what it counts in the cells that are there for it."""
    assert all(0 < len(axis.title) <= 6 and axis.name == name for name, axis in AXES.items())


def test_a_branch_counts_from_where_its_line_does() -> None:
    """Wall time has one zero for the line and for what it left; active time goes on from the step before the branch."""
    branch = rows_of([50.0, 51.0], first=3)
    wall = Track("wall", zero=T0)
    wall.extend(branch)
    assert wall.place(branch.step).tolist() == [50.0, 51.0]
    active = Track("active", reached=2.0)
    active.extend(replace(branch, step_ms=np.array([500.0, 500.0])))
    assert active.place(branch.step).tolist() == [2.5, 3.0]
