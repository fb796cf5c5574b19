"""Where the steps of a line lie on the x axis: by their number, by tokens, by wall time or by active time.

Pure numpy; draws nothing. A chart thinks in steps and asks a lane where they are. Invariant: positions never decrease with the
step, so a window of any axis holds a range of steps, and what is in order on one axis is so on all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from plt_tui.views.axis import NumberFormat, duration_ticks, format_clock, nice_ticks
from plt_tui.views.formats import format_count, format_duration

Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.int64]
AxisName: TypeAlias = Literal["step", "tokens", "wall", "active"]

GAP_S = 3.0
"""A line is broken where nothing was trained for longer than this and for longer than a step takes: no restart is as short, and
no save or sample of a small model as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What the x axis counts, and how that is written."""

    name: AxisName
    title: str
    """At most six characters: it stands below the y labels."""
    words: str
    ticks: Callable[[float, float, int], list[float]]
    label: NumberFormat
    """Of a tick."""
    exact: NumberFormat
    """Of the position under a crosshair."""


def _whole(x: float) -> str:
    return f"{x:,.0f}" if x == int(x) else f"{x:,.6g}"


def _moment(seconds: float) -> str:
    return format_duration(seconds) if seconds < 60 else format_clock(round(seconds))


AXES: dict[AxisName, Axis] = {
    "step": Axis(name="step", title="step", words="steps", ticks=nice_ticks, label=format_count, exact=_whole),
    "tokens": Axis(
        name="tokens", title="tokens", words="tokens trained on", ticks=nice_ticks, label=format_count, exact=_whole
    ),
    "wall": Axis(
        name="wall",
        title="wall",
        words="wall time since the first step, broken where nothing was trained",
        ticks=duration_ticks,
        label=format_clock,
        exact=_moment,
    ),
    "active": Axis(
        name="active",
        title="active",
        words="active time: what the steps took, without pauses, restarts and evaluations",
        ticks=duration_ticks,
        label=format_clock,
        exact=_moment,
    ),
}


class Lane(Protocol):
    """Positions on the x axis of the steps of one line."""

    @property
    def breaks(self) -> Floats:
        """Steps, growing, whose line from the step before is broken."""
        ...

    def place(self, steps: Floats) -> Floats:
        """The position of each step, of any shape; between known steps it lies between theirs."""
        ...

    def place_event(self, step: float, time: float) -> float:
        """The position of something that happened after `step` at Unix time `time` (0: not known)."""
        ...

    def step_at(self, x: float) -> float:
        """The step, with its fraction, at position `x`: what `place` takes back there."""
        ...

    def nearest_step(self, x: float) -> float:
        """The known step whose position is nearest to `x`."""
        ...

    def bounds(self, steps: Floats, edges: Floats) -> Indices:
        """Where growing `steps` (K,) cross the growing positions `edges` (C+1,): column i holds [bounds[i], bounds[i+1]).

        A step on an edge belongs right of it, and one on the last edge to the last column.
        """
        ...


class ByStep:
    """The step is the position."""

    breaks: Floats = np.empty(0)

    def place(self, steps: Floats) -> Floats:
        """The steps."""
        return steps

    def place_event(self, step: float, time: float) -> float:
        """The step."""
        return step

    def step_at(self, x: float) -> float:
        """The position."""
        return x

    def nearest_step(self, x: float) -> float:
        """The position: which steps are known is the series' knowledge."""
        return x

    def bounds(self, steps: Floats, edges: Floats) -> Indices:
        """By binary search."""
        inner = np.searchsorted(steps, edges[:-1], side="left")
        end = np.searchsorted(steps, edges[-1:], side="right")
        return np.concatenate((inner, np.maximum(end, inner[-1:]))).astype(np.int64)


