"""Whether the next checkpoint fits on its disk, told before it is tried. Pure: reads no disk and sends nothing.

Invariant: the answer does not flap: once space is short, it is short until there is clearly enough of it.
"""

from __future__ import annotations

from plt_tui.control.state import RunState
from plt_tui.protocol.events import Alert

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
    return Alert(topic=TOPIC, text=problem) if bool(problem) != was_short else None


def shortage(free_bytes: int | None, last_checkpoint_bytes: int, params: int, *, was_short: bool) -> str:
    """Why the next checkpoint may not fit, and what to do; empty when it fits, or when nothing is known.

    free_bytes: of the disk of the checkpoints, None: unknown; last_checkpoint_bytes: 0 before the first; params: of the model,
    0: unknown; was_short: whether the last answer was a shortage.
    """
    needed = last_checkpoint_bytes or BYTES_PER_PARAM * params
    if free_bytes is None or free_bytes >= needed * (CLEAR_MARGIN if was_short else MARGIN):
        return ""
    up_to = "" if last_checkpoint_bytes else "up to "
    missing = _size(needed * CLEAR_MARGIN - free_bytes)
    return (
        f"the next checkpoint needs {up_to}{_size(needed)}, and {_size(free_bytes)} are free: "
        f"make {missing} more room on the disk of the checkpoints, or it may not be saved"
    )


def _size(count: float) -> str:
    """Bytes in the unit that leaves three digits: "512 B", "1.53 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} TiB"
