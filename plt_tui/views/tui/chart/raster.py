"""From columns of a series to characters: dots, their packing into braille, block or ASCII cells, and the grid of cells.

Pure numpy; knows no widget and no colour but an index. Invariants: every occupied column gets at least one dot if its values
are inside the scale; in a cell the layer stamped last is the only one seen (no colour spills into another curve).

Sizes: a plot of H x W cells has R = H * dots_y rows and C = W * dots_x columns of dots; row 0 is at the top.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len

from plt_tui.views.axis import LARGEST, padded_range
from plt_tui.views.tui.chart.series import MINUS_INF, Columns, Floats

Mode = Literal["braille", "block", "ascii"]
"""What a terminal can show: braille patterns (2 x 4 dots a cell), half blocks (1 x 2), ASCII (1 x 2)."""

Codes: TypeAlias = NDArray[np.uint32]
Dots: TypeAlias = NDArray[np.bool_]
Rows: TypeAlias = NDArray[np.int64]

DOTS: dict[Mode, tuple[int, int]] = {"braille": (2, 4), "block": (1, 2), "ascii": (1, 2)}
"""Dots of a cell: (dots_x, dots_y)."""

_BLANK = ord(" ")
_BRAILLE_BITS = np.array([0x01, 0x02, 0x04, 0x40, 0x08, 0x10, 0x20, 0x80], dtype=np.uint32)
"""Bit of each dot, left column from the top, then right column: The Unicode Standard, Braille Patterns U+2800-28FF."""
_BRAILLE: Codes = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1) @ _BRAILLE_BITS + np.uint32(0x2800)
"""Character of each cell by its dots as one byte in that order, the first dot in the highest bit; 0 for no dot."""
_BRAILLE[0] = 0
_PAIRS: dict[str, Codes] = {
    "block": np.array([0, ord("▀"), ord("▄"), ord("█")], dtype=np.uint32),
    "ascii": np.array([0, ord("'"), ord("."), ord(":")], dtype=np.uint32),
}
_FAR = 1e6
"""Rows are clipped to this distance, far outside any screen, before they become integers."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A range of y, low < high, linear or in powers of ten (then low > 0). Values beyond +-1e300 count as that."""

    low: float
    high: float
    log: bool = False

    @staticmethod
    def around(low: float, high: float, *, log: bool) -> Scale:
        """A scale with a little room around values from `low` to `high` (above 0 when `log`)."""
        if not log:
            return Scale(*padded_range(low, high))
        low_power, high_power = padded_range(math.log10(low), math.log10(min(high, LARGEST)))
        return Scale(10.0 ** max(low_power, -323.0), 10.0 ** min(high_power, 308.0), log=True)

    def rows(self, values: Floats, num_rows: int) -> Floats:
        """The row, not rounded, of each value: high at 0, low at num_rows - 1; NaN where the value has no place."""
        shown = np.isfinite(values) & ((values > 0) | (not self.log))
        values = np.clip(np.where(shown, values, np.nan), -LARGEST, LARGEST)
        low, high = self.low, self.high
        if self.log:
            values, low, high = np.log10(values), math.log10(low), math.log10(high)
        rows: Floats = np.clip((high - values) / (high - low) * (num_rows - 1), -_FAR, _FAR)
        return rows


def extremes(columns: Columns, log: bool) -> tuple[float, float]:
    """Smallest and largest value that has a place on the axis; (inf, -inf) when there is none."""
    low, high = (columns.low_positive if log else columns.low), columns.high
    seen = np.isfinite(low)
    return (float(low[seen].min()), float(high[seen].max())) if seen.any() else (np.inf, -np.inf)


def off_scale(columns: Columns, log: bool) -> NDArray[np.uint8]:
    """NAN | PLUS_INF | MINUS_INF for what each column cannot show; on a log axis zero and below lie at minus infinity."""
    if not log:
        return columns.nonfinite
    with np.errstate(invalid="ignore"):
        below = np.where(columns.low <= 0, MINUS_INF, 0).astype(np.uint8)
    return columns.nonfinite | below


def trace(columns: Columns, scale: Scale, num_rows: int) -> tuple[Rows, Rows]:
    """The dots of a line as (top, bottom) rows of each column, inclusive; top > bottom where there are none.

    A column spans all its points. Columns without a point lie on the straight line between their neighbours; the jump between
    two columns is shared by both. Nothing connects to or across a value that has no place on the axis, or across a break.
    """
    low = columns.low_positive if scale.log else columns.low
    top = scale.rows(np.where(np.isfinite(low), columns.high, np.nan), num_rows)
    bottom = scale.rows(low, num_rows)
    first, last = scale.rows(columns.first, num_rows), scale.rows(columns.last, num_rows)
    between = _bridged(columns, first, last, scale, num_rows)
    top, bottom, first, last = (np.where(columns.occupied, rows, between) for rows in (top, bottom, first, last))
    top, bottom, first, last = (_rounded(rows) for rows in (top, bottom, first, last))
    return _connected(top, bottom, first, last, columns.broken)


def _rounded(rows: Floats) -> Floats:
    return np.floor(rows + 0.5)


def _bridged(columns: Columns, first: Floats, last: Floats, scale: Scale, num_rows: int) -> Floats:
    """For each column the row of the line from the last point left of it to the first point right of it."""
    (x_before, y_before), (x_after, y_after) = columns.before, columns.after
    outside = scale.rows(np.array([y_before, y_after]), num_rows)
    count = len(first)
    positions = np.concatenate(([x_before], np.arange(count), [x_after]))
    known = np.concatenate(([True], columns.occupied, [True]))
    leaves = np.concatenate((outside[:1], last, outside[1:]))
    enters = np.concatenate((outside[:1], first, outside[1:]))
    index = np.arange(count + 2)
    left = np.maximum.accumulate(np.where(known, index, 0))
    right = np.minimum.accumulate(np.where(known, index, count + 1)[::-1])[::-1]
    width = np.maximum(positions[right] - positions[left], 1e-12)
    share = (positions - positions[left]) / width
    rows: Floats = leaves[left] + (enters[right] - leaves[left]) * share
    rows = rows[1:-1]
    rows[columns.broken[right[1:-1] - 1]] = np.nan
    return rows


