"""Promises of `control.state` about a steered run: what a rewind leaves, which edits hold, what the guard did."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import reduce
from typing import Any

import pytest

from plt_tui.config.edits import Edit
from plt_tui.control.state import MAX_SPIKES, Branch, RunState, apply
from plt_tui.protocol.events import (
    Checkpoint,
    CommandStatus,
    Eval,
    Event,
    Phase,
    Plan,
    Recent,
    Run,
    Spike,
    Step,
)
from tests.control.said import rewind

RUN = Run(name="a", dir="/a", world_size=2, params=10, target_step=100, time=1000.0, tokens_per_step=8, steps_per_epoch=50.0)


def step(number: int) -> Step:
    """A step of which only the number matters."""
    return Step(step=number, loss=1.0, lr=0.1, grad_norm=1.0, tokens=number * 8, tokens_per_s=5.0, step_ms=9.0)


def evaluation(number: int, loss: float) -> Eval:
    """An evaluation of which only step and loss matter."""
    return Eval(step=number, loss=loss, perplexity=1.0, bits_per_byte=1.0, accuracy=0.5)


def edited(id_: str, number: int, verb: str = "set", *, actor: str = "tui", reason: str = "", **args: Any) -> CommandStatus:
    """A change in force from step `number` on; of the learning rate unless `args` say what."""
    args = args or {"name": "lr", "value": 0.5}
    return CommandStatus(id=id_, name=verb, args=args, actor=actor, status="applied", step=number, reason=reason)


def spike(number: int, act: str) -> Spike:
    """A loss that is out of line."""
    return Spike(step=number, what="loss", value=9.0, z=7.0, act=act)  # type: ignore[arg-type]  # the table's words


def folded(*events: Event) -> RunState:
    """The state after `events`."""
    return reduce(apply, events, RunState())


def ids(state: RunState) -> list[str]:
    """Which edits hold."""
    return [edit.id for edit in state.edits]


def test_a_rewind_leaves_a_branch() -> None:
    """It says which steps, who left them when, what was skipped instead, and the edits that were in force there."""
    state = folded(RUN, edited("a", 3), edited("b", 40), step(50), replace(rewind(20, skip=7, actor="guard"), time=5.0))
    assert state.step == 20
    edits = tuple(Edit(id=id_, step=at, name="lr", value=0.5, actor="tui") for id_, at in (("a", 3), ("b", 40)))
    assert state.branches == (Branch(number=1, id="r", first=21, last=50, time=5.0, actor="guard", skip=7, edits=edits),)


def test_branches_are_numbered_as_they_are_left() -> None:
    """Twice to the same step, and before an earlier rewind: a branch says which steps the run has computed again."""
    first = [RUN, step(50), rewind(20, id_="a"), step(30), rewind(20, id_="b"), step(25)]
    state = folded(*first, rewind(10, id_="c"), step(11))
    assert [(left.number, left.id, left.first, left.last) for left in state.branches] == [
        (1, "a", 21, 50),
        (2, "b", 21, 30),
        (3, "c", 11, 25),
    ]
    assert state.step == 11


def test_a_rewind_says_itself_where_the_run_was() -> None:
    """Who folds the journal alone, or gets the steps again in blocks, has the same branches as the hub."""
    hub = folded(RUN, step(50), rewind(20, 50))
    assert folded(RUN, rewind(20, 50)).branches == folded(RUN, step(20), rewind(20, 50)).branches == hub.branches


def test_a_rewind_to_the_present_step_leaves_no_branch() -> None:
    """It skips batches, and that is all."""
    state = folded(RUN, edited("a", 3), step(20), rewind(20, 20, skip=7))
    assert (state.branches, state.step, state.last_step) == ((), 20, step(20))
    assert state.edits[1:] == (Edit(id="r", step=21, name="skip", value=7, actor="me"),)


def test_only_an_applied_rewind_counts() -> None:
    """One that was asked for, or refused, changes nothing of the line."""
    before = folded(RUN, edited("a", 3), step(20))
    for status in ("requested", "agreed", "refused"):
        assert folded(RUN, edited("a", 3), step(20), replace(rewind(2), status=status)) == replace(
            before, commands=(*before.commands, replace(rewind(2), status=status))
        )


def test_a_rewind_leaves_the_edits_of_later_steps_behind() -> None:
    """Those up to its step stay; a restart, which computes the same steps again, keeps all."""
    edits = [edited(str(number), number) for number in (4, 5, 6, 9)]
    assert ids(folded(*edits, rewind(4))) == ["4"]
    assert ids(folded(*edits, rewind(5))) == ["4", "5"]
    assert ids(folded(*edits, rewind(4, skip=3))) == ["4", "r"]
    assert ids(folded(*edits, replace(RUN, start_step=4))) == ["4", "5", "6", "9"]
    undone = edited("u", 8, "undo", edit="4")
    assert folded(*edits, undone, rewind(4)).edits == folded(*edits[:1]).edits


def test_a_later_rewind_before_a_skip_takes_it_back() -> None:
    """The batches were left out on the line that is left now; those of an earlier step stay left out."""
    skipped = [step(50), rewind(20, skip=3, id_="a"), step(40)]
    assert ids(folded(*skipped, rewind(30, id_="b"))) == ["a"]
    assert ids(folded(*skipped, rewind(20, skip=9, id_="b"))) == ["b"]


def test_an_undo_after_a_rewind() -> None:
    """It takes back an edit of the line that the run is on."""
    state = folded(RUN, edited("a", 3), edited("b", 8), step(9), rewind(5), edited("u", 6, "undo", edit="a"))
    assert [(edit.id, edit.name, edit.value, edit.step) for edit in state.edits] == [("a", "lr", 0.5, 3), ("u", "undo", "a", 6)]


def test_an_edit_id_of_a_branch_is_not_known_any_more() -> None:
    """What was left behind with the branch can be applied to the line again, by whoever asks with the same id."""
    assert ids(folded(edited("a", 8), step(9), rewind(5), edited("a", 6), edited("a", 6))) == ["a"]


@pytest.mark.parametrize(
    ("back_to", "saved", "last_step", "best"),
    [(50, [10, 30, 50], 50, 10), (49, [10, 30], None, 10), (30, [10, 30], None, 10), (10, [10], None, 10), (9, [], None, None)],
)
def test_a_rewind_keeps_what_was_measured_and_saved_up_to_its_step(
    back_to: int, saved: list[int], last_step: int | None, best: int | None
) -> None:
    """What comes after belongs to the branch; an earlier step than the last is not known to the state."""
    past = [
        said
        for number, loss in ((10, 1.0), (30, 2.0), (50, 3.0))
        for said in (step(number), evaluation(number, loss), Checkpoint(step=number, path=f"c{number}"))
    ]
    state = folded(RUN, *past, rewind(back_to))
    assert [checkpoint.step for checkpoint in state.checkpoints] == saved
    measured = [None if value is None else value.step for value in (state.last_step, state.last_eval, state.best_eval)]
    assert measured == [last_step, max(saved, default=None), best]


def test_the_pace_goes_on_after_a_rewind() -> None:
    """The time that the rewind took is no step's, and its lower numbers give no negative time."""
    timed = [replace(step(number), time=1000.0 + number, step_ms=1e3) for number in range(1, 41)]
    again = [replace(step(number), time=5000.0 + number, step_ms=1e3) for number in range(21, 61)]
    assert folded(RUN, *timed, rewind(20), *again).eta_s == pytest.approx(40.0)


