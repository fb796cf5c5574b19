"""A stretch of the metric history for a chart of limited width: buckets of steps that keep their extremes.

Pure; plain arrays, because the hub does without numpy. Invariant: no peak and no NaN inside the stretch is lost, however few
points are asked for.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

COUNTERS = ("time", "step", "tokens")
"""Columns that only grow: their extremes say nothing."""

Columns = Mapping[str, "array[float]"]


def between(columns: Columns, first_step: float, last_step: float) -> dict[str, array[float]]:
    """A copy of the rows whose step lies in `first_step` to `last_step`, both included."""
    steps = columns["step"]
    start, stop = bisect_left(steps, first_step), bisect_right(steps, last_step)
    return {name: values[start:stop] for name, values in columns.items()}


def bucketed(columns: Columns, points: int) -> dict[str, Any]:
    """`columns` in at most `points` buckets: the last row of each, and the least and greatest value of each measure.

    With no more rows than points every row is a bucket of its own, and "min" and "max" are null.
    """
    rows = len(columns["step"])
    stops = [rows * bucket // points for bucket in range(1, points + 1)] if rows > points else list(range(1, rows + 1))
    answer: dict[str, Any] = {
        "rows": rows,
        "points": len(stops),
        "columns": {name: [values[stop - 1] for stop in stops] for name, values in columns.items()},
        "min": None,
        "max": None,
    }
    if rows > points:
        starts = [0, *stops[:-1]]
        extremes = {
            name: [_extremes(values[start:stop]) for start, stop in zip(starts, stops, strict=True)]
            for name, values in columns.items()
            if name not in COUNTERS
        }
        answer["min"] = {name: [low for low, _ in pairs] for name, pairs in extremes.items()}
        answer["max"] = {name: [high for _, high in pairs] for name, pairs in extremes.items()}
    return answer


def _extremes(values: Sequence[float]) -> tuple[float, float]:
    """Least and greatest value; NaN counts as the greatest, so that a chart shows it."""
    numbers = [value for value in values if value == value]
    if len(numbers) == len(values):
        return min(values), max(values)
    return min(numbers, default=float("nan")), float("nan")
