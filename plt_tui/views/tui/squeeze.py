"""The same picture in fewer bytes: of what Textual draws only the cells are sent that differ from what the terminal shows.

Pure; writes to no terminal. Invariant: a terminal of the same size shows after `Squeezer.squeezed(text)` what it shows after
`text`, and its cursor is in the same place; what is not understood is sent as it is, and nothing is taken for granted after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

from rich.cells import cell_len

_TOKEN = re.compile(
    r"\x1b\[(?P<row>[0-9]*);?(?P<column>[0-9]*)H|\x1b\[(?P<style>[0-9;]*)m|(?P<line>\r?\n)|(?P<text>[^\x00-\x1f\x7f]+)"
)
"""A place, a rendition, a new line or text: all that Textual's frames are made of (ECMA-48)."""
_SWITCH = re.compile(r"(?:\x1b\[\?[0-9]+[hl$p]+|\x1b\[[<>=][0-9]*u|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x07)+")
"""Modes, questions, titles, notifications: they draw nothing."""
_NARROW = re.compile(r"[ -~\u2500-\u25fc\u2800-\u28ff]+")
"""Characters of one cell, each for sure: ASCII, box drawings, blocks and braille, which is nearly all of a frame."""
_UNKNOWN = (-1, -1)
_OTHER_SCREEN = "\x1b[?1049"
_ON = frozenset(range(1, 10))
"""Bold, dim, italic, underlined, blinking, fast, reverse, hidden, struck."""
_SHORT_GAP = 4
"""As many cells are sent again between two that differ, rather than to move over them."""


@dataclass(frozen=True, slots=True)
class Style:
    """What is in force. Colours as the parameters that set them; empty: the terminal's own."""

    foreground: str = ""
    background: str = ""
    attributes: frozenset[int] = frozenset()


PLAIN = Style()

Cell: TypeAlias = tuple[str, Style] | None
"""A character with its marks, or nothing for the second half of a wide one; None: not known."""
Row: TypeAlias = list[Cell]


class Squeezer:
    """What a terminal of some size shows."""

    def __init__(self) -> None:
        self._rows: list[Row] = []
        self._size = (0, 0)
        self._cursor = _UNKNOWN

    def forget(self) -> None:
        """Take nothing for granted any more: somebody else may have drawn."""
        self._size = (0, 0)

    def squeezed(self, text: str, width: int, height: int) -> str:
        """What to send for `text` to a terminal of this size."""
        if _SWITCH.fullmatch(text):
            if _OTHER_SCREEN in text:
                self.forget()
            return text
        if self._size != (width, height):
            self._rows, self._size, self._cursor = [[None] * width for _ in range(height)], (width, height), _UNKNOWN
        drawn = _Drawing(self._rows, width, height)
        if not drawn.draw(text):
            self.forget()
            return text
        before, self._rows, cursor = self._rows, drawn.rows, self._cursor
        self._cursor = drawn.cursor
        parts = [part for y in sorted(drawn.touched) for part in _changes(y, before[y], drawn.rows[y])]
        return "".join(parts) + (_move(*drawn.cursor) if parts or drawn.cursor != cursor else "")


class _Drawing:
    """Rows on which a text is being drawn; those that it touches are copies."""

    def __init__(self, rows: list[Row], width: int, height: int) -> None:
        self.rows = list(rows)
        self.touched: set[int] = set()
        self.cursor = _UNKNOWN
        """Column and row; where a frame begins it is not relied on."""
        self._size = (width, height)

    def draw(self, text: str) -> bool:
        """Draw `text`; False where it holds something that is not understood."""
        style, place = PLAIN, 0
        for token in _TOKEN.finditer(text):
            if token.start() != place:
                return False
            place = token.end()
            if token["text"] is not None:
                if not self._write(token["text"], style):
                    return False
            elif token["style"] is not None:
                after = applied(style, token["style"])
                if after is None:
                    return False
                style = after
            else:
                at_column, at_row = token["column"] or 1, token["row"] or 1
                if token["line"] and self.cursor == _UNKNOWN:
                    return False
                self.cursor = (0, self.cursor[1] + 1) if token["line"] else (int(at_column) - 1, int(at_row) - 1)
        return place == len(text) and style == PLAIN

    def _write(self, text: str, style: Style) -> bool:
        """Write from the cursor on; False where that cuts a wide character in half, which terminals do in different ways."""
        x, y = self.cursor
        width, height = self._size
        cells = _cells(text, style)
        if cells is None or x < 0 or not 0 <= y < height or x + len(cells) > width:
            return False
        if y not in self.touched:
            self.touched.add(y)
            self.rows[y] = list(self.rows[y])
        row, end = self.rows[y], x + len(cells)
        if _is_half(row[x]) or (end < width and _is_half(row[end])):
            return False
        row[x:end] = cells
        self.cursor = (end, y)
        return True


