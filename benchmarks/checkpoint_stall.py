"""How much longer a step takes while a checkpoint is saved beside it, on the quick start with one rank per core.

Steps beside a save are those from the one after the copy to the one in which the manifest came to disk; all others give the
usual step. The copy itself falls between two steps and so counts as part of the later one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.records import read_checkpoints, read_steps, step_seconds
from benchmarks.table import Row, row
from benchmarks.workplace import QUIET, headless, workplace

NAME = "bench"
EVERY = 20
FIRST_STEP = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """A checkpoint of the weights after `step` steps, whole on disk at `saved_s` (Unix seconds)."""

    step: int
    saved_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """What one save cost the steps beside it, seconds above the usual step."""

    worst_s: float
    """Of the slowest of them."""
    total_s: float
    """Of all together."""


def measure(*, quick: bool) -> list[Row]:
    """The stall in steps with its budget, and in milliseconds."""
    steps = 60 if quick else 300
    with workplace() as place:
        place.execute(headless(NAME, *QUIET, f"checkpoint.every={EVERY}", f"train.steps={steps}"))
        folder = place.run_folder(NAME)
        ends_s = [step.time for step in read_steps(folder)]
        saves = [Save(step=saved.step, saved_s=saved.time) for saved in read_checkpoints(folder) if saved.step < steps]
    usual_s, found = stalls(ends_s, saves, FIRST_STEP)
    return [
        row(
            "stall of a step while a checkpoint is saved",
            [stall.worst_s / usual_s for stall in found],
            "steps",
            at_most=1.0,
            budget="≤ one step",
        ),
        row("(the same in milliseconds)", [stall.worst_s * 1e3 for stall in found], "ms"),
        row("(all steps beside one save together)", [stall.total_s * 1e3 for stall in found], "ms"),
        row("(one step away from saves)", [usual_s * 1e3], "ms"),
    ]


def stalls(ends_s: Sequence[float], saves: Sequence[Save], first: int) -> tuple[float, list[Stall]]:
    """The usual seconds of a step from step `first` on, and what each save cost; `ends_s[i]` is the end of step i + 1.

    Every save must have steps after it.
    """
    beside = [_steps_beside(ends_s, save) for save in saves]
    taken = {step for steps in beside for step in steps}
    seconds = dict(enumerate(step_seconds(ends_s, 2, len(ends_s)), start=2))
    usual_s = median(seconds[step] for step in range(first, len(ends_s) + 1) if step not in taken)
    excess = [[seconds[step] - usual_s for step in steps] for steps in beside]
    return usual_s, [Stall(worst_s=max(each), total_s=sum(each)) for each in excess]


def _steps_beside(ends_s: Sequence[float], save: Save) -> range:
    last = next((step for step in range(save.step + 1, len(ends_s)) if ends_s[step - 1] >= save.saved_s), len(ends_s))
    return range(save.step + 1, last + 1)
