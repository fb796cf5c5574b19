"""Whether a run still gets better: judged by its evaluations or, on a line that has none, by its training loss.

"Better" is that of torch's ReduceLROnPlateau with a relative threshold: below the best loss so far by more than a share of it.
The training loss is measured as the mean over whole blocks of BLOCK steps: a mean that depends on its own steps only is the
same whether it was taken live, after a rewind, or from the record. Reads no file and sends nothing. Invariant: what is judged
is the line that the run is on, and a judge made of a feed says what one says that has followed it from the beginning.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from plt_tui.config.alerts import AlertsSection
from plt_tui.control.feed import Feed, History
from plt_tui.control.state import RunState
from plt_tui.protocol.events import Alert, CommandStatus, Eval, Event, Run

TOPIC = "plateau"
BLOCK = 100
"""Steps whose mean is one measurement of the training loss: the noise of single batches, a few per cent, falls to a tenth."""
PART_OF_RUN = 5
"""`plateau_steps = "auto"` is one part in this many of the run. What a run gains by its n-th step falls about as a power of n
(Kaplan et al. 2020, arXiv 2001.08361), so no number of steps is right both for a thousand of them and for a million; a fifth of
a run that still learns brings several times `plateau_delta`."""
MIN_MEASUREMENTS = 2
"""Measurements since the best one that make a plateau: a single worse one is none, however far apart they are."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A measurement that was better than all before it; `place`: how many were made up to it."""

    step: int
    loss: float
    place: int


@dataclass(slots=True)
class Track:
    """The measurements of one kind on the line that the run is on."""

    delta: float
    steps: array[int] = field(default_factory=lambda: array("q"))
    turns: list[Turn] = field(default_factory=list)

    def add(self, step: int, loss: float) -> None:
        """One more measurement, of a later step; a loss that is no finite number is never better."""
        self.steps.append(step)
        best = self.turns[-1].loss if self.turns else math.inf
        if math.isfinite(loss) and (not self.turns or loss < best - self.delta * abs(best)):
            self.turns.append(Turn(step, loss, len(self.steps)))

    def cut(self, last_step: int) -> None:
        """Forget what was measured after `last_step`."""
        del self.steps[bisect_right(self.steps, last_step) :]
        while self.turns and self.turns[-1].step > last_step:
            self.turns.pop()

    def still_for(self) -> int:
        """Steps since the best measurement, 0 where too few were made since."""
        if not self.turns or len(self.steps) - self.turns[-1].place < MIN_MEASUREMENTS:
            return 0
        return self.steps[-1] - self.turns[-1].step


class PlateauWatch:
    """Follows one feed. In the hub's event loop."""

    def __init__(self, alerts: AlertsSection) -> None:
        self._alerts = alerts
        self.evaluations = Track(alerts.plateau_delta)
        self.training = Track(alerts.plateau_delta)
        self._num_events = 0
        self._num_rows = 0
        self._generation = 0

    def look(self, feed: Feed) -> Alert | None:
        """Take in what is new, and say what is to be told of it: a plateau since now, or none any more; None for nothing."""
        for event in feed.events[self._num_events :]:
            self._take(event)
        self._num_events = len(feed.events)
        self._measure(feed.history)
        was_flat = TOPIC in feed.state.alerts
        problem = self._problem(feed.state)
        return Alert(topic=TOPIC, text=problem) if bool(problem) != was_flat else None

    def _take(self, event: Event) -> None:
        match event:
            case Eval():
                self.evaluations.cut(event.step - 1)
                self.evaluations.add(event.step, event.loss)
            case Run(start_step=last) | CommandStatus(name="rewind", status="applied", step=last):
                self.evaluations.cut(last)

    def _measure(self, history: History) -> None:
        """Take the means of the blocks that are whole now."""
        if history.generation != self._generation:
            kept = history.unchanged(self._num_rows, self._generation)
            self.training.cut(int(history.columns["step"][kept - 1]) if kept else 0)
        self._num_rows, self._generation = len(history), history.generation
        for step, loss in _means(history, self.training.steps[-1] if self.training.steps else 0):
            self.training.add(step, loss)

    def _problem(self, state: RunState) -> str:
        patience = self._patience(state)
        is_evaluated = len(self.evaluations.steps) > 0
        track, what = (self.evaluations, "evaluation") if is_evaluated else (self.training, "training loss")
        still = track.still_for()
        if not patience or still < patience:
            return ""
        best = track.turns[-1]
        share = f"{100 * self._alerts.plateau_delta:.3g} %"
        return f"plateau: for {still} steps no {what} better by {share} than {best.loss:.4g} at step {best.step}"

    def _patience(self, state: RunState) -> int:
        """Steps that make a plateau; 0: none does, or it is not known yet."""
        if self._alerts.plateau_steps != "auto":
            return self._alerts.plateau_steps
        return math.ceil(state.run.target_step / PART_OF_RUN) if state.run is not None else 0


def _means(history: History, measured_until: int) -> Iterator[tuple[int, float]]:
    """The last step and the mean loss of each whole block after step `measured_until`; a block without a number has NaN."""
    steps, losses = history.columns["step"], history.columns["loss"]
    if not steps:
        return
    first = max(measured_until, (int(steps[0]) - 1) // BLOCK * BLOCK)
    for last in range(first + BLOCK, int(steps[-1]) + 1, BLOCK):
        rows = losses[bisect_right(steps, last - BLOCK) : bisect_right(steps, last)]
        finite = [loss for loss in rows if math.isfinite(loss)]
        yield last, math.fsum(finite) / len(finite) if finite else math.nan
