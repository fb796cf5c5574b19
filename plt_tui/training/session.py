"""The rank loop: train, agree at every step boundary, act on what was agreed, do what is due.

Every rank runs the same loop and takes the same branches, because every decision rests on agreed commands, the step number and
the configuration. Rank 0 alone speaks for the run (steps, evaluations, samples, checkpoints, answers to commands); each rank
speaks for itself (`RankStatus`). Invariant: commands act between two steps, never inside one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from plt_tui.config.hyper import Edit, check_edit, last_edit, lr_at, value_at
from plt_tui.errors import StorageError
from plt_tui.protocol.commands import Command, status_of
from plt_tui.protocol.events import Checkpoint, CommandState, Done, Eval, Event, Sample, Step
from plt_tui.protocol.link import RankEnd
from plt_tui.protocol.text import safe_line
from plt_tui.training.agreement import Agreement
from plt_tui.training.ranks import BEAT_S
from plt_tui.training.saver import Outcome, Report, Saver
from plt_tui.training.status import StatusReporter
from plt_tui.training.trainer import Trainer

log = logging.getLogger("plt_tui")


class Session:
    """One rank's part of one session of a run."""

    def __init__(self, trainer: Trainer, link: RankEnd, status: StatusReporter, saver: Saver, *, paused: bool) -> None:
        self._trainer = trainer
        self._link = link
        self._status = status
        self._agreement = Agreement(trainer.ranks, link)
        self._saver = saver
        self._evaluated_step = -1
        self._sampled_step = -1
        self._paused = paused
        self._stop: Command | None = None
        self._actions: Mapping[str, Callable[[Command], None]] = {
            "pause": self._pause,
            "resume": self._resume,
            "set": self._set,
            "undo": self._undo,
            "checkpoint": self._checkpoint,
            "eval": self._eval,
            "sample": self._sample,
            "stop": self._begin_stop,
        }

    def run(self) -> Done:
        """Train to the target or to a stop; returns what to tell the hub.

        Raises: NonFiniteLoss, StorageError when the last checkpoint could not be written, and whatever a step raises.
        """
        trainer = self._trainer
        try:
            self._train()
            self._end()
        finally:
            self._saver.wait()  # a failed step must not take along the save of a good one
        self._status.say("ended", trainer.step)
        return Done(
            time=time.time(),
            rank=trainer.ranks.rank,
            step=trainer.step,
            finished=self._stop is None,
            weights_sha256=trainer.weights_sha256() if trainer.ranks.is_first else "",
        )

    def _train(self) -> None:
        trainer = self._trainer
        self._meet()
        while self._stop is None and (self._paused or trainer.step < trainer.target_step):
            if self._paused:
                self._status.say("paused", trainer.step)
                self._meet(wait_s=BEAT_S)
            else:
                self._step()

    def _end(self) -> None:
        if self._stop is None:
            self._do_what_is_due(is_last=True)
        elif _saves(self._stop):
            self._save()
        if self._stop is None or _saves(self._stop):
            self._require_saved()
        if self._stop is not None:
            self._answer(self._stop, "applied", self._trainer.step)

    def _require_saved(self) -> None:
        """Leave only when this step is on disk: what the exit code promises must be there."""
        self._trainer.ranks.alone(self._saver.wait)
        if self._trainer.ranks.is_first and not self._saver.has(self._trainer.step):
            raise StorageError(f"step {self._trainer.step} could not be saved: {self._saver.failure}")

    def _meet(self, wait_s: float = 0.0) -> None:
        """A boundary without a step: at the start, and while paused."""
        _, commands = self._agreement.settle(self._agreement.post(wait_s=wait_s))
        self._act(commands)

    def _step(self) -> None:
        trainer = self._trainer
        started = time.perf_counter()
        hyper = trainer.hyper(trainer.step + 1)
        sums = trainer.accumulate()
        pending = self._agreement.post([sums.loss])
        grad_norm = trainer.update(hyper)
        (loss_sum,), commands = self._agreement.settle(pending)
        seconds = time.perf_counter() - started
        parts = trainer.clock.close()
        self._status.stepped(trainer.step, seconds, parts)
        self._say(
            Step(
                time=time.time(),
                step=trainer.step,
                loss=loss_sum / trainer.ranks.world_size,
                lr=hyper.lr,
                grad_norm=grad_norm,
                tokens=trainer.tokens,
                tokens_per_s=sums.num_targets / seconds,
                step_ms=seconds * 1e3,
                data_ms=parts.data,
            )
        )
        self._act(commands)
        if trainer.step < trainer.target_step and (self._stop is None or _saves(self._stop)):
            self._do_what_is_due()

    def _do_what_is_due(self, *, is_last: bool = False) -> None:
        """Evaluate, sample and save where an interval ends at this step; at the end of the run all three."""
        step = self._trainer.step
        if (is_last or self._is_due("eval_every")) and self._evaluated_step != step:
            self._evaluate()
        if (is_last or self._is_due("sample_every")) and self._sampled_step != step:
            self._write_sample(None)
        if is_last or self._is_due("checkpoint_every"):
            self._save()

    def _is_due(self, interval: str) -> bool:
        every = value_at(self._trainer.config, self._trainer.edits, interval, self._trainer.step)
        return bool(every) and self._trainer.step % every == 0

    def _act(self, commands: list[Command]) -> None:
        for command in commands:
            if self._stop is not None:
                self._answer(command, "refused", self._trainer.step, "the run is stopping")
                continue
            if self._trainer.ranks.is_first:
                log.info("step %d: %s", self._trainer.step, _described(command))
            self._answer(command, "agreed", self._trainer.step)
            self._actions[command.name](command)

    def _pause(self, command: Command) -> None:
        self._paused = True
        self._answer(command, "applied", self._trainer.step)

    def _resume(self, command: Command) -> None:
        self._paused = False
        self._answer(command, "applied", self._trainer.step)

    def _set(self, command: Command) -> None:
        trainer = self._trainer
        first = trainer.step + 1
        if first > trainer.target_step:
            self._answer(command, "refused", trainer.step, "the last step is done")
            return
        name, value, mode = check_edit(command.args["name"], command.args["value"], command.args.get("mode", "set"))
        before = self._knob(name, first)
        trainer.edits.append(Edit(id=command.id, step=first, name=name, value=value, mode=mode))
        self._answer(command, "applied", first, f"{before} -> {self._knob(name, first)}")

    def _undo(self, command: Command) -> None:
        trainer = self._trainer
        first = trainer.step + 1
        wanted = command.args.get("edit")
        edit = next((edit for edit in trainer.edits if edit.id == wanted), None) if wanted else last_edit(trainer.edits)
        if edit is None or edit.name == "undo":
            self._answer(command, "refused", trainer.step, "there is no edit to undo")
            return
        before = self._knob(edit.name, first)
        trainer.edits.append(Edit(id=command.id, step=first, name="undo", value=edit.id))
        filled = replace(command, args={**command.args, "edit": edit.id})
        self._answer(filled, "applied", first, f"{edit.name} {before} -> {self._knob(edit.name, first)}")

    def _knob(self, name: str, step: int) -> str:
        trainer = self._trainer
        if name == "lr":
            return f"{lr_at(trainer.config.optim, trainer.target_step, trainer.edits, step):.6g}"
        return str(value_at(trainer.config, trainer.edits, name, step))

    def _checkpoint(self, command: Command) -> None:
        step = self._trainer.step

        def answer(outcome: Outcome) -> None:
            if isinstance(outcome, Checkpoint):
                self._answer(command, "applied", step, outcome.path)
            else:
                self._answer(command, "refused", step, outcome.reason)

        self._save(str(command.args.get("name") or ""), answer)

    def _eval(self, command: Command) -> None:
        self._evaluate()
        self._answer(command, "applied", self._trainer.step)

    def _sample(self, command: Command) -> None:
        prompt = command.args.get("prompt")
        self._write_sample(None if prompt is None else str(prompt))
        self._answer(command, "applied", self._trainer.step)

    def _begin_stop(self, command: Command) -> None:
        self._stop = command  # answered when what it asks for is on disk

    def _evaluate(self) -> None:
        trainer = self._trainer
        self._status.say("evaluating", trainer.step)
        result = trainer.evaluate()
        self._evaluated_step = trainer.step
        self._say(
            Eval(
                time=time.time(),
                step=trainer.step,
                loss=result.loss,
                perplexity=result.perplexity,
                bits_per_byte=result.bits_per_byte,
                accuracy=result.accuracy,
                tokens=result.tokens,
                seconds=result.seconds,
            )
        )
        self._status.say("training", trainer.step)

    def _write_sample(self, prompt: str | None) -> None:
        trainer = self._trainer
        self._sampled_step = trainer.step
        self._status.say("sampling", trainer.step)
        written = trainer.ranks.alone(lambda: trainer.sample(prompt))
        if written is not None:
            used, text = written
            self._say(Sample(time=time.time(), step=trainer.step, prompt=used, text=text))
        self._status.say("training", trainer.step)

    def _save(self, name: str = "", then: Report | None = None) -> None:
        trainer = self._trainer
        self._status.say("saving", trainer.step)
        trainer.ranks.alone(self._saver.wait)
        if trainer.ranks.is_first:
            self._saver.save(trainer.step, lambda: trainer.snapshot(name), name, then)
        self._status.say("training", trainer.step)

    def _answer(self, command: Command, status: CommandState, step: int, reason: str = "") -> None:
        self._say(replace(status_of(command, status, step, reason), time=time.time()))

    def _say(self, event: Event) -> None:
        if self._trainer.ranks.is_first:
            self._link.send(event)


def _saves(stop: Command) -> bool:
    return not stop.args.get("now", False)


def _described(command: Command) -> str:
    words = [command.name, *(str(value) for value in command.args.values()), "by", command.actor]
    return safe_line(" ".join(words))