def test_a_session_goes_on_with_the_edits_that_it_says() -> None:
    """They replace what was folded; a record that does not say keeps it."""
    edits = [Edit(id="x", step=2, name="betas", value=[0.9, 0.99]), Edit(id="y", step=3, name="skip", value=4, actor="guard")]
    past = [edited("a", 3), step(20)]
    assert folded(*past, replace(RUN, edits=[asdict(edit) for edit in edits])).edits == tuple(edits)
    assert folded(*past, replace(RUN, edits=[])).edits == ()
    assert ids(folded(*past, RUN)) == ["a"]


def test_a_skipped_update_is_an_edit_of_its_step() -> None:
    """The guard's own command, with the reason as its value; only when it is in force."""
    command = edited("g", 33, "skip_update", actor="guard", reason="loss 9 is far off", step=33)
    expected = Edit(id="g", step=33, name="skip_update", value="loss 9 is far off", actor="guard")
    assert folded(command, command).edits == (expected,)
    assert folded(replace(command, status="requested")).edits == ()


def test_spikes_are_counted_and_the_newest_kept() -> None:
    """On all branches: acts are used up even when a rewind leaves the step at which they were done."""
    acts = ["warn", "skip", "warn", "rewind"]
    state = folded(*[spike(number, act) for number, act in enumerate(acts, start=1)], rewind(0, 4))
    assert ([found.act for found in state.spikes], state.num_spikes, state.guard_acts) == (acts, 4, 2)
    state = folded(*[spike(number, "skip") for number in range(MAX_SPIKES + 5)])
    assert (len(state.spikes), state.spikes[0].step, state.num_spikes, state.guard_acts) == (
        MAX_SPIKES,
        5,
        MAX_SPIKES + 5,
        MAX_SPIKES + 5,
    )


