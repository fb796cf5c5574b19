"""The headless views: plain lines, one JSON object a line, or a progress bar, written to a text stream.

They share one reading of a Source, `session_events`, and know nothing of hubs or files. Invariant: every step of the session is
seen once and, between two rewinds, in order; `End` comes last, and no control character of a log line, sample or name reaches
the stream.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from functools import reduce
from typing import TextIO

from plt_tui.control.state import RunState, apply
from plt_tui.protocol.commands import rewind_of
from plt_tui.protocol.events import (
    FINAL_PHASES,
    STEP_COLUMNS,
    Alert,
    CaughtUp,
    Checkpoint,
    CheckpointFailed,
    CommandStatus,
    End,
    Eval,
    Event,
    Failed,
    Phase,
    Progress,
    Run,
    Sample,
    Spike,
    Step,
    Steps,
)
from plt_tui.protocol.framing import to_json
from plt_tui.protocol.text import safe_line
from plt_tui.views.source import Source

_WHOLE = ("step", "tokens")
"""Columns of whole numbers."""
PLAIN_EVERY_S = 1.0
"""Seconds between two step lines of the plain view: a day of training stays below 100 000 lines."""

JSON_KEYS: Mapping[str, tuple[str, ...]] = {
    "run": ("name", "dir", "world_size", "params"),
    "step": ("step", "loss", "lr", "grad_norm", "tokens", "tokens_per_s", "step_ms"),
    "eval": ("step", "loss", "perplexity", "bits_per_byte", "accuracy"),
    "checkpoint": ("step", "path"),
    "spike": ("step", "what", "value", "z", "act", "reason"),
    "command": ("id", "name", "args", "actor", "status", "step"),
    "end": ("state", "step", "weights_sha256", "exit_code"),
}
"""Kinds and keys of the JSON view, in order: a contract with scripts."""


async def follow_json(source: Source, out: TextIO) -> End | None:
    """One JSON object a line; floats read back to the same bits. Returns the End, or None when the hub vanished."""
    async for event, _ in session_events(source):
        if event.kind in JSON_KEYS:
            out.write(json_line(event) + "\n")
            out.flush()
        if isinstance(event, End):
            return event
    return None


async def follow_plain(source: Source, out: TextIO) -> End | None:
    """Lines for people, at most one step a second. Returns the End, or None when the hub vanished."""
    log = PlainLog()
    async for event, state in session_events(source):
        for line in log.lines(event, state):
            out.write(safe_line(line) + "\n")
            out.flush()
        if isinstance(event, End):
            return event
    return None


async def follow_progress(source: Source, out: TextIO) -> End | None:
    """A progress bar at the bottom of a terminal, events above it. Returns the End, or None when the hub vanished."""
    from rich.console import Console  # here, because the other two views are often piped and need not pay for it
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar
    from rich.text import Text

    words, numbers = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[numbers]}", markup=False)
    with Bar(words, BarColumn(), MofNCompleteColumn(), numbers, console=Console(file=out), refresh_per_second=8) as bar:
        task = bar.add_task("starting", total=None, numbers="")
        async for event, state in session_events(source):
            for line in event_lines(event, state):
                bar.console.print(Text(safe_line(line)), soft_wrap=True)
            done, total, description = bar_values(state)
            bar.update(task, completed=done, total=total, description=description, numbers=measures(state))
            if isinstance(event, End):
                return event
    return None


async def session_events(source: Source) -> AsyncIterator[tuple[Event, RunState]]:
    """The last session of a run as one stream, each event with the state after it: steps one by one, each once.

    Ends after a live End or with the source. After a rewind the steps go on with lower numbers. What earlier sessions said is
    left out, and of the history before this view the steps that rewinds left. A history that ends with an End is held until the
    source tells what it was: the end of the run (the source ends), or of the session before the one that is about to begin.
    """
    history: list[Event] | None = []
    is_caught_up = False
    session = _Session()
    async for event in source.events():
        if history is None:
            news = session.tell([event])
        elif isinstance(event, Steps) and event.branch:
            continue
        else:
            history.append(event)
            is_caught_up = is_caught_up or isinstance(event, CaughtUp)
            batch = current_session(history) if is_caught_up else []
            if not batch or any(isinstance(said, End) for said in batch):
                continue
            news, history = session.begin(history), None
        for said, state in news:
            yield said, state
            if isinstance(said, End):
                return
    for said, state in session.begin(history or []):
        yield said, state


def current_session(history: list[Event]) -> list[Event]:
    """What was said since the first beginning after an End, its own End last even where steps stand behind it."""
    start, has_ended = 0, False
    for index, event in enumerate(history):
        begins = isinstance(event, Run) or (isinstance(event, Phase) and event.phase not in FINAL_PHASES)
        if has_ended and begins:
            start, has_ended = index, False
        has_ended = has_ended or isinstance(event, End)
    return sorted(history[start:], key=lambda event: isinstance(event, End))


def json_line(event: Event) -> str:
    """One line of the JSON view, for an event whose kind is in JSON_KEYS."""
    values = to_json(event)
    values["state"] = values.get("phase")
    line = json.dumps({"kind": event.kind, **{key: values[key] for key in JSON_KEYS[event.kind]}}, allow_nan=False)
    return line.replace("\x7f", "\\u007f")  # the one control character that JSON leaves as it is


class PlainLog:
    """Which lines the plain view writes for each event."""

    def __init__(self) -> None:
        self._state = RunState()
        self._shown_s = -math.inf
        self._is_held = False

    def lines(self, event: Event, state: RunState) -> list[str]:
        """The lines for `event`, in the state after it; a step that was held back comes before the next thing that happens."""
        before, self._state = self._state, state
        if isinstance(event, Step):
            self._is_held = abs(event.time - self._shown_s) < PLAIN_EVERY_S  # abs: the clock may be set back
            if self._is_held:
                return []
            self._shown_s = event.time
            return [step_line(state)]
        lines = event_lines(event, state)
        if isinstance(event, Progress) and (before.progress is None or before.progress.task != event.task):
            lines = [f"{'prep':<6} {event.task}"]
        if lines and self._is_held:
            self._is_held = False
            return [step_line(before), *lines]
        return lines


def bar_values(state: RunState) -> tuple[float, float | None, str]:
    """Done, total (None: unknown) and description of the progress bar."""
    progress = state.progress
    if progress is not None:
        return progress.done, progress.total or None, safe_line(progress.task, 40)
    return state.step, state.run.target_step if state.run is not None else None, state.phase


class _Session:
    """Takes blocks of steps apart, lets each step through once, and folds what it lets through.

    After a restart or rewind the hub sends the history again: a row is known by its step and its time together, so a step
    that was computed again passes again. Of a branch those rows pass that were computed after the last look at the line. Steps
    before the session's first are history, until a rewind makes them part of it.
    """

    def __init__(self) -> None:
        self._state = RunState()
        self._first = math.inf
        self._times = array("d")
        """Time of the row let through last, by step; NaN, which equals nothing, for none."""

    def begin(self, history: list[Event]) -> Iterator[tuple[Event, RunState]]:
        """What `history` says of its last session. Of those before it the state knows nothing but their branches."""
        session = current_session(history)
        past = reduce(apply, history[: len(history) - len(session)], RunState())
        self._state = RunState(branches=past.branches)
        return self.tell(session)

    def tell(self, events: Iterable[Event]) -> Iterator[tuple[Event, RunState]]:
        """What of `events` is new, and the state after each."""
        for event in self._new(events):
            self._state = apply(self._state, event)
            yield event, self._state

    def _new(self, events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            match event:
                case Steps():
                    yield from filter(self._is_new, steps_of(event))
                case Step():
                    if self._is_new(event):
                        yield event
                case _:
                    self._first = min(self._first, _step_before(event) + 1)
                    yield event

    def _is_new(self, step: Step) -> bool:
        if step.step < self._first:
            return False
        self._times.extend([math.nan] * (step.step + 1 - len(self._times)))
        is_new = self._times[step.step] != step.time
        self._times[step.step] = step.time
        return is_new


def _step_before(event: Event) -> float:
    """The step after which a session, or what follows a rewind, begins; infinity for every other event."""
    match event:
        case Run(start_step=step) | CommandStatus(name="rewind", status="applied", step=step):
            return step
        case _:
            return math.inf


def steps_of(block: Steps) -> Iterator[Step]:
    """The rows of `block`, oldest first."""
    for row in zip(*(block.column(name) for name in STEP_COLUMNS), strict=True):
        values = {name: int(value) if name in _WHOLE else value for name, value in zip(STEP_COLUMNS, row, strict=True)}
        yield Step(**values)


def step_line(state: RunState) -> str:
    """The last step: "step   120/600  loss 2.3456  lr 3.00e-3  grad 0.81  41.2k tok/s  ETA 0:32"."""
    return _line("step", state.step, state, measures(state))


def measures(state: RunState) -> str:
    """The last step's numbers; empty before the first."""
    step = state.last_step
    if step is None:
        return ""
    eta = f"  ETA {clock(state.eta_s)}" if state.eta_s is not None else ""
    speed = f"{short(step.tokens_per_s)} tok/s"
    return f"loss {step.loss:.4f}  lr {scientific(step.lr)}  grad {step.grad_norm:.2f}  {speed}{eta}"


