"""Whether the next checkpoint fits on its disk, told before it is tried. Sends nothing.

Reads the disk only to say what could be deleted, once there is something to be told.

Invariant: the answer does not flap: once space is short, it is short until there is clearly enough of it.
"""

from __future__ import annotations

from pathlib import Path

from plt_tui.control.state import RunState
from plt_tui.protocol.events import Alert
from plt_tui.protocol.manifest import aside_words, size_words

TOPIC = "disk"
BYTES_PER_PARAM = 12
"""Of a checkpoint before the first one is known: a weight and two moments of the optimizer, in fp32."""
MARGIN = 1.2
"""The next checkpoint must fit this many times: logs and other runs write to the same disk meanwhile."""
CLEAR_MARGIN = 1.5
"""And this many times before it is no longer short."""


def space_alert(state: RunState, free_bytes: int | None) -> Alert | None:
    """What is new about the space for the run's next checkpoint: short since now, or no longer; None when nothing is."""
    last_bytes = state.checkpoints[-1].bytes if state.checkpoints else 0
    params = state.run.params if state.run is not None else 0
    was_short = TOPIC in state.alerts
    problem = shortage(free_bytes, last_bytes, params, was_short=was_short)
    if bool(problem) == was_short:
        return None
    return Alert(topic=TOPIC, text="; ".join(filter(None, [problem, aside_words(_root(state))])) if problem else "")


def _root(state: RunState) -> Path:
    """Where the run's checkpoints lie."""
    run_dir = Path(state.run.dir if state.run is not None else "")
    return (run_dir / state.checkpoints[-1].path).parent if state.checkpoints else run_dir / "checkpoints"


def shortage(free_bytes: int | None, last_checkpoint_bytes: int, params: int, *, was_short: bool) -> str:
    """Why the next checkpoint may not fit, and what to do; empty when it fits, or when nothing is known.

    free_bytes: of the disk of the checkpoints, None: unknown; last_checkpoint_bytes: 0 before the first; params: of the model,
    0: unknown; was_short: whether the last answer was a shortage.
    """
    needed = last_checkpoint_bytes or BYTES_PER_PARAM * params
    if free_bytes is None or free_bytes >= needed * (CLEAR_MARGIN if was_short else MARGIN):
        return ""
    up_to = "" if last_checkpoint_bytes else "up to "
    missing = size_words(needed * CLEAR_MARGIN - free_bytes)
    return (
        f"the next checkpoint needs {up_to}{size_words(needed)}, and {size_words(free_bytes)} are free: "
        f"make {missing} more room on the disk of the checkpoints, or it may not be saved"
    )