def test_a_plan_changes_what_is_to_come() -> None:
    """A new batch size: other steps to go and tokens a step, the same run; before the run there is nothing to change."""
    plan = Plan(step=21, target_step=60, tokens_per_step=16, steps_per_epoch=25.0)
    state = folded(RUN, step(20), plan)
    assert state.run == replace(RUN, target_step=60, tokens_per_step=16, steps_per_epoch=25.0)
    assert state.step == 20
    assert folded(plan).run is None


def test_states_in_memory_are_those_of_these_ranks() -> None:
    """The newest word counts; ranks that start anew have none."""
    recent = Recent(steps=[25, 50], bytes=7, seconds=0.1)
    assert folded(RUN, Recent(steps=[25], bytes=3, seconds=0.1), recent).recent == recent
    assert folded(RUN, recent, Phase(phase="paused")).recent == recent
    assert folded(RUN, recent, replace(RUN, start_step=50)).recent is None
    assert all(folded(RUN, recent, Phase(phase=phase)).recent is None for phase in ("restarting", "hibernated"))


def test_a_hibernated_run_is_not_over() -> None:
    """Its hub waits; nobody may take its folder."""
    state = folded(RUN, Phase(phase="hibernated", reason="by ana"))
    assert (state.phase, state.reason, state.is_over, state.end) == ("hibernated", "by ana", False, None)


def test_what_was_computed_once_is_known_until_a_rewind() -> None:
    """However often ranks begin again behind it; what a rewind leaves is known of its branch only."""
    again = folded(RUN, step(20), replace(RUN, start_step=4), step(5), replace(RUN, start_step=4))
    assert (again.step, again.known_step) == (4, 20)
    assert folded(RUN, step(20), rewind(4, 20), step(5)).known_step == 5


def test_another_batch_keeps_the_tokens_per_second() -> None:
    """The time that is left follows the new batch at once, not after some steps."""
    run = replace(RUN, tokens_per_step=100, target_step=10)
    state = folded(run, *(replace(step(number), step_ms=1e3) for number in (1, 2, 3)))
    assert state.eta_s == pytest.approx(7.0)
    halved = folded(
        *[run],
        *(replace(step(number), step_ms=1e3) for number in (1, 2, 3)),
        Plan(step=4, target_step=17, tokens_per_step=50, steps_per_epoch=1.0),
    )
    assert halved.eta_s == pytest.approx(7.0)
