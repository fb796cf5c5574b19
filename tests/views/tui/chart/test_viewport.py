"""plt_tui.views.tui.chart.viewport: zoom and pan never lose the run, and live views move in whole cells."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plt_tui.views.tui.chart.viewport import Viewport

EXTENT = (0.0, 1000.0)


def test_everything_holds_the_newest_point_and_rarely_changes() -> None:
    """While the run grows tenfold the whole-history window changes a few dozen times, not at every step."""
    windows = [Viewport().window((1.0, float(newest)), 100) for newest in range(1000, 10_000)]
    for newest, (x0, x1) in zip(range(1000, 10_000), windows, strict=True):
        assert (x0, True) == (1.0, newest <= x1 <= newest * 1.05)
    assert len(set(windows)) < 60


def test_the_live_tail_moves_by_whole_cells() -> None:
    """The window of a tail stands on a grid of cells, so the same points stay in the same columns."""
    tail = Viewport(span=200.0)
    windows = [tail.window((0.0, float(newest)), 100) for newest in range(500, 600)]
    assert len(set(windows)) == 50
    for newest, (x0, x1) in zip(range(500, 600), windows, strict=True):
        assert x1 - x0 == pytest.approx(200.0)
        assert newest < x1 <= newest + 2.0
        assert x0 / 2.0 == pytest.approx(round(x0 / 2.0))


def test_zooming_in_while_following_keeps_the_newest_point() -> None:
    """The key zooms on what is happening now."""
    zoomed = Viewport().zoomed(EXTENT, EXTENT, 0.5)
    assert zoomed == Viewport(span=500.0)
    assert zoomed.follows


@pytest.mark.parametrize(("at", "left"), [(0.0, 0.0), (400.0, 200.0), (999.0, None), (1000.0, None)])
def test_zooming_at_a_point_keeps_it_in_place(at: float, left: float | None) -> None:
    """The x under the pointer stays under the pointer; at the right edge the view goes on following."""
    assert Viewport().zoomed(EXTENT, EXTENT, 0.5, at) == Viewport(span=500.0, left=left)


def test_zooming_out_ends_at_everything() -> None:
    """However it was zoomed, zooming out leads back to the whole run."""
    view = Viewport(span=10.0, left=300.0)
    for _ in range(30):
        view = view.zoomed(view.window(EXTENT, 100), EXTENT, 1.5)
    assert view == Viewport()


def test_zooming_in_stops_at_the_finest_window() -> None:
    """A view never shrinks to where there are no points."""
    view = Viewport()
    for _ in range(100):
        view = view.zoomed(view.window(EXTENT, 100), EXTENT, 0.5, finest=8.0)
    assert view.span == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("distance", "expected"),
    [
        (50.0, Viewport(span=100.0, left=350.0)),
        (-500.0, Viewport(span=100.0, left=0.0)),
        (650.0, Viewport(span=100.0)),
    ],
    ids=["inside", "stops at the start", "follows at the end"],
)
def test_panning(distance: float, expected: Viewport) -> None:
    """Panning stays on the run, and arriving at the newest point follows it."""
    view = Viewport(span=100.0, left=300.0)
    assert view.panned(view.window(EXTENT, 100), EXTENT, distance) == expected


def test_home_end_and_hold() -> None:
    """The same width at the start, at the tail, and held where it is."""
    view = Viewport(span=100.0, left=300.0)
    assert view.at_start(EXTENT) == Viewport(span=100.0, left=0.0)
    assert view.at_tail() == Viewport(span=100.0)
    assert Viewport().at_start(EXTENT) == Viewport()
    held = Viewport().held(EXTENT)
    assert (held, held.follows) == (Viewport(span=1000.0, left=0.0), False)
    assert held.zoomed(EXTENT, EXTENT, 1.5) == Viewport()


@pytest.mark.parametrize(
    ("view", "carried"),
    [
        (Viewport(), Viewport()),
        (Viewport(span=100.0), Viewport(span=200.0)),
        (Viewport(span=100.0, left=300.0), Viewport(span=200.0, left=607.0)),
        (Viewport(span=1e-320, left=300.0), Viewport()),
    ],
    ids=["everything", "the tail", "a part", "nothing"],
)
def test_a_view_is_carried_to_another_axis(view: Viewport, carried: Viewport) -> None:
    """The same points stay in view where x counts something else, and what would be empty becomes everything."""
    assert view.carried(EXTENT, lambda x: 2 * x + 7) == carried


@pytest.mark.parametrize(("x", "left"), [(350.0, 300.0), (300.0, 300.0), (700.0, 650.0), (5.0, 0.0), (995.0, None)])
def test_a_point_is_brought_into_view(x: float, left: float | None) -> None:
    """What is in view does not move; what is not comes into the middle, as far as there is data around it."""
    view = Viewport(span=100.0, left=300.0)
    assert view.around(x, view.window(EXTENT, 100), EXTENT) == Viewport(span=100.0, left=left)


@example(start=2.0**28, length=1e-6, cells=1, moves=[("zoom", 1 / 64)])  # narrower than the floats there
@example(start=268353100.0, length=1e-6, cells=1, moves=[("zoom", 1 / 32)])
@given(
    start=st.floats(-1e9, 1e9),
    length=st.floats(0.0, 1e12),
    cells=st.integers(1, 300),
    moves=st.lists(st.tuples(st.sampled_from(["zoom", "pan"]), st.floats(0.01, 3.0)), max_size=20),
)
def test_any_moves_leave_a_window_that_shows_part_of_the_run(
    start: float, length: float, cells: int, moves: list[tuple[str, float]]
) -> None:
    """No sequence of moves leads to an empty window or away from the data."""
    extent = (start, start + length)
    view = Viewport()
    for kind, amount in moves:
        window = view.window(extent, cells)
        if kind == "zoom":
            view = view.zoomed(window, extent, amount, finest=length * 1e-3)
        else:
            view = view.panned(window, extent, (amount - 1.5) * (window[1] - window[0]))
        x0, x1 = view.window(extent, cells)
        assert x0 < x1
        assert x0 <= extent[1]
        assert x1 >= extent[0]
