"""The title row of a chart: what is shown and its newest values, or the values under the crosshair.

Pure; paints row 0 only. Names and labels pass through the escape filter here. Invariant: the title itself always stays; where
room is short the items least needed go first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from rich.cells import cell_len

from plt_tui.protocol.text import safe_line
from plt_tui.views.formats import format_value
from plt_tui.views.tui.chart.ink import BEHIND_FAINT, QUIET, Inks
from plt_tui.views.tui.chart.raster import Canvas
from plt_tui.views.tui.chart.scene import Curve, Mark, Plot, Scene

Item: TypeAlias = list[tuple[str, int]]
"""Pieces of text with the number of their ink, kept together."""

_GAP = 2


def paint_title(canvas: Canvas, scene: Scene, inks: Inks) -> None:
    """Title at the left; at the right the state of the view, and each curve with its newest value."""
    title = _title_span(scene, inks)
    x = canvas.text(0, 0, *title)
    quiet = inks.of("foreground", QUIET)
    tags = [
        *(["log"] if scene.log_y else []),
        *([f"smooth {scene.smoothing:g}"] if scene.smoothing > 0 else []),
        *([] if scene.viewport.follows else ["held"]),
    ]
    items = [[(tag, quiet)] for tag in tags]
    if any(curve.left_behind and len(curve.series) for curve in scene.curves):
        items.append([(f"{scene.glyph('line')} branch", inks.of("foreground", BEHIND_FAINT))])
    for curve in scene.live:
        newest = curve.series.last()
        if newest is not None:
            items.append(_legend_item(scene, curve, inks, _value(scene, newest[1])))
    room = canvas.size[0] - x - 2
    while items and _length(items) > room:
        items.pop(0)  # tags go first, then the oldest curve
    _paint_items(canvas, canvas.size[0] - _length(items), items)


def paint_readout(canvas: Canvas, scene: Scene, plot: Plot, x: float, inks: Inks) -> None:
    """The title row under a crosshair at `x`: the value of every curve there, and the mark if there is one."""
    quiet = inks.of("foreground", QUIET)
    items = [[(f"{safe_line(scene.x_title)} {_exact(x)}", inks.of("foreground"))]]
    column_width = (plot.x1 - plot.x0) / plot.width
    for curve, smoothed in zip(scene.curves, scene.smoothed, strict=True):
        point = curve.series.nearest(x)
        if point is None or (curve.left_behind and abs(point[0] - x) > column_width):
            continue
        item = _legend_item(scene, curve, inks, _value(scene, point[1]))
        if smoothed is not None and (mean := smoothed.nearest(x)) is not None:
            item.append((f" ~{_value(scene, mean[1])}", quiet))
        if abs(point[0] - x) > column_width:
            item.append((f" @{_exact(point[0])}", quiet))
        items.append(item)
    cell = plot.cell_of(x)
    for mark in scene.marks:
        if plot.cell_of(mark.x) == cell:
            items.append([(f"{mark_glyph(mark, scene)} {safe_line(mark.label)}", inks.of(mark.color))])
    start = canvas.text(0, 0, *_title_span(scene, inks)) + 2
    width = canvas.size[0]
    _paint_items(canvas, max(start, width - _length(items)), items)
    if start + _length(items) > width:
        canvas.text(width - 1, 0, scene.glyph("more"), quiet)


def _title_span(scene: Scene, inks: Inks) -> tuple[str, int]:
    return safe_line(scene.title), inks.of("foreground", bold=True)


def _legend_item(scene: Scene, curve: Curve, inks: Inks, value: str) -> Item:
    faint = BEHIND_FAINT if curve.left_behind else 0.0
    label = f"{scene.glyph(curve.style)} {safe_line(curve.name)} "
    return [(label, inks.of(curve.color, faint)), (value, inks.of(curve.color, faint, bold=True))]


def _length(items: Sequence[Item]) -> int:
    return sum(cell_len(text) for item in items for text, _ in item) + _GAP * max(0, len(items) - 1)


def _paint_items(canvas: Canvas, x: int, items: Sequence[Item]) -> None:
    for item in items:
        for text, ink in item:
            x = canvas.text(x, 0, text, ink)
        x += _GAP


def _value(scene: Scene, value: float) -> str:
    return (scene.y_format or format_value)(value)


def _exact(x: float) -> str:
    return f"{x:,.0f}" if x == int(x) else f"{x:,.6g}"


def mark_glyph(mark: Mark, scene: Scene) -> str:
    """The mark's glyph, or a plain one where it is not one cell wide or not in the terminal's repertoire."""
    shown = mark.glyph.isprintable() and cell_len(mark.glyph) == 1
    return mark.glyph if shown and (scene.mode != "ascii" or mark.glyph.isascii()) else scene.glyph("other")


def nearest_x(scene: Scene, x: float) -> float | None:
    """The x of the point nearest to `x`, over all live curves."""
    points = [point[0] for curve in scene.live if (point := curve.series.nearest(x)) is not None]
    return min(points, key=lambda candidate: abs(candidate - x), default=None)
