"""The guard at work: judges every new step and carries out what was decided, on every rank alike.

What is out of line, and what is to be done about it, `guard` says. Invariant: a step that the record holds already is computed
as the record says, and nothing is decided about it again; so a restart or a replay gives the same bits.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

from plt_tui.config.edits import GUARD, SKIP_UPDATE, Edit, last_guard_step, skips_update
from plt_tui.errors import NonFiniteLoss
from plt_tui.protocol.commands import Command
from plt_tui.protocol.events import Spike
from plt_tui.training.guard import Act, Finding, decide
from plt_tui.training.precision import UNSCALED
from plt_tui.training.speaker import Speaker
from plt_tui.training.steering import Steering
from plt_tui.training.trainer import Trainer


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is out of line at `step`, and what is done about it."""

    step: int
    finding: Finding
    act: Act

    @property
    def leaves_out(self) -> bool:
        """True when the step's update is not applied."""
        return self.act.name == "skip" or not self.finding.is_finite

    @property
    def ends_run(self) -> bool:
        """True when nothing more is computed."""
        return self.act.name == "stop"


class Sentry:
    """One rank's part of the guard. known_step: steps that the record holds; acts: of the guard so far, on all branches."""

    def __init__(self, trainer: Trainer, speaker: Speaker, steering: Steering, *, known_step: int, acts: int) -> None:
        self._trainer = trainer
        self._speaker = speaker
        self._steering = steering
        self._known_step = known_step
        self._acts = acts

    def looks_first(self, norm: float) -> bool:
        """True when the loss must be known before the update: it may be left out."""
        return not math.isfinite(norm) or self._trainer.config.guard.spike == "skip"

    def judge(self, loss: float, norm: float) -> Verdict | None:
        """What is to be said about the step whose gradients are held, or that was just completed. Once per step."""
        trainer = self._trainer
        step = trainer.step + trainer.is_within_step
        if trainer.loss_scale is not UNSCALED and not math.isfinite(norm):  # fp16 overflowed: the loss scale's matter
            return None
        finding = trainer.watch.look(loss, norm)
        trainer.watch.add(loss, norm)
        if finding is None or (step <= self._known_step and (finding.is_finite or skips_update(trainer.edits, step))):
            return None  # the last: such an update is never applied, so a record without the act lost it with a process
        last = last_guard_step(trainer.edits)
        act = decide(finding, trainer.config.guard, step=step, last_act_step=last, acts=self._acts)
        return Verdict(step=step, finding=finding, act=act)

    def leaves_out(self, verdict: Verdict | None) -> bool:
        """True when the update of the step whose gradients are held is not to be applied."""
        return skips_update(self._trainer.edits, self._trainer.step + 1) or (verdict is not None and verdict.leaves_out)

    def follow(self, verdict: Verdict, *, was_left_out: bool) -> None:
        """Record and carry out `verdict`: a stop at once, which leaves the step undone; all else once the step is complete.

        Raises: NonFiniteLoss when the run is to stop.
        """
        finding, act = verdict.finding, verdict.act
        self._speaker.say(
            Spike(
                time=time.time(),
                step=verdict.step,
                what=finding.what,
                value=finding.value,
                z=finding.z,
                act=act.name,
                reason=act.reason,
            )
        )
        self._acts += act.name != "warn"
        if was_left_out:
            command = self._command(verdict, SKIP_UPDATE)
            self._trainer.edits.append(Edit(id=command.id, step=verdict.step, name=SKIP_UPDATE, value=act.reason, actor=GUARD))
            self._speaker.answer(command, "applied", verdict.step, act.reason)
        guard = self._trainer.config.guard
        if act.name == "lower":
            self._steering.set(self._command(verdict, "set", name="lr", value=guard.factor, mode="scale"))
        elif act.name == "rewind":
            step = max(0, self._trainer.step - guard.back)
            self._steering.rewind(self._command(verdict, "rewind", step=step, skip=guard.leave_out))
        elif verdict.ends_run:
            self._speaker.answer(self._command(verdict, "stop"), "applied", verdict.step, act.reason)
            raise NonFiniteLoss(
                f"the guard stopped the run at step {verdict.step}: {act.reason}. Go back and leave the batches out, "
                "lower optim.lr, or choose another policy in [guard]"
            )

    def _command(self, verdict: Verdict, verb: str, /, **args: Any) -> Command:
        """A command of the guard: the same on every rank."""
        return Command(id=f"{GUARD}-{verdict.step}-{self._acts}-{verb}", name=verb, args=args, actor=GUARD)
