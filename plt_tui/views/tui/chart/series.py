"""One metric over a run: every point kept, and any window reduced to per-column extremes in O(columns log points).

Does not draw and knows no axis scale. Invariant: `columns` honours every point of its window (a one-step spike is in the
extremes of its column), and agrees bit for bit with looking at the points one by one.

Array sizes: N points, C columns. Above the points lies a pyramid: blocks of 16, 32, 64, ... points, one summary row each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from plt_tui.views.tui.chart.lane import BY_STEP, Lane

Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]

NAN, PLUS_INF, MINUS_INF = 1, 2, 4
"""Bits of `Columns.nonfinite`."""

_BLOCK = 16
"""Points in a block of the lowest level: few enough to look at one by one at both ends of a column."""
_LAST_INSIDE, _FIRST_AFTER = np.array([[0], [1]]), np.array([[1], [0]])
"""For ranges [first, stop) as an array (2, C): from stop to the last block inside, and from first to the block after it."""
_NOTHING = np.array([np.inf, np.inf, np.inf, 0.0, 0.0, 0.0])
"""Summary of no points. Rows are [min, -max, smallest positive, -has NaN, -has +inf, -has -inf]: all merge by minimum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """A window of a series cut into C columns of equal width; arrays have length C."""

    low: Floats
    """Smallest finite value, NaN where the column holds none."""
    high: Floats
    low_positive: Floats
    """Smallest finite value above zero, NaN where there is none: what a log axis starts from."""
    first: Floats
    """Value of the first point in the column, finite or not; NaN where the column is empty."""
    last: Floats
    nonfinite: NDArray[np.uint8]
    """NAN | PLUS_INF | MINUS_INF, for what the column holds besides finite values."""
    occupied: NDArray[np.bool_]
    """True where the column holds a point at all."""
    before: tuple[float, float]
    """The nearest point left of the window as (position in columns, below 0; value); (-1, NaN) when there is none."""
    after: tuple[float, float]
    """The nearest point right of it; (C, NaN) when there is none."""
    broken: NDArray[np.bool_]
    """(C + 1,): True where no line leads to a column's first point from the point before; the last one is that of `after`."""


