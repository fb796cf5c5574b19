"""The proof that stopping and resuming changes nothing: the same steps computed without a stop and after a resume, bit by bit.

Touches no run: both computations have a folder of their own. Invariant: what is compared was computed by different processes,
which have nothing in common but the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from plt_tui.control.folder import RunFolder
from plt_tui.control.replay import COMPARED, WEIGHTS, Difference, Report, differing
from plt_tui.control.rerun import Job, compute
from plt_tui.protocol.events import Alert, Checkpoint, Event, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What two ways to the same steps gave."""

    first: int
    last: int
    difference: Difference | None
    """The first step that differs: without a stop, and after the resume."""
    because: str
    """Why the resume itself promises no exactness, in its own words; empty when it does."""


async def verify_resume(
    job: Job, start: int, steps: int, folder: RunFolder, *, report: Report = lambda _done, _total: None
) -> Proof:
    """Train from `start` on for `steps` steps, save, and go on for as many; then resume what was saved and compare.

    job: says how and from what to begin, which has `start` completed steps; its end and its saving are set here. folder: of
    this proof alone. Call from the main thread. Raises: what made a rank fail.
    """
    saved, last = start + steps, start + 2 * steps
    through, resumed = _Heard(after=saved), _Heard(after=saved)

    def hear_through(event: Event) -> bool:
        through.hear(event)
        report(max(0, through.step - start), 3 * steps)
        return True

    def hear_resumed(event: Event) -> bool:
        resumed.hear(event)
        report(2 * steps + max(0, resumed.step - saved), 3 * steps)
        return True

    ended = await compute(replace(job, until=last, save_every=saved), folder, hear_through)
    ended_again = await compute(replace(job, until=last, save_every=0, resume=through.checkpoints[saved]), folder, hear_resumed)
    assert ended is not None, "everything was heard"
    assert ended_again is not None, "everything was heard"
    return Proof(
        first=saved + 1,
        last=last,
        difference=_first_difference(through, resumed) or _of_weights(last, ended.weights_sha256, ended_again.weights_sha256),
        because=resumed.doubt,
    )


@dataclass(slots=True, kw_only=True)
class _Heard:
    """What the ranks of one way have said."""

    after: int
    """Steps up to here are not kept."""
    step: int = 0
    steps: dict[int, Step] = field(default_factory=dict)
    checkpoints: dict[int, str] = field(default_factory=dict)
    doubt: str = ""

    def hear(self, event: Event) -> None:
        """Take in what the ranks say."""
        match event:
            case Step(step=step):
                self.step = step
                if step > self.after:
                    self.steps[step] = event
            case Checkpoint(step=step, path=path):
                self.checkpoints[step] = path
            case Alert(topic="resume", text=text):
                self.doubt = text


def _first_difference(through: _Heard, resumed: _Heard) -> Difference | None:
    found = (differing(resumed.steps[step], _numbers(through.steps[step])) for step in sorted(through.steps))
    return next((difference for difference in found if difference is not None), None)


def _numbers(step: Step) -> Mapping[str, float]:
    return {name: float(getattr(step, name)) for name in COMPARED}


def _of_weights(step: int, before: str, now: str) -> Difference | None:
    return None if before == now else Difference(step=step, values={WEIGHTS: (before, now)})
