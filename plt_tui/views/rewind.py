"""What a rewind would do, told before it is sent: the states that one can go back to, and which of them a step leads to.

Pure; sends nothing. The ranks go back to the newest state at or before the step asked for, and so does this. Invariant: what is
refused here is what the run would refuse, in the same words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from plt_tui.control.state import RunState
from plt_tui.errors import UsageError
from plt_tui.protocol.commands import check_way_back, only_the_start


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A state that the run can go back to."""

    step: int
    source: Literal["memory", "checkpoint", "start"]
    name: str = ""
    """That a person gave to the checkpoint."""
    time: float = 0.0
    """Unix seconds at which the checkpoint was saved."""

    @property
    def words(self) -> str:
        """Where it lies."""
        named = f'checkpoint "{self.name}"' if self.name else "checkpoint"
        return {"memory": "in memory", "checkpoint": named, "start": "the start"}[self.source]


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """A rewind before it is sent."""

    step: int
    """Completed steps of the run now."""
    to: Place
    """Where it lands."""
    asked_step: int
    skip: int
    """Global batches to leave out from there."""
    branch: int
    """Number of the branch that the steps after `to` become; 0 where no step is taken back."""

    @property
    def words(self) -> str:
        """What it does, in one line of ASCII."""
        left_out = "the next batch is left out" if self.skip == 1 else f"the next {self.skip:,} batches are left out"
        if not self.branch:
            return f"stays at step {self.step}; {left_out}"
        newest = f", the newest state kept at or before {self.asked_step}" if self.to.step < self.asked_step else ""
        lost = self.step - self.to.step
        branch = f"{counted(lost, 'step becomes', 'steps become')} branch {self.branch}"
        words = [f"back from step {self.step} to {self.to.step} ({self.to.words}){newest}", branch]
        return "; ".join([*words, left_out] if self.skip else words)


def counted(number: int, one: str, many: str) -> str:
    """A number with its noun."""
    return f"{number:,} {one if number == 1 else many}"


def places(state: RunState, keep: int) -> list[Place]:
    """What one can go back to, the newest first; `keep`: checkpoints kept on disk beside those with a name.

    A state that is in memory is taken from there, also where it was saved.
    """
    newest_first = sorted(state.checkpoints, key=lambda saved: saved.step, reverse=True)
    on_disk = [saved for place, saved in enumerate(newest_first) if place < keep or saved.name]
    found = {0: Place(step=0, source="start")}
    found |= {saved.step: Place(step=saved.step, source="checkpoint", name=saved.name, time=saved.time) for saved in on_disk}
    in_memory = state.recent.steps if state.recent is not None else []
    found |= {step: Place(step=step, source="memory") for step in in_memory}
    return [found[step] for step in sorted(found, reverse=True) if step <= state.step]


def plan_return(state: RunState, kept: list[Place], step: int, skip: int) -> Return:
    """What a rewind to `step` does, where the `places` are `kept`. Raises: UsageError when the run would refuse it."""
    at = state.step
    check_way_back(step, skip, at)
    if step == at:
        here = Place(step=at, source="memory")
        return Return(step=at, to=here, asked_step=step, skip=skip, branch=0)
    to = next(place for place in kept if place.step <= step)
    if to.source == "start" and step:
        raise UsageError(only_the_start(step))
    return Return(step=at, to=to, asked_step=step, skip=skip, branch=len(state.branches) + 1)
