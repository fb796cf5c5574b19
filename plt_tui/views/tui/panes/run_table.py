"""The table of runs: one line a run, a cursor that stays on its run, marks, and a small curve of each loss.

Draws only the lines in sight (Line API); orders and filters nothing. Invariant: the cursor is on the same run after rows came,
went or changed places, as long as that run is there.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from plt_tui.views.formats import format_count, format_duration, format_value
from plt_tui.views.tui.chart import raster
from plt_tui.views.tui.chart.raster import DOTS, Mode, Scale
from plt_tui.views.tui.chart.series import Series
from plt_tui.views.tui.runs import Column, Order, RunRow
from plt_tui.views.tui.words import STYLES

CURSOR, MARK, CURSOR_ASCII, MARK_ASCII = "▸", "✓", ">", "*"
CURSOR_STYLE = "on $accent 22%"
_TITLES: dict[Column | None, str] = {None: "", "started": "start"}
"""Where it is not the column's name."""
_ARROWS: dict[bool, str] = {False: "▾", True: "▴"}
_ARROWS_ASCII: dict[bool, str] = {False: "v", True: "^"}
_HEAD_CELLS = 3
"""Cursor, mark and a blank."""
_STATE_CELLS, _LOSS_CELLS, _TOOK_CELLS, _SPEED_CELLS = 12, 8, 8, 8
_NAME_CELLS, _LONGEST_NAME = 14, 40
_CURVE_CELLS = 10
_GAP = 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where a column is: `column` is None for the curve."""

    column: Column | None
    x: int
    width: int


def places(width: int, longest_name: int) -> tuple[Place, ...]:
    """The columns of a table `width` cells wide; where room is short those go that are needed least."""
    cells: dict[Column | None, int] = {
        "state": _STATE_CELLS,
        "name": _NAME_CELLS,
        "step": 11 if width < 110 else 15,
        "loss": _LOSS_CELLS,
        None: _CURVE_CELLS,
        "started": 6 if width < 110 else 12,
        "took": _TOOK_CELLS,
        "tokens/s": _SPEED_CELLS,
    }
    spare = width - _HEAD_CELLS - sum(cells.values()) - _GAP * (len(cells) - 1)
    for column in ("tokens/s", None, "started", "took", "loss", "step"):
        if spare >= 0:
            break
        spare += cells.pop(column) + _GAP
    name = min(max(0, spare), max(0, min(longest_name, _LONGEST_NAME) - _NAME_CELLS))
    cells["name"] += name
    if None in cells:
        cells[None] += max(0, spare - name)
    found, x = [], _HEAD_CELLS
    for each, cell in cells.items():
        found.append(Place(each, x, cell))
        x += cell + _GAP
    return tuple(found)


class RunTable(ScrollView, can_focus=True, inherit_bindings=False):
    """The rows, under a line of titles that stays."""

    DEFAULT_CSS = """
    RunTable {
        height: 1fr; background: $background; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 0;
        scrollbar-background: $background; scrollbar-color: $foreground 25%;
        scrollbar-background-hover: $background; scrollbar-color-hover: $foreground 40%;
        scrollbar-background-active: $background; scrollbar-color-active: $accent;
    }
    """

    class Moved(Message):
        """The cursor is on another run."""

    class Chosen(Message):
        """A run was clicked twice."""

    class Titled(Message):
        """The title of a column was clicked."""

        def __init__(self, column: Column) -> None:
            super().__init__()
            self.column = column

    def __init__(self, mode: Mode) -> None:
        super().__init__()
        self._mode = mode
        self._rows: Sequence[RunRow] = ()
        self._marked: Collection[str] = ()
        self._order = Order()
        self._now = 0.0
        self._current = ""
        self._place = 0
        self._longest = 0

    @property
    def current(self) -> str:
        """Name of the run under the cursor; empty when there is no row."""
        return self._current

    @property
    def row(self) -> RunRow | None:
        """The run under the cursor."""
        return self._rows[self._place] if self._rows else None

    def show(self, rows: Sequence[RunRow], *, marked: Collection[str], order: Order, now: float) -> None:
        """Draw these rows, as far as they look otherwise than before. `now`: Unix seconds, for runs that live."""
        titles, lines = (self._longest, self._order), self._lines_in_sight()
        replaced = self._rows  # they live until the lines have been compared: `id` tells one from another so long only
        self._rows, self._marked, self._order, self._now = rows, frozenset(marked), order, now
        names = [row.name for row in rows]
        self._longest = max(map(len, names), default=0)
        # Where the run has gone the cursor stays on its line.
        place = names.index(self._current) if self._current in names else min(self._place, len(names) - 1)
        self.virtual_size = Size(self.size.width, len(rows) + 1)
        self._put(max(0, place))
        changed = [y for y, looks in self._lines_in_sight().items() if lines.get(y) != looks]
        del replaced
        if (self._longest, self._order) != titles:
            self.refresh()
        elif changed:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in changed))

    def _lines_in_sight(self) -> dict[int, tuple[object, ...]]:
        """What tells one look of a line from another, by its place in the widget, while the rows live that it was made of."""
        lines: dict[int, tuple[object, ...]] = {}
        first = round(self.scroll_y)
        for y in range(1, self.size.height):
            place = first + y - 1
            row = self._rows[place] if place < len(self._rows) else None
            clock = self._now if row is not None and not row.state.is_over else 0.0
            lines[y] = (id(row), place == self._place, row is not None and row.name in self._marked, clock)
        return lines

    def move(self, distance: int) -> None:
        """Move the cursor by `distance` rows, not beyond the first and the last."""
        self._put(self._place + distance)

    def page(self, direction: int) -> None:
        """Move the cursor by a screenful."""
        self.move(direction * max(1, self.size.height - 2))

    def _put(self, place: int) -> None:
        place = max(0, min(place, len(self._rows) - 1))
        name = self._rows[place].name if self._rows else ""
        before, has_moved = self._place, name != self._current
        self._place, self._current = place, name
        first, height = round(self.scroll_y), max(1, self.size.height - 1)
        if first <= place < first + height:
            self.refresh(*(Region(0, each - first + 1, self.size.width, 1) for each in {before, place} if each >= first))
        else:
            self.scroll_to(y=place if place < first else place - height + 1, animate=False, immediate=True, force=True)
            self.refresh()
        if has_moved:
            self.post_message(self.Moved())

    def on_click(self, event: events.Click) -> None:
        """Go to the run, open it at the second click; on a title order by it."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        if offset.y == 0:
            hit = next((each.column for each in self._places() if each.x <= offset.x < each.x + each.width), None)
            if hit is not None:
                self.post_message(self.Titled(hit))
            return
        place = round(self.scroll_y) + offset.y - 1
        if place < len(self._rows):
            self._put(place)
            if event.chain == 2:
                self.post_message(self.Chosen())

    def on_resize(self) -> None:
        """Keep the cursor in sight."""
        self._put(self._place)

    def render_line(self, y: int) -> Strip:
        """The titles, or one run."""
        width = self.size.width
        content = self._titles() if y == 0 else self._line(round(self.scroll_y) + y - 1)
        strip = Strip(content.render_segments(self.visual_style), content.cell_length)
        return strip.crop_extend(0, width, self.rich_style)

    def _places(self) -> tuple[Place, ...]:
        return places(self.size.width, self._longest)

    def _titles(self) -> Content:
        line, arrows = " " * _HEAD_CELLS, _ARROWS_ASCII if self._mode == "ascii" else _ARROWS
        for each in self._places():
            title = _TITLES.get(each.column, str(each.column))
            if each.column == self._order.column:
                title += arrows[self._order.is_reversed]
            line += _fitted(title, each.width, is_number=each.column in _NUMBERS) + " " * _GAP
        return Content.styled(line, f"bold {STYLES['muted']}")

    def _line(self, place: int) -> Content:
        if place >= len(self._rows):
            return Content("")
        row = self._rows[place]
        is_current, is_plain = place == self._place, self._mode == "ascii"
        cursor, mark = (CURSOR_ASCII, MARK_ASCII) if is_plain else (CURSOR, MARK)
        head = (cursor if is_current else " ") + (mark if row.name in self._marked else " ") + " "
        parts: list[tuple[str, str]] = [(head, f"bold {STYLES['accent']}")]
        for each in self._places():
            parts += [(self._cell(row, each), self._style(row, each.column)), (" " * _GAP, "")]
        content = Content.assemble(*parts)
        if not is_current:
            return content
        content += Content(" " * max(0, self.size.width - content.cell_length))
        if self.colors[2].ansi is not None:  # the terminal owns its colours: nothing can be mixed from them
            return Content.styled(content.plain, "reverse")
        return content.stylize_before(CURSOR_STYLE)

    def _style(self, row: RunRow, column: Column | None) -> str:
        match column:
            case "state":
                return f"bold {STYLES[row.word.tone]}"
            case "name":
                return "bold"
            case None:
                return STYLES["accent"]
            case _:
                return STYLES["normal" if column == "loss" else "muted"]

    def _cell(self, row: RunRow, each: Place) -> str:
        if each.column is None:
            return small_curve(row.losses, each.width, self._mode)
        return _fitted(cell_text(row, each.column, each.width, self._now), each.width, is_number=each.column in _NUMBERS)


