"""What a view knows of one run: its state, its curves, its newest log lines, samples and happenings, folded from events.

Knows no screen and reads no clock. All text passes the escape filter at the door (`fold`), so whatever a widget takes from here
is harmless. Invariant: memory is bounded by the number of steps; logs, samples and happenings make room for new ones.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

from plt_tui.control.state import RunState, apply
from plt_tui.protocol.clean import cleaned
from plt_tui.protocol.events import (
    FINAL_PHASES,
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
    Gauges,
    Logs,
    OpenLine,
    Phase,
    Run,
    Sample,
    Spike,
    Step,
    Steps,
)
from plt_tui.views.log_ring import LogRing
from plt_tui.views.sample_shelf import SampleShelf

Topic = Literal["state", "steps", "branches", "evals", "samples", "logs", "story"]
"""Parts of the model that change apart from each other; `RunModel.revisions` counts the changes of each."""

MAX_HAPPENINGS = 2_000
ROUTINE_SHARE = 4
"""Where happenings make room for new ones, what is routine goes first, but keeps one part in so many of the room."""
MAX_READINGS = 300
"""Newest readings of the machine that are kept: five minutes, at one a second."""

_STORY = (CommandStatus, Checkpoint, CheckpointFailed, Eval, Phase, Run, Spike, Failed, Alert, End)
_NEWS = (CommandStatus, CheckpointFailed, Spike, Failed, Alert, End)

T = TypeVar("T")


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

    def time_at(self, step: int) -> float | None:
        """Unix seconds at which `step` ended, or the last step before it that is known; None: there is none."""
        rows = bisect_right(self.columns["step"], step)
        return self.columns["time"][rows - 1] if rows else None

    def row_of(self, step: int) -> int | None:
        """Where `step` stands; None where it is not known."""
        row = bisect_left(self.columns["step"], step)
        return row if row < len(self) and self.columns["step"][row] == step else None

    def cut(self, last_step: int) -> None:
        """Forget every step after `last_step`."""
        keep = bisect_right(self.columns["step"], last_step)
        if keep < len(self):
            self.generation += 1
            for values in self.columns.values():
                del values[keep:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One entry of the story of a run. A command is one entry through all its life."""

    event: Event
    time: float
    """Unix seconds of its first word."""
    life: tuple[CommandState, ...] = ()
    """Commands only: the states it has been in, oldest first."""
    ranks: int = 0
    """Commands only: how many ranks there were when all of them had agreed; 0: not told."""


def is_routine(event: Event) -> bool:
    """True for what comes by itself, again and again: evaluations, and checkpoints that nobody gave a name."""
    return isinstance(event, Eval) or (isinstance(event, Checkpoint) and not event.name)


