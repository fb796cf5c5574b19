"""A canvas on its way to the screen: its rows as strips, and which cells a new canvas changes.

Knows no widget and no data. Invariant: a row is made into a strip again only when it looks different, or the colours changed.
"""

from __future__ import annotations

from collections.abc import Callable

from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip

from plt_tui.views.tui.chart.ink import Ink, Inks, strip_of
from plt_tui.views.tui.chart.raster import Canvas


class Picture:
    """What one widget shows. `style_of`: the style of an ink in the theme of the moment."""

    def __init__(self, style_of: Callable[[Ink], Style]) -> None:
        self.inks = Inks()
        self.canvas: Canvas | None = None
        """None: nothing was drawn yet, or what was drawn is out of date."""
        self._style_of = style_of
        self._styles: dict[int, Style] = {}
        self._strips: dict[int, Strip] = {}

    def put(self, canvas: Canvas) -> list[Region] | None:
        """Show `canvas`; the parts that look different, or None where that is everything."""
        before, self.canvas = self.canvas, canvas
        if before is None or before.size != canvas.size:
            self._strips.clear()
            return None
        regions = []
        for y, start, stop in canvas.changes(before):
            self._strips.pop(y, None)
            regions.append(Region(start, y, stop - start, 1))
        return regions

    def strip(self, y: int) -> Strip:
        """Row `y` of the canvas."""
        assert self.canvas is not None
        if y not in self._strips:
            self._strips[y] = strip_of(self.canvas, y, self._style)
        return self._strips[y]

    def forget_colors(self) -> None:
        """The theme is another one."""
        self._styles.clear()
        self._strips.clear()

    def _style(self, number: int) -> Style:
        if number not in self._styles:
            self._styles[number] = self._style_of(self.inks.all[number])
        return self._styles[number]
