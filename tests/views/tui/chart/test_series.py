"""plt_tui.views.tui.chart.series: every point counts at every zoom, at a cost that does not grow with the history."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plt_tui.views.tui.chart import series as series_module
from plt_tui.views.tui.chart.series import MINUS_INF, NAN, PLUS_INF, Derived, Series


def series_of(y: np.ndarray, x: np.ndarray | None = None) -> Series:
    """A series of these values, at 0, 1, 2, ... when no x is given."""
    made = Series()
    made.extend(np.arange(len(y), dtype=float) if x is None else x, np.asarray(y, dtype=float))
    return made


def naive(x: np.ndarray, y: np.ndarray, x0: float, x1: float, n: int) -> list[dict[str, float]]:
    """The same columns by looking at every point."""
    edges = np.linspace(x0, x1, n + 1)
    columns = []
    for index in range(n):
        last = index == n - 1
        inside = (x >= edges[index]) & ((x <= x1) if last else (x < edges[index + 1]))
        points = y[inside]
        finite = points[np.isfinite(points)]
        positive = finite[finite > 0]
        flags = NAN * np.isnan(points).any() + PLUS_INF * (points == np.inf).any() + MINUS_INF * (points == -np.inf).any()
        columns.append(
            {
                "low": finite.min() if len(finite) else np.nan,
                "high": finite.max() if len(finite) else np.nan,
                "low_positive": positive.min() if len(positive) else np.nan,
                "first": points[0] if len(points) else np.nan,
                "last": points[-1] if len(points) else np.nan,
                "nonfinite": flags,
                "occupied": len(points) > 0,
            }
        )
    return columns


values = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, -1.0, 1e-300, np.nan, np.inf, -np.inf])


@settings(max_examples=60, deadline=None)
@given(
    y=st.lists(values, min_size=1, max_size=400),
    gaps=st.lists(st.sampled_from([0.0, 1.0, 0.25, 37.0]), min_size=400, max_size=400),
    n=st.integers(1, 15),
    window=st.tuples(st.floats(-0.2, 1.0), st.floats(0.01, 1.2)),
    pieces=st.integers(1, 7),
)
def test_columns_agree_with_looking_at_every_point(
    y: list[float], gaps: list[float], n: int, window: tuple[float, float], pieces: int
) -> None:
    """Whatever the points, the window and the pieces they came in, the pyramid gives what a plain loop gives."""
    x, values_ = np.cumsum(gaps[: len(y)]), np.array(y)
    made = Series()
    for part in np.array_split(np.arange(len(y)), pieces):
        made.extend(x[part], values_[part])
    span = max(x[-1] - x[0], 1.0)
    x0 = x[0] + window[0] * span
    x1 = x0 + window[1] * span
    columns = made.columns(x0, x1, n)
    for index, expected in enumerate(naive(x, values_, x0, x1, n)):
        for name, value in expected.items():
            # Arrays, because for scalars numpy tells 0.0 from -0.0, and a chart has one place for both.
            np.testing.assert_array_equal([getattr(columns, name)[index]], [value], err_msg=f"{name} of column {index}")


def test_one_spike_in_a_hundred_thousand_points_is_in_every_window() -> None:
    """A one-step spike is the maximum of its column at any number of columns."""
    y = np.ones(100_000)
    y[54_321] = 9.0
    made = series_of(y)
    for n in (1, 2, 7, 80, 240, 1000):
        assert made.columns(0.0, 99_999.0, n).high.max() == 9.0


def test_first_and_last_point_are_kept() -> None:
    """The ends of the history lie in the first and in the last column."""
    columns = series_of(np.array([5.0, 1.0, 1.0, 1.0, 7.0])).columns(0.0, 4.0, 3)
    assert columns.first[0] == 5.0
    assert columns.last[-1] == 7.0


def test_neighbours_outside_the_window_are_known() -> None:
    """The points just outside tell where a line enters and leaves, in columns."""
    columns = series_of(np.arange(10.0)).columns(3.5, 5.5, 4)
    assert columns.before == (-1.5, 3.0)
    assert columns.after == (4.5, 6.0)
    empty = series_of(np.arange(3.0)).columns(0.0, 2.0, 3)
    np.testing.assert_equal((empty.before, empty.after), ((-1.0, np.nan), (3.0, np.nan)))


def test_cut_forgets_what_lies_after_and_appending_goes_on() -> None:
    """After a rewind the series is the one that never had the abandoned points."""
    made = series_of(np.arange(1000.0))
    made.cut(299.0)
    assert (len(made), made.last(), made.generation) == (300, (299.0, 299.0), 1)
    made.cut(299.0)
    assert made.generation == 1
    made.extend(np.arange(300.0, 700.0), -np.arange(300.0, 700.0))
    expected = series_of(np.concatenate((np.arange(300.0), -np.arange(300.0, 700.0))))
    for name in ("low", "high", "first", "last"):
        np.testing.assert_array_equal(getattr(made.columns(0, 699, 9), name), getattr(expected.columns(0, 699, 9), name))


@pytest.mark.parametrize(
    ("x", "y"),
    [([2.0, 1.0], [0.0, 0.0]), ([0.0], [0.0]), ([np.nan], [0.0]), ([np.inf], [0.0]), ([5.0, 6.0], [0.0])],
    ids=["decreasing", "before the newest", "nan", "infinite", "ragged"],
)
def test_unordered_points_are_refused(x: list[float], y: list[float]) -> None:
    """A column cannot be found by its x when x is not in order: such points raise and nothing is appended."""
    made = series_of(np.array([1.0]), np.array([1.0]))
    with pytest.raises(ValueError, match="x"):
        made.extend(np.array(x), np.array(y))
    assert len(made) == 1


def test_an_empty_series_has_no_point() -> None:
    """Nothing raises before the first step."""
    made = Series()
    made.extend(np.empty(0), np.empty(0))
    assert (len(made), made.last(), made.nearest(3.0)) == (0, None, None)
    assert not made.columns(0.0, 1.0, 5).occupied.any()


def test_views_cannot_be_written() -> None:
    """Readers cannot change the points behind the pyramid's back."""
    made = series_of(np.arange(3.0))
    with pytest.raises(ValueError, match="read-only"):
        made.y[0] = 1.0


