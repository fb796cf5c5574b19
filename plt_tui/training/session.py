"""The rank loop: train, agree at every step boundary, act on what was agreed, do what is due.

Every rank runs the same loop and takes the same branches, because every decision rests on agreed commands, the step number and
the configuration. Rank 0 alone speaks for the run (steps, evaluations, samples, checkpoints, answers to commands); each rank
speaks for itself (`RankStatus`). Invariant: commands act between two steps, never inside one.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping

from torch import Tensor

from plt_tui import failpoints
from plt_tui.config.hyper import value_at
from plt_tui.errors import StorageError
from plt_tui.protocol.commands import Command
from plt_tui.protocol.events import Checkpoint, CommandState, Done, Eval, Event, Recent, Sample
from plt_tui.protocol.link import RankEnd
from plt_tui.protocol.text import safe_line
from plt_tui.training.agreement import Agreement, PendingAgreement
from plt_tui.training.alike import require_alike
from plt_tui.training.optimizer import state_tensors
from plt_tui.training.past import Past
from plt_tui.training.ranks import BEAT_S
from plt_tui.training.saver import Outcome, Report, Saver
from plt_tui.training.sentry import Sentry, Verdict
from plt_tui.training.speaker import Speaker
from plt_tui.training.status import StatusReporter, step_said
from plt_tui.training.steering import Steering
from plt_tui.training.trainer import StepSums, Trainer

log = logging.getLogger("plt_tui")

_LEAVING = {"stop": "the run is stopping", "hibernate": "the run is hibernated; resume it first"}


class Session:
    """One rank's part of one session of a run.

    paused: begin in a pause. known_step, guard_acts: what the record holds, see `sentry`.
    """

    def __init__(
        self,
        trainer: Trainer,
        link: RankEnd,
        status: StatusReporter,
        saver: Saver,
        *,
        paused: bool = False,
        known_step: int = 0,
        guard_acts: int = 0,
    ) -> None:
        keep = trainer.config.checkpoint
        self._trainer = trainer
        self._status = status
        self._agreement = Agreement(trainer.ranks, link)
        self._speaker = Speaker(link, is_first=trainer.ranks.is_first)
        self._saver = saver
        self._past = Past(trainer, saver, count=keep.recent, budget_bytes=keep.recent_mb << 20)
        self._steering = Steering(trainer, self._speaker, self._past, self._went_back)
        self._sentry = Sentry(trainer, self._speaker, self._steering, known_step=known_step, acts=guard_acts)
        self._evaluated_step = -1
        self._sampled_step = -1
        self._paused = paused
        self._stop: Command | None = None
        self._actions: Mapping[str, Callable[[Command], None]] = {
            "pause": self._pause,
            "resume": self._resume,
            "set": self._steering.set,
            "undo": self._steering.undo,
            "rewind": self._rewind,
            "checkpoint": self._checkpoint,
            "eval": self._eval,
            "sample": self._sample,
            "stop": self._begin_stop,
            "hibernate": self._hibernate,
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
        if trainer.began_at and trainer.began_at == trainer.step:  # another's checkpoint, which may be gone tomorrow
            self._save()
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
        trainer, sentry = self._trainer, self._sentry
        failpoints.reach("rank", trainer.ranks.rank, "step", trainer.step + 1)
        started = time.perf_counter()
        hyper = trainer.hyper(trainer.step + 1)
        trainer.accumulate()
        sums = trainer.measure()
        pending = self._agreement.post([sums.loss])
        verdict = None
        if looks_first := sentry.looks_first(sums.grad_norm):
            loss, commands = self._settle(pending)
            verdict = sentry.judge(loss, sums.grad_norm)
            if verdict is not None and verdict.ends_run:
                sentry.follow(verdict, was_left_out=False)
        if is_left_out := sentry.leaves_out(verdict):
            trainer.leave_out()
        else:
            trainer.update(hyper)
        if not looks_first:
            loss, commands = self._settle(pending)
            verdict = sentry.judge(loss, sums.grad_norm)
        self._tell_step(loss, sums, hyper.lr, time.perf_counter() - started)
        step = trainer.step
        if verdict is not None:
            self._follow(verdict, was_left_out=is_left_out)
        self._act(commands)
        if trainer.step == step < trainer.target_step and (self._stop is None or _saves(self._stop)):
            self._do_what_is_due()

    def _follow(self, verdict: Verdict, *, was_left_out: bool) -> None:
        """Do what the guard decided about the step that was just completed."""
        if verdict.act.name == "rewind":
            self._status.say("rewinding", self._trainer.step)
        self._sentry.follow(verdict, was_left_out=was_left_out)
        self._status.say("training", self._trainer.step)

    def _settle(self, pending: PendingAgreement) -> tuple[float, list[Command]]:
        """The loss of the global batch, and the commands of this boundary."""
        (loss_sum,), commands = self._agreement.settle(pending)
        return loss_sum / self._trainer.ranks.world_size, commands

    def _tell_step(self, loss: float, sums: StepSums, lr: float, seconds: float) -> None:
        trainer = self._trainer
        parts = trainer.clock.close()
        self._status.stepped(trainer.step, seconds, parts)
        step = step_said(trainer, loss, sums, lr, seconds, parts)
        self._say(step)
        if self._is_due("log_every") and trainer.ranks.is_first:
            words = "step %d: loss %.4f, lr %.3g, norm %.3g, %.0f tokens/s"
            log.info(words, step.step, step.loss, step.lr, step.grad_norm, step.tokens_per_s)

    def _do_what_is_due(self, *, is_last: bool = False) -> None:
        """Evaluate, sample, save and keep a copy where an interval ends at this step; at the end of the run the first three."""
        step = self._trainer.step
        if (is_last or self._is_due("eval_every")) and self._evaluated_step != step:
            self._evaluate()
        if (is_last or self._is_due("sample_every")) and self._sampled_step != step:
            self._write_sample(None)
        if is_last or self._is_due("checkpoint_every"):
            self._save()
        if not is_last and step % self._trainer.config.checkpoint.recent_every == 0 and self._past.keep():
            self._tell_recent()

    def _is_due(self, interval: str) -> bool:
        every = value_at(self._trainer.config, self._trainer.edits, interval, self._trainer.step)
        return bool(every) and self._trainer.step % every == 0

    def _act(self, commands: list[Command]) -> None:
        for command in commands:
            if self._stop is not None:
                if (self._stop.name, command.name) != ("hibernate", "resume"):  # which is the hub's: it starts the ranks again
                    self._answer(command, "refused", self._trainer.step, _LEAVING[self._stop.name])
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

    def _rewind(self, command: Command) -> None:
        self._status.say("rewinding", self._trainer.step)
        self._steering.rewind(command)
        self._status.say("training", self._trainer.step)

    def _went_back(self) -> None:
        """What was done at this step was done when it was first reached; but a crash must find a checkpoint that is left."""
        trainer = self._trainer
        self._evaluated_step = self._sampled_step = trainer.step
        self._tell_recent()
        if trainer.step and trainer.ranks.broadcast_int(self._saver.is_empty):
            self._save()

    def _tell_recent(self) -> None:
        past = self._past
        self._say(Recent(time=time.time(), steps=past.steps, bytes=past.memory_bytes, seconds=past.copy_seconds))

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

    def _hibernate(self, command: Command) -> None:
        """Leave once this step is on disk; a run that cannot be saved goes on."""
        trainer = self._trainer
        self._save()
        trainer.ranks.alone(self._saver.wait)
        if trainer.ranks.broadcast_int(self._saver.has(trainer.step)):
            self._stop = command
        else:
            self._answer(command, "refused", trainer.step, f"not saved: {self._saver.failure}")

    def _evaluate(self) -> None:
        trainer = self._trainer
        self._status.say("evaluating", trainer.step)
        failpoints.reach("rank", trainer.ranks.rank, "evaluation", trainer.step)
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

        def work() -> tuple[str, str]:
            failpoints.reach("rank", 0, "sample", trainer.step)
            return trainer.sample(prompt)

        written = trainer.ranks.alone(work, beats=True)
        if written is not None:
            used, text = written
            self._say(Sample(time=time.time(), step=trainer.step, prompt=used, text=text))
        self._status.say("training", trainer.step)

    def _save(self, name: str = "", then: Report | None = None) -> None:
        trainer = self._trainer
        self._status.say("saving", trainer.step)
        require_alike(trainer.ranks, _saved_tensors(trainer), trainer.step)
        trainer.ranks.alone(self._saver.wait)
        if trainer.ranks.is_first:
            self._saver.save(trainer.step, lambda: trainer.snapshot(name), name, then)
        self._status.say("training", trainer.step)

    def _answer(self, command: Command, status: CommandState, step: int, reason: str = "") -> None:
        self._speaker.answer(command, status, step, reason)

    def _say(self, event: Event) -> None:
        self._speaker.say(event)


def _saved_tensors(trainer: Trainer) -> Iterator[Tensor]:
    state = state_tensors(trainer.optimizer, trainer.model)
    return itertools.chain(trainer.model.parameters(), (tensor for _, tensor in state))


def _saves(stop: Command) -> bool:
    return not stop.args.get("now", False)


def _described(command: Command) -> str:
    words = [command.name, *(str(value) for value in command.args.values()), "by", command.actor]
    return safe_line(" ".join(words))
