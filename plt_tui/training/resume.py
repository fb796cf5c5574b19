"""Which checkpoint a session continues from, and what becomes of the ones it does not.

Rank 0 looks at the disk and decides; all ranks then load the same folder. Nothing is deleted: checkpoints that are damaged, or
lie after the chosen one in a past that is left, are renamed. Invariant: after `resume` every `step-*` folder belongs to the
past that the session continues.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from plt_tui.protocol.manifest import read_manifest, verify
from plt_tui.protocol.text import safe_line
from plt_tui.training import checkpoint
from plt_tui.training.trainer import Trainer

log = logging.getLogger("plt_tui")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """Where a session starts. `folder`: None for step 0. `inexact_because`: empty when the bits will be the same."""

    folder: Path | None
    inexact_because: tuple[str, ...] = ()

    def own_folder(self, root: Path) -> Path | None:
        """The folder, if it is one of the run's own checkpoints under `root` and not another run's."""
        return _own(self.folder, root)


def resume(trainer: Trainer, wish: str, root: Path) -> Resumed:
    """Load what `wish` asks for: "auto" (the newest whole checkpoint under `root`), "never", or the path of one. All ranks.

    Raises: StorageError, UsageError or DataError when a chosen checkpoint is damaged or does not fit.
    """
    ranks = trainer.ranks
    chosen = ranks.alone(lambda: _chosen_step(wish, root))
    step = ranks.broadcast_int(chosen if chosen is not None else 0)
    if step < 0:
        trainer.init_weights()
        return Resumed(folder=None)
    folder = root / checkpoint.folder_name(step) if wish == "auto" else Path(wish)
    reasons = trainer.load_checkpoint(folder)
    if _own(folder, root) is None:
        trainer.began_at = trainer.step
    return Resumed(folder=folder, inexact_because=tuple(reasons))


def _chosen_step(wish: str, root: Path) -> int:
    """The step to start from, -1 for none, once the disk is in order. Rank 0 only."""
    checkpoint.clear_leftovers(root)
    folder = _chosen(wish, root)
    own = _own(folder, root)
    moved = checkpoint.set_aside(root, checkpoint.step_of(own) if own is not None else -1)
    for path in moved:
        log.warning("set aside: %s", safe_line(path.name))
    return read_manifest(folder).step if folder is not None else -1


def _own(folder: Path | None, root: Path) -> Path | None:
    return folder if folder is not None and folder.parent == root else None


def _chosen(wish: str, root: Path) -> Path | None:
    if wish == "never":
        return None
    if wish == "auto":
        folder, rejected = checkpoint.newest_good(root)
        for reason in rejected:
            log.warning("not resumed from: %s", safe_line(reason))
        return folder
    verify(Path(wish))
    return Path(wish)
