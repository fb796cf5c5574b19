"""The curves of a run, copied from its model as far as they are looked at.

Knows no widget. Invariant: after a cut (resume, rewind) a copy holds the same steps as its table again, and a metric that
nobody looks at is not copied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import is_

import numpy as np

from plt_tui.protocol.events import Eval
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


class ScoreCopy:
    """The scores of a line's evaluations as series over the steps; always the same series."""

    def __init__(self) -> None:
        self._series: dict[str, Series] = {metric.score: Series() for metric in METRICS if metric.score}
        self._evals: list[Eval] = []

    def series(self, score: str) -> Series:
        """One field of `Eval`."""
        return self._series[score]

    def take(self, evals: Sequence[Eval]) -> None:
        """Copy the evaluations, when they are others than before."""
        if len(evals) == len(self._evals) and all(map(is_, evals, self._evals)):
            return
        self._evals = list(evals)
        steps = np.array([scores.step for scores in evals], dtype=np.float64)
        for name, series in self._series.items():
            series.cut(-1.0)
            series.extend(steps, np.array([getattr(scores, name) for scores in evals], dtype=np.float64))


class RunCurves:
    """The curves of one run: the line that it is on, the branches that it left, and its evaluations."""

    def __init__(self) -> None:
        self.axis: Axis = AXES["step"]
        """What the x axis counts; curves asked for after a change lie on the new one."""
        self._main: LineCopy | None = None
        self._branches: dict[int, LineCopy] = {}
        self._scores = ScoreCopy()
        self._left_scores: dict[int, ScoreCopy] = {}
        """Of the branches, by number."""
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
            self._scores.take(model.evals)
            self._eval_s = {scores.step: scores.seconds for scores in model.evals}
        self._left_scores = {number: self._left_scores.get(number) or ScoreCopy() for number in newest}
        for number, scores in self._left_scores.items():
            scores.take(model.evals_of(number))

    def of(self, metric: Metric) -> tuple[list[Curve], list[Curve]]:
        """The curves of `metric`, up to date, the least important first; and those that every x axis is made for."""
        assert self._main is not None, "take the model first"
        lane = self._main.lane(self.axis)
        if isinstance(lane, Track):
            lane.know_evaluations(self._eval_s)
        anchors = [Curve("", series, "", lane=lane) for series in (self._main.series("loss"), self._scores.series("loss"))]
        curves = [curve for number in self._branches for curve in self._left_behind(number, metric)]
        if metric.column:
            name, series = ("train" if metric.score else ""), self._main.series(metric.column)
            curves.append(Curve(name, series, metric.color, smooth=not metric.is_exact, lane=lane))
        if metric.score:
            name, series = ("eval" if metric.column else ""), self._scores.series(metric.score)
            curves.append(Curve(name, series, "curve-2", style="dots", smooth=False, lane=lane))
        return curves, anchors

    def _left_behind(self, number: int, metric: Metric) -> list[Curve]:
        """The line of a branch, and its evaluations where it has some."""
        line, scores = self._branches[number], self._left_scores[number]
        lane = line.lane(self.axis, beside=self._main)
        curves: list[Curve] = []
        name, looks = f"branch {number}", "foreground"
        if metric.column:
            curves.append(Curve(name, line.series(metric.column), looks, left_behind=True, lane=lane))
        if metric.score and len(series := scores.series(metric.score)):
            curves.append(Curve(f"{name} eval", series, looks, style="dots", smooth=False, left_behind=True, lane=lane))
        return curves
