"""The two parts of the comparison: one chart with the curves of all lines, and the table beside it, which is its legend too.

Knows no session; shows lines as they are. Invariant: a line has the same colour and the same sign in chart and table, whatever
else is compared with it as far as colours suffice.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from textual.content import Content

from plt_tui.protocol.events import Eval
from plt_tui.views.compare import Line, sections
from plt_tui.views.formats import format_value
from plt_tui.views.model import StepTable
from plt_tui.views.tui.chart.lane import AXES, BY_STEP, AxisName, Lane, Rows, Track
from plt_tui.views.tui.chart.line_chart import Curve, LineChart
from plt_tui.views.tui.chart.raster import Mode
from plt_tui.views.tui.chart.series import Series
from plt_tui.views.tui.palettes import CURVES
from plt_tui.views.tui.panes.block import ScrollBlock
from plt_tui.views.tui.words import STYLES

_COLUMNS = ("step", "loss", "time", "tokens", "step_ms")
GLYPHS = "●■▲◆★✚▼○"
GLYPHS_ASCII = "ox^*#+v@"
_NAME_CELLS, _WIDEST_CELL, _GAP = 20, 24, 2


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


class _Curves:
    """The series of one line and where its steps lie on the x axis, and how much of the line they hold."""

    def __init__(self, axis: AxisName, parent: _Curves | None) -> None:
        self.train, self.evals = Series(), Series()
        self.track: Track | None = None
        self._axis: AxisName = axis
        self._parent = parent
        """What a branch was left by."""
        self._rows = self._generation = 0
        self._evals: Sequence[Eval] = ()

    @property
    def lane(self) -> Lane:
        """Where its steps are."""
        return self.track or BY_STEP

    def take(self, line: Line) -> None:
        """Copy what is new."""
        self._take_steps(line.steps)
        evals = list(line.evals)
        if evals != self._evals:
            self._evals = evals
            self.evals.cut(-1.0)
            x, y = (np.array([getattr(scores, name) for scores in evals], dtype=np.float64) for name in ("step", "loss"))
            self.evals.extend(x, y)

    def _take_steps(self, table: StepTable) -> None:
        if table.generation != self._generation:
            self.train.cut(-1.0)
            self.track = None
            self._rows, self._generation = 0, table.generation
        fresh = {name: np.array(table.columns[name][self._rows :], dtype=np.float64) for name in _COLUMNS}
        self.train.extend(fresh["step"], fresh["loss"])
        if self._axis != "step" and len(fresh["step"]):
            if self.track is None:
                self.track = self._new_track(float(fresh["step"][0]))
            self.track.extend(Rows(**{name: fresh[name] for name in ("step", "time", "tokens", "step_ms")}))
        self._rows = len(table)

    def _new_track(self, first_step: float) -> Track:
        """An empty one; a branch begins where its parent was then."""
        parent = self._parent.track if self._parent is not None else None
        if parent is None:
            return Track(self._axis)
        return Track(self._axis, zero=parent.zero, reached=float(parent.place(np.array([first_step - 1]))[0]))


class CompareChart(LineChart):
    """Losses of several lines over each other."""

    def __init__(self, mode: Mode) -> None:
        super().__init__("loss", y_format=format_value, mode=mode, id="compare-chart", classes="pane")
        self.axis_name: AxisName = "step"
        self._lines: Sequence[Line] = ()
        self._by_name: dict[str, _Curves] = {}
        self._lanes: list[Lane] = []
        self._looks: Mapping[str, Look] = {}
        self._has_evals = True

    def show(self, lines: Sequence[Line], looks: Mapping[str, Look]) -> None:
        """Draw what is new in `lines`, each as `looks` has it."""
        if [line.name for line in lines] != list(self._by_name):
            self._begin(lines)
        self._lines, self._looks = lines, looks
        for line in lines:
            self._by_name[line.name].take(line)
        self._set_curves()
        self.refresh_data()

    def toggle_evals(self) -> bool:
        """Show the evaluations, or hide them. Returns whether they are shown."""
        self._has_evals = not self._has_evals
        self._lanes = []
        self._set_curves()
        return self._has_evals

    def action_next_axis(self) -> None:
        """Let the x axis count something else."""
        names = list(AXES)
        self.axis_name = names[(names.index(self.axis_name) + 1) % len(names)]
        self._begin(self._lines)
        self.show(self._lines, self._looks)

    def _begin(self, lines: Sequence[Line]) -> None:
        self._by_name, self._lanes = {}, []
        for line in lines:  # where there are branches, the first line is the one that they were left by
            parent = next(iter(self._by_name.values())) if line.branch else None
            self._by_name[line.name] = _Curves(self.axis_name, parent)

    def _set_curves(self) -> None:
        lanes = [curves.lane for curves in self._by_name.values()]
        if lanes == self._lanes and lanes:
            return
        self._lanes = lanes
        found = []
        for name, line in self._by_name.items():
            look = self._looks[name]
            found.append(Curve(name, line.train, look.color, glyph=look.glyph, lane=line.lane))
            if self._has_evals:
                found.append(
                    Curve("eval", line.evals, look.color, style="dots", smooth=False, glyph=look.glyph, lane=line.lane)
                )
        self.set_curves(found, axis=AXES[self.axis_name])


class CompareTable(ScrollBlock):
    """Numbers, the first difference, and the configuration, one column for each line."""

    DEFAULT_CSS = """
    CompareTable > Block { text-wrap: nowrap; }
    """

    def __init__(self) -> None:
        super().__init__("side by side", id="compare-table")

    def show(self, lines: Sequence[Line], looks: Mapping[str, Look]) -> None:
        """Draw the table."""
        self.put(table_lines(lines, looks, max(1, self.scrollable_content_region.width - 1)))


def table_lines(lines: Sequence[Line], looks: Mapping[str, Look], width: int) -> list[Content]:
    """The table in `width` cells."""
    parts = sections(lines)
    names = [name for part in parts for name, _ in part.rows]
    head = min(max(map(len, names), default=0), _NAME_CELLS if width < 100 else 2 * _NAME_CELLS)
    cell = max(6, min(_WIDEST_CELL, (width - head) // max(1, len(lines)) - _GAP))
    signs = [(looks[line.name], line.name) for line in lines]
    heads = [(" " * _GAP + _fitted(f"{look.glyph} {name}", cell), f"bold ${look.color}") for look, name in signs]
    found: list[Content] = []
    for part in parts:
        title = (_fitted(part.title, head), f"bold {STYLES['accent']}")
        found += [Content.assemble(title, *heads)] if not found else [Content(""), Content.assemble(title)]
        for name, cells in part.rows:
            body = "".join(" " * _GAP + _fitted(each, cell) for each in cells)
            found.append(Content.assemble((_fitted(name, head), STYLES["muted"]), (body, "")))
    return found


def _fitted(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else text[: width - 1] + "…"
