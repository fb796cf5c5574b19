"""Which part of a run a chart shows: all of it, the live tail, or a part that stays where it is.

Pure; knows no widget and no data, only the extent (x of the oldest and of the newest point). Invariant: windows of a following
viewport move by whole cells and grow by whole rungs, so that between two of these moves no column of the chart changes but the
newest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

Window: TypeAlias = tuple[float, float]
"""A range of x."""

_ULPS = 16
"""No window is narrower than so many of the smallest differences that x can have there: its edges would be one."""
_GROWTH = 2 ** (1 / 16)
"""A whole-history window grows by rungs of 4.4 %: at most so much room stays free at its right."""


@dataclass(frozen=True, slots=True)
class Viewport:
    """`span` None: everything. `left` None: the right edge follows the newest point."""

    span: float | None = None
    left: float | None = None

    @property
    def follows(self) -> bool:
        """True when new points stay in view."""
        return self.left is None

    def window(self, extent: Window, cells: int) -> Window:
        """The x range shown, x0 < x1, on a plot of `cells` character cells."""
        start, newest = extent
        least = _ULPS * math.ulp(max(abs(start), abs(newest)))
        if self.span is None:
            return start, start + max(_rung(newest - start), least)
        span = max(self.span, least)
        if self.left is not None:
            return self.left, self.left + span
        cell = span / max(cells, 1)
        right = (math.floor(newest / cell) + 1) * cell
        return min(right - span, newest), right

    def zoomed(self, window: Window, extent: Window, factor: float, at: float | None = None, finest: float = 0.0) -> Viewport:
        """`window` made `factor` times as wide, but not narrower than `finest`, with x = `at` staying in place.

        `at` None: the newest point when following, else the middle. Wider than everything gives everything back.
        """
        x0, x1 = window
        start, newest = extent
        factor = max(factor, min(1.0, finest / (x1 - x0)))
        span = (x1 - x0) * factor
        if span >= newest - start:
            return Viewport()
        if at is None:
            at = newest if self.follows else (x0 + x1) / 2
        return _placed(at - (at - x0) * factor, span, extent)

    def panned(self, window: Window, extent: Window, distance: float) -> Viewport:
        """`window` moved right by `distance` in x, not beyond the data; reaching the newest point follows it again."""
        return self if self.span is None else _placed(window[0] + distance, self.span, extent)

    def at_start(self, extent: Window) -> Viewport:
        """The same width over the oldest points."""
        return self if self.span is None else replace(self, left=extent[0])

    def at_tail(self) -> Viewport:
        """The same width, following the newest point."""
        return replace(self, left=None)

    def held(self, window: Window) -> Viewport:
        """`window`, no longer following."""
        return Viewport(span=window[1] - window[0], left=window[0])

    def carried(self, extent: Window, there: Callable[[float], float]) -> Viewport:
        """The same view on another axis, on which x = `there(x)`; everything where it would be empty."""
        if self.span is None:
            return self
        left = self.left if self.left is not None else extent[1] - self.span
        x0, x1 = there(left), there(left + self.span)
        if not x0 < x1:
            return Viewport()
        return Viewport(span=x1 - x0, left=None if self.left is None else x0)

    def around(self, x: float, window: Window, extent: Window) -> Viewport:
        """This view where `x` is in `window`, else one of the same width with `x` in its middle, as far as there is data."""
        x0, x1 = window
        return self if x0 <= x <= x1 else self.panned(window, extent, x - (x0 + x1) / 2)


def _placed(left: float, span: float, extent: Window) -> Viewport:
    start, newest = extent
    if left + span >= newest - span * 1e-3:
        return Viewport(span=span)
    return Viewport(span=span, left=max(left, start))


def _rung(span: float) -> float:
    """`span` rounded up to a rung of the growth ladder."""
    if span <= 0:
        return 1.0
    # The tolerance keeps a span that is a rung already on it; `max` makes sure that it never cuts off the newest point.
    return max(span, _GROWTH ** math.ceil(math.log(span, _GROWTH) - 1e-6))
