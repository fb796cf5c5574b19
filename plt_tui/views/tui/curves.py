"""The curves of a run, copied from its model as far as they are looked at.

Knows no widget. Invariant: after a cut (resume, rewind) a copy holds the same steps as its table again, and a metric that
nobody looks at is not copied.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from plt_tui.views.model import RunModel, StepTable
from plt_tui.views.tui.chart.lane import AXES, BY_STEP, Axis, Floats, Lane, Rows, Track
from plt_tui.views.tui.chart.scene import Curve
from plt_tui.views.tui.chart.series import Series
from plt_tui.views.tui.metrics import METRICS, Metric

MAX_BRANCHES = 20
"""Branches drawn, the newest; the others would be a thicket."""


@dataclass(slots=True)
class _Copied:
    """How much of a table was copied."""

    rows: int = 0
    generation: int = 0


@dataclass(slots=True)
class _Column:
    series: Series = field(default_factory=Series)
    copied: _Copied = field(default_factory=_Copied)


class LineCopy:
    """Columns of one table of steps as series, and where its steps lie on the x axis."""

    def __init__(self, table: StepTable) -> None:
        self.table = table
        self._columns: dict[str, _Column] = {}
        self._track: Track | None = None
        self._tracked = _Copied()

    def series(self, column: str) -> Series:
        """One of STEP_COLUMNS over the steps, brought up to date; always the same series."""
        found = self._columns.setdefault(column, _Column())
        if found.copied.generation != self.table.generation:
            found.series.cut(-1.0)
            found.copied = _Copied(0, self.table.generation)
        if found.copied.rows < len(self.table):
            fresh = slice(found.copied.rows, len(self.table))
            found.series.extend(self._values("step", fresh), self._values(column, fresh))
            found.copied.rows = len(self.table)
        return found.series

    def lane(self, axis: Axis, *, beside: LineCopy | None = None) -> Lane:
        """Positions of the steps on `axis`, brought up to date; the same lane until the axis changes or steps are cut.

        beside: the line that this one is a branch of. Its wall time counts from where that one's does, and its active time
        goes on from where that one passes its first step.
        """
        if axis.name == "step":
            return BY_STEP
        if self._track is None or self._track.axis != axis.name or self._tracked.generation != self.table.generation:
            self._track, self._tracked = self._new_track(axis, beside), _Copied(0, self.table.generation)
        if self._tracked.rows < len(self.table):
            fresh = slice(self._tracked.rows, len(self.table))
            self._track.extend(Rows(**{name: self._values(name, fresh) for name in Rows.__slots__}))
            self._tracked.rows = len(self.table)
        return self._track

    def _new_track(self, axis: Axis, beside: LineCopy | None) -> Track:
        lane = beside.lane(axis) if beside is not None else BY_STEP
        if not isinstance(lane, Track) or not len(lane) or not len(self.table):
            return Track(axis.name)
        before = lane.place(np.array([self.table.columns["step"][0] - 1.0]))
        return Track(axis.name, zero=lane.zero, reached=float(before[0]) if axis.name == "active" else 0.0)

    def _values(self, column: str, rows: slice) -> Floats:
        # By way of a view, which is gone after this line: an array cannot grow while somebody looks at its memory.
        return np.array(memoryview(self.table.columns[column])[rows], dtype=np.float64)


class RunCurves:
    """The curves of one run: the line that it is on, the branches that it left, and its evaluations."""

    def __init__(self) -> None:
        self.axis: Axis = AXES["step"]
        """What the x axis counts; curves asked for after a change lie on the new one."""
        self._main: LineCopy | None = None
        self._branches: dict[int, LineCopy] = {}
        self._scores: dict[str, Series] = {}
        self._eval_s: dict[int, float] = {}
        """Seconds of the evaluation after a step."""
        self._evals_seen = -1

    def take(self, model: RunModel) -> None:
        """Take note of the branches and evaluations in `model`; call it before `of`."""
        if self._main is None or self._main.table is not model.steps:
            self._main = LineCopy(model.steps)
        newest = sorted(model.branches)[-MAX_BRANCHES:]
        self._branches = {number: self._branches.get(number) or LineCopy(model.branches[number]) for number in newest}
        if model.revisions["evals"] != self._evals_seen:
            self._evals_seen = model.revisions["evals"]
            self._copy_scores(model)

    def of(self, metric: Metric) -> tuple[list[Curve], list[Curve]]:
        """The curves of `metric`, up to date, the least important first; and those that every x axis is made for."""
        assert self._main is not None, "take the model first"
        lane = self._main.lane(self.axis)
        if isinstance(lane, Track):
            lane.know_evaluations(self._eval_s)
        anchors = [Curve("", series, "", lane=lane) for series in (self._main.series("loss"), self._score("loss"))]
        curves = [self._left_behind(number, line, metric.column) for number, line in self._branches.items() if metric.column]
        if metric.column:
            name, series = ("train" if metric.score else ""), self._main.series(metric.column)
            curves.append(Curve(name, series, metric.color, smooth=not metric.is_exact, lane=lane))
        if metric.score:
            name, series = ("eval" if metric.column else ""), self._score(metric.score)
            curves.append(Curve(name, series, "curve-2", style="dots", smooth=False, lane=lane))
        return curves, anchors

    def _left_behind(self, number: int, line: LineCopy, column: str) -> Curve:
        lane = line.lane(self.axis, beside=self._main)
        return Curve(f"branch {number}", line.series(column), "foreground", left_behind=True, lane=lane)

    def _score(self, name: str) -> Series:
        return self._scores.setdefault(name, Series())

    def _copy_scores(self, model: RunModel) -> None:
        self._eval_s = {scores.step: scores.seconds for scores in model.evals}
        steps = np.array([scores.step for scores in model.evals], dtype=np.float64)
        for metric in METRICS:
            if metric.score:
                series = self._score(metric.score)
                series.cut(-1.0)
                series.extend(steps, np.array([getattr(scores, metric.score) for scores in model.evals], dtype=np.float64))
