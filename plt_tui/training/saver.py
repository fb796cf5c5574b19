"""Saves checkpoints beside the training loop: the step waits for a copy in memory, a thread does the rest.

At most one save is in flight. A step is written once: asked again, the checkpoint that is there answers, with a new name if one
is given. Rank 0 only. Invariants: no save, however it fails, raises into the step; a checkpoint that the hub knows of stays
until it knows of a newer one, because a resume takes none that the record does not know.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from plt_tui.errors import PltTuiError, StorageError
from plt_tui.protocol.events import Checkpoint, CheckpointFailed
from plt_tui.protocol.manifest import MANIFEST, Manifest, aside_words, folder_name, is_whole, read_manifest, step_of
from plt_tui.training import checkpoint
from plt_tui.training.checkpoint import Snapshot

log = logging.getLogger("plt_tui")

Outcome = Checkpoint | CheckpointFailed
Receipt = Callable[[], bool]
"""Whether the hub has taken in a report."""
Report = Callable[[Outcome], None]
"""Told when a save has ended: from the saver's thread, or at once when there was nothing to write."""


class Saver:
    """Writes snapshots under `root` and keeps the `keep` newest; paths inside `run_dir` are reported relative to it.

    Only while holding the run's lock. resumed_from: a checkpoint under `root` that is known to be whole. receipt: called after
    a report, see `Receipt`.
    """

    def __init__(
        self,
        root: Path,
        run_dir: Path,
        keep: int,
        report: Report,
        *,
        resumed_from: Path | None = None,
        receipt: Callable[[], Receipt] = lambda: _at_once,
    ) -> None:
        self._root = root
        self._run_dir = run_dir
        self._keep = keep
        self._report = report
        self._receipt = receipt
        self._good: set[Path] = {resumed_from} if resumed_from is not None else set()
        self._receipts: dict[Path, Receipt] = {}
        """Of those in `_good` that this saver has written."""
        self._thread: threading.Thread | None = None
        self.failure = ""
        """Why the last save failed; empty when it did not."""

    def has(self, step: int) -> bool:
        """True when this step's checkpoint is whole on disk."""
        return self._standing(step) is not None

    @property
    def is_empty(self) -> bool:
        """True when there is nothing on disk that a start of the ranks could go on from."""
        return not any((folder / MANIFEST).exists() for folder in self._good)

    def folder(self, step: int) -> Path:
        """Where this step's checkpoint lies, or would."""
        return self._root / folder_name(step)

    def newest_between(self, after: int, last: int) -> int:
        """Step of the newest checkpoint that verifies, later than `after` and not later than `last`; 0 for none."""
        between = [path for path in checkpoint.find(self._root) if after < step_of(path) <= last]
        newest = next(filter(is_whole, between), None)
        if newest is None:
            return 0
        self._good.add(newest)  # maybe of an earlier session
        return step_of(newest)

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
        self._receipts = {folder: receipt for folder, receipt in self._receipts.items() if folder in self._good}

    def save(self, step: int, snapshot: Callable[[], Snapshot], name: str = "", then: Report | None = None) -> None:
        """Begin to save `step`; `snapshot` is taken now if it must be written. `then` is told after everybody else.

        Call `wait` first: only one save can be in flight.
        """
        assert self._thread is None, "a save is in flight"
        manifest = self._standing(step)
        if manifest is not None and not name:
            if then is not None:
                then(self._known(step, manifest))
            return
        try:
            copy = snapshot() if manifest is None else None
            thread = threading.Thread(target=self._run, args=(step, copy, name, then), name="saver")
            thread.start()
        except Exception as error:  # noqa: BLE001  (a copy that does not fit into memory costs this save, not the run)
            self._tell(self._failed(step, error), then)
        else:
            self._thread = thread

    def wait(self) -> None:
        """Return when no save is in flight."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self, step: int, copy: Snapshot | None, name: str, then: Report | None) -> None:
        started = time.monotonic()
        outcome: Outcome
        try:
            manifest = checkpoint.give_name(self.folder(step), name) if copy is None else self._written(copy)
            outcome = self._known(step, manifest, time.monotonic() - started)
            self.failure = ""
        except Exception as error:  # noqa: BLE001  (the border of the thread: a save never fails in silence)
            outcome = self._failed(step, error)
        self._tell(outcome, then)
        if copy is not None and isinstance(outcome, Checkpoint):
            self._receipts[self.folder(step)] = self._receipt()

    def _written(self, copy: Snapshot) -> Manifest:
        if not checkpoint.is_finite(copy.model.values()):
            raise StorageError(
                f"step {copy.step}: weights are NaN or infinite, and would hide the good checkpoint before them; rewind"
            )
        checkpoint.clear_leftovers(self._root)
        self._prune()  # what had to wait for a receipt, before it costs room
        if self.folder(copy.step) in checkpoint.find(self._root):  # damaged, or of a save that nobody was told of
            aside = checkpoint.put_aside(self.folder(copy.step))
            log.warning("step %d: what lay in its checkpoint's place is called %s now", copy.step, aside.name)
        try:
            folder, manifest = checkpoint.write(self._root, copy)
        except checkpoint.NoSpace as error:
            given_up = checkpoint.make_room(self._root, copy.bytes)
            if given_up is None:
                raise
            log.warning("%s; %s gave way", error, given_up.name)
            folder, manifest = checkpoint.write(self._root, copy)
        self._good.add(folder)
        self._receipts[folder] = _not_yet
        self._prune()
        return manifest

    def _prune(self) -> None:
        """Delete what is older than the `keep` newest, but not what a resume would take if the hub died now."""
        known = sorted((folder for folder in self._good if self._receipts.get(folder, _at_once)()), key=step_of)
        checkpoint.prune(self._root, self._keep, self._good, spared=known[-max(1, self._keep - 1) :])
        self._good = {folder for folder in self._good if folder.is_dir()}

    def _standing(self, step: int) -> Manifest | None:
        """What vouches for this step's checkpoint; None when it is not known to be whole, or has gone."""
        if self.folder(step) not in self._good:
            return None
        try:
            return read_manifest(self.folder(step))
        except StorageError:
            return None

    def _failed(self, step: int, error: Exception) -> CheckpointFailed:
        self.failure = str(error) if isinstance(error, PltTuiError) else f"{type(error).__name__}: {error}"
        if isinstance(error, checkpoint.NoSpace) and (aside := aside_words(self._root)):
            self.failure += f"; {aside}"
        return CheckpointFailed(time=time.time(), step=step, reason=self.failure)

    def _tell(self, outcome: Outcome, then: Report | None) -> None:
        self._report(outcome)
        if then is not None:
            then(outcome)

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


def _at_once() -> bool:
    return True


def _not_yet() -> bool:
    return False
