"""Commands that change what the coming steps compute: set, undo, rewind. Every rank carries them out at the same boundary.

Knows no loop and no other verb. Invariant: whatever it changes is an edit that is answered "applied", so that whoever folds the
record has the same edits as the ranks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from plt_tui.config.edits import GUARD, UNDO, Edit, last_edit, left_out, rewound, skipped_batches
from plt_tui.config.hyper import fitted, lr_at, value_at
from plt_tui.config.knobs import KNOBS, check_edit
from plt_tui.errors import StorageError, UsageError
from plt_tui.protocol.commands import Command, check_way_back, rewind_of
from plt_tui.protocol.events import Plan
from plt_tui.training.past import Past
from plt_tui.training.speaker import Speaker
from plt_tui.training.trainer import Trainer


class Steering:
    """Applies commands to one rank's trainer. `on_rewind` is called when the trainer is at an earlier step again."""

    def __init__(self, trainer: Trainer, speaker: Speaker, past: Past, on_rewind: Callable[[], None]) -> None:
        self._trainer = trainer
        self._speaker = speaker
        self._past = past
        self._on_rewind = on_rewind
        self._planned = self._plan()

    def set(self, command: Command) -> None:
        """Change a knob from the next step on."""
        if self._is_repeat(command):
            return
        trainer = self._trainer
        first = trainer.step + 1
        if first > trainer.target_step:
            self._refuse(command, "the last step is done")
            return
        name, value, mode = check_edit(command.args["name"], command.args["value"], command.args.get("mode", "set"))
        try:
            value = fitted(trainer.config, trainer.edits, first, name, value, mode)
        except UsageError as error:
            self._refuse(command, str(error))
            return
        edit = Edit(id=command.id, step=first, name=name, value=value, mode=mode, actor=command.actor)
        self._apply(replace(command, args={**command.args, "value": value}), edit, name)

    def undo(self, command: Command) -> None:
        """Take an edit back from the next step on: the one that the command names, or the last."""
        if self._is_repeat(command):
            return
        trainer = self._trainer
        wanted = command.args.get("edit")
        edit = next((edit for edit in trainer.edits if edit.id == wanted), None) if wanted else last_edit(trainer.edits)
        if edit is None or edit.name not in KNOBS:
            self._refuse(command, "there is no edit to undo")
            return
        undo = Edit(id=command.id, step=trainer.step + 1, name=UNDO, value=edit.id, actor=command.actor)
        self._apply(replace(command, args={**command.args, "edit": edit.id}), undo, edit.name)

    def rewind(self, command: Command) -> None:
        """Go back to the newest kept state at or before a step, and leave out some batches from there."""
        trainer = self._trainer
        at, (wanted, skip) = trainer.step, rewind_of(command.args)
        try:
            check_way_back(wanted, skip, at)
        except UsageError as error:
            self._refuse(command, str(error))
            return
        source = ""
        if wanted < at:
            by_guard = command.actor == GUARD
            try:
                landing = self._past.go_back(wanted, to_start=by_guard or wanted == 0)
            except StorageError as error:
                self._refuse(command, str(error))
                return
            if by_guard:  # what it left out from there before did not help, and would be trained on again
                skip += skipped_batches(trainer.edits, landing.step + 1)
                command = replace(command, args={**command.args, "skip": skip})
            source = f"to the state of step {landing.step} ({landing.source})"
            if landing.step < wanted:
                source += f", the newest that is kept at or before step {wanted}"
            trainer.edits = rewound(trainer.edits, trainer.step)
            self._on_rewind()
        trainer.edits += left_out(skip, trainer.step, id=command.id, actor=command.actor)
        self._speaker.answer(command, "applied", trainer.step, source, before=at, after=trainer.step)
        self._tell_plan()

    def _is_repeat(self, command: Command) -> bool:
        """True, and answered, for one that is in force: its first answer was lost with a process after a checkpoint held it."""
        edit = next((edit for edit in self._trainer.edits if edit.id == command.id), None)
        if edit is None:
            return False
        args = {**command.args, "edit" if edit.name == UNDO else "value": edit.value}  # as it was applied
        self._speaker.answer(replace(command, args=args), "applied", edit.step, "in force already")
        return True

    def _apply(self, command: Command, edit: Edit, knob: str) -> None:
        """Put `edit` in force and answer with the value of `knob` before and after."""
        trainer = self._trainer
        before = self._value(knob, edit.step)
        trainer.edits.append(edit)
        after = self._value(knob, edit.step)
        change = f"{_shown(before)} -> {_shown(after)}"
        reason = change if edit.name != UNDO else f"{knob} {change}"
        self._speaker.answer(command, "applied", edit.step, reason, before=before, after=after)
        self._tell_plan()

    def _refuse(self, command: Command, reason: str) -> None:
        self._speaker.answer(command, "refused", self._trainer.step, reason)

    def _value(self, name: str, step: int) -> Any:
        """The value of a knob at `step`, as JSON has it."""
        trainer = self._trainer
        if name == "lr":
            return lr_at(trainer.config.optim, trainer.target_step, trainer.edits, step)
        value = value_at(trainer.config, trainer.edits, name, step)
        return list(value) if isinstance(value, tuple) else value

    def _plan(self) -> Plan:
        trainer = self._trainer
        return Plan(
            step=trainer.step + 1,
            target_step=trainer.target_step,
            tokens_per_step=trainer.tokens_per_step,
            steps_per_epoch=trainer.place.batches.samples_per_epoch / trainer.global_batch,
        )

    def _tell_plan(self) -> None:
        """Say what follows from the edits, where it is something new."""
        plan = self._plan()
        if plan != replace(self._planned, step=plan.step):
            self._speaker.say(replace(plan, time=time.time()))
            self._planned = plan


def _shown(value: Any) -> str:
    """A knob's value in the words of an answer."""
    if isinstance(value, list):
        return ",".join(map(_shown, value)) or "as large as the corpora"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
