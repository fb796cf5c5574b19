"""Saves checkpoints beside the training loop: the step waits for a copy in memory, a thread does the rest.

At most one save is in flight; a second one waits for the first. Rank 0 only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from plt_tui.errors import StorageError
from plt_tui.protocol.events import Checkpoint, CheckpointFailed
from plt_tui.training import checkpoint
from plt_tui.training.checkpoint import Snapshot

Report = Callable[[Checkpoint | CheckpointFailed], None]
"""Told from the saver's thread when a save has ended."""


class Saver:
    """Writes snapshots under `root` and keeps the `keep` newest; paths inside `run_dir` are reported relative to it."""

    def __init__(self, root: Path, run_dir: Path, keep: int, report: Report) -> None:
        self._root = root
        self._run_dir = run_dir
        self._keep = keep
        self._report = report
        self._thread: threading.Thread | None = None

    def save(self, snapshot: Snapshot, then: Report | None = None) -> None:
        """Begin to write `snapshot`; returns at once unless a save is still under way. `then` is told after `report`."""
        self.wait()
        self._thread = threading.Thread(target=self._write, args=(snapshot, then, time.monotonic()), name="saver")
        self._thread.start()

    def wait(self) -> None:
        """Return when no save is under way."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _write(self, snapshot: Snapshot, then: Report | None, started: float) -> None:
        outcome: Checkpoint | CheckpointFailed
        try:
            folder, manifest = checkpoint.write(self._root, snapshot)
        except StorageError as error:
            outcome = CheckpointFailed(time=time.time(), step=snapshot.step, reason=str(error))
        else:
            checkpoint.prune(self._root, self._keep)
            outcome = Checkpoint(
                time=time.time(),
                step=snapshot.step,
                path=str(folder.relative_to(self._run_dir) if folder.is_relative_to(self._run_dir) else folder),
                name=snapshot.name,
                bytes=manifest.bytes,
                seconds=time.monotonic() - started,
                weights_sha256=manifest.weights_sha256,
            )
        self._report(outcome)
        if then is not None:
            then(outcome)
