"""Which checkpoint a session continues from, and what becomes of the ones it does not.

Rank 0 looks at the disk and decides; all ranks then load the same folder. Nothing is deleted: checkpoints that are damaged, or
lie after the chosen one in a past that is left, are renamed. Invariants: after `resume` every `step-*` folder belongs to the
past that the session continues; a resume that is refused has changed nothing.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from plt_tui.errors import StorageError
from plt_tui.protocol.manifest import folder_name, own_checkpoint, step_of, verify
from plt_tui.protocol.text import safe_line
from plt_tui.training import checkpoint
from plt_tui.training.trainer import Trainer

log = logging.getLogger("plt_tui")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """Where a session starts. `folder`: None for step 0. `inexact_because`: empty when the bits will be the same."""

    folder: Path | None
    inexact_because: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    """Names of the checkpoints that "auto" found and set aside: damaged, or of steps that the record does not hold. Rank 0."""
    gap: tuple[int, int] | None = None
    """First and last step that the record will never hold, where "auto" found none but a checkpoint after them."""

    def own_folder(self, root: Path) -> Path | None:
        """The folder, if it is one of the run's own checkpoints under `root` and not another run's."""
        return own_checkpoint(self.folder, root) if self.folder is not None else None


def resume(trainer: Trainer, wish: str, root: Path, known_step: int = 0) -> Resumed:
    """Load what `wish` asks for: "auto" (the newest whole checkpoint under `root`), "never", or the path of one. All ranks.

    known_step: the last step of which the run's record knows. Ranks may have gone on and saved while their hub hung, and died
    with it: of what nobody was told "auto" takes nothing, so that the record has no gap.

    Raises: StorageError, UsageError or DataError when it is damaged or does not fit; the disk is then as it was.
    """
    ranks = trainer.ranks
    found = checkpoint.find(root) if ranks.is_first and wish == "auto" else []
    chosen = ranks.alone(lambda: choose(wish, root, known_step))
    step = ranks.broadcast_int(step_of(chosen) if chosen is not None else -1)
    folder = Path(wish) if wish not in ("auto", "never") else root / folder_name(step) if step >= 0 else None
    reasons: list[str] = []
    if folder is None:
        trainer.init_weights()
    else:
        reasons = trainer.load_checkpoint(folder)
        if own_checkpoint(folder, root) is None:
            trainer.began_at = trainer.step
    ranks.sum([0.0])  # whoever cannot load it never comes here, and nothing may be changed then
    ranks.alone(lambda: leave_others(folder, root))
    passed_over = tuple(path.name for path in found if not path.exists())
    gap = (known_step + 1, trainer.step) if wish == "auto" and trainer.step > known_step else None
    return Resumed(folder=folder, inexact_because=tuple(reasons), passed_over=passed_over, gap=gap)


def leave_others(folder: Path | None, root: Path) -> None:
    """Put the disk in order for a session that starts from `folder`, None for step 0: what is no part of its past is renamed.

    Rank 0 only, while holding the run's lock. Raises: StorageError.
    """
    checkpoint.clear_leftovers(root)
    own = own_checkpoint(folder, root) if folder is not None else None
    for path in checkpoint.set_aside(root, step_of(own) if own is not None else -1):
        log.warning("set aside: %s", safe_line(path.name))


def choose(wish: str, root: Path, known_step: int = 0) -> Path | None:
    """The checkpoint to start from, None for step 0; changes nothing. Rank 0 only. wish, known_step: as in `resume`.

    Raises: StorageError when the one that `wish` names is damaged.
    """
    if wish == "never":
        return None
    if wish == "auto":
        folder, rejected = checkpoint.newest_good(root, last=known_step)
        if folder is None:  # the record was lost: a gap in it is better than to begin anew
            folder, rejected = checkpoint.newest_good(root)
        for reason in rejected:
            log.warning("not resumed from: %s", safe_line(reason))
        return folder
    try:
        verify(Path(wish))
    except StorageError as error:
        raise StorageError(f"{error}; choose another checkpoint, or give --resume auto for the newest good one") from None
    return Path(wish)
