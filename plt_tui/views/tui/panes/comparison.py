"""The two parts of the comparison: one chart with the curves of all lines, and the table beside it, which is its legend too.

Knows no session; shows lines as they are. Invariant: a line has the same colour and the same sign in chart and table, whatever
else is compared with it as far as colours suffice.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len, set_cell_size
from textual.actions import SkipAction
from textual.content import Content

from plt_tui.views.compare import CONFIGURATION, Line, Meetings, Section, sections
from plt_tui.views.tui.chart.lane import AXES, AxisName
from plt_tui.views.tui.chart.line_chart import Curve, LineChart
from plt_tui.views.tui.chart.raster import Mode
from plt_tui.views.tui.curves import LineCopy, ScoreCopy
from plt_tui.views.tui.metrics import METRICS, metrics_with, page_words
from plt_tui.views.tui.palettes import CURVES
from plt_tui.views.tui.panes.block import ScrollBlock
from plt_tui.views.tui.person import page_keys
from plt_tui.views.tui.words import STYLES

GLYPHS = "●■▲◆★✚▼○"
GLYPHS_ASCII = "ox^*#+v@"
_NAME_CELLS, _SIGN_CELLS, _GAP = 20, 2, 2
_LEAST_CELL, _WIDEST_CELL = 10, 24
"""Of a column, in cells: at least; and at most, but for the room that there is."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a line is told apart: a theme variable, and a sign for where colours do not help."""

    color: str
    glyph: str


def looks(names: Sequence[str], mode: Mode) -> dict[str, Look]:
    """A look for each name, by the name alone unless two would have the same: then the later one in the alphabet gives way."""
    glyphs = GLYPHS_ASCII if mode == "ascii" else GLYPHS
    taken: dict[int, str] = {}
    for name in sorted(names):
        wanted = zlib.crc32(name.encode()) % len(CURVES)
        free = next((place for step in range(len(CURVES)) if (place := (wanted + step) % len(CURVES)) not in taken), wanted)
        taken[free] = name
    return {name: Look(CURVES[place], glyphs[place]) for place, name in taken.items()}


class CompareChart(LineChart):
    """One metric of several lines, over each other."""

    def __init__(self, mode: Mode) -> None:
        super().__init__(METRICS[0].title, y_format=METRICS[0].y_format, mode=mode, id="compare-chart", classes="pane")
        self.axis_name: AxisName = "step"
        self.metric = METRICS[0]
        """What the curves are of."""
        self._lines: Sequence[Line] = ()
        self._copies: dict[str, tuple[LineCopy, ScoreCopy]] = {}
        """What was copied of each line, by its name."""
        self._looks: Mapping[str, Look] = {}
        self._shown: list[Curve] = []
        self._has_evals = True

    def show(self, lines: Sequence[Line], looks: Mapping[str, Look]) -> None:
        """Draw what is new in `lines`, each as `looks` has it."""
        self._lines, self._looks = lines, looks
        self._copies = {line.name: self._copies.get(line.name) or (LineCopy(line.steps), ScoreCopy()) for line in lines}
        for line in lines:
            self._copies[line.name][1].take(line.evals)
        self._show_curves()

    def toggle_evals(self) -> bool:
        """Show the evaluations beside the curves, or hide them. Returns whether they are shown."""
        self._has_evals = not self._has_evals
        self._show_curves()
        return self._has_evals

    def action_next_axis(self) -> None:
        """Let the x axis count something else."""
        names = list(AXES)
        self.axis_name = names[(names.index(self.axis_name) + 1) % len(names)]
        self._show_curves()

    def action_turn_page(self, pages: int) -> None:
        """Show another metric, round and round."""
        known = metrics_with(has_evals=any(line.evals for line in self._lines))
        place = (known.index(self.metric) + pages) % len(known) if self.metric in known else 0
        self.metric = known[place]
        self._title, self._y_format = self.metric.title, self.metric.y_format
        self.border_subtitle = Content(page_words(place, place + 1, len(known), page_keys(self.app)))
        self._show_curves()

    def _show_curves(self) -> None:
        curves = [curve for line in self._lines for curve in self._curves_of(line)]
        if curves != self._shown:
            self._shown = curves
            # Evaluations alone lie where the steps do, so that another metric is no other part of the runs.
            anchors = [] if self.metric.column else [self._train(line, "loss") for line in self._lines]
            self.set_curves(curves, axis=AXES[self.axis_name], anchors=anchors)
        self.refresh_data()

    def _curves_of(self, line: Line) -> list[Curve]:
        metric = self.metric
        curves: list[Curve] = []
        if metric.column:
            curves.append(self._train(line, metric.column))
        if metric.score and (self._has_evals or not metric.column):
            series = self._copies[line.name][1].series(metric.score)
            name = "eval" if metric.column else line.name
            curves.append(replace(self._train(line, "loss"), name=name, series=series, style="dots", smooth=False))
        return curves

    def _train(self, line: Line, column: str) -> Curve:
        """One of STEP_COLUMNS over the line's steps."""
        look, steps = self._looks[line.name], self._copies[line.name][0]
        main = next(iter(self._copies.values()))[0]  # where there are branches, it is the line that they were left by
        lane = steps.lane(AXES[self.axis_name], beside=main if line.branch else None)
        return Curve(line.name, steps.series(column), look.color, smooth=not self.metric.is_exact, glyph=look.glyph, lane=lane)


