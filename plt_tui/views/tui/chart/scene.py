"""What a chart shows, as values: curves, marks, the whole scene, and where its plot lies.

X is a position on the scene's axis; a step is where a curve's lane says.

Pure; does not paint (`frame` and `legend` do). Invariant: equal scenes whose series hold the same points look the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from plt_tui.views.axis import NumberFormat
from plt_tui.views.tui.chart.lane import AXES, BY_STEP, Axis, Lane
from plt_tui.views.tui.chart.raster import Mode, Scale
from plt_tui.views.tui.chart.series import Series
from plt_tui.views.tui.chart.viewport import Viewport

_GLYPHS: dict[Mode, dict[str, str]] = {
    "braille": {
        "line": "━",
        "dots": "●",
        "mark": "┊",
        "hair": "│",
        "point": "┃",
        "pointer": "▸",
        "nan": "×",
        "other": "◆",
        "more": "…",
    },
    "block": {
        "line": "■",
        "dots": "●",
        "mark": "│",
        "hair": "│",
        "point": "┃",
        "pointer": "▸",
        "nan": "×",
        "other": "◆",
        "more": "…",
    },
    "ascii": {
        "line": "-",
        "dots": "o",
        "mark": "|",
        "hair": "|",
        "point": "#",
        "pointer": ">",
        "nan": "x",
        "other": "!",
        "more": "~",
    },
}

DEFAULT_GUTTER = 6
"""Cells left of the plot, so that charts below each other line up."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A series over steps with its looks. `color`: a theme variable such as "primary", or a CSS colour.

    `lane`: where its steps lie on the x axis.
    `dots`: few points, such as evaluations, drawn as markers on a thin line. `smooth`: the chart's smoothing applies.
    `left_behind`: a line that the run is not on any more, drawn faintly below the others as far as it lies within their ranges,
    which it never widens.
    """

    name: str
    series: Series
    color: str
    style: Literal["line", "dots"] = "line"
    smooth: bool = True
    left_behind: bool = False
    glyph: str = ""
    """Its own sign of one cell, in the legend and here and there on the line, where colours may not tell curves apart."""
    lane: Lane = BY_STEP

    def reach(self) -> tuple[float, float] | None:
        """Positions of its oldest and of its newest point; None while there is none."""
        if not len(self.series):
            return None
        first, last = self.lane.place(self.series.x[[0, -1]]).tolist()
        return first, last


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at step `x`: `glyph` (one cell) on the top row above a faint vertical line.

    `weight`: of several in one column the heaviest is seen, and of equal ones the newest.
    """

    x: float
    glyph: str
    label: str
    color: str
    weight: int = 0
    time: float = 0.0
    """Unix seconds, which is its place on an axis of wall time; 0: where its step is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything a frame shows. `smoothed[i]` is the smoothed curve i, None where smoothing does not apply."""

    title: str
    axis: Axis = AXES["step"]
    y_format: NumberFormat | None
    mode: Mode
    log_y: bool
    smoothing: float
    curves: tuple[Curve, ...]
    smoothed: tuple[Series | None, ...]
    marks: tuple[Mark, ...]
    viewport: Viewport
    anchors: tuple[Curve, ...] = ()
    """The curves that the x axis is made for, drawn or not; none: all live ones."""
    gutter: int = DEFAULT_GUTTER
    """Least cells left of the plot."""

    @property
    def live(self) -> tuple[Curve, ...]:
        """The curves that the run is on."""
        return tuple(curve for curve in self.curves if not curve.left_behind)

    @property
    def made_for(self) -> tuple[Curve, ...]:
        """The curves that the x axis is made for."""
        return self.anchors or self.live

    @property
    def lane(self) -> Lane:
        """Where steps lie that belong to no curve: marks, and the step pointed at."""
        return self.made_for[0].lane if self.made_for else BY_STEP

    def place(self, step: float) -> float:
        """The x of a step."""
        return float(self.lane.place(np.array([step], dtype=np.float64))[0])

    def place_mark(self, mark: Mark) -> float:
        """The x of a mark."""
        return self.lane.place_event(mark.x, mark.time)

    def extent(self) -> tuple[float, float] | None:
        """First and last x: of the oldest and of the newest point that the axis is made for, None while there is none."""
        ends = [reach for curve in self.made_for if (reach := curve.reach()) is not None]
        return (min(first for first, _ in ends), max(last for _, last in ends)) if ends else None

    def glyph(self, name: str) -> str:
        """The character for `name` in this mode."""
        return _GLYPHS[self.mode][name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """Where the curves are, in cells of the canvas, and what lies there: x from `x0` to `x1`, y by `scale`."""

    left: int
    top: int
    width: int
    height: int
    x0: float
    x1: float
    scale: Scale | None
    """None while no visible value has a place on the axis."""
    y_ticks: tuple[float, ...]
    y_labels: tuple[str, ...]

    def x_at(self, cell: int) -> float:
        """The x in the middle of a column of the canvas."""
        return self.x0 + (cell - self.left + 0.5) / self.width * (self.x1 - self.x0)

    def cell_of(self, x: float) -> int | None:
        """The column of the canvas that holds `x`, None outside the window."""
        if not self.x0 <= x <= self.x1:
            return None
        return self.left + min(int((x - self.x0) / (self.x1 - self.x0) * self.width), self.width - 1)