_NUMBERS: frozenset[Column | None] = frozenset({"step", "loss", "took", "tokens/s"})


def cell_text(row: RunRow, column: Column, width: int, now: float) -> str:
    """What a row has in a column of `width` cells."""
    match column:
        case "state":
            return f"{row.word.glyph} {row.word.text}"
        case "name":
            return row.name
        case "step":
            return _progress(row, width)
        case "loss":
            return format_value(row.loss) if row.loss is not None else "–"
        case "tokens/s":
            return format_count(row.tokens_per_s) if row.tokens_per_s is not None else "–"
        case "took":
            took = row.took_s(now)
            return format_duration(took) if took is not None else "–"
        case "started":
            return started_words(row.state.started_at, now, is_short=width < 12)


def _progress(row: RunRow, width: int) -> str:
    """How far it is: "600/1000", behind it the share where there is room."""
    step, target = row.state.step, row.target_step
    if not target:
        return format_count(step) if step else "–"
    share = f" {min(1.0, step / target):4.0%}"
    exact, rough = f"{step}/{target}", f"{format_count(step)}/{format_count(target)}"
    return next((text for text in (exact + share, rough + share, exact, rough) if len(text) <= width), rough)


def started_words(unix_s: float, now: float, *, is_short: bool) -> str:
    """Local time of a start: "03-14 15:09"; in short the clock of today, the day of this year, the month of others."""
    if not unix_s:
        return "–"
    moment, today = time.localtime(unix_s), time.localtime(now)
    if not is_short:
        return time.strftime("%m-%d %H:%M" if moment.tm_year == today.tm_year else "%Y-%m-%d", moment)
    is_today = (moment.tm_year, moment.tm_yday) == (today.tm_year, today.tm_yday)
    return time.strftime("%H:%M" if is_today else "%m-%d" if moment.tm_year == today.tm_year else "%y-%m", moment)


