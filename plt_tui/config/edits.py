"""What was changed while the run trained, as a list of values: with the configuration it says everything about every step.

Pure. The list holds one line of the run: a rewind drops what came after its step. Order is the order of application.
Invariant: the same configuration and edits give the same numbers, whichever process folds them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

EditMode = Literal["set", "scale", "replan", "keep"]
SKIP = "skip"
"""Name of an edit that leaves out `value` global batches before its step."""
SKIP_UPDATE = "skip_update"
"""Name of an edit that computes its step without updating the weights; `value` says why."""
UNDO = "undo"
GUARD = "guard"
"""Actor of what the run does by itself when a step goes wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One applied change: governs every step from `step` on until another edit or an undo of `id`."""

    id: str
    step: int
    name: str
    """A knob of KNOBS, "undo", "skip" or "skip_update"; the last two concern their own step only."""
    value: Any
    """The knob's new value; for "undo" the id of the edit that is taken back."""
    mode: EditMode = "set"
    """lr: hold `value` (set), multiply the curve by it (scale), or continue to it at the last step (replan). batch_size and
    accumulate: `value` alone (set), or [batch_size, accumulate] of the same global batch (keep)."""
    actor: str = ""
    """Who asked for it; GUARD for what the run did by itself."""


def live_edits(edits: Sequence[Edit], step: int) -> list[Edit]:
    """The edits in force at `step`, in the order in which they were applied, undone ones left out."""
    undone = {edit.value for edit in edits if edit.name == UNDO and edit.step <= step}
    return [edit for edit in edits if edit.step <= step and edit.name != UNDO and edit.id not in undone]


def last_edit(edits: Sequence[Edit]) -> Edit | None:
    """The edit of a knob that a plain `undo` takes back."""
    alive = live_edits(edits, max((edit.step for edit in edits), default=0))
    return next((edit for edit in reversed(alive) if edit.name not in (SKIP, SKIP_UPDATE)), None)


def rewound(edits: Sequence[Edit], step: int) -> list[Edit]:
    """The edits that are left when the run goes back to the moment at which `step` steps were done."""
    return [edit for edit in edits if edit.step <= step]


def merged(computed: Sequence[Edit], recorded: Sequence[Edit], step: int) -> list[Edit]:
    """The edits of a line that goes on from `step`: those it was `computed` with up to there, the `recorded` ones ahead of it.

    In the order of application, which is the record's: what it does not hold was lost at its end.
    """
    ids = {edit.id for edit in recorded}
    done = {edit.id: edit for edit in computed if edit.step <= step}
    kept = [done.get(edit.id, edit) for edit in recorded if edit.step > step or edit.id in done]
    return [*kept, *(edit for edit in done.values() if edit.id not in ids)]


def left_out(batches: int, step: int, *, id: str, actor: str) -> list[Edit]:  # noqa: A002  (the field's name)
    """What the rewind `id`, which ended at `step`, adds to the edits: it leaves out `batches` global batches, maybe 0."""
    return [Edit(id=id, step=step + 1, name=SKIP, value=batches, actor=actor)] if batches else []


def last_guard_step(edits: Sequence[Edit]) -> int | None:
    """Where the guard last changed the line; None when it never did."""
    return max((edit.step for edit in edits if edit.actor == GUARD), default=None)


def skipped_batches(edits: Sequence[Edit], step: int) -> int:
    """Global batches left out between the steps before `step` and `step`."""
    return sum(int(edit.value) for edit in edits if edit.name == SKIP and edit.step == step)


def skips_update(edits: Sequence[Edit], step: int) -> bool:
    """True when `step` is computed without updating the weights."""
    return any(edit.name == SKIP_UPDATE and edit.step == step for edit in edits)


def edits_from(values: Sequence[Mapping[str, Any]]) -> list[Edit]:
    """Edits as they travel between processes and lie in files."""
    return [Edit(**value) for value in values]


def edits_to(edits: Sequence[Edit]) -> list[dict[str, Any]]:
    """Edits as built-in values."""
    return [asdict(edit) for edit in edits]
