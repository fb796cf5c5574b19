"""plt_tui.views.rewind: which states there are to go back to, and where a rewind would land."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plt_tui.control.state import Branch, RunState
from plt_tui.errors import UsageError
from plt_tui.protocol.events import Checkpoint, Recent
from plt_tui.views.rewind import places, plan_return


def saved(step: int, name: str = "") -> Checkpoint:
    """A checkpoint."""
    return Checkpoint(step=step, path=f"checkpoints/step-{step:08d}", name=name, time=1e9 + step)


AT_523 = RunState(
    step=523,
    recent=Recent(steps=[450, 475, 500], bytes=31 << 20, seconds=0.004),
    checkpoints=(saved(100, "early"), saved(200), saved(300), saved(400), saved(500)),
)


def listed(state: RunState, keep: int = 3) -> list[tuple[int, str]]:
    """Steps and words of the places."""
    return [(place.step, place.words) for place in places(state, keep)]


def test_all_states_are_listed_newest_first() -> None:
    """Memory before disk where both have a step; of unnamed checkpoints those that are kept; and the start."""
    assert listed(AT_523) == [
        (500, "in memory"),
        (475, "in memory"),
        (450, "in memory"),
        (400, "checkpoint"),
        (300, "checkpoint"),
        (100, 'checkpoint "early"'),
        (0, "the start"),
    ]


def test_there_is_always_the_start() -> None:
    """Also before anything was kept."""
    assert listed(RunState()) == [(0, "the start")]


def test_a_state_ahead_of_the_run_is_no_place_to_go_back_to() -> None:
    """After a restart the run is behind states that it knew."""
    assert listed(replace(AT_523, step=460))[0] == (450, "in memory")


@pytest.mark.parametrize(
    ("step", "skip", "words"),
    [
        (500, 30, "back from step 523 to 500 (in memory); 23 steps become branch 1; the next 30 batches are left out"),
        (500, 0, "back from step 523 to 500 (in memory); 23 steps become branch 1"),
        (512, 1, "back from step 523 to 500 (in memory), the newest state kept at or before 512; 23 steps become branch 1; "
         "the next batch is left out"),
        (449, 0, "back from step 523 to 400 (checkpoint), the newest state kept at or before 449; 123 steps become branch 1"),
        (299, 0, 'back from step 523 to 100 (checkpoint "early"), the newest state kept at or before 299; '
         "423 steps become branch 1"),
        (0, 0, "back from step 523 to 0 (the start); 523 steps become branch 1"),
        (523, 30, "stays at step 523; the next 30 batches are left out"),
    ],
)  # fmt: skip
def test_a_rewind_is_told_before_it_is_sent(step: int, skip: int, words: str) -> None:
    """Where it lands, what becomes a branch, what is left out."""
    assert plan_return(AT_523, places(AT_523, 3), step, skip).words == words


def test_one_step_is_one_step() -> None:
    """And the branch has the next number."""
    left = Branch(number=1, id="r1", first=1, last=2, time=0.0, actor="", skip=0, edits=())
    state = replace(AT_523, step=501, branches=(left,))
    assert plan_return(state, places(state, 3), 500, 0).words.endswith("(in memory); 1 step becomes branch 2")


@pytest.mark.parametrize(
    ("step", "said"), [(523, "step 523: the run is there already"), (524, "step 524: the run is at step 523")]
)
def test_a_rewind_that_goes_nowhere_is_refused(step: int, said: str) -> None:
    """With what to give instead."""
    with pytest.raises(UsageError, match=f"{said}; give an earlier step, or a number of batches to leave out"):
        plan_return(AT_523, places(AT_523, 3), step, 0)


def test_nobody_begins_anew_unasked() -> None:
    """What the run would refuse is not offered: below the earliest kept state only step 0 itself is taken."""
    with pytest.raises(UsageError, match="no state at or before step 99 is kept but the start; rewind 0 begins anew"):
        plan_return(AT_523, places(AT_523, 3), 99, 0)
