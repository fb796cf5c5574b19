"""What a hub is told beside the run's configuration. Does nothing."""

from __future__ import annotations

from dataclasses import dataclass

from plt_tui.control.placement import Placement

TRAINING_ENTRY = "plt_tui.training.worker:main"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubOptions:
    """What the hub is told beside the run's configuration."""

    placement: Placement
    resume: str = "auto"
    resume_step: int | None = None
    """Step of the checkpoint that a person chose with `resume`; None for "auto" and "never"."""
    plugins: tuple[str, ...] = ()
    """Absolute paths of the files given as `--plugin`."""
    entry: str = TRAINING_ENTRY