@pytest.mark.parametrize(("x", "nearest"), [(-5.0, 0.0), (1.4, 1.0), (1.5, 2.0), (99.0, 3.0)])
def test_nearest_point(x: float, nearest: float) -> None:
    """The crosshair snaps to the closest point."""
    assert series_of(np.arange(4.0)).nearest(x) == (nearest, nearest)


def test_a_window_costs_columns_not_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand times the history: at most a few more blocks are looked at for the same number of columns."""

    def values_seen(points: int) -> int:
        made = series_of(np.zeros(points))
        seen = 0
        summarise = series_module._summarise

        def counted(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
            nonlocal seen
            seen += values.size
            return summarise(values, inside)

        monkeypatch.setattr(series_module, "_summarise", counted)
        made.columns(0.0, points - 1.0, 200)
        monkeypatch.setattr(series_module, "_summarise", summarise)
        return seen

    assert values_seen(500_000) <= 200 * 2 * 16
    assert values_seen(500_000) <= 2 * values_seen(5_000)


def test_appending_summarises_each_block_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points that come one by one cost as much as all at once."""
    rows = 0
    summarise = series_module._summarise_blocks

    def counted(values: np.ndarray) -> np.ndarray:
        nonlocal rows
        rows += len(values)
        return summarise(values)

    monkeypatch.setattr(series_module, "_summarise_blocks", counted)
    made = Series()
    for step in range(1600):
        made.extend(np.array([float(step)]), np.array([1.0]))
    assert rows == 100


def test_derived_points_are_computed_once_and_again_after_a_cut() -> None:
    """A derived series looks only at new points, and starts again when its source was cut."""
    calls: list[list[float]] = []

    def make() -> object:
        calls.append([])

        def double(y: np.ndarray) -> np.ndarray:
            calls[-1].extend(y.tolist())
            return 2 * y

        return double

    source = series_of(np.array([1.0, 2.0]))
    derived = Derived(source, make)  # type: ignore[arg-type]
    assert derived.series().y.tolist() == [2.0, 4.0]
    source.extend(np.array([2.0]), np.array([3.0]))
    assert derived.series().y.tolist() == [2.0, 4.0, 6.0]
    source.cut(0.0)
    source.extend(np.array([1.0, 2.0]), np.array([7.0, 8.0]))
    assert derived.series().y.tolist() == [2.0, 14.0, 16.0]
    assert calls == [[1.0, 2.0, 3.0], [1.0, 7.0, 8.0]]
