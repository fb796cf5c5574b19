"""What a run wrote down about its steps, and how long they took.

Reads the run folder only. Invariant: a step's time is the time from the end of the one before it, so that whatever happens
between two steps counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from plt_tui.control.folder import RunFolder
from plt_tui.protocol.events import Checkpoint, Step
from plt_tui.protocol.framing import decode_lines

TAIL_BYTES = 4096


def read_steps(folder: RunFolder) -> list[Step]:
    """All steps, oldest first."""
    with folder.metrics.open("rb") as file:
        return [event for event in decode_lines(file) if isinstance(event, Step)]


def read_checkpoints(folder: RunFolder) -> list[Checkpoint]:
    """All saved checkpoints, oldest first."""
    with folder.journal.open("rb") as file:
        return [event for event in decode_lines(file) if isinstance(event, Checkpoint)]


def newest_step(folder: RunFolder) -> int:
    """Number of the newest step that was written down, 0 before the first; cheap enough to ask often."""
    if not folder.metrics.exists():
        return 0
    with folder.metrics.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
        whole_lines = file.read().rpartition(b"\n")[0].splitlines()
    return int(json.loads(whole_lines[-1])["step"]) if whole_lines else 0


def step_seconds(ends_s: Sequence[float], first: int, last: int) -> list[float]:
    """Duration of the steps `first` to `last`, both included; `ends_s[i]` is the end of step i + 1 and `first` at least 2."""
    return [ends_s[step - 1] - ends_s[step - 2] for step in range(first, last + 1)]
