"""The main chart: losses over steps, the branches that the run has left, and a mark for everything that was done to it.

Copies new rows from the model into the chart's own series. Invariant: after a cut (resume, rewind) series and model hold
the same steps again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeGuard

import numpy as np

from plt_tui.config.edits import GUARD
from plt_tui.protocol.events import Checkpoint, CommandStatus, Eval, Event, Failed, Run, Spike
from plt_tui.views.formats import format_value
from plt_tui.views.model import Happening, RunModel, StepTable
from plt_tui.views.tui.chart.line_chart import Curve, LineChart, Mark
from plt_tui.views.tui.chart.raster import Mode
from plt_tui.views.tui.chart.series import Series
from plt_tui.views.tui.words import asked, spike_words

MAX_MARKS = 200
MAX_BRANCHES = 20
"""Branches drawn, the newest; the others would be a thicket."""
_COMMAND_GLYPHS = {
    "set": "L",
    "undo": "U",
    "pause": "P",
    "resume": "R",
    "note": "N",
    "sample": "S",
    "eval": "V",
    "stop": "Q",
    "rewind": "↶",
    "hibernate": "H",
    "skip_update": "G",
}
_GUARD_GLYPH = "G"


class LossChart(LineChart):
    """Loss curves of one run."""

    def __init__(self, mode: Mode) -> None:
        super().__init__("loss", y_format=format_value, x_title="step", mode=mode, id="chart", classes="pane")
        self._train, self._eval = Series(), Series()
        self._branches: dict[int, Series] = {}
        self._rows = self._generation = self._evals_seen = self._branches_seen = 0

    def on_mount(self) -> None:
        """Set the curves; their series are filled as the run goes on."""
        self._set_curves()

    def _set_curves(self) -> None:
        behind = [
            Curve(f"branch {number}", series, "foreground", left_behind=True) for number, series in self._branches.items()
        ]
        train = Curve("train", self._train, "accent")
        self.set_curves([*behind, train, Curve("eval", self._eval, "success", style="dots", smooth=False)])

    def show(self, model: RunModel) -> None:
        """Draw what is new in `model`."""
        self._copy_steps(model.steps)
        if model.revisions["branches"] != self._branches_seen:
            self._branches_seen = model.revisions["branches"]
            self._copy_branches(model.branches)
        if model.revisions["evals"] != self._evals_seen:
            self._evals_seen = model.revisions["evals"]
            self._copy_evals(model.evals)
        self.set_marks(marks(model.happenings.values()))
        self.refresh_data()

    def _copy_steps(self, table: StepTable) -> None:
        if table.generation != self._generation:
            self._train.cut(-1.0)
            self._rows, self._generation = 0, table.generation
        fresh = slice(self._rows, len(table))
        x, y = (np.array(table.columns[name][fresh], dtype=np.float64) for name in ("step", "loss"))
        self._train.extend(x, y)
        self._rows = len(table)

    def _copy_branches(self, tables: Mapping[int, StepTable]) -> None:
        self._branches = {number: Series() for number in sorted(tables)[-MAX_BRANCHES:]}
        for number, series in self._branches.items():
            series.extend(*(np.array(tables[number].columns[name], dtype=np.float64) for name in ("step", "loss")))
        self._set_curves()

    def _copy_evals(self, evals: Sequence[Eval]) -> None:
        self._eval.cut(-1.0)
        x = np.array([scores.step for scores in evals], dtype=np.float64)
        self._eval.extend(x, np.array([scores.loss for scores in evals], dtype=np.float64))


def marks(happenings: Iterable[Happening]) -> list[Mark]:
    """Marks of the newest interventions, checkpoints, resumes, failures and spikes, by step.

    Of what happened on a branch only spikes and rewinds are marked: they are why the run is not on it any more.
    """
    events = [happening.event for happening in happenings]
    rewinds = [(event.time, event.step) for event in events if _is_rewind(event)]
    found = []
    for event in events:
        mark = _mark(event)
        is_left = any(event.time <= time and mark is not None and mark.x > step for time, step in rewinds)
        if mark is not None and (not is_left or _is_rewind(event) or isinstance(event, Spike)):
            found.append(mark)
    return sorted(found[-MAX_MARKS:], key=lambda mark: mark.x)


def _is_rewind(event: Event) -> TypeGuard[CommandStatus]:
    return isinstance(event, CommandStatus) and event.name == "rewind" and event.status == "applied"


def _mark(event: Event) -> Mark | None:
    match event:
        case CommandStatus(status="applied", step=step) if step >= 0 and event.name in _COMMAND_GLYPHS:
            is_own_act = event.actor == GUARD and event.name != "rewind"
            by = f" by the {GUARD}" if event.actor == GUARD else ""
            glyph = _GUARD_GLYPH if is_own_act else _COMMAND_GLYPHS[event.name]
            return Mark(step, glyph, f"{asked(event.name, event.args)}{by}", "warning", 3 if event.name == "rewind" else 1)
        case Spike(step=step):
            return Mark(step, "!", spike_words(event), "warning", 2)
        case Checkpoint(step=step, name=name):
            return Mark(step, "C", f"checkpoint {name}".strip(), "foreground")
        case Run(start_step=step) if step > 0:
            return Mark(step, "↻", "resumed", "warning", 1)
        case Failed(step=step, rank=rank):
            return Mark(step, "✖", f"rank {rank} failed", "error", 2)
        case _:
            return None
