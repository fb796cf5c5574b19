"""The main chart: training and evaluation loss over steps, with a mark for everything that was done to the run.

Copies new rows from the model into the chart's own series. Invariant: after a cut (resume, rewind) series and model hold
the same steps again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np

from plt_tui.protocol.events import Checkpoint, CommandStatus, Eval, Failed, Run
from plt_tui.views.model import Happening, RunModel, StepTable
from plt_tui.views.tui.chart.axis import format_value
from plt_tui.views.tui.chart.line_chart import Curve, LineChart, Mark
from plt_tui.views.tui.chart.raster import Mode
from plt_tui.views.tui.chart.series import Series
from plt_tui.views.tui.words import asked

MAX_MARKS = 200
_COMMAND_GLYPHS = {"set": "L", "undo": "U", "pause": "P", "resume": "R", "note": "N", "sample": "S", "eval": "V", "stop": "Q"}


class LossChart(LineChart):
    """Loss curves of one run."""

    def __init__(self, mode: Mode) -> None:
        super().__init__("loss", y_format=format_value, x_title="step", mode=mode, id="chart", classes="pane")
        self._train, self._eval = Series(), Series()
        self._rows = self._generation = self._evals_seen = 0

    def on_mount(self) -> None:
        """Set the two curves; their series are filled as the run goes on."""
        self.set_curves(
            [
                Curve("train", self._train, "accent"),
                Curve("eval", self._eval, "success", style="dots", smooth=False),
            ]
        )

    def show(self, model: RunModel) -> None:
        """Draw what is new in `model`."""
        self._copy_steps(model.steps)
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

    def _copy_evals(self, evals: Sequence[Eval]) -> None:
        self._eval.cut(-1.0)
        x = np.array([scores.step for scores in evals], dtype=np.float64)
        self._eval.extend(x, np.array([scores.loss for scores in evals], dtype=np.float64))


def marks(happenings: Iterable[Happening]) -> list[Mark]:
    """Marks of the newest interventions, checkpoints, resumes and failures, by step."""
    found = [mark for mark in map(_mark, happenings) if mark is not None]
    return sorted(islice(reversed(found), MAX_MARKS), key=lambda mark: mark.x)


def _mark(happening: Happening) -> Mark | None:
    match happening.event:
        case CommandStatus(status="applied", step=step) as status if step >= 0 and status.name in _COMMAND_GLYPHS:
            return Mark(step, _COMMAND_GLYPHS[status.name], asked(status.name, status.args), "warning")
        case Checkpoint(step=step, name=name):
            return Mark(step, "C", f"checkpoint {name}".strip(), "foreground")
        case Run(start_step=step) if step > 0:
            return Mark(step, "↻", "resumed", "warning")
        case Failed(step=step, rank=rank):
            return Mark(step, "✖", f"rank {rank} failed", "error")
        case _:
            return None
