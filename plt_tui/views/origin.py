"""Where a knob's value in force came from: the configuration, an edit or an undo, made by whom, and since which step.

Pure. Invariant: it names the edit that `config.hyper` takes the value from, or the undo that gave it back.
"""

from __future__ import annotations

from collections.abc import Sequence

from plt_tui.config.edits import UNDO, Edit, live_edits
from plt_tui.config.knobs import KNOBS
from plt_tui.config.schema import RunConfig
from plt_tui.views.preview import value_words

_LAYOUT = ("batch_size", "accumulate")
_DEFAULTS = RunConfig()


def origin_words(config: RunConfig, edits: Sequence[Edit], name: str, step: int) -> str:
    """Where the value of the knob `name` at `step` is from: "default", "configured", "since step 301 · ana"."""
    made = origin(edits, name, step)
    if made is None:
        return _configured(config, name)
    who = f" · {made.actor}" if made.actor else ""
    if made.name == UNDO:
        return f"undone at step {made.step:,}{who}"
    how = {"scale": f"×{value_words(made.value)} ", "replan": "replanned "}.get(made.mode, "")
    return f"{how}since step {made.step:,}{who}"


def origin(edits: Sequence[Edit], name: str, step: int) -> Edit | None:
    """The edit or undo by which the knob came to its value at `step`; None for one that is as configured since the start.

    Of a learning rate that is the newest of all that have made its curve.
    """
    known = [edit for edit in edits if edit.step <= step]
    in_force = [edit for edit in live_edits(known, step) if _sets(edit, name)]
    last = known.index(in_force[-1]) if in_force else -1
    behind = known if name == "lr" else known[last + 1 :]
    hidden = {edit.id for edit in behind if _sets(edit, name)}
    undos = [edit for edit in known[last + 1 :] if edit.name == UNDO and edit.value in hidden]
    return undos[-1] if undos else in_force[-1] if in_force else None


def _sets(edit: Edit, name: str) -> bool:
    """True for an edit of the knob, and for one of the other half of the layout that keeps the global batch."""
    is_both = edit.name in _LAYOUT and isinstance(edit.value, list | tuple)
    return edit.name == name or (is_both and name in _LAYOUT)


def _configured(config: RunConfig, name: str) -> str:
    if name == "lr" and config.optim.schedule != "constant":
        return f"{config.optim.schedule} schedule"
    knob = KNOBS[name]
    given, default = (getattr(getattr(whole, knob.section), knob.key) for whole in (config, _DEFAULTS))
    return "default" if given == default else "configured"
