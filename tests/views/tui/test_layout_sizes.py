"""Promises of `layout` about sizes: borders move as far as there is room, and what is remembered comes back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.views.tui.layout import (
    LEAST,
    PANES,
    WHOLE,
    Layout,
    Plan,
    Sizes,
    border_beside,
    borders,
    from_json,
    plan,
    share_at,
    to_json,
    weights,
)


def planned(width: int = 200, height: int = 60, *, hidden: set[str] = set(), front: str = "logs", maximised: str = "") -> Plan:  # noqa: B006
    """The plan of a terminal."""
    return plan(width, height, hidden=hidden, front=front, story="samples", maximised=maximised)


@pytest.mark.parametrize(
    ("seen", "names"),
    [
        (planned(), ["side", "bottom", "story", "events", "machine"]),
        (planned(140, 45), ["side", "bottom", "story", "machine"]),
        (planned(hidden={"logs"}), ["side", "bottom", "events", "machine"]),
        (planned(hidden={"trends"}), ["side", "bottom", "story", "events"]),
        (planned(hidden={"trends", "machine"}), ["bottom", "story", "events"]),
        (planned(hidden={"samples", "events"}), ["side", "bottom", "machine"]),
        (planned(hidden={"logs", "samples", "events"}), ["side", "machine"]),
        (planned(maximised="chart"), []),
        (planned(80, 24), ["lower"]),
        (planned(80, 24, front="machine"), ["lower"]),
        (planned(80, 24, front=""), []),
        (planned(40, 10), []),
    ],
)
def test_there_is_a_border_between_neighbours(seen: Plan, names: list[str]) -> None:
    """Only between parts that are seen; a pane alone has none."""
    assert [border.name for border in borders(seen)] == names


@pytest.mark.parametrize(
    ("pane", "axis", "seen", "found"),
    [
        ("chart", "x", planned(), ("side", -1)),
        ("machine", "x", planned(), ("side", 1)),
        ("samples", "x", planned(), ("events", -1)),
        ("samples", "x", planned(140, 45), ("story", 1)),
        ("logs", "y", planned(), ("bottom", 1)),
        ("trends", "y", planned(), ("machine", -1)),
        ("machine", "y", planned(hidden={"trends"}), ("bottom", -1)),
        ("chart", "y", planned(80, 24), ("lower", -1)),
        ("machine", "y", planned(80, 24, front="machine"), ("lower", 1)),
        ("chart", "x", planned(80, 24), None),
        ("logs", "x", planned(hidden={"samples", "events"}), None),
    ],
)
def test_a_pane_grows_by_the_border_nearest_to_it(pane: str, axis: Any, seen: Plan, found: tuple[str, int] | None) -> None:
    """And by no other; none where it has no neighbour on that axis."""
    beside = border_beside(pane, axis, borders(seen))
    assert (None if beside is None else (beside[0].name, beside[1])) == found


@given(st.integers(0, 50), st.integers(0, 300), st.integers(-100, 500), st.integers(1, 30), st.integers(1, 30))
def test_both_sides_of_a_border_keep_their_least(start: int, length: int, at: int, before: int, behind: int) -> None:
    """Wherever it is dragged to; where there is no room for both, it does not move."""
    share = share_at(start, start + length, at, before, behind)
    if share is None:
        assert length < before + behind
    else:
        cells = round(share * length)
        assert behind <= cells <= length - before
        if start + before <= at <= start + length - behind:
            assert cells == start + length - at


@given(st.integers(8, 400), st.data())
def test_a_border_is_drawn_where_it_was_put(length: int, data: st.DataObject) -> None:
    """The parts are such that a layout, which rounds down to cells, finds the cell again."""
    at = data.draw(st.integers(4, length - 4))
    share = share_at(0, length, at, 4, 4)
    found = weights(Sizes(bottom=share), planned())
    assert length * found["top", "y"] // WHOLE == at


def test_without_a_choice_the_style_sheet_decides() -> None:
    """No size is given to anything."""
    for size in ((200, 60), (140, 45), (80, 24), (40, 10)):
        assert weights(Sizes(), planned(*size)) == {}


@pytest.mark.parametrize(
    ("sizes", "seen", "found"),
    [
        (Sizes(side=0.25), planned(), {("chart", "x"): 0.75, ("side", "x"): 0.25}),
        (Sizes(bottom=0.5), planned(), {("top", "y"): 0.5, ("bottom", "y"): 0.5}),
        (Sizes(machine=0.25), planned(), {("trends", "y"): 0.75, ("machine", "y"): 0.25}),
        (Sizes(story=0.5), planned(), {("logs", "x"): 0.5, ("samples", "x"): 0.25, ("events", "x"): 0.25}),
        (Sizes(story=0.5, events=0.25), planned(), {("logs", "x"): 0.5, ("samples", "x"): 0.375, ("events", "x"): 0.125}),
        (Sizes(story=0.25), planned(140, 45), {("logs", "x"): 0.75, ("samples", "x"): 0.25}),
        (Sizes(events=0.25), planned(140, 45), {}),
        (Sizes(events=0.25), planned(hidden={"logs"}), {("samples", "x"): 0.75, ("events", "x"): 0.25}),
        (Sizes(side=0.25, bottom=0.5), planned(maximised="chart"), {}),
        (Sizes(side=0.25, bottom=0.5), planned(80, 24), {}),
        (Sizes(lower=0.25), planned(80, 24), {("top", "y"): 0.75, ("bottom", "y"): 0.25}),
        (Sizes(lower=0.25), planned(80, 24, front="trends"), {("chart", "y"): 0.75, ("side", "y"): 0.25}),
        (Sizes(lower=0.25), planned(), {}),
    ],
)
def test_each_part_gets_its_share(sizes: Sizes, seen: Plan, found: dict[tuple[str, str], float]) -> None:
    """Of the row or column that it stands in, on the screens that have that border, and on no other."""
    assert {key: part / WHOLE for key, part in weights(sizes, seen).items()} == pytest.approx(found, abs=1e-5)


SHARES = st.none() | st.floats(0.01, 0.99)
LAYOUTS = st.builds(
    Layout,
    hidden=st.frozensets(st.sampled_from(PANES[1:])),
    sizes=st.builds(Sizes, **dict.fromkeys(("side", "bottom", "story", "events", "machine", "lower"), SHARES)),
    metrics=st.booleans(),
    x_axis=st.sampled_from(["step", "tokens", "wall", "active"]),
    smoothing=st.floats(0.0, 0.99),
)


@given(LAYOUTS, st.integers(60, 250), st.integers(16, 80))
def test_any_choice_fits_any_screen(chosen: Layout, width: int, height: int) -> None:
    """Every share is positive, and a row's or a column's are not more than the whole."""
    found = weights(chosen.sizes, planned(width, height, hidden=set(chosen.hidden)))
    assert all(0 < part <= WHOLE for part in found.values())
    for parts in (("logs", "samples", "events"), ("top", "bottom"), ("chart", "side"), ("trends", "machine")):
        for axis in LEAST:
            told = [found[part, axis] for part in parts if (part, axis) in found]
            assert sum(told) in (0, WHOLE)


@given(LAYOUTS)
def test_what_is_remembered_comes_back(chosen: Layout) -> None:
    """Through the text of the file, to the last bit."""
    assert from_json(json.loads(json.dumps(to_json(chosen)))) == chosen


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        [],
        {},
        {"hidden": 3, "sizes": 3, "metrics": 3, "smoothing": "x"},
        {"hidden": ["chart", "nothing", 3], "sizes": {"side": 3, "bottom": "x", "story": -0.5, "events": True, "x": 1}},
        {"smoothing": 1.5},
        {"smoothing": float("nan"), "sizes": {"side": float("nan")}},
    ],
)
def test_what_somebody_else_wrote_is_ignored(value: object) -> None:
    """No value of another kind or range is taken, and the chart cannot be hidden."""
    assert from_json(value) == Layout()
