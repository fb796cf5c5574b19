"""Earlier states of the run that a rewind can go back to: some in memory, the checkpoints on disk, and the first.

Copies in memory are taken on every rank at the same steps, so that going back to one sends nothing and reads nothing. All ranks
call these together. Invariant: whatever the ranks go back to, they go back to the same state, and no checkpoint after it is
left where a resume would find it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from plt_tui.training import checkpoint
from plt_tui.training.checkpoint import Snapshot
from plt_tui.training.saver import Saver
from plt_tui.training.trainer import Trainer


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
        room = min(self._count, self._budget_bytes // self._trainer.state_bytes)
        if room < 1:
            return False
        started = time.perf_counter()
        moment = self._trainer.moment()
        if not checkpoint.is_finite(moment):  # nothing to come back to
            return False
        self._forget_from(moment.step)
        self._kept = [*self._kept, moment][-room:]
        self.copy_seconds = time.perf_counter() - started
        return True

    def go_back(self, step: int) -> Landing:
        """Restore the newest kept state at or before `step`, and set aside the checkpoints after it.

        Raises: StorageError or UsageError for a checkpoint that does not fit; DataError never, the data is this run's.
        """
        ranks, saver = self._trainer.ranks, self._saver
        ranks.alone(saver.wait)
        moment = next((kept for kept in reversed(self._kept) if kept.step <= step), None)
        least = moment.step if moment is not None else 0
        on_disk = ranks.broadcast_int(ranks.alone(lambda: saver.newest_between(least, step)) or 0)
        if on_disk > least:
            folder = saver.folder(on_disk)
            moment, source = checkpoint.read(folder), folder.name
        elif moment is not None:
            source = "memory"
        else:
            moment, source = self._trainer.first_snapshot(), "the start"
        self._trainer.restore(moment, source=source)
        ranks.alone(lambda: saver.leave(moment.step))
        self._forget_from(moment.step + 1)
        return Landing(step=moment.step, source=source)

    def _forget_from(self, step: int) -> None:
        self._kept = [kept for kept in self._kept if kept.step < step]
