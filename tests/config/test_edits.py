"""Promises of `config.edits`: one line of a run as a list, and what a rewind makes of it."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from plt_tui.config.edits import (
    GUARD,
    SKIP,
    SKIP_UPDATE,
    Edit,
    edits_from,
    edits_to,
    last_edit,
    last_guard_step,
    left_out,
    live_edits,
    merged,
    rewound,
    skipped_batches,
    skips_update,
)


def _edit(step: int, name: str = "grad_clip", *, id: str = "", actor: str = "ana") -> Edit:  # noqa: A002  (the field's name)
    return Edit(id=id or f"{name} {step}", step=step, name=name, value=1, actor=actor)


def test_a_rewind_keeps_what_was_in_force_at_its_step() -> None:
    """Edits of later steps go, that of the very next step too: it was made after the moment that is gone back to."""
    edits = [_edit(3), _edit(10), _edit(11), _edit(20)]
    assert rewound(edits, 10) == edits[:2]


def test_a_second_rewind_to_the_same_step_forgets_the_first_ones_skip() -> None:
    """Each rewind starts from the same moment."""
    once = [*rewound([_edit(3)], 10), *left_out(5, 10, id="a", actor="ana")]
    assert once == [_edit(3), Edit(id="a", step=11, name=SKIP, value=5, actor="ana")]
    assert rewound(once, 10) == [_edit(3)]
    assert left_out(0, 10, id="b", actor="ana") == []


def test_skips_concern_their_own_step_only() -> None:
    """Batches are left out once, and one update."""
    edits = [Edit(id="a", step=11, name=SKIP, value=5), Edit(id="g", step=13, name=SKIP_UPDATE, value="nan", actor=GUARD)]
    assert [skipped_batches(edits, step) for step in (10, 11, 12)] == [0, 5, 0]
    assert [skips_update(edits, step) for step in (12, 13, 14)] == [False, True, False]
    assert last_guard_step(edits) == 13
    assert last_guard_step(edits[:1]) is None


def test_an_undo_never_takes_back_a_skip() -> None:
    """What was left out cannot be trained on any more; `undo` looks for the last knob."""
    clip = _edit(3)
    assert last_edit([clip, Edit(id="a", step=11, name=SKIP, value=5)]) == clip
    assert last_edit([Edit(id="a", step=11, name=SKIP, value=5)]) is None


def test_an_undone_edit_is_dead_from_its_undo_on() -> None:
    """Before that step it is still in force, for whoever computes that step again."""
    edits = [_edit(3, id="a"), Edit(id="u", step=7, name="undo", value="a")]
    assert [[edit.id for edit in live_edits(edits, step)] for step in (2, 3, 6, 7)] == [[], ["a"], ["a"], []]


@given(values=st.lists(st.tuples(st.integers(1, 100), st.floats(allow_nan=False))))
def test_edits_survive_a_file(values: list[tuple[int, float]]) -> None:
    """Written as JSON and read back they are the same, float bits included."""
    edits = [Edit(id=str(n), step=step, name="lr", value=value, mode="scale") for n, (step, value) in enumerate(values)]
    assert edits_from(json.loads(json.dumps(edits_to(edits)))) == edits


def test_a_line_goes_on_with_its_edits_in_the_order_of_application() -> None:
    """After a crash an edit can be made before one that lies ahead: which of them wins must not change at the next start."""
    ahead, later = _edit(120, id="ahead"), _edit(101, id="later")
    assert merged([ahead, later], [ahead, later], 110) == [ahead, later]
    lost, false = _edit(105, id="lost"), _edit(103, id="false")
    assert merged([ahead, later, lost], [ahead, false, later], 110) == [ahead, later, lost]
