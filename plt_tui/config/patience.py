"""How long ranks may stand still before the hub starts them again: one rule for the hub, which acts, and views, which count.

Pure; watches nobody. Invariant: no limit is shorter than SILENT_S, in which every healthy rank is heard.
"""

from __future__ import annotations

from collections.abc import Collection

SILENT_S = 3.0
"""A rank whose threads can run says something about once a second. No limit is shorter than this."""
USUAL_STEPS = 10
"""A limit is this many usual steps where they take longer than `control.hang_s`."""
LIKE_A_START = ("rewinding", "ended")
"""What a main thread does in one piece: it reads a checkpoint, or hashes all weights."""


def patience(hang_s: float, start_s: float, *, step_s: float | None, doings: Collection[str]) -> tuple[float, str]:
    """Seconds that a rank may stand still, and why just so many.

    hang_s, start_s: of `[control]`; step_s: what a step usually takes, None before the first; doings: what the ranks do.
    """
    if step_s is None or any(doing in LIKE_A_START for doing in doings):
        return max(SILENT_S, hang_s, start_s), f"control.start_s is {start_s:g}"
    if USUAL_STEPS * step_s > hang_s:
        return max(SILENT_S, USUAL_STEPS * step_s), f"{USUAL_STEPS} median steps are {USUAL_STEPS * step_s:.0f} s"
    return max(SILENT_S, hang_s), f"control.hang_s is {hang_s:g}"
