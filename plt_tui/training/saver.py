"""Saves checkpoints beside the training loop: the step waits for a copy in memory, a thread does the rest.

At most one save is in flight. A step is written once: asked again, the checkpoint that is there answers, with a new name if one
is given. Rank 0 only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from plt_tui.errors import StorageError
from plt_tui.protocol.events import Checkpoint, CheckpointFailed
from plt_tui.protocol.manifest import MANIFEST, Manifest, is_whole, read_manifest
from plt_tui.training import checkpoint
from plt_tui.training.checkpoint import Snapshot

Outcome = Checkpoint | CheckpointFailed
Report = Callable[[Outcome], None]
"""Told when a save has ended: from the saver's thread, or at once when there was nothing to write."""


class Saver:
    """Writes snapshots under `root` and keeps the `keep` newest; paths inside `run_dir` are reported relative to it.

    resumed_from: a checkpoint under `root` that is known to be whole.
    """

    def __init__(self, root: Path, run_dir: Path, keep: int, report: Report, *, resumed_from: Path | None = None) -> None:
        self._root = root
        self._run_dir = run_dir
        self._keep = keep
        self._report = report
        self._good: set[Path] = {resumed_from} if resumed_from is not None else set()
        self._thread: threading.Thread | None = None
        self.failure = ""
        """Why the last save failed; empty when it did not."""

    def has(self, step: int) -> bool:
        """True when this step's checkpoint is whole on disk."""
        return self.folder(step) in self._good and (self.folder(step) / MANIFEST).exists()

    @property
    def is_empty(self) -> bool:
        """True when there is nothing on disk that a start of the ranks could go on from."""
        return not any((folder / MANIFEST).exists() for folder in self._good)

    def folder(self, step: int) -> Path:
        """Where this step's checkpoint lies, or would."""
        return self._root / checkpoint.folder_name(step)

    def newest_between(self, after: int, last: int) -> int:
        """Step of the newest checkpoint that verifies, later than `after` and not later than `last`; 0 for none."""
        between = [path for path in checkpoint.find(self._root) if after < checkpoint.step_of(path) <= last]
        newest = next(filter(is_whole, between), None)
        if newest is None:
            return 0
        self._good.add(newest)  # maybe of an earlier session
        return checkpoint.step_of(newest)

    def leave(self, last: int) -> None:
        """Set aside every checkpoint after step `last`, and its own if it is damaged: the run goes back there.

        Call `wait` first. Raises: StorageError when one cannot be renamed.
        """
        here = self.folder(last)
        if here not in self._good and is_whole(here):  # else a save of this step would find its place taken
            self._good.add(here)
        try:
            checkpoint.set_aside(self._root, last if here in self._good else last - 1)
        finally:
            self._good = {folder for folder in self._good if folder.is_dir()}

    def save(self, step: int, snapshot: Callable[[], Snapshot], name: str = "", then: Report | None = None) -> None:
        """Begin to save `step`; `snapshot` is taken now if it must be written. `then` is told after everybody else.

        Call `wait` first: only one save can be in flight.
        """
        assert self._thread is None, "a save is in flight"
        if self.has(step) and not name:
            if then is not None:
                then(self._known(step, read_manifest(self.folder(step))))
            return
        copy = None if self.has(step) else snapshot()
        self._thread = threading.Thread(target=self._run, args=(step, copy, name, then), name="saver")
        self._thread.start()

    def wait(self) -> None:
        """Return when no save is in flight."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self, step: int, copy: Snapshot | None, name: str, then: Report | None) -> None:
        started = time.monotonic()
        outcome: Outcome
        try:
            outcome = self._written(step, copy, name, started)
            self.failure = ""
        except StorageError as error:
            self.failure = str(error)
            outcome = CheckpointFailed(time=time.time(), step=step, reason=self.failure)
        except Exception as error:  # noqa: BLE001  (the border of the thread: a save never fails in silence)
            self.failure = f"{type(error).__name__}: {error}"
            outcome = CheckpointFailed(time=time.time(), step=step, reason=self.failure)
        self._report(outcome)
        if then is not None:
            then(outcome)

    def _written(self, step: int, copy: Snapshot | None, name: str, started: float) -> Checkpoint:
        if copy is not None and not checkpoint.is_finite(copy.model.values()):
            raise StorageError(f"step {step}: weights are NaN or infinite, and would hide the good checkpoint before it")
        if copy is None:
            manifest = checkpoint.give_name(self.folder(step), name)
        else:
            folder, manifest = checkpoint.write(self._root, copy)
            self._good.add(folder)
            checkpoint.prune(self._root, self._keep, self._good)
        return self._known(step, manifest, time.monotonic() - started)

    def _known(self, step: int, manifest: Manifest, seconds: float = 0.0) -> Checkpoint:
        folder = self.folder(step)
        return Checkpoint(
            time=time.time(),
            step=step,
            path=str(folder.relative_to(self._run_dir) if folder.is_relative_to(self._run_dir) else folder),
            name=manifest.name,
            bytes=manifest.bytes,
            seconds=seconds,
            weights_sha256=manifest.weights_sha256,
        )
