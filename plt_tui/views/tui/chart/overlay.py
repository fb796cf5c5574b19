"""What lies over a finished frame: the hairline under the pointer, and the step that is pointed at.

Pure; repaints nothing of the frame but the title row and cells without a curve. Invariant: a curve, a mark or a sign for a
value that has no place is never covered by a hairline.
"""

from __future__ import annotations

import numpy as np

from plt_tui.views.tui.chart.frame import Frame, visible_marks
from plt_tui.views.tui.chart.ink import QUIET, Inks
from plt_tui.views.tui.chart.legend import Spot, nearest_spot, paint_readout
from plt_tui.views.tui.chart.raster import Canvas
from plt_tui.views.tui.chart.scene import Plot, Scene

POINT_COLOR = "accent"


def overlaid(frame: Frame, scene: Scene, inks: Inks, *, hover: float | None = None, pointed: float | None = None) -> Canvas:
    """The frame's canvas with a thin hairline at the point nearest to position `hover`, and a thick one at step `pointed`.

    The title row tells the values there: those under the pointer, else those of the step pointed at.
    """
    plot = frame.plot
    if plot is None or frame.free is None or (hover is None and pointed is None):
        return frame.canvas
    under = nearest_spot(scene.made_for, hover) if hover is not None else None
    held = Spot(x=scene.place(pointed), step=pointed) if pointed is not None else None
    canvas = frame.canvas.copy()
    if held is not None:
        _hairline(canvas, frame.free, plot, held, scene.glyph("point"), inks.of(POINT_COLOR, bold=True))
    if under is not None:
        _hairline(canvas, frame.free, plot, under, scene.glyph("hair"), inks.of("foreground", QUIET))
    told = next((spot for spot in (under, held) if spot is not None and plot.cell_of(spot.x) is not None), None)
    if told is not None:
        canvas.clear_row(0)
        paint_readout(canvas, scene, plot, told, inks, is_held=told is held)
    return canvas


def step_at(frame: Frame, scene: Scene, cell: int) -> int | None:
    """The step of the mark that is seen in a column of the canvas, else of the point nearest to it; None off the plot."""
    plot = frame.plot
    if plot is None or not plot.left <= cell < plot.left + plot.width:
        return None
    mark = visible_marks(scene, plot).get(cell)
    spot = nearest_spot(scene.made_for, plot.x_at(cell))
    return int(mark.x) if mark is not None else int(spot.step) if spot is not None else None


def _hairline(canvas: Canvas, free: np.ndarray, plot: Plot, spot: Spot, glyph: str, ink: int) -> None:
    cell = plot.cell_of(spot.x)
    if cell is not None:
        rows = slice(plot.top, plot.top + plot.height)
        canvas.stamp(cell, plot.top, np.where(free[rows, cell, None], ord(glyph), 0).astype(np.uint32), ink)
