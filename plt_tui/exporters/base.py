"""What an exporter is: the interface of all of them, and what they have in common.

An exporter copies what a run records into another tool. `process` reads the record and calls it, always from one thread:

    factory(target) -> open(facts) -> (metrics | event)* with flush() now and then -> close(end)

Rows and events come in the order of the record. Behind a rewind, and behind a resume from an earlier checkpoint, steps come
again: `goes_back` tells which events those are. An exporter may block, raise, or be killed at any moment: it has a process of
its own, which is started again behind the last `flush` that returned. Everything it was given after that comes once more.

Knows no tool. Invariant: nothing here imports a package that plt-tui itself does not need.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from plt_tui.errors import UsageError
from plt_tui.protocol.events import CommandStatus, End, Eval, Event, Run, Step

GROUP = "plt_tui.exporters"
"""Entry points of this group are exporters: each names a `Factory`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One step: `values` are series by name, as `row_of` gives them."""

    step: int
    """Completed steps, from 1."""
    time: float
    """Unix seconds."""
    values: Mapping[str, float]
    seq: int = 0
    """Place in the run's record: it grows from row to row, behind rewinds and over sessions too. A row that comes once more has
    the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What is known of a run when an exporter is opened."""

    name: str
    id: str
    """32 hex digits: the same run always has the same, and no other run has it."""
    run: Run
    """The newest session, as it began: configuration by section (`run.config`), parameters, devices, versions."""
    started_at: float
    """Unix seconds: when the run first began."""
    step: int
    """The newest step that this exporter was given before, on the line that the run is on; rows after it follow. 0: none
    yet."""
    is_new: bool
    """Nothing of the run has been handed over yet: True until the first `flush` has returned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportTarget:
    """Where one exporter puts one run."""

    name: str
    """The run's name."""
    directory: Path
    """A folder for the exporter's own files; made by the exporter, if it needs one."""
    project: str
    """What the run belongs to, in tools that have such a thing; never empty."""
    kept: Mapping[str, str]
    """What `keep` was given at earlier starts: such as the id that a tool gave the run."""
    keep: Callable[[str, str], None]
    """keep(key, value): `value` is in `kept` at every later start. It is written down when `open` has returned, and with the
    place when `flush` has: either both are kept or neither. No secrets."""


class StartOver(Exception):
    """Raised by `open` where the tool lacks what was flushed earlier; the text says why. All of the record is given again then.

    The exporter is made and opened once more, as new, with what it had given to `keep`; it leaves out what the tool has.
    """


class Exporter(Protocol):
    """One run on its way into one tool. Whatever a method raises ends the process, which is then tried again.

    UsageError is for what only a person can mend (a missing package, a key that is refused): that is told, and not tried again.
    """

    def open(self, run: RunFacts) -> None:
        """Begin, or go on behind what was flushed earlier. Called once, first. Raises: StartOver, unless the run is new."""
        ...

    def metrics(self, rows: Sequence[Row]) -> None:
        """Take steps that follow each other, at least one."""
        ...

    def event(self, event: Event) -> None:
        """Take anything else that was recorded: Eval, Sample, Alert, Checkpoint, CommandStatus, Run ...; most may be
        ignored.
        """
        ...

    def flush(self) -> None:
        """Return once what was given so far is safe: with the tool, or on disk. It is not given again then."""
        ...

    def close(self, end: End | None) -> None:
        """Finish, at most some seconds long. None: the run has not said how it ended, and more of it may come at a later
        start.
        """
        ...


Factory = Callable[[ExportTarget], Exporter]

MAX_WAITING = 10_000
"""Most calls of a tool that wait for a flush."""


class Waiting:
    """Calls of a tool that are made at the next flush, in order; of MAX_WAITING all are made at once."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], object]] = []

    def add(self, call: Callable[[], object]) -> None:
        """Let `call` wait. Raises: what the calls raise, when they are too many to wait."""
        self._calls.append(call)
        if len(self._calls) >= MAX_WAITING:
            self.hand_over()

    def hand_over(self) -> None:
        """Make all of them. Raises: what they raise."""
        for call in self._calls:
            call()
        self._calls.clear()


def row_of(step: Step) -> Row:
    """A recorded step under the names of series that all exporters share."""
    return Row(
        step=step.step,
        time=step.time,
        seq=step.seq,
        values={
            "train/loss": step.loss,
            "train/lr": step.lr,
            "train/grad_norm": step.grad_norm,
            "train/tokens_per_s": step.tokens_per_s,
            "train/step_ms": step.step_ms,
            "tokens": float(step.tokens),
        },
    )


def eval_values(event: Eval) -> dict[str, float]:
    """A recorded evaluation under the names of series that all exporters share."""
    return {
        "eval/loss": event.loss,
        "eval/perplexity": event.perplexity,
        "eval/bits_per_byte": event.bits_per_byte,
        "eval/accuracy": event.accuracy,
    }


def goes_back(event: Event) -> int | None:
    """The step that the run is at after `event`, where that may be an earlier one than before: steps after it come (again)."""
    match event:
        case Run(start_step=step) | CommandStatus(name="rewind", status="applied", step=step):
            return step
        case _:
            return None


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration by section as one dict of "section.field", for tools that show a table of parameters."""
    return {f"{section}.{key}": value for section, values in config.items() for key, value in values.items()}


def needs(module: str, exporter: str, extra: str) -> ModuleType:
    """The imported module of a tool. Raises: UsageError saying how to install it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the tool is there, and lacks something of its own
        raise UsageError(
            f"the exporter {exporter} needs a package that is not installed; pip install 'plt-tui[{extra}]'"
        ) from None