class Series:
    """Points (x, y) in order of x. Not thread-safe; appends are amortised O(1)."""

    def __init__(self) -> None:
        self._points = np.empty((2, 1024))
        self._count = 0
        self._levels: list[Floats] = []
        self._complete: list[int] = []
        self.generation = 0
        """Counts cuts: whoever derived something from the points starts again when it changes."""

    def __len__(self) -> int:
        return self._count

    @property
    def x(self) -> Floats:
        """Read-only view, float64 (N,), never decreasing."""
        return _read_only(self._points[0, : self._count])

    @property
    def y(self) -> Floats:
        """Read-only view, float64 (N,)."""
        return _read_only(self._points[1, : self._count])

    def last(self) -> tuple[float, float] | None:
        """The newest point, None while there is none."""
        return (float(self.x[-1]), float(self.y[-1])) if self._count else None

    def extend(self, x: Floats, y: Floats) -> None:
        """Append points: x, y (K,).

        Raises: ValueError when x is not finite, decreases, or starts before the newest point (`cut` first).
        """
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        if x.shape != y.shape or x.ndim != 1:
            raise ValueError(f"x and y are columns of one length, not {x.shape} and {y.shape}")
        if not len(x):
            return
        is_ordered = bool((x[1:] >= x[:-1]).all()) and (not self._count or x[0] >= self.x[-1])  # never with a NaN
        if not (is_ordered and np.isfinite(x[[0, -1]]).all()):
            raise ValueError(f"x must be finite and not decrease; the newest point is {self.last()}, then came {x[0]!r}")
        self._points = _with_room(self._points, self._count + len(x), axis=1)
        self._points[:, self._count : self._count + len(x)] = x, y
        self._count += len(x)
        self._build_levels()

    def cut(self, last_x: float) -> None:
        """Forget every point with x > `last_x`."""
        keep = int(np.searchsorted(self.x, last_x, side="right"))
        if keep == self._count:
            return
        self._count = keep
        self.generation += 1
        # A summary of a whole block stays right as long as all its points stay.
        self._complete = [keep // (_BLOCK << level) for level in range(len(self._levels))]

    def nearest(self, x: float) -> tuple[float, float] | None:
        """The point whose x is nearest (the newer one of two equally near), None while there is none."""
        if not self._count:
            return None
        right = int(np.searchsorted(self.x, x, side="right"))
        candidates = [index for index in (right, right - 1) if 0 <= index < self._count]
        best = min(candidates, key=lambda index: abs(float(self.x[index]) - x))
        return float(self.x[best]), float(self.y[best])

    def columns(self, x0: float, x1: float, n: int, lane: Lane = BY_STEP) -> Columns:
        """The points at positions x0 to x1 in `n` columns; a point on an edge belongs right of it, the one at x1 to the last.

        lane: gives the position of each x; by default that is the x itself.
        """
        bounds = lane.bounds(self.x, np.linspace(x0, x1, n + 1))
        starts, stops = bounds[:-1], bounds[1:]
        summary = self._summarise_ranges(starts, stops)
        occupied = starts < stops
        low, high, low_positive = summary[:, 0], -summary[:, 1], summary[:, 2]
        flags = (-summary[:, 3:] @ np.array([NAN, PLUS_INF, MINUS_INF])).astype(np.uint8)
        return Columns(
            low=np.where(np.isinf(low), np.nan, low),
            high=np.where(np.isinf(high), np.nan, high),
            low_positive=np.where(np.isinf(low_positive), np.nan, low_positive),
            first=self._values_at(starts, occupied),
            last=self._values_at(stops - 1, occupied),
            nonfinite=flags,
            occupied=occupied,
            before=self._outside(int(bounds[0]) - 1, x0, x1, n, (-1.0, np.nan), lane),
            after=self._outside(int(bounds[-1]), x0, x1, n, (float(n), np.nan), lane),
            broken=self._broken(bounds, occupied, lane.breaks),
        )

    def _values_at(self, indices: Indices, valid: NDArray[np.bool_]) -> Floats:
        values = np.full(len(indices), np.nan)
        values[valid] = self.y[indices[valid]]
        return values

    def _outside(self, index: int, x0: float, x1: float, n: int, none: tuple[float, float], lane: Lane) -> tuple[float, float]:
        if not 0 <= index < self._count:
            return none
        (at,) = lane.place(self.x[index : index + 1]).tolist()
        position = (at - x0) / (x1 - x0) * n - 0.5 if x1 > x0 else none[0]
        return position, float(self.y[index])

    def _broken(self, bounds: Indices, occupied: NDArray[np.bool_], breaks: Floats) -> NDArray[np.bool_]:
        """(C + 1,): where one of the `breaks` lies between the first point of a column and the point before that one."""
        broken = np.zeros(len(bounds), dtype=np.bool_)
        if len(breaks):
            has_both = np.append(occupied, bounds[-1] < self._count) & (bounds > 0)
            first = bounds[has_both]
            passed = (np.searchsorted(breaks, self.x[index], side="right") for index in (first, first - 1))
            broken[has_both] = np.not_equal(*passed)
        return broken

    def _summarise_ranges(self, starts: Indices, stops: Indices) -> Floats:
        """Summary rows (C, 6) of the points [start, stop): both ends point by point, whole blocks between from the pyramid."""
        count = len(starts)
        blocks = np.array([-(-starts // _BLOCK), stops // _BLOCK])
        head_stops = np.minimum(blocks[0] * _BLOCK, stops)
        tail_starts = np.maximum(blocks[1] * _BLOCK, head_stops)
        # Both sides at once, the left ones in the first C rows: here the calls cost, not what they look at.
        summary = self._summarise_points(np.concatenate((starts, tail_starts)), np.concatenate((head_stops, stops)))
        # Climb: at each level at most one block on each side, an odd one, does not fill a block of the level above.
        for level in self._levels:
            is_left = blocks[0] < blocks[1]
            if not is_left.any():
                break
            odd = np.flatnonzero((blocks & 1).astype(np.bool_) & is_left)
            summary[odd] = np.minimum(summary[odd], level[(blocks - _LAST_INSIDE).reshape(-1)[odd]])
            blocks = (blocks + _FIRST_AFTER) >> 1
        return np.minimum(summary[:count], summary[count:])

    def _summarise_points(self, starts: Indices, stops: Indices) -> Floats:
        """Summary rows (C, 6) of ranges shorter than a block."""
        indices = starts[:, None] + np.arange(_BLOCK - 1)
        inside = indices < stops[:, None]
        rows = np.full((len(starts), 6), _NOTHING)
        used = np.flatnonzero(inside[:, 0])
        if len(used):
            values = self.y[np.minimum(indices[used], self._count - 1)]
            rows[used] = _summarise(values, inside[used])
        return rows

    def _build_levels(self) -> None:
        """Summarise the blocks that the newest points have completed, level by level."""
        level = 0
        while (blocks := self._count // (_BLOCK << level)) > 0:
            if level == len(self._levels):
                self._levels.append(np.empty((16, 6)))
                self._complete.append(0)
            done = self._complete[level]
            if blocks > done:
                fresh = self._block_rows(level, done, blocks)
                self._levels[level] = _with_room(self._levels[level], blocks, axis=0)
                self._levels[level][done:blocks] = fresh
                self._complete[level] = blocks
            level += 1

    def _block_rows(self, level: int, start: int, stop: int) -> Floats:
        if level == 0:
            return _summarise_blocks(self.y[start * _BLOCK : stop * _BLOCK].reshape(-1, _BLOCK))
        below = self._levels[level - 1]
        return np.minimum(below[2 * start : 2 * stop : 2], below[2 * start + 1 : 2 * stop : 2])


class Derived:
    """A series computed from another point by point, kept up to date by looking only at the points added since."""

    def __init__(self, source: Series, make: Callable[[], Callable[[Floats], Floats]]) -> None:
        self.source = source
        self._make = make
        self._restart()

    def series(self) -> Series:
        """The derived points of all points that the source holds now."""
        if self._generation != self.source.generation:
            self._restart()
        start = len(self._series)
        self._series.extend(self.source.x[start:], self._transform(self.source.y[start:]))
        return self._series

    def _restart(self) -> None:
        self._generation = self.source.generation
        self._transform = self._make()
        self._series = Series()


def _summarise_blocks(values: Floats) -> Floats:
    """Summary rows (R, 6) of values (R, K); quick for rows of finite values above zero, as nearly all are."""
    low, high = values.min(axis=1), values.max(axis=1)
    rows = np.zeros((len(values), 6))
    rows[:, 0], rows[:, 1], rows[:, 2] = low, -high, low
    other = np.flatnonzero(~((low > 0) & np.isfinite(high)))  # a NaN in a row makes both of its extremes NaN
    if len(other):
        rows[other] = _summarise(values[other], np.ones((len(other), values.shape[1]), dtype=np.bool_))
    return rows


def _summarise(values: Floats, inside: NDArray[np.bool_]) -> Floats:
    """Summary rows (R, 6) of values (R, K), of which only those `inside` count."""
    finite = np.isfinite(values) & inside
    rows = np.empty((len(values), 6))
    rows[:, 0] = np.where(finite, values, np.inf).min(axis=1)
    rows[:, 1] = np.where(finite, -values, np.inf).min(axis=1)
    rows[:, 2] = np.where(finite & (values > 0), values, np.inf).min(axis=1)
    rows[:, 3] = -(inside & np.isnan(values)).any(axis=1).astype(np.float64)
    rows[:, 4] = -(inside & (values == np.inf)).any(axis=1).astype(np.float64)
    rows[:, 5] = -(inside & (values == -np.inf)).any(axis=1).astype(np.float64)
    return rows


def _with_room(array: Floats, length: int, axis: int) -> Floats:
    """`array`, or a copy with room for twice `length` along `axis` when it does not reach that far.

    Room that was never written takes no memory; without it the first step after a long history would copy all of it.
    """
    if array.shape[axis] >= length:
        return array
    shape = list(array.shape)
    shape[axis] = 2 * length
    larger = np.empty(shape)
    larger[tuple(slice(size) for size in array.shape)] = array
    return larger


def _read_only(view: Floats) -> Floats:
    view.flags.writeable = False
    return view