def _connected(top: Floats, bottom: Floats, first: Floats, last: Floats, broken: Dots) -> tuple[Rows, Rows]:
    """Spans widened so that neighbours touch: each jump is split into a left and a right half without a common row."""
    jump = first[1:] - last[:-1]
    jump[np.isnan(jump) | broken[1:-1]] = 0.0
    left_half = last[:-1] + np.trunc(jump / 2)
    right_half = left_half + np.sign(jump)
    top, bottom = top.copy(), bottom.copy()
    top[:-1], bottom[:-1] = np.fmin(top[:-1], left_half), np.fmax(bottom[:-1], left_half)
    moved = jump != 0
    top[1:][moved] = np.fmin(top[1:], right_half)[moved]
    bottom[1:][moved] = np.fmax(bottom[1:], right_half)[moved]
    drawn = np.isfinite(top)
    return np.where(drawn, top, 1).astype(np.int64), np.where(drawn, bottom, 0).astype(np.int64)


def fill(top: Rows, bottom: Rows, num_rows: int) -> Dots:
    """Dots (R, C) of the spans; what lies outside the plot is cut off."""
    rows = np.arange(num_rows)[:, None]
    return (rows >= top) & (rows <= bottom)


def pack(dots: Dots, mode: Mode) -> Codes:
    """Characters (H, W) of dots (R, C); 0 where a cell has none."""
    dots_x, dots_y = DOTS[mode]
    height, width = dots.shape[0] // dots_y, dots.shape[1] // dots_x
    cells = dots.reshape(height, dots_y, width, dots_x)
    if mode == "braille":
        bytes_ = np.packbits(cells.transpose(0, 2, 3, 1).reshape(height, width, 8), axis=2)
        return _BRAILLE[bytes_[:, :, 0]]
    return _PAIRS[mode][cells[:, 0, :, 0] + 2 * cells[:, 1, :, 0]]


class Canvas:
    """A grid of H x W character cells, each with the index of an ink."""

    def __init__(self, width: int, height: int) -> None:
        self.glyphs = np.full((height, width), _BLANK, dtype=np.uint32)
        self.inks = np.zeros((height, width), dtype=np.uint16)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in cells."""
        return self.glyphs.shape[1], self.glyphs.shape[0]

    def copy(self) -> Canvas:
        """An independent canvas with the same cells."""
        twin = Canvas(0, 0)
        twin.glyphs, twin.inks = self.glyphs.copy(), self.inks.copy()
        return twin

    def text(self, x: int, y: int, text: str, ink: int) -> int:
        """Write `text` from cell (x, y) to the right, cut off at the edges; returns the x after it.

        A wide character takes two cells, the second of which stays empty; characters without width are left out.
        """
        width, height = self.size
        if text.isascii():  # nearly all of it is, and all of it in one go is far cheaper
            start, stop = max(x, 0), min(x + len(text), width)
            if 0 <= y < height and start < stop:
                codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
                self.glyphs[y, start:stop] = codes[start - x : stop - x]
                self.inks[y, start:stop] = ink
            return x + len(text)
        for char in text:
            cells = 1 if char.isascii() else cell_len(char)
            if cells and 0 <= y < height and x >= 0 and x + cells <= width:
                self.glyphs[y, x : x + cells] = [ord(char), 0][:cells]
                self.inks[y, x : x + cells] = ink
            x += cells
        return x

    def stamp(self, x: int, y: int, codes: Codes, ink: int) -> None:
        """Put a layer of characters with its top left at (x, y): it replaces what lies below wherever it is not 0."""
        height, width = codes.shape
        drawn = codes > 0
        self.glyphs[y : y + height, x : x + width][drawn] = codes[drawn]
        self.inks[y : y + height, x : x + width][drawn] = ink

    def clear_row(self, y: int) -> None:
        """Make row `y` blank."""
        self.glyphs[y], self.inks[y] = _BLANK, 0

    def runs(self, y: int) -> list[tuple[str, int]]:
        """Row `y` as (text, ink), left to right; blanks join whatever run they follow."""
        inks = self.inks[y]
        visible = np.flatnonzero(self.glyphs[y] != _BLANK)
        if not len(visible):
            return [(" " * len(inks), 0)] if len(inks) else []
        changes = visible[1:][inks[visible[1:]] != inks[visible[:-1]]]
        bounds = [0, *changes.tolist(), len(inks)]
        text = self.glyphs[y].astype("<u4").tobytes().decode("utf-32-le")
        starts_ink = [int(inks[visible[0]]), *inks[changes].tolist()]
        return [
            (text[start:stop].replace("\0", ""), ink)
            for start, stop, ink in zip(bounds[:-1], bounds[1:], starts_ink, strict=True)
        ]

    def changes(self, before: Canvas) -> Iterator[tuple[int, int, int]]:
        """(y, first x, x after the last) of each row that differs from `before`, a canvas of the same size."""
        differ = (self.glyphs != before.glyphs) | ((self.inks != before.inks) & (self.glyphs != _BLANK))
        for y in np.flatnonzero(differ.any(axis=1)).tolist():
            columns = np.flatnonzero(differ[y])
            yield y, int(columns[0]), int(columns[-1]) + 1
