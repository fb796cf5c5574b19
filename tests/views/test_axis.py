"""plt_tui.views.axis: round ticks with their labels, and ranges that stand still."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plt_tui.views.axis import (
    duration_ticks,
    format_clock,
    format_tick,
    log_ticks,
    nice_ticks,
    padded_range,
    tick_labels,
)
from plt_tui.views.formats import format_count

any_float = st.floats(allow_nan=True, allow_infinity=True)


@pytest.mark.parametrize(
    ("low", "high", "n", "ticks"),
    [
        (0.0, 10.0, 5, [0, 2, 4, 6, 8, 10]),
        (0.0, 1.0, 5, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (1.0, 3000.0, 4, [1000, 2000, 3000]),
        (-1.0, 1.0, 4, [-1, -0.5, 0, 0.5, 1]),
        (2.31, 2.34, 3, [2.31, 2.32, 2.33, 2.34]),
        (0.0, 3e-4, 3, [0, 1e-4, 2e-4, 3e-4]),
        (5.0, 5.0, 4, []),
        (math.nan, 1.0, 4, []),
        (0.0, math.inf, 4, []),
        (0.0, 1.0, 0, []),
    ],
)
def test_nice_ticks(low: float, high: float, n: int, ticks: list[float]) -> None:
    """Ticks are multiples of 1, 2 or 5 times a power of ten."""
    assert nice_ticks(low, high, n) == pytest.approx(ticks)


def test_ticks_print_without_rounding_dirt() -> None:
    """0.3 is 0.3, not 0.30000000000000004."""
    assert [repr(tick) for tick in nice_ticks(0.0, 0.5, 5)] == ["0.0", "0.1", "0.2", "0.3", "0.4", "0.5"]


@pytest.mark.parametrize(
    ("low", "high", "n", "ticks"),
    [
        (1e-4, 1.0, 5, [1e-4, 1e-3, 1e-2, 1e-1, 1]),
        (1e-8, 1.0, 3, [1e-6, 1e-3, 1]),
        (3.0, 60.0, 5, [5, 10, 20, 50]),
        (2.0, 9.0, 4, [2, 4, 6, 8]),
        (0.0, 1.0, 4, []),
        (-1.0, 1.0, 4, []),
    ],
)
def test_log_ticks(low: float, high: float, n: int, ticks: list[float]) -> None:
    """Decades where there are some, finer steps where there are not, nothing where no logarithm exists."""
    assert log_ticks(low, high, n) == pytest.approx(ticks)


@given(low=any_float, high=any_float, n=st.integers(-1, 40))
@example(low=1.1e10, high=1.9e10, n=1)  # between two ticks of a number of days lie 185 000 half days
def test_ticks_lie_inside_for_any_range(low: float, high: float, n: int) -> None:
    """No range makes ticks raise, fall outside by more than rounding, or be many."""
    ticks = [*nice_ticks(low, high, n), *log_ticks(low, high, n), *duration_ticks(low, high, n)]
    assert len(ticks) <= 30 * max(n, 1)
    for tick in ticks:
        slack = 1e-6 * (high - low) + 1e-9 * abs(tick)
        assert low - slack <= tick <= high + slack


@pytest.mark.parametrize(
    ("low", "high", "n", "labels"),
    [
        (0.0, 0.4, 4, ["0", "0.1s", "0.2s", "0.3s", "0.4s"]),
        (0.0, 150.0, 6, ["0", "30s", "1m", "1m30s", "2m", "2m30s"]),
        (50.0, 3700.0, 4, ["30m", "1h"]),
        (0.0, 7200.0, 3, ["0", "1h", "2h"]),
        (36_000.0, 36_040.0, 4, ["10h", "10h00m10s", "10h00m20s", "10h00m30s", "10h00m40s"]),
        (0.0, 250_000.0, 3, ["0", "1d", "2d"]),
        (0.0, 130_000.0, 4, ["0", "12h", "1d", "1d12h"]),
        (3.0, 5.0, 1, ["3s", "4s", "5s"]),
        (0.0, math.nan, 4, []),
        (5.0, 5.0, 4, []),
    ],
)
def test_ticks_of_a_time_axis_are_whole_on_a_clock(low: float, high: float, n: int, labels: list[str]) -> None:
    """Nobody reads 16m40s where 15m would do."""
    assert tick_labels(duration_ticks(low, high, n), format_clock) == labels


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0"),
        (0.25, "0.25s"),
        (59.0, "59s"),
        (59.9996, "1m"),
        (61.5, "1m01.5s"),
        (3600.0, "1h"),
        (3630.0, "1h00m30s"),
        (90_000.0, "1d01h"),
        (-90.0, "-1m30s"),
        (math.nan, "NaN"),
        (math.inf, "inf"),
        (1e300, "1.00e300"),
    ],
)
def test_format_clock(seconds: float, text: str) -> None:
    """A moment on a time axis, down to the last unit that counts."""
    assert format_clock(seconds) == text


@given(low=any_float, high=any_float)
def test_padded_range_holds_everything(low: float, high: float) -> None:
    """The range is never empty, always finite, and contains the values (below 1e300)."""
    padded = padded_range(min(low, high), max(low, high))
    assert math.isfinite(padded[0])
    assert math.isfinite(padded[1])
    assert padded[0] < padded[1]
    if abs(low) < 1e300 and abs(high) < 1e300:
        assert padded[0] <= min(low, high)
        assert padded[1] >= max(low, high)


def test_padded_range_stands_still_while_the_extremes_move_a_little() -> None:
    """A loss that reaches a new minimum every step does not move the axis every step."""
    ranges = {padded_range(2.0 - step * 1e-4, 8.0) for step in range(1000)}
    assert len(ranges) <= 2


@pytest.mark.parametrize(
    ("ticks", "labels"),
    [
        ([0.0, 2.0, 4.0], ["0", "2", "4"]),
        ([1.0, 1.5, 2.0], ["1.0", "1.5", "2.0"]),
        ([2.3001, 2.3002], ["2.3001", "2.3002"]),
        ([0.0, 1e-4, 2e-4], ["0", "1e-4", "2e-4"]),
        ([1e6, 2e6], ["1e6", "2e6"]),
        ([1234567.0, 1234568.0], ["1234567", "1234568"]),
        ([], []),
        ([5.0], ["5"]),
    ],
)
def test_tick_labels_have_the_digits_that_tell_them_apart(ticks: list[float], labels: list[str]) -> None:
    """All labels of an axis have the same number of decimals, and enough of them."""
    assert tick_labels(ticks) == labels


def test_a_style_that_makes_two_ticks_look_alike_is_not_used() -> None:
    """Zoomed in deep, "1.23M 1.23M" would be no axis."""
    assert tick_labels([1000.0, 2000.0], format_count) == ["1k", "2k"]
    assert tick_labels([1234000.0, 1234500.0], format_count) == ["1234000", "1234500"]


@pytest.mark.parametrize(("value", "text"), [(0.01, "0.01"), (1.0, "1"), (5e-5, "5e-5"), (1e6, "1e6"), (2.5e-4, "2.5e-4")])
def test_format_tick(value: float, text: str) -> None:
    """Ticks of a log axis are short."""
    assert format_tick(value) == text


@given(value=any_float)
def test_every_tick_has_a_text(value: float) -> None:
    """Whatever float is on an axis, its label is short."""
    assert 1 <= len(format_tick(value)) <= 16