def event_lines(event: Event, state: RunState) -> list[str]:
    """What `event` says to people, in the state after it; nothing for steps and for what only a screen can show."""
    match event:
        case Run():
            text = f"{event.name}: {short(event.params)} parameters, {event.world_size} x {event.device}, in {event.dir}"
            resumed = f", resumed from {event.resumed_from}" if event.resumed_from else ""
            return [_line("run", event.start_step, state, text + resumed)]
        case Phase():
            return [_line("run", event.step, state, f"{event.phase}: {event.reason}" if event.reason else event.phase)]
        case Eval():
            text = f"loss {event.loss:.4f}  perplexity {event.perplexity:.2f}  bits/byte {event.bits_per_byte:.3f}"
            return [_line("eval", event.step, state, f"{text}  accuracy {event.accuracy:.1%}")]
        case Sample():
            return [_line("sample", event.step, state, ""), *_quoted((event.prompt + event.text).split("\n"))]
        case Checkpoint():
            return [_line("saved", event.step, state, f"{event.path}  {short(event.bytes)}B  {event.seconds:.1f} s")]
        case CheckpointFailed():
            return [_line("error", event.step, state, f"checkpoint not saved: {event.reason}")]
        case CommandStatus(status="applied" | "refused"):
            words = f"{_outcome(event, state)}  ({event.actor})"
            return [_line("cmd", event.step if event.step >= 0 else state.step, state, words)]
        case Spike():
            text = f"{event.what} {event.value:.4g}  z {event.z:.1f}  {event.act}"
            return [_line("spike", event.step, state, f"{text}: {event.reason}" if event.reason else text)]
        case Alert() if event.text:
            return [_line(event.level if event.level != "warning" else "warn", state.step, state, event.text)]
        case Failed():
            text = f"rank {event.rank}: {event.message}"
            return [_line("failed", event.step, state, text), *_quoted(event.log_tail)]
        case End():
            weights = f"  weights {event.weights_sha256}" if event.weights_sha256 else ""
            reason = f": {event.reason}" if event.reason else ""
            return [_line("end", event.step, state, f"{event.phase}{reason} (exit code {event.exit_code}){weights}")]
        case _:
            return []


