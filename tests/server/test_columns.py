"""Stretches of the metric history: every row when they fit, else buckets that keep peaks and NaN."""

from __future__ import annotations

import math
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.protocol.events import STEP_COLUMNS
from plt_tui.server.columns import between, bucketed


def history(losses: list[float]) -> dict[str, array[float]]:
    """Columns with these losses at steps 1, 2, ..."""
    columns = {name: array("d", [0.0] * len(losses)) for name in STEP_COLUMNS}
    columns["step"] = array("d", range(1, len(losses) + 1))
    columns["loss"] = array("d", losses)
    return columns


@pytest.mark.parametrize(
    ("first", "last", "steps"),
    [(0, math.inf, [1, 2, 3, 4]), (2, 3, [2, 3]), (4, 4, [4]), (5, 9, []), (3, 2, []), (0, 1, [1])],
)
def test_a_range_includes_both_ends(first: float, last: float, steps: list[int]) -> None:
    """`from` and `to` are step numbers, both included."""
    assert list(between(history([1.0] * 4), first, last)["step"]) == steps


def test_few_rows_come_as_they_are() -> None:
    """With no more rows than points nothing is summarised."""
    answer = bucketed(history([3.0, 2.0]), points=2)
    assert answer["columns"]["loss"] == [3.0, 2.0]
    assert (answer["rows"], answer["points"], answer["min"], answer["max"]) == (2, 2, None, None)


def test_no_rows_make_no_points() -> None:
    """Before the first step the columns are empty, and all there."""
    answer = bucketed(history([]), points=5)
    assert answer["columns"] == {name: [] for name in STEP_COLUMNS}


def test_a_bucket_has_its_last_row_and_its_extremes() -> None:
    """The step and the values of a bucket are those of its last row; min and max leave out the counters."""
    answer = bucketed(history([1.0, 9.0, 2.0, 4.0, -5.0, 3.0]), points=2)
    assert answer["columns"]["step"] == [3, 6]
    assert answer["columns"]["loss"] == [2.0, 3.0]
    assert (answer["min"]["loss"], answer["max"]["loss"]) == ([1.0, -5.0], [9.0, 4.0])
    assert "step" not in answer["min"]


def test_nan_is_never_averaged_away() -> None:
    """A bucket with a NaN has it as its maximum, and the least number as its minimum."""
    answer = bucketed(history([1.0, math.nan, 2.0, math.nan, math.nan, math.nan]), points=2)
    assert answer["min"]["loss"][0] == 1.0
    assert [math.isnan(value) for value in (*answer["max"]["loss"], answer["min"]["loss"][1])] == [True] * 3


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.integers(1, 50))
def test_the_extremes_of_the_buckets_are_those_of_the_stretch(losses: list[float], points: int) -> None:
    """However few points: at most that many, the last row among them, and no peak lost."""
    answer = bucketed(history(losses), points)
    assert answer["points"] == len(answer["columns"]["loss"]) <= points
    assert answer["columns"]["step"][-1] == len(losses)
    low, high = answer["min"] or answer["columns"], answer["max"] or answer["columns"]
    assert (min(low["loss"]), max(high["loss"])) == (min(losses), max(losses))
