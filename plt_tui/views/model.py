"""What a view knows of one run: its state, its curves, its newest log lines, samples and happenings, folded from events.

Knows no screen and reads no clock. All text passes the escape filter at the door (`fold`), so whatever a widget takes from here
is harmless. Invariant: memory is bounded by the number of steps; logs, samples and happenings are rings.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter, deque
from dataclasses import dataclass
from typing import Literal

from plt_tui.control.state import RunState, apply
from plt_tui.protocol.clean import cleaned
from plt_tui.protocol.events import (
    STEP_COLUMNS,
    Alert,
    CaughtUp,
    Checkpoint,
    CheckpointFailed,
    CommandState,
    CommandStatus,
    End,
    Eval,
    Event,
    Failed,
    LogLine,
    Logs,
    Phase,
    Run,
    Sample,
    Spike,
    Step,
    Steps,
)

Topic = Literal["state", "steps", "branches", "evals", "samples", "logs", "story"]
"""Parts of the model that change apart from each other; `RunModel.revisions` counts the changes of each."""

MAX_LOG_LINES = 20_000
MAX_SAMPLES = 50
MAX_HAPPENINGS = 2_000

_STORY = (CommandStatus, Checkpoint, CheckpointFailed, Eval, Phase, Run, Spike, Failed, Alert, End)
_NEWS = (CommandStatus, CheckpointFailed, Spike, Failed, Alert, End)


class StepTable:
    """The steps of a run by column (float64, 8 bytes a value), steps strictly increasing."""

    def __init__(self) -> None:
        self.columns: dict[str, array[float]] = {name: array("d") for name in STEP_COLUMNS}
        self.generation = 0
        """Counts cuts: a reader that saw an older generation starts again from row 0."""

    def __len__(self) -> int:
        return len(self.columns["step"])

    def append(self, step: Step) -> None:
        """Add one step; one that is not after the last row replaces the rows from it on."""
        self.cut(step.step - 1)
        for name, values in self.columns.items():
            values.append(getattr(step, name))

    def extend(self, block: Steps) -> None:
        """Add the rows of `block`, which replace older rows of the same steps."""
        if block.count:
            self.cut(int(block.column("step")[0]) - 1)
        for name, values in self.columns.items():
            values.extend(block.column(name))

    def cut(self, last_step: int) -> None:
        """Forget every step after `last_step`."""
        keep = bisect_right(self.columns["step"], last_step)
        if keep < len(self):
            self.generation += 1
            for values in self.columns.values():
                del values[keep:]


class LogRing:
    """The newest log lines. A line keeps its number for ever: line i is `lines[i - first]`."""

    def __init__(self, max_lines: int = MAX_LOG_LINES) -> None:
        self.lines: list[LogLine] = []
        self.first = 0
        """Number of the oldest line kept."""
        self.dropped = 0
        """Lines that a slow connection lost."""
        self._max_lines = max_lines

    @property
    def stop(self) -> int:
        """Number of the next line to come."""
        return self.first + len(self.lines)

    def extend(self, logs: Logs) -> None:
        """Add lines; the oldest leave a quarter ring at a time, so that a flood costs no move per line."""
        self.lines.extend(logs.lines)
        self.dropped += logs.dropped
        if len(self.lines) > self._max_lines * 5 // 4:
            surplus = len(self.lines) - self._max_lines
            del self.lines[:surplus]
            self.first += surplus


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One entry of the story of a run. A command is one entry through all its life."""

    event: Event
    time: float
    """Unix seconds of its first word."""
    life: tuple[CommandState, ...] = ()
    """Commands only: the states it has been in, oldest first."""


class RunModel:
    """One run as a view knows it. Used from one thread."""

    def __init__(self) -> None:
        self.state = RunState()
        self.steps = StepTable()
        """Steps of the line that the run is on."""
        self.branches: dict[int, StepTable] = {}
        """Steps that rewinds left, by the numbers of `RunState.branches`; none where the record lacks them."""
        self.evals: list[Eval] = []
        """Evaluations of the line that the run is on, steps strictly increasing."""
        self.samples: deque[Sample] = deque(maxlen=MAX_SAMPLES)
        """Oldest first."""
        self.logs = LogRing()
        self.happenings: dict[str, Happening] = {}
        """By command id, or a running number for what is no command; oldest first."""
        self.is_live = False
        """True once history has been folded."""
        self.revisions: Counter[Topic] = Counter()
        self.events_seen = 0
        self._news: list[Event] = []

    def fold(self, event: Event) -> None:
        """Take in one event."""
        event = cleaned(event)
        self.events_seen += 1
        self.state = apply(self.state, event)
        self.revisions["state"] += 1
        match event:
            case Step():
                self.steps.append(event)
                self.revisions["steps"] += 1
            case Steps(branch=0):
                self.steps.extend(event)
                self.revisions["steps"] += 1
            case Steps():
                self.branches.setdefault(event.branch, StepTable()).extend(event)
                self.revisions["branches"] += 1
            case Logs():
                self.logs.extend(event)
                self.revisions["logs"] += 1
            case Sample():
                self.samples.append(event)
                self.revisions["samples"] += 1
            case Eval():
                self._keep_evals_until(event.step - 1)
                self.evals.append(event)
            case Run(start_step=last) | CommandStatus(name="rewind", status="applied", step=last):
                self.steps.cut(last)
                self.revisions["steps"] += 1
                self._keep_evals_until(last)
            case CaughtUp():
                self.is_live = True
        if isinstance(event, _STORY):
            self._remember(event)
        if self.is_live and isinstance(event, _NEWS):
            self._news.append(event)

    def take_news(self) -> list[Event]:
        """Live events that a person should be told of, each given once."""
        news, self._news = self._news, []
        return news

    def _keep_evals_until(self, last_step: int) -> None:
        del self.evals[bisect_right(self.evals, last_step, key=lambda known: known.step) :]
        self.revisions["evals"] += 1

    def _remember(self, event: Event) -> None:
        key, entry = str(self.events_seen), Happening(event=event, time=event.time)
        if isinstance(event, CommandStatus):
            key = f"command {event.id}"
            known = self.happenings.get(key)
            life = known.life if known is not None else ()
            life = life if event.status in life else (*life, event.status)
            entry = Happening(event=event, time=known.time if known is not None else event.time, life=life)
        self.happenings[key] = entry
        if len(self.happenings) > MAX_HAPPENINGS:
            del self.happenings[next(iter(self.happenings))]
        self.revisions["story"] += 1
