"""A metric in one or two rows: its name, its newest value, and its course in small.

For a glance; a `LineChart` is for reading. Invariant: every value counts, so a one-step spike stands out at any width.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from rich.cells import cell_len
from rich.style import Style
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from plt_tui.protocol.text import safe_line
from plt_tui.views.tui.chart import raster
from plt_tui.views.tui.chart.ink import QUIET, Inks, ink_style, strip_of
from plt_tui.views.tui.chart.raster import DOTS, Canvas, Codes, Mode, Scale
from plt_tui.views.tui.chart.series import Columns, Floats, Series

_LABEL_CELLS = 10
"""Cells of the name and of the value, so that sparklines below each other line up."""
_RAMPS: dict[str, Codes] = {
    "block": np.array([ord(char) for char in " ▁▂▃▄▅▆▇█"], dtype=np.uint32),
    "ascii": np.array([ord(char) for char in " _.-=+*%#"], dtype=np.uint32),
}
_LEVELS = 8
"""Heights of a bar within one cell."""


class Sparkline(Widget):
    """Label, newest value and a small curve (braille) or bars (block, ASCII)."""

    DEFAULT_CSS = """
    Sparkline { height: 1; }
    """

    def __init__(
        self,
        label: str,
        *,
        color: str = "primary",
        value_format: Callable[[float], str],
        mode: Mode = "braille",
        id: str | None = None,  # noqa: A002 - Textual's own name
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self._label = label
        self._color = color
        self._value_format = value_format
        self._mode = mode
        self._values: Floats = np.empty(0)
        self._inks = Inks()
        self._canvas: Canvas | None = None

    def set_values(self, values: Floats) -> None:
        """Show `values` (N,), oldest first: all of them, several to a column where they are many. Keeps a copy."""
        fresh = np.array(values, dtype=np.float64)
        if not np.array_equal(fresh, self._values, equal_nan=True):
            self._values = fresh
            self._canvas = None
            self.refresh()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """One row where the style says `auto`."""
        return 1

    def render_line(self, y: int) -> Strip:
        """Row `y` of the content."""
        if self._canvas is None or self._canvas.size != tuple(self.size):
            self._canvas = self._composed(self.size.width, self.size.height)
        return strip_of(self._canvas, y, self._style)

    def _composed(self, width: int, height: int) -> Canvas:
        canvas = Canvas(width, height)
        label = safe_line(self._label)
        value = safe_line(self._value_format(float(self._values[-1]))) if len(self._values) else "-"
        quiet, bold = self._inks.of("foreground", QUIET), self._inks.of(self._color, bold=True)
        canvas.text(0, 0, label, quiet)
        left = max(_LABEL_CELLS, cell_len(label) + 1)
        if height == 1:
            left = max(left + _LABEL_CELLS, left + cell_len(value) + 1)
            canvas.text(left - 1 - cell_len(value), 0, value, bold)
        else:
            canvas.text(0, 1, value, bold)
            left = max(left, cell_len(value) + 1)
        if left < width and height and len(self._values):
            self._paint(canvas, left)
        return canvas

    def _paint(self, canvas: Canvas, left: int) -> None:
        width, height = canvas.size[0] - left, canvas.size[1]
        dots_x, dots_y = DOTS[self._mode]
        columns = columns_of(self._values, width * dots_x)
        low, high = raster.extremes(columns, log=False)
        if low <= high:
            scale = Scale(low, high) if low < high else Scale(low - 1.0, high + 1.0)
            if self._mode == "braille":
                codes = raster.pack(raster.fill(*raster.trace(columns, scale, height * dots_y), height * dots_y), self._mode)
            else:
                codes = _bars(columns, scale, height, self._mode)
            canvas.stamp(left, 0, codes, self._inks.of(self._color))
        nonfinite = columns.nonfinite.reshape(width, dots_x).any(axis=1)
        for cell in np.flatnonzero(nonfinite).tolist():
            canvas.text(left + cell, height - 1, "x" if self._mode == "ascii" else "×", self._inks.of("error", bold=True))

    def _style(self, number: int) -> Style:
        _, _, background, foreground = self.colors
        return ink_style(self._inks.all[number], self.app.theme_variables, background, foreground)


def columns_of(values: Floats, n: int) -> Columns:
    """`values` in `n` columns of equally many values each, from the left; the last columns stay empty where few are there."""
    series = Series()
    series.extend(np.arange(len(values), dtype=np.float64), values)
    share = max(1, -(-len(values) // n))
    return series.columns(-0.5, share * n - 0.5, n)


def _bars(columns: Columns, scale: Scale, height: int, mode: Mode) -> Codes:
    """Characters (H, C): for each column a bar, at least one eighth of a cell, for its value farthest from the middle."""
    middle = np.nanmedian(columns.low / 2 + columns.high / 2)
    telling = np.where(columns.high / 2 - middle / 2 >= middle / 2 - columns.low / 2, columns.high, columns.low)
    steps = height * _LEVELS
    tops = scale.rows(telling, steps)
    eighths = np.where(np.isfinite(tops), steps - np.floor(tops + 0.5), 0).astype(np.int64)
    below = (np.arange(height)[::-1] * _LEVELS)[:, None]
    codes: Codes = _RAMPS[mode][np.clip(eighths - below, 0, _LEVELS)]
    return codes