def _cells(text: str, style: Style) -> Row | None:
    """The cells of a text; None where it begins with a mark, which belongs to a character before it."""
    if _NARROW.fullmatch(text):
        return [(char, style) for char in text]
    cells: Row = []
    for char in text:
        width = cell_len(char)
        if width:
            cells += [(char, style), ("", style)][:width]
            continue
        place = len(cells) - 1
        while place >= 0 and _is_half(cells[place]):
            place -= 1
        cell = cells[place] if place >= 0 else None
        if cell is None:
            return None
        cells[place] = (cell[0] + char, style)
    return cells


def _is_half(cell: Cell) -> bool:
    """True for the second half of a wide character."""
    return cell is not None and not cell[0]


def _changes(y: int, before: Row, after: Row) -> Iterator[str]:
    """Sequences that turn one row into the other, the rendition plain before and after each."""
    x, width = 0, len(after)
    while x < width:
        if after[x] is None or after[x] == before[x]:
            x += 1
            continue
        stop = last = x + 1
        while stop < width and after[stop] is not None and stop - last <= _SHORT_GAP:
            last = stop + 1 if after[stop] != before[stop] else last
            stop += 1
        while last < width and _is_half(after[last]):
            last += 1
        while _is_half(after[x]):
            x -= 1
        yield _move(x, y) + _written(after[x:last])
        x = last


def _written(cells: Row) -> str:
    style, parts = PLAIN, []
    for cell in cells:
        assert cell is not None, "only known cells are sent"
        char, wanted = cell
        if char:
            parts += [change(style, wanted), char] if wanted != style else [char]
            style = wanted
    return "".join(parts) + (change(style, PLAIN) if style != PLAIN else "")


def _move(x: int, y: int) -> str:
    return f"\x1b[{y + 1};{x + 1}H"


@lru_cache(4096)
def applied(style: Style, parameters: str) -> Style | None:
    """`style` after an SGR sequence with these parameters, None if one of them is not known."""
    codes = [int(code or 0) for code in parameters.split(";")]
    while codes:
        code = codes.pop(0)
        if code == 0:
            style = PLAIN
        elif code in _ON:
            style = replace(style, attributes=style.attributes | {code})
        elif code in (38, 48):
            length = {2: 4, 5: 2}.get(codes[0] if codes else 0, 0)
            if not length or len(codes) < length:
                return None
            color = ";".join(map(str, (code, *codes[:length])))
            style = replace(style, foreground=color) if code == 38 else replace(style, background=color)
            del codes[:length]
        elif 30 <= code <= 37 or 90 <= code <= 97 or code == 39:
            style = replace(style, foreground="" if code == 39 else str(code))
        elif 40 <= code <= 47 or 100 <= code <= 107 or code == 49:
            style = replace(style, background="" if code == 49 else str(code))
        else:
            return None
    return style


@lru_cache(4096)
def change(before: Style, after: Style) -> str:
    """The shortest sequence that leads from one style to the other."""
    anew = ["0", *map(str, sorted(after.attributes)), *filter(None, (after.foreground, after.background))]
    if before.attributes - after.attributes:
        return f"\x1b[{';'.join(anew)}m"
    step = [str(code) for code in sorted(after.attributes - before.attributes)]
    step += [after.foreground or "39"] if after.foreground != before.foreground else []
    step += [after.background or "49"] if after.background != before.background else []
    return f"\x1b[{min(';'.join(step), ';'.join(anew), key=len)}m"
