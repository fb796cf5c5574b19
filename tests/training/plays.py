"""Scripted sessions for tests: one rank in this process, and a hub that says what the test wrote down."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import TypeVar

import pytest

from plt_tui.config.edits import Edit
from plt_tui.control.state import RunState, apply
from plt_tui.data.prepare import Dataset
from plt_tui.protocol.commands import Command
from plt_tui.protocol.events import CommandStatus, Done, Event, Step
from plt_tui.training.saver import Saver
from plt_tui.training.session import Session
from plt_tui.training.status import StatusReporter
from plt_tui.training.trainer import StepSums, Trainer
from tests.training.conftest import tiny

EventT = TypeVar("EventT", bound=Event)

Script = dict[int, list[Command]]
"""Commands by the boundary (0: before the first step) at which they arrive."""


QUIET = ("eval.every=0", "sample.every=0", "checkpoint.every=0", "metrics.log_every=0")
"""Settings that leave everything but training to the script."""


class ScriptedLink:
    """Hands out the script's commands, one boundary after the other, and keeps what is said."""

    def __init__(self, script: Script) -> None:
        self.said: list[Event] = []
        self._script = script
        self._boundary = -1

    def take(self, wait_s: float = 0.0) -> list[Command]:
        """The commands of the next boundary."""
        self._boundary += 1
        return self._script.get(self._boundary, [])

    def send(self, event: Event) -> None:
        """Keep it."""
        self.said.append(event)

    def of(self, kind: type[EventT]) -> list[EventT]:
        """What was said of one kind."""
        return [event for event in self.said if isinstance(event, kind)]

    def answers(self) -> list[tuple[str, str, int]]:
        """Name, status and step of every answer but "agreed"."""
        statuses = [event for event in self.said if isinstance(event, CommandStatus)]
        return [(status.name, status.status, status.step) for status in statuses if status.status != "agreed"]


class Play:
    """One session of a tiny run of 12 steps under `root`."""

    def __init__(
        self, dataset: Dataset, root: Path, script: Script, *sets: str, paused: bool = False, known_step: int = 0
    ) -> None:
        self.trainer = Trainer(tiny(*QUIET, *sets), dataset=dataset)
        self.link = ScriptedLink(script)
        self.root = root / "checkpoints"
        saver = Saver(self.root, root, self.trainer.config.checkpoint.keep, self.link.send)
        status = StatusReporter(self.link, 0, "cpu")  # type: ignore[arg-type]  # it only sends
        self.session = Session(self.trainer, self.link, status, saver, paused=paused, known_step=known_step)  # type: ignore[arg-type]  # take and send

    def run(self) -> Done:
        """To the end."""
        return self.session.run()


def kept_steps(said: Sequence[Event]) -> dict[int, Step]:
    """The steps of the line that the run is on after `said`: a rewind drops what came after its step."""
    steps: dict[int, Step] = {}
    for event in said:
        if isinstance(event, Step):
            steps[event.step] = event
        elif isinstance(event, CommandStatus) and (event.name, event.status) == ("rewind", "applied"):
            steps = {number: step for number, step in steps.items() if number <= event.step}
    return steps


def folded_edits(said: Sequence[Event]) -> list[Edit]:
    """The edits that somebody who only heard `said` knows of."""
    return list(reduce(apply, said, RunState()).edits)


def computed_again(dataset: Dataset, edits: Sequence[Edit], steps: int, *sets: str) -> tuple[list[float], str]:
    """Losses of `steps` steps from scratch under `edits`, without any command; and the hash of the weights then."""
    trainer = Trainer(tiny(*QUIET, *sets), dataset=dataset)
    trainer.edits = list(edits)
    losses = [trainer.train_step() for _ in range(steps)]
    return losses, trainer.weights_sha256()


def poison(trainer: Trainer, step: int, monkeypatch: pytest.MonkeyPatch, *, times: int = 1) -> None:
    """Let the gradients of `step` be NaN, the first `times` that it is computed."""
    measure = trainer.measure
    left = [times]

    def poisoned() -> StepSums:
        if trainer.step + 1 == step and left[0]:
            left[0] -= 1
            next(iter(trainer.model.parameters())).grad.fill_(math.nan)  # type: ignore[union-attr]  # after a backward pass
        return measure()

    monkeypatch.setattr(trainer, "measure", poisoned)


def ask(verb: str, /, **args: object) -> Command:
    """A command of somebody."""
    return Command(id=f"{verb} {args}", name=verb, args=args, actor="ana")


def steps_of(events: Sequence[Event]) -> list[int]:
    """The steps of some events."""
    return [event.step for event in events]  # type: ignore[attr-defined]  # only asked of events that have one