def newest(items: Sequence[T], count: int, event_of: Callable[[T], Event]) -> list[T]:
    """The newest `count` of `items`, in their order; what is routine makes room first, but for its share of it."""
    routine = [place for place, item in enumerate(items) if is_routine(event_of(item))]
    others = sorted({*range(len(items))} - {*routine})
    num_routine = max(min(len(routine), count // ROUTINE_SHARE), count - len(others))
    kept = [*others[max(0, len(others) - (count - num_routine)) :], *routine[max(0, len(routine) - num_routine) :]]
    return [items[place] for place in sorted(kept)]


class Reading(NamedTuple):
    """The machine at one moment, as shares from 0 to 1; None: unknown."""

    time: float
    """Unix seconds."""
    cpu: float | None
    """Of the cores that the run may use, or of its quota."""
    memory: float | None
    gpus: tuple[float | None, ...]
    """Utilisation of each GPU."""


def reading_of(gauges: Gauges) -> Reading:
    """What is remembered of `gauges`."""
    cores, quota, total = gauges.cores, gauges.cpu_quota, gauges.memory_total_bytes
    used = [gpu.get("utilisation") for gpu in gauges.gpus]
    if quota is None:
        cpu = sum(cores) / len(cores) / 100 if cores else None
    else:
        cpu = gauges.cpu_used / quota if gauges.cpu_used is not None and quota else None
    return Reading(
        time=gauges.time,
        cpu=cpu,
        memory=gauges.memory_used_bytes / total if total else None,
        gpus=tuple(use / 100 if isinstance(use, int | float) else None for use in used),
    )


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
        self.branch_evals: dict[int, list[Eval]] = {}
        """Those that rewinds left, by the numbers of `RunState.branches`."""
        self.samples = SampleShelf()
        self.logs = LogRing()
        self.readings: deque[Reading] = deque(maxlen=MAX_READINGS)
        """The machine, oldest first, since this view looks on."""
        self.happenings: dict[str, Happening] = {}
        """By command id, or a running number for what is no command; oldest first."""
        self.is_live = False
        """True once history has been folded."""
        self.revisions: Counter[Topic] = Counter()
        self.events_seen = 0
        self.last_seq = 0
        """Number of the newest recorded event."""
        self.last_time = 0.0
        """Unix seconds of the newest word: of a run whose hub died, about when that was."""
        self._news: list[Event] = []
        self._routine: deque[str] = deque()
        """Keys of the happenings that are routine, oldest first."""

    def fold(self, event: Event) -> None:
        """Take in one event."""
        event = cleaned(event)
        self.events_seen += 1
        self.last_seq = max(self.last_seq, event.seq)
        self.last_time = max(self.last_time, _time_of(event))
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
            case OpenLine():
                self.logs.draw(event.time, event.source, event.text)
                self.revisions["logs"] += 1
            case Gauges():
                self.readings.append(reading_of(event))
            case Sample():
                self.samples.add(event)
                self.revisions["samples"] += 1
            case Eval():
                self._keep_evals_until(event.step - 1)
                self.evals.append(event)
            case Run(start_step=last) | CommandStatus(name="rewind", status="applied", step=last):
                self._go_back(event, last)
            case CaughtUp():
                self.is_live = True
        if isinstance(event, _STORY):
            self._remember(event)
        if self.is_live and (isinstance(event, _NEWS) or _is_last_phase(event)):
            self._news.append(event)

    def line(self, branch: int) -> StepTable | None:
        """The steps of a branch, or for 0 of the line that the run is on; None where the record lacks them."""
        return self.branches.get(branch) if branch else self.steps

    def take_news(self) -> list[Event]:
        """Live events that a person should be told of, each given once."""
        news, self._news = self._news, []
        return news

    def evals_of(self, branch: int) -> list[Eval]:
        """The evaluations of a branch, or for 0 of the line that the run is on."""
        return self.branch_evals.get(branch, []) if branch else self.evals

    def _go_back(self, event: Event, last_step: int) -> None:
        """Go on from `last_step`; the evaluations after it are those of the branch if `event` is the rewind that left one."""
        self.steps.cut(last_step)
        self.revisions["steps"] += 1
        evals, branches = self._keep_evals_until(last_step), self.state.branches
        if isinstance(event, CommandStatus) and branches and branches[-1].id == event.id:
            self.branch_evals[branches[-1].number] = evals
        self.samples.leave(last_step)
        self.revisions["samples"] += 1

    def _keep_evals_until(self, last_step: int) -> list[Eval]:
        """Forget every evaluation after `last_step`, and return those."""
        keep = bisect_right(self.evals, last_step, key=lambda known: known.step)
        left = self.evals[keep:]
        del self.evals[keep:]
        self.revisions["evals"] += 1
        return left

    def _remember(self, event: Event) -> None:
        key, entry = str(self.events_seen), Happening(event=event, time=event.time)
        if isinstance(event, CommandStatus):
            key = f"command {event.id}"
            known = self.happenings.get(key)
            life = known.life if known is not None else ()
            life = life if event.status in life else (*life, event.status)
            ranks = known.ranks if known is not None else 0
            if event.status == "agreed" and self.state.run is not None:
                ranks = self.state.run.world_size
            entry = Happening(event=event, time=known.time if known is not None else event.time, life=life, ranks=ranks)
        elif is_routine(event):
            self._routine.append(key)
        self.happenings[key] = entry
        if len(self.happenings) > MAX_HAPPENINGS:
            self._make_room()
        self.revisions["story"] += 1

    def _make_room(self) -> None:
        """Forget the oldest happening; as long as what is routine has more than its share, the oldest of that."""
        key = next(iter(self.happenings))
        if self._routine and (key == self._routine[0] or len(self._routine) > MAX_HAPPENINGS // ROUTINE_SHARE):
            key = self._routine.popleft()
        del self.happenings[key]


def _time_of(event: Event) -> float:
    """Unix seconds of an event, of a block of steps those of its last one; 0: not told."""
    if isinstance(event, Steps):
        return event.column("time")[-1] if event.count else 0.0
    return event.time


def _is_last_phase(event: Event) -> bool:
    """True for what is added to the record of a run whose hub died without a word."""
    return isinstance(event, Phase) and event.phase in FINAL_PHASES
