"""The title row of a chart: what is shown and its newest values, or the values under the crosshair.

Pure; paints row 0 only. Names and labels pass through the escape filter here. Invariant: the title itself always stays; where
room is short the items least needed go first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from rich.cells import cell_len

from plt_tui.protocol.text import safe_line
from plt_tui.views.formats import format_value
from plt_tui.views.tui.chart.ink import BEHIND_FAINT, QUIET, Inks
from plt_tui.views.tui.chart.raster import Canvas
from plt_tui.views.tui.chart.scene import Curve, Mark, Plot, Scene

Item: TypeAlias = list[tuple[str, int]]
"""Pieces of text with the number of their ink, kept together."""

_GAP = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A place on a chart: a point of a curve, or a step."""

    x: float
    """Its position."""
    step: float
    y: float = math.nan


def paint_title(canvas: Canvas, scene: Scene, inks: Inks) -> None:
    """Title at the left; at the right the state of the view, and each curve with its newest value."""
    title = _title_span(scene, inks)
    x = canvas.text(0, 0, *title)
    quiet = inks.of("foreground", QUIET)
    tags = [
        *(["log"] if scene.log_y else []),
        *([f"smooth {scene.smoothing:g}"] if any(mean is not None for mean in scene.smoothed) else []),
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


def paint_readout(canvas: Canvas, scene: Scene, plot: Plot, at: Spot, inks: Inks, *, is_held: bool = False) -> None:
    """The title row for one spot: the value of every curve there, and the mark if there is one; `is_held`: it is pointed at."""
    start = canvas.text(0, 0, *_title_span(scene, inks)) + 2
    width = canvas.size[0]
    values = _values_at(scene, plot, at.x, inks)
    pointer = f"{scene.glyph('pointer')} " if is_held else ""
    places: list[list[Item]] = [[[(f"{pointer}{words}", inks.of("foreground"))]] for words in _place_words(scene, at)]
    bare = [item[:2] for item in values]  # without means and places of their own
    # Where room is short the place goes before a value does: the hairline shows it too.
    told = [*(place + values for place in places), places[-1] + bare, values, bare]
    items = next((items for items in told if start + _length(items) <= width), places[-1] + bare)
    behind = _values_at(scene, plot, at.x, inks, left_behind=True)
    for item, needed in [
        *((item, item) for item in behind),
        *((item, item[:1]) for item in _marks_at(scene, plot, at.x, inks)),
    ]:
        if start + _length([*items, needed]) <= width:  # of a mark the glyph says something already; its words may be cut
            items.append(item)
    _paint_items(canvas, max(start, width - _length(items)), items)
    if start + _length(items) > width:
        canvas.text(width - 1, 0, scene.glyph("more"), inks.of("foreground", QUIET))


def _marks_at(scene: Scene, plot: Plot, x: float, inks: Inks) -> list[Item]:
    cell = plot.cell_of(x)
    return [
        [(f"{mark_glyph(mark, scene)} ", inks.of(mark.color)), (safe_line(mark.label), inks.of(mark.color))]
        for mark in scene.marks
        if plot.cell_of(scene.place_mark(mark)) == cell
    ]


def _values_at(scene: Scene, plot: Plot, x: float, inks: Inks, *, left_behind: bool = False) -> list[Item]:
    """The value of every curve that the run is on, or of those left behind, where they are."""
    quiet, column_width = inks.of("foreground", QUIET), (plot.x1 - plot.x0) / plot.width
    items = []
    for curve, smoothed in zip(scene.curves, scene.smoothed, strict=True):
        spot = nearest_spot([curve], x) if curve.left_behind == left_behind else None
        if spot is None or (left_behind and abs(spot.x - x) > column_width):
            continue
        item = _legend_item(scene, curve, inks, _value(scene, spot.y))
        if smoothed is not None and (mean := smoothed.nearest(spot.step)) is not None:
            item.append((f" ~{_value(scene, mean[1])}", quiet))
        if abs(spot.x - x) > column_width:
            item.append((f" @{scene.axis.exact(spot.x)}", quiet))
        items.append(item)
    return items


def _title_span(scene: Scene, inks: Inks) -> tuple[str, int]:
    return safe_line(scene.title), inks.of("foreground", bold=True)


def _legend_item(scene: Scene, curve: Curve, inks: Inks, value: str) -> Item:
    faint = BEHIND_FAINT if curve.left_behind else 0.0
    label = " ".join([curve.glyph or scene.glyph(curve.style), *([safe_line(curve.name)] if curve.name else []), ""])
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


def _place_words(scene: Scene, at: Spot) -> list[str]:
    """Where that is, the most telling first: on other axes than the step's also in steps, where all curves count the same."""
    words = f"{scene.axis.title} {scene.axis.exact(at.x)}"
    is_one_line = all(curve.lane is scene.lane for curve in scene.live)
    return [f"{words}, step {at.step:,.0f}", words] if scene.axis.name != "step" and is_one_line else [words]


def mark_glyph(mark: Mark, scene: Scene) -> str:
    """The mark's glyph, or a plain one where it is not one cell wide or not in the terminal's repertoire."""
    shown = mark.glyph.isprintable() and cell_len(mark.glyph) == 1
    return mark.glyph if shown and (scene.mode != "ascii" or mark.glyph.isascii()) else scene.glyph("other")


def nearest_spot(curves: Iterable[Curve], x: float) -> Spot | None:
    """The point nearest to position `x`, over all of `curves`."""
    spots = []
    for curve in curves:
        point = curve.series.nearest(curve.lane.nearest_step(x))
        if point is not None:
            (at,) = curve.lane.place(np.array(point[:1])).tolist()
            spots.append(Spot(x=at, step=point[0], y=point[1]))
    return min(spots, key=lambda spot: abs(spot.x - x), default=None)
