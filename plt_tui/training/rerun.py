"""A rank that computes steps again: the numbers of a session without its steering, measuring, sampling and guard.

All that counts is in the configuration and the edits, so it takes no commands and decides nothing. Invariant: from the same
weights, configuration and edits it computes the bits that `session` computes.
"""

from __future__ import annotations

import time

from plt_tui.config.edits import skips_update
from plt_tui.protocol.events import Checkpoint, Done, Event, Step
from plt_tui.protocol.link import RankEnd
from plt_tui.protocol.rank import RankSpec
from plt_tui.training.status import step_said
from plt_tui.training.worker import Ready, run_rank


def main(spec: RankSpec, link: RankEnd) -> int:
    """Run one rank of a rerun to `spec.until`. Returns the process's exit code."""
    return run_rank(spec, link, compute)


def compute(ready: Ready) -> Done:
    """Compute the steps up to `until`, and save where the configuration's `checkpoint.every` ends. All ranks.

    Raises: NonFiniteLoss, StorageError, and whatever a step raises.
    """
    trainer = ready.trainer
    every = trainer.config.checkpoint.every
    while trainer.step < ready.spec.until:
        step = _next_step(ready)
        _say(ready, step)
        if every and trainer.step % every == 0:
            folder = trainer.save_checkpoint(ready.root)
            _say(ready, Checkpoint(time=time.time(), step=trainer.step, path=str(folder)))
    return Done(
        time=time.time(),
        rank=ready.spec.rank,
        step=trainer.step,
        finished=True,
        weights_sha256=trainer.weights_sha256() if ready.spec.rank == 0 else "",
    )


def _next_step(ready: Ready) -> Step:
    """Train one step. All ranks; each gets the same numbers."""
    trainer = ready.trainer
    started = time.perf_counter()
    hyper = trainer.hyper(trainer.step + 1)
    trainer.accumulate()
    sums = trainer.measure()
    pending = trainer.ranks.post_sum([sums.loss])
    if skips_update(trainer.edits, trainer.step + 1):
        trainer.leave_out()
    else:
        trainer.update(hyper)
    seconds = time.perf_counter() - started
    parts = trainer.clock.close()
    ready.status.stepped(trainer.step, seconds, parts)
    loss = pending.wait()[0] / trainer.ranks.world_size
    return step_said(trainer, loss, sums, hyper.lr, seconds, parts)


def _say(ready: Ready, event: Event) -> None:
    if ready.spec.rank == 0:
        ready.link.send(event)