def _outcome(status: CommandStatus, state: RunState) -> str:
    """What became of a command: "set name=lr value=0.001  applied", "rewound to step 20; steps 21 to 50 are branch 1"."""
    if status.name == "rewind" and status.status == "applied":
        left = [f"steps {it.first} to {it.last} are branch {it.number}" for it in state.branches if it.id == status.id]
        _, skip = rewind_of(status.args)
        batches = "1 batch" if skip == 1 else f"{skip} batches"
        facts = [f"rewound to step {status.step}", *left, *([f"{batches} left out"] if skip else []), status.reason]
        return "; ".join(filter(None, facts))
    words = " ".join([status.name, *(f"{name}={value}" for name, value in status.args.items())])
    return f"{words}  {status.status}: {status.reason}" if status.reason else f"{words}  {status.status}"


def scientific(value: float) -> str:
    """0.003 as "3.00e-3"."""
    return re.sub(r"e([+-])0+(?=\d)", r"e\1", f"{value:.2e}").replace("e+", "e")


def short(value: float) -> str:
    """41234 as "41.2k"; three or four digits and a decimal prefix."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.1f}{prefix}"
    return f"{value:.0f}"


def clock(seconds: float) -> str:
    """3725 as "1:02:05", 32 as "0:32"."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _line(label: str, step: int, state: RunState, text: str) -> str:
    if state.run is None:
        return f"{label:<6} {text}"
    target = str(state.run.target_step)
    return f"{label:<6} {step:>{len(target)}}/{target}  {text}".rstrip()


def _quoted(lines: Iterable[str]) -> list[str]:
    return [f"    | {line}" for line in lines]
