"""What a chart shows, as values: curves, marks, inks, the whole scene, and where its plot lies.

Pure; does not paint (`frame` and `legend` do). Invariant: equal scenes whose series hold the same points look the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from plt_tui.views.axis import NumberFormat
from plt_tui.views.tui.chart.raster import Mode, Scale
from plt_tui.views.tui.chart.series import Series
from plt_tui.views.tui.chart.viewport import Viewport

_GLYPHS: dict[Mode, dict[str, str]] = {
    "braille": {"line": "━", "dots": "●", "mark": "┊", "hair": "│", "nan": "×", "other": "◆", "more": "…"},
    "block": {"line": "■", "dots": "●", "mark": "│", "hair": "│", "nan": "×", "other": "◆", "more": "…"},
    "ascii": {"line": "-", "dots": "o", "mark": "|", "hair": "|", "nan": "x", "other": "!", "more": "~"},
}


@dataclass(frozen=True, slots=True)
class Curve:
    """A series with its looks. `color`: a theme variable such as "primary", or a CSS colour.

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


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at `x`: `glyph` (one cell) on the top row above a faint vertical line.

    `weight`: of several in one column the heaviest is seen, and of equal ones the newest.
    """

    x: float
    glyph: str
    label: str
    color: str
    weight: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything a frame shows. `smoothed[i]` is the smoothed curve i, None where smoothing does not apply."""

    title: str
    x_title: str
    y_format: NumberFormat | None
    mode: Mode
    log_y: bool
    smoothing: float
    curves: tuple[Curve, ...]
    smoothed: tuple[Series | None, ...]
    marks: tuple[Mark, ...]
    viewport: Viewport

    @property
    def live(self) -> tuple[Curve, ...]:
        """The curves that the run is on."""
        return tuple(curve for curve in self.curves if not curve.left_behind)

    def extent(self) -> tuple[float, float] | None:
        """First and last x: of the oldest and of the newest point of all live curves, None while there is none."""
        ends = [(float(curve.series.x[0]), float(curve.series.x[-1])) for curve in self.live if len(curve.series)]
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
