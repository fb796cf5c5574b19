"""One picture of a chart: axes, grid, marks and curves put on a canvas of character cells.

Pure: from a `Scene` and a size to a `Frame`, without an app, a theme or a terminal. Invariant: the same scene at the same size
gives the same cells, and of two frames of a growing run only the cells differ that hold something new.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len

from plt_tui.views.axis import format_tick, log_ticks, nice_ticks, tick_labels
from plt_tui.views.formats import format_value
from plt_tui.views.tui.chart import raster
from plt_tui.views.tui.chart.ink import BEHIND_FAINT, QUIET, Inks
from plt_tui.views.tui.chart.legend import mark_glyph, paint_title
from plt_tui.views.tui.chart.raster import DOTS, Canvas, Codes, Scale
from plt_tui.views.tui.chart.scene import Curve, Mark, Plot, Scene
from plt_tui.views.tui.chart.series import MINUS_INF, NAN, PLUS_INF, Columns, Floats

RAW_FAINT = 0.52
"""How far a raw line under its smoothed one fades into the background, 0 to 1."""
THIN_FAINT = 0.45
GRID_FAINT = 0.82
MARK_FAINT = 0.55

_MIN_PLOT_WIDTH = 12


@dataclass(frozen=True, slots=True)
class Frame:
    """A finished picture; `plot` is None where there is nothing to plot or no room."""

    canvas: Canvas
    plot: Plot | None = None
    free: NDArray[np.bool_] | None = None
    """Cells (H, W) that hold neither curve nor label, where a hairline may pass."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """The visible part of a curve by column of dots, and of its smoothed line where there is one."""

    curve: Curve
    points: Columns
    means: Columns | None


def compose(scene: Scene, width: int, height: int, inks: Inks) -> Frame:
    """The picture of `scene` on `width` x `height` cells (any size, also 0)."""
    canvas = Canvas(width, height)
    if width < 1 or height < 1:
        return Frame(canvas)
    paint_title(canvas, scene, inks)
    extent = scene.extent()
    if extent is None:
        text = "waiting for the first step"
        if height > 1:
            canvas.text(max(0, (width - len(text)) // 2), height // 2, text, inks.of("foreground", QUIET))
        return Frame(canvas)
    if height == 1:
        return Frame(canvas)
    plot, layers = _layout(scene, extent, width, height)
    marks = visible_marks(scene, plot)
    _paint_grid(canvas, scene, plot, inks)
    _paint_mark_lines(canvas, scene, plot, marks, inks)
    background = canvas.copy()
    _paint_curves(canvas, scene, plot, layers, inks)
    for cell, mark in marks.items():
        canvas.text(cell, plot.top, mark_glyph(mark, scene), inks.of(mark.color, bold=True))
    _paint_off_scale(canvas, scene, plot, layers, inks)
    _paint_y_axis(canvas, scene, plot, inks)
    if plot.top + plot.height < height:
        _paint_x_axis(canvas, scene, plot, inks)
    return Frame(canvas, plot, canvas.glyphs == background.glyphs)


def _layout(scene: Scene, extent: tuple[float, float], width: int, height: int) -> tuple[Plot, list[_Layer]]:
    """The plot below the title, right of the y labels and above the x labels; and what lies in it."""
    plot_height = height - 2 if height >= 4 else height - 1
    gutter = scene.gutter
    while True:
        roomy = width - gutter >= _MIN_PLOT_WIDTH
        left = gutter if roomy else 0
        x0, x1 = scene.viewport.window(extent, width - left)
        layers = _layers(scene, x0, x1, (width - left) * DOTS[scene.mode][0])
        scale = _y_scale(layers, scene.log_y)
        ticks, labels = _y_ticks(scene, scale, plot_height)
        needed = max((len(label) for label in labels), default=0) + 1
        if needed <= gutter or not roomy:
            break
        gutter = needed
    plot = Plot(
        left=left,
        top=1,
        width=width - left,
        height=plot_height,
        x0=x0,
        x1=x1,
        scale=scale,
        y_ticks=tuple(ticks),
        y_labels=tuple(labels) if roomy else (),
    )
    return plot, layers


def _layers(scene: Scene, x0: float, x1: float, num_columns: int) -> list[_Layer]:
    return [
        _Layer(
            curve,
            curve.series.columns(x0, x1, num_columns, curve.lane),
            mean.columns(x0, x1, num_columns, curve.lane) if mean is not None else None,
        )
        for curve, mean in zip(scene.curves, scene.smoothed, strict=True)
    ]


def _y_scale(layers: list[_Layer], log: bool) -> Scale | None:
    """The range of all that is drawn, a little wider; of what the run is on nothing visible is left out."""
    live = [layer for layer in layers if not layer.curve.left_behind]
    drawn = [columns for layer in live for columns in (layer.points, layer.means) if columns is not None]
    bounds = [raster.extremes(columns, log) for columns in drawn]
    low, high = min(low for low, _ in bounds), max(high for _, high in bounds)
    return Scale.around(low, high, log=log) if low <= high else None


def _y_ticks(scene: Scene, scale: Scale | None, height: int) -> tuple[list[float], list[str]]:
    if scale is None:
        return [], []
    count = max(2, round(height / 3.5))
    ticks = (log_ticks if scale.log else nice_ticks)(scale.low, scale.high, count)
    # Ticks are round numbers: the three digits that a measured value needs would be noise on them.
    style = scene.y_format if scene.y_format is not format_value else None
    style = style or (format_tick if scale.log else None)
    return ticks, tick_labels(ticks, style)


def _paint_grid(canvas: Canvas, scene: Scene, plot: Plot, inks: Inks) -> None:
    if plot.scale is None or scene.mode == "ascii":
        return
    dots_x, dots_y = DOTS[scene.mode]
    num_rows = plot.height * dots_y
    rows = _dot_rows(plot.scale, np.array(plot.y_ticks), num_rows)
    if scene.mode == "braille":
        dots = np.zeros((num_rows, plot.width * dots_x), dtype=np.bool_)
        dots[rows, ::4] = True
        codes = raster.pack(dots, scene.mode)
    else:
        codes = np.zeros((plot.height, plot.width), dtype=np.uint32)
        codes[rows // dots_y, ::3] = ord("·")
    canvas.stamp(plot.left, plot.top, codes, inks.of("foreground", GRID_FAINT))


def _paint_curves(canvas: Canvas, scene: Scene, plot: Plot, layers: list[_Layer], inks: Inks) -> None:
    """First every faint line, then every strong one, so that no raw line hides the smoothed line of another curve."""
    scale = plot.scale
    if scale is None:
        return
    for layer in layers:
        if layer.curve.left_behind:
            codes = _line(layer.means or layer.points, scale, scene, plot)
            if layer.curve.style == "dots":
                codes = _markers(layer, scale, scene, plot, codes)
            canvas.stamp(plot.left, plot.top, codes, inks.of(layer.curve.color, BEHIND_FAINT))
    layers = [layer for layer in layers if not layer.curve.left_behind]
    raw_lines = [_line(layer.points, scale, scene, plot) for layer in layers]
    for layer, codes in zip(layers, raw_lines, strict=True):
        if layer.means is not None or layer.curve.style == "dots":
            faint = RAW_FAINT if layer.means is not None else THIN_FAINT
            canvas.stamp(plot.left, plot.top, codes, inks.of(layer.curve.color, faint))
    for layer, raw_line in zip(layers, raw_lines, strict=True):
        codes = raw_line if layer.means is None else _line(layer.means, scale, scene, plot)
        if layer.curve.style == "dots" or len(layer.curve.series) == 1:
            codes = _markers(layer, scale, scene, plot, codes)
        canvas.stamp(plot.left, plot.top, codes, inks.of(layer.curve.color))
    for place, layer in enumerate(layers):  # over all lines: of two that are one on the other both are told
        if layer.curve.glyph and layer.curve.style == "line":
            canvas.stamp(plot.left, plot.top, _signs(layer, scale, scene, plot, place), inks.of(layer.curve.color, bold=True))


def _line(columns: Columns, scale: Scale, scene: Scene, plot: Plot) -> Codes:
    num_rows = plot.height * DOTS[scene.mode][1]
    return raster.pack(raster.fill(*raster.trace(columns, scale, num_rows), num_rows), scene.mode)


def _markers(layer: _Layer, scale: Scale, scene: Scene, plot: Plot, line: Codes) -> Codes:
    """A marker at the newest point of each cell that lies within the scale; `line` instead where markers would touch."""
    dots_x, dots_y = DOTS[scene.mode]
    values = layer.points.last if layer.means is None else layer.means.last
    # By way of dots, so that the marker sits in the cell where the line has its dot.
    num_rows = plot.height * dots_y
    at = scale.rows(values, num_rows)
    shown = np.flatnonzero((at >= -0.5) & (at < num_rows - 0.5))
    cells = shown // dots_x
    if len(np.unique(cells)) > max(1, plot.width / 3):
        return line
    codes = np.zeros((plot.height, plot.width), dtype=np.uint32)
    rows = _dot_rows(scale, values[shown], num_rows)
    _, newest = np.unique(cells[::-1], return_index=True)
    picked = len(cells) - 1 - newest
    codes[rows[picked] // dots_y, cells[picked]] = ord(layer.curve.glyph or scene.glyph("dots"))
    return codes


def _signs(layer: _Layer, scale: Scale, scene: Scene, plot: Plot, place: int) -> Codes:
    """The sign of a curve on its line a few times; `place`: of the curve, so that signs of several stand apart."""
    dots_x, dots_y = DOTS[scene.mode]
    values = layer.points.last if layer.means is None else layer.means.last
    shown = np.flatnonzero(np.isfinite(scale.rows(values, 1)))
    cells = shown // dots_x
    stride = max(6, plot.width // 5)
    targets = np.arange((2 + 3 * place) % stride, plot.width, stride)
    found = np.searchsorted(cells, targets)
    near = found < len(cells)
    near[near] = cells[found[near]] < targets[near] + stride
    picked = found[near]
    codes = np.zeros((plot.height, plot.width), dtype=np.uint32)
    codes[_dot_rows(scale, values[shown[picked]], plot.height * dots_y) // dots_y, cells[picked]] = ord(layer.curve.glyph)
    return codes


def _dot_rows(scale: Scale, values: Floats, num_rows: int) -> raster.Rows:
    return np.floor(scale.rows(values, num_rows) + 0.5).astype(np.int64)


def visible_marks(scene: Scene, plot: Plot) -> dict[int, Mark]:
    """The heaviest and then newest mark in each column of the canvas that has one."""
    lightest_first = sorted(scene.marks, key=lambda mark: mark.weight)
    return {cell: mark for mark in lightest_first if (cell := plot.cell_of(scene.place_mark(mark))) is not None}


def _paint_mark_lines(canvas: Canvas, scene: Scene, plot: Plot, marks: dict[int, Mark], inks: Inks) -> None:
    line = np.full((plot.height, 1), ord(scene.glyph("mark")), dtype=np.uint32)
    for cell, mark in marks.items():
        canvas.stamp(cell, plot.top, line, inks.of(mark.color, MARK_FAINT))


def _paint_off_scale(canvas: Canvas, scene: Scene, plot: Plot, layers: list[_Layer], inks: Inks) -> None:
    """Red signs for what has no place on the axis: "^" +inf, "×" NaN, "v" -inf and on a log axis also 0 and below."""
    flags = np.zeros(plot.width, dtype=np.uint8)
    for layer in layers:
        if layer.curve.left_behind:
            continue
        flags |= np.bitwise_or.reduce(raster.off_scale(layer.points, scene.log_y).reshape(plot.width, -1), axis=1)
    ink = inks.of("error", bold=True)
    bottom = plot.top + plot.height - 1
    for bit, row, glyph in ((PLUS_INF, plot.top, "^"), (MINUS_INF, bottom, "v"), (NAN, bottom, scene.glyph("nan"))):
        for cell in np.flatnonzero(flags & bit).tolist():
            canvas.text(plot.left + cell, row, glyph, ink)


def _paint_y_axis(canvas: Canvas, scene: Scene, plot: Plot, inks: Inks) -> None:
    if plot.scale is None or not plot.y_labels:
        return
    dots_y = DOTS[scene.mode][1]
    cells = _dot_rows(plot.scale, np.array(plot.y_ticks), plot.height * dots_y) // dots_y
    for cell, label in zip(cells.tolist(), plot.y_labels, strict=True):
        canvas.text(plot.left - 1 - len(label), plot.top + cell, label, inks.of("foreground", QUIET))


def _paint_x_axis(canvas: Canvas, scene: Scene, plot: Plot, inks: Inks) -> None:
    """The name of the axis below the y labels; then labels centred below their ticks, never touching each other."""
    y = plot.top + plot.height
    end = plot.left + plot.width
    free = 0
    if plot.left:
        name = scene.axis.title
        free = canvas.text(max(0, plot.left - 1 - cell_len(name)), y, name, inks.of("foreground", QUIET + 0.15)) + 1
    ticks = scene.axis.ticks(plot.x0, plot.x1, max(1, plot.width // 12))
    for tick, label in zip(ticks, tick_labels(ticks, scene.axis.label), strict=True):
        cell = plot.cell_of(tick)
        if cell is None:
            continue
        start = min(max(cell - (len(label) - 1) // 2, 0), end - len(label))
        if start >= free:
            free = canvas.text(start, y, label, inks.of("foreground", QUIET)) + 1
