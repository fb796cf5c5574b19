"""Earlier states of the run that a rewind can go back to: some in memory, the checkpoints on disk, and the first.

Copies in memory are taken on every rank at the same steps, so that going back to one sends nothing and reads nothing. All ranks
call these together. Invariant: whatever the ranks go back to, they go back to the same state, and no checkpoint after it is
left where a resume would find it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from plt_tui.errors import PltTuiError, StorageError
from plt_tui.protocol.commands import only_the_start
from plt_tui.protocol.text import safe_text
from plt_tui.training import checkpoint
from plt_tui.training.checkpoint import Snapshot
from plt_tui.training.saver import Saver
from plt_tui.training.trainer import Trainer

log = logging.getLogger("plt_tui")

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """Where a rewind ended."""

    step: int
    source: str
    """"memory", the name of a checkpoint's folder, or "the start"."""


class Past:
    """What one session can go back to. `count`: states to keep in memory; `budget_bytes`: the most that they may take."""

    def __init__(self, trainer: Trainer, saver: Saver, *, count: int, budget_bytes: int) -> None:
        self._trainer = trainer
        self._saver = saver
        self._count = count
        self._budget_bytes = budget_bytes
        self._kept: list[Snapshot] = []
        self.copy_seconds = 0.0
        """That the newest copy took."""

    @property
    def steps(self) -> list[int]:
        """Steps of the states in memory, oldest first."""
        return [snapshot.step for snapshot in self._kept]

    @property
    def memory_bytes(self) -> int:
        """What the states in memory take on one rank."""
        return len(self._kept) * self._trainer.state_bytes

    def keep(self) -> bool:
        """Keep the present state in memory, the oldest ones giving way; False where not even one fits or it is not finite."""
        trainer = self._trainer
        room = min(self._count, self._budget_bytes // trainer.state_bytes)
        if room < 1 or not checkpoint.is_finite(trainer.model.parameters()):  # nothing to come back to
            return False
        started = time.perf_counter()
        self._forget_from(trainer.step)
        self._kept = self._kept[max(0, len(self._kept) + 1 - room) :]  # first: the budget holds while it is copied too
        self._kept.append(trainer.moment())
        self.copy_seconds = time.perf_counter() - started
        return True

    def go_back(self, step: int, *, to_start: bool) -> Landing:
        """Restore the newest kept state at or before `step`, and set aside the checkpoints after it.

        to_start: begin anew where no other state is kept.

        Raises: StorageError, on all ranks, when one of them cannot; each of them is at the step then that it was at.
        """
        ranks, saver = self._trainer.ranks, self._saver
        ranks.alone(saver.wait)
        moment, source = self._agreed(lambda: self._newest(step, to_start=to_start))
        self._agreed(lambda: ranks.alone(lambda: saver.leave(moment.step)))
        self._trainer.restore(moment, source=source)
        self._forget_from(moment.step + 1)
        return Landing(step=moment.step, source=source)

    def _newest(self, step: int, *, to_start: bool) -> tuple[Snapshot, str]:
        """The newest kept state at or before `step`, and where it is from. Raises: StorageError, UsageError."""
        ranks, saver = self._trainer.ranks, self._saver
        moment = next((kept for kept in reversed(self._kept) if kept.step <= step), None)
        least = moment.step if moment is not None else 0
        on_disk = ranks.broadcast_int(ranks.alone(lambda: saver.newest_between(least, step)) or 0)
        if on_disk > least:
            folder = saver.folder(on_disk)
            return checkpoint.read(folder), folder.name
        if moment is not None:
            return moment, "memory"
        if self._trainer.began_at:
            began_at = f"the run began with another's checkpoint of step {self._trainer.began_at}"
            raise StorageError(f"no state at or before step {step} is kept, and {began_at}")
        if not to_start:
            raise StorageError(only_the_start(step))
        return self._trainer.first_snapshot(), "the start"

    def _agreed(self, work: Callable[[], ResultT]) -> ResultT:
        """What `work` gives on this rank, once it has worked on all. Raises: StorageError on all when on one it did not."""
        problem = ""
        try:
            result = work()
        except PltTuiError as error:
            problem = str(error)
            log.warning("%s", safe_text(problem))
        if self._trainer.ranks.sum([float(bool(problem))])[0]:
            raise StorageError(problem or "another rank cannot; see its log")
        return result

    def _forget_from(self, step: int) -> None:
        self._kept = [kept for kept in self._kept if kept.step < step]