class CompareTable(ScrollBlock):
    """Numbers, the first difference, and the configuration, one column for each line."""

    DEFAULT_CSS = """
    CompareTable > Block { text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self) -> None:
        super().__init__("side by side", id="compare-table")
        self._meetings = Meetings()
        self._lines: Sequence[Line] = ()
        self._looks: Mapping[str, Look] = {}
        self._grid = Grid(head=0, cell=0, first=0, stop=0)

    def show(self, lines: Sequence[Line], looks: Mapping[str, Look]) -> None:
        """Draw the table."""
        self._lines, self._looks = lines, looks
        self._draw_from(self._grid.first)

    def action_scroll_left(self) -> None:
        """Show the column before."""
        self._turn(-1)

    def action_scroll_right(self) -> None:
        """Show the column after."""
        self._turn(1)

    def _turn(self, columns: int) -> None:
        if self._grid.stop - self._grid.first >= len(self._lines):
            raise SkipAction  # all are in sight: the key is the chart's
        self._draw_from(self._grid.first + columns)

    def _draw_from(self, first: int) -> None:
        parts = sections(self._lines, self._meetings)
        width = max(1, self.scrollable_content_region.width - 1)
        self._grid = grid = grid_of(parts, [line.name for line in self._lines], width, first)
        self.border_subtitle = Content(_sight_words(grid, len(self._lines)))
        self.put(table_lines(parts, [(line.name, self._looks[line.name]) for line in self._lines], grid))


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """How the table is laid out."""

    head: int
    """Cells for the names of the rows."""
    cell: int
    """Cells of each column."""
    first: int
    """The first column in sight, counted from 0, and the one after the last."""
    stop: int


def grid_of(parts: Sequence[Section], names: Sequence[str], width: int, first: int) -> Grid:
    """The layout in `width` cells, from column `first` on: as many columns as there is room for without a number being cut."""
    head = min(
        max((len(name) for part in parts for name, _ in part.rows), default=0),
        _NAME_CELLS if width < 100 else 2 * _NAME_CELLS,
    )
    room = width - head
    numbers = _longest(part for part in parts if part.title != CONFIGURATION)
    longest = max([_longest(parts), *(_SIGN_CELLS + cell_len(name) for name in names)])
    least = min(max(_LEAST_CELL, numbers), _WIDEST_CELL, max(1, room - _GAP))
    num_seen = max(1, min(len(names), room // (least + _GAP)))
    cell = max(least, min(room // num_seen - _GAP, max(_WIDEST_CELL, longest)))
    first = max(0, min(first, len(names) - num_seen))
    return Grid(head=head, cell=cell, first=first, stop=first + num_seen)


def _longest(parts: Iterable[Section]) -> int:
    return max((cell_len(each) for part in parts for _, cells in part.rows for each in cells), default=0)


def _sight_words(grid: Grid, num_lines: int) -> str:
    """Which columns are in sight, where not all are."""
    if grid.stop - grid.first >= num_lines:
        return ""
    seen = f"column {grid.stop}" if grid.stop - grid.first == 1 else f"columns {grid.first + 1}–{grid.stop}"
    return f"← → {seen} of {num_lines}"


def table_lines(parts: Sequence[Section], lines: Sequence[tuple[str, Look]], grid: Grid) -> list[Content]:
    """The table of `lines`, each a name with its look, as far as it is in sight."""
    seen, gap = slice(grid.first, grid.stop), " " * _GAP
    names = told_apart([name for name, _ in lines], grid.cell - _SIGN_CELLS)
    signs = [(look, f"{look.glyph} {name}") for (_, look), name in zip(lines, names, strict=True)]
    heads = [(gap + _fitted(sign, grid.cell), f"bold ${look.color}") for look, sign in signs[seen]]
    found: list[Content] = []
    for part in parts:
        title = (_fitted(part.title, grid.head), f"bold {STYLES['accent']}")
        found += [Content.assemble(title, *heads)] if not found else [Content(""), Content.assemble(title)]
        for name, cells in part.rows:
            body = "".join(gap + cell for cell in told_apart(cells, grid.cell)[seen])
            found.append(Content.assemble((_fitted(name, grid.head), STYLES["muted"]), (body, "")))
    return found


def told_apart(texts: Sequence[str], width: int) -> list[str]:
    """The texts in `width` cells each.

    Where different ones would look alike without their ends, the long ones go without their common beginning, or without all
    but their ends.
    """
    is_long = [cell_len(text) > width for text in texts]
    long = {text for text, is_so in zip(texts, is_long, strict=True) if is_so}
    common = os.path.commonprefix([*long])  # noqa: RUF071  (signs are meant: most texts are no paths)
    begin = _begin(common, max(map(len, long)), width) if len(long) > 1 else 0
    ways = (
        [_fitted(text, width) for text in texts],
        [_fitted(f"…{text[begin:]}" if is_so else text, width) for text, is_so in zip(texts, is_long, strict=True)],
        [_fitted(f"…{text[1 - width :]}" if is_so else text, width) for text, is_so in zip(texts, is_long, strict=True)],
    )
    return next((shown for shown in ways if len({*shown}) == len({*texts})), ways[-1])


def _begin(common: str, longest: int, width: int) -> int:
    """How many signs of a common beginning go: as few as need be, and whole parts of a path where there are some."""
    needed = longest - (width - 1)
    ends = (place for place, sign in enumerate(common, start=1) if sign == "/" and place >= needed)
    return next(ends, min(needed, len(common)))


def _fitted(text: str, width: int) -> str:
    return set_cell_size(text, width) if cell_len(text) <= width else f"{set_cell_size(text, width - 1)}…"