BY_STEP = ByStep()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Steps that follow each other on a line, by column: float64 (N,)."""

    step: Floats
    time: Floats
    """Unix seconds at which the step ended."""
    tokens: Floats
    step_ms: Floats


def positions(axis: AxisName, rows: Rows, *, zero: float = 0.0, reached: float = 0.0) -> Floats:
    """The positions of `rows` (N,), never below `reached`, that of the row before; `zero`: Unix time of wall position 0.

    A clock that was set back, and what is no finite number, leaves the position where it was.
    """
    if axis == "step":
        return rows.step
    if axis == "active":
        spent = np.where(rows.step_ms > 0, rows.step_ms, 0.0)
        return np.cumsum(np.concatenate(([reached], np.where(np.isfinite(spent), spent / 1e3, 0.0))))[1:]
    counted = rows.tokens if axis == "tokens" else rows.time - zero
    usable = np.where(np.isfinite(counted), counted, np.nan)
    grown: Floats = np.fmax.accumulate(np.concatenate(([reached], usable)))[1:]
    return grown


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """Where a run stood still, oldest first: float64 (K,) each."""

    before: Floats
    """The last step before it."""
    after: Floats
    """The first step after it."""
    idle_s: Floats
    """Seconds between them in which no step was worked on."""


def gaps(rows: Rows) -> Gaps:
    """The gaps between `rows`: the time from step to step less what the later step took, where that is long (GAP_S)."""
    took_s = np.where(np.isfinite(rows.step_ms), rows.step_ms, 0.0)[1:] / 1e3
    with np.errstate(invalid="ignore"):  # of two times that are both infinite
        idle_s = np.diff(rows.time) - took_s
    found = np.flatnonzero(idle_s > np.maximum(GAP_S, took_s))
    return Gaps(before=rows.step[:-1][found], after=rows.step[1:][found], idle_s=idle_s[found])


def without_evaluations(found: Gaps, evaluations: Mapping[int, float]) -> Floats:
    """The steps after those gaps that the evaluations after the step before (seconds, by step) do not explain."""
    explained = [evaluations.get(int(step), 0.0) for step in found.before.tolist()]
    return found.after[found.idle_s - np.array(explained, dtype=np.float64) > GAP_S]


class Track:
    """The positions of one line on an axis that is not the step, kept up to date by looking only at the rows added since.

    zero: Unix time of wall position 0, None: when the first step began. reached: position before the first row.
    """

    def __init__(self, axis: AxisName, *, zero: float | None = None, reached: float = 0.0) -> None:
        self.axis = axis
        self.zero = zero
        self._reached = reached
        self._count = 0
        self._points = np.empty((2, 1024))
        self._newest: Rows | None = None
        """The last row: a gap may follow it."""
        self._gaps: list[Gaps] = []
        self._evaluations: Mapping[int, float] = {}
        self._breaks: Floats | None = None

    def __len__(self) -> int:
        return self._count

    def extend(self, rows: Rows) -> None:
        """Append rows, whose steps grow."""
        count = len(rows.step)
        if not count:
            return
        if self.zero is None:
            began = rows.time[0] - rows.step_ms[0] / 1e3
            self.zero = float(began) if np.isfinite(began) else 0.0
        if self._points.shape[1] < self._count + count:
            larger = np.empty((2, 2 * (self._count + count)))
            larger[:, : self._count] = self._points[:, : self._count]
            self._points = larger
        reached = float(self._points[1, self._count - 1]) if self._count else self._reached
        self._points[0, self._count : self._count + count] = rows.step
        self._points[1, self._count : self._count + count] = positions(self.axis, rows, zero=self.zero, reached=reached)
        self._count += count
        self._look_for_gaps(rows)

    def know_evaluations(self, seconds: Mapping[int, float]) -> None:
        """How long the evaluation after a step took: the line is not broken for it. The same mapping again costs nothing."""
        if seconds is not self._evaluations:
            self._evaluations, self._breaks = seconds, None

    @property
    def breaks(self) -> Floats:
        """Steps after a gap, on the wall axis; on the others time does not show."""
        if self._breaks is None:
            found = [without_evaluations(gaps, self._evaluations) for gaps in self._gaps]
            self._breaks = np.concatenate(found) if found else np.empty(0)
        return self._breaks

    def place(self, steps: Floats) -> Floats:
        """Positions between those of the known steps; beyond them that of the first or the last."""
        if not self._count:
            return np.zeros_like(steps)
        placed: Floats = np.interp(steps, self._steps, self._xs)
        return placed

    def place_event(self, step: float, time: float) -> float:
        """By its own time on the wall axis, where it happened between two steps; by its step on the others."""
        if self.axis == "wall" and time > 0 and self._count and self.zero is not None:
            return float(np.clip(time - self.zero, self._xs[0], self._xs[-1]))
        return float(self.place(np.array([step]))[0])

    def step_at(self, x: float) -> float:
        """The step at `x`; beyond the line its first or last one."""
        return float(np.interp(x, self._xs, self._steps)) if self._count else 0.0

    def nearest_step(self, x: float) -> float:
        """The step nearest to `x`, the newer one of two equally near."""
        if not self._count:
            return 0.0
        right = int(np.searchsorted(self._xs, x, side="right"))
        candidates = [index for index in (right, right - 1) if 0 <= index < self._count]
        return float(self._steps[min(candidates, key=lambda index: abs(float(self._xs[index]) - x))])

    def bounds(self, steps: Floats, edges: Floats) -> Indices:
        """By the first step at or after each edge."""
        inner = np.searchsorted(self._xs, edges[:-1], side="left")
        end = np.searchsorted(self._xs, edges[-1:], side="right")
        found = np.concatenate((inner, end))
        first_steps = np.full(len(found), np.inf)
        first_steps[found < self._count] = self._steps[found[found < self._count]]
        return np.maximum.accumulate(np.searchsorted(steps, first_steps, side="left")).astype(np.int64)

    @property
    def _steps(self) -> Floats:
        return self._points[0, : self._count]

    @property
    def _xs(self) -> Floats:
        return self._points[1, : self._count]

    def _look_for_gaps(self, rows: Rows) -> None:
        if self.axis != "wall":
            return
        if self._newest is not None:
            last = self._newest
            rows = Rows(**{name: np.concatenate((getattr(last, name), getattr(rows, name))) for name in Rows.__slots__})
        self._newest = Rows(**{name: getattr(rows, name)[-1:] for name in Rows.__slots__})
        found = gaps(rows)
        if len(found.after):
            self._gaps.append(found)
            self._breaks = None