def _fitted(text: str, width: int, *, is_number: bool) -> str:
    """`text` cut or filled to `width` cells; numbers stand at the right."""
    if cell_len(text) > width:
        text = text[: max(0, width - 1)] + "…"
    room = " " * (width - cell_len(text))
    return room + text if is_number else text + room


def small_curve(losses: Sequence[float], width: int, mode: Mode) -> str:
    """A curve of one line and `width` cells; where a loss was no finite number stands a sign."""
    if not losses or width < 1:
        return " " * max(0, width)
    series = Series()
    series.extend(np.arange(len(losses), dtype=np.float64), np.array(losses, dtype=np.float64))
    dots_x, dots_y = DOTS[mode]
    columns = series.columns(-0.5, len(losses) - 0.5, width * dots_x)
    low, high = raster.extremes(columns, log=False)
    codes = np.zeros(width, dtype=np.uint32)
    if low <= high:
        scale = Scale(low, high) if low < high else Scale(low - 1.0, high + 1.0)
        codes = raster.pack(raster.fill(*raster.trace(columns, scale, dots_y), dots_y), mode)[0]
    nonfinite = columns.nonfinite.reshape(width, dots_x).any(axis=1)
    codes = np.where(nonfinite, ord("x" if mode == "ascii" else "×"), np.where(codes == 0, ord(" "), codes))
    return "".join(map(chr, codes.tolist()))
