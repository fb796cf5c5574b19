"""What an edit would do, told before it is sent: the value, the learning rate to the end, the global batch, what is left.

Pure; sends nothing. Computes with `config.hyper`, which the ranks obey. Invariant: what is not known yet is None, and left out
of the words, never guessed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from plt_tui.config.edits import UNDO, Edit, EditMode, last_edit, live_edits
from plt_tui.config.hyper import Layout, fitted, layout_at, lr_at, value_at
from plt_tui.config.knobs import KNOBS, check_edit
from plt_tui.config.schema import DEFAULT_STEPS, RunConfig
from plt_tui.control.state import RunState
from plt_tui.errors import UsageError
from plt_tui.views.formats import format_count, format_duration, format_value

CURVE_POINTS = 60
"""Most steps at which the learning rate is looked at, and characters of a row that draws it."""
_LEVELS = "_.-'\""
"""Heights within one line of text, lowest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """The run from the preview's step on, under one list of edits."""

    value: Any
    """Of the knob; None for a learning rate whose schedule has no known end yet."""
    layout: Layout
    sequences: int | None
    """Of one global batch, all ranks and micro-steps together; None before the ranks have told how many they are."""
    tokens_per_step: int | None
    target_step: int | None
    """Where `[train]` counts tokens or epochs and the edit changes the batch: at most one step too many."""
    steps_left: int | None
    tokens_left: int | None
    eta_s: float | None
    """At the present tokens per second."""
    rates: tuple[float, ...]
    """Learning rates at the preview's steps up to the target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The run as it stands and as it would be."""

    knob: str
    step: int
    """The first step that the edit governs."""
    steps: tuple[int, ...]
    """At most CURVE_POINTS steps, from `step` to the later of the two targets."""
    ends_by: str
    """What ends the run: "steps", "epochs" or "tokens"."""
    before: Outlook
    after: Outlook


def set_edit(config: RunConfig, state: RunState, name: object, value: object, mode: object = "set") -> Edit:
    """The edit that a `set` with these arguments makes now. Raises: UsageError when this run would refuse it."""
    step = state.step + 1
    known, parsed, checked = check_edit(name, value, mode)
    held = fitted(config, state.edits, step, known, parsed, checked)
    return _edit(step, known, held, checked)


def undo_edit(state: RunState, edit_id: str | None = None) -> Edit:
    """The edit that an `undo` of `edit_id`, or of the last edit, makes now. Raises: UsageError when there is none in force."""
    alive = live_edits(state.edits, state.step + 1)
    wanted = last_edit(state.edits) if edit_id is None else next((edit for edit in alive if edit.id == edit_id), None)
    if wanted is None or wanted.name not in KNOBS:
        raise UsageError(f"undo: no edit {edit_id or 'of a knob'} is in force; plt-tui show lists what was changed")
    return _edit(state.step + 1, UNDO, wanted.id)


def _edit(step: int, name: str, value: object, mode: EditMode = "set") -> Edit:
    return Edit(id="preview", step=step, name=name, value=value, mode=mode)


def preview(config: RunConfig, state: RunState, edit: Edit) -> Preview:
    """What `edit`, made by `set_edit` or `undo_edit`, does to the run. Raises: UsageError when no step is left to govern."""
    undone = next((old.name for old in state.edits if edit.name == UNDO and old.id == edit.value), edit.name)
    lists = (state.edits, (*state.edits, edit))
    targets = [_target(config, state, edits) for edits in lists]
    last = max((target for target in targets if target is not None), default=None)
    if last is not None and edit.step > last:
        raise UsageError(f"the last step, {last}, is done; nothing is left to change")
    steps = _spread(edit.step, last) if last is not None else ()
    before, after = (
        _outlook(config, state, edits, undone, target, steps) for edits, target in zip(lists, targets, strict=True)
    )
    train = config.train
    ends_by = "steps" if train.steps else "epochs" if train.epochs else "tokens" if train.tokens else "steps"
    return Preview(knob=undone, step=edit.step, steps=steps, ends_by=ends_by, before=before, after=after)


def _target(config: RunConfig, state: RunState, edits: Sequence[Edit]) -> int | None:
    """The last step under `edits`; None while it depends on a corpus or ranks that have not been heard of."""
    train, run, first = config.train, state.run, state.step + 1
    by_samples = not train.steps and bool(train.epochs or train.tokens)
    if run is None:
        return None if by_samples else train.steps or DEFAULT_STEPS
    now, then = (layout_at(config, held, first).sequences for held in (state.edits, edits))
    if not by_samples or now == then:
        return run.target_step
    return state.step + math.ceil(max(0, run.target_step - state.step) * now / then)


def _spread(first: int, last: int) -> tuple[int, ...]:
    """At most CURVE_POINTS whole numbers from `first` to `last`, both included."""
    count = min(CURVE_POINTS, last - first + 1)
    return tuple(first + (last - first) * place // max(1, count - 1) for place in range(count))


def _outlook(
    config: RunConfig, state: RunState, edits: Sequence[Edit], knob: str, target: int | None, steps: Sequence[int]
) -> Outlook:
    first = state.step + 1
    layout = layout_at(config, edits, first)
    sequences = layout.sequences * state.run.world_size if state.run is not None else None
    tokens_per_step = sequences * config.data.context if sequences is not None else None
    steps_left = max(0, target - state.step) if target is not None else None
    rates = () if target is None else tuple(lr_at(config.optim, target, edits, at) for at in steps if at <= target)
    pace, now = state.pace.seconds_per_step, layout_at(config, state.edits, first).sequences
    return Outlook(
        value=value_at(config, edits, knob, first) if knob != "lr" else next(iter(rates), None),
        layout=layout,
        sequences=sequences,
        tokens_per_step=tokens_per_step,
        target_step=target,
        steps_left=steps_left,
        tokens_left=None if steps_left is None or tokens_per_step is None else steps_left * tokens_per_step,
        eta_s=None if steps_left is None or pace is None else steps_left * pace * layout.sequences / now,
        rates=rates,
    )


def left_now(config: RunConfig, state: RunState) -> str:
    """What is left as the run stands, in the words of `left_words`. Raises: UsageError when the last step is done."""
    return left_words(preview(config, state, _edit(state.step + 1, "lr", 1.0, "scale")))


def to_numbers(seen: Preview) -> dict[str, Any]:
    """The preview as JSON values; null is not known yet."""
    return asdict(seen)


def lines(seen: Preview) -> list[str]:
    """The preview in lines of ASCII for people, a value that is text excepted."""
    told = [change_words(seen), batch_words(seen), left_words(seen)]
    is_drawn = seen.knob == "lr" or seen.before.rates != seen.after.rates
    return [line for line in told if line] + (curve_rows(seen) if is_drawn else [])


def change_words(seen: Preview) -> str:
    """What changes at once: "lr 0.003 -> 0.0003 from step 601 on"."""
    before, after = seen.before, seen.after
    if seen.knob == "lr" and before.value == after.value and before.rates != after.rates:
        ends = f"{value_words(before.rates[-1])} -> {value_words(after.rates[-1])}"
        return f"lr goes on from {value_words(after.value)} at step {seen.step}, {ends} at the last step"
    changes = [_changed(seen.knob, before.value, after.value)]
    if seen.knob in ("batch_size", "accumulate"):
        old, new = asdict(before.layout), asdict(after.layout)
        changes = [_changed(name, old[name], new[name]) for name in old if old[name] != new[name]] or changes
    return f"{', '.join(changes)} from step {seen.step} on"


def _changed(name: str, before: Any, after: Any) -> str:
    old, new = value_words(before), value_words(after)
    return f"{name} {old} -> {new}" if old != new else f"{name} stays {new}"


def value_words(value: Any) -> str:
    """A knob's value as one would type it."""
    match value:
        case None:
            return "?"
        case str():
            return repr(value)
        case tuple() | list():
            return ",".join(map(value_words, value)) or "by size"
        case float():
            return f"{value:.6g}"
        case _:
            return str(value)


def batch_words(seen: Preview) -> str:
    """Whether the global batch is kept, where the edit is about it; else empty."""
    if seen.before.layout == seen.after.layout and seen.knob not in ("batch_size", "accumulate"):
        return ""
    before, after = seen.before, seen.after
    each = before.layout.sequences, after.layout.sequences
    verdict = "kept" if each[0] == each[1] else "changed"
    if before.sequences is None or after.sequences is None or before.tokens_per_step is None or after.tokens_per_step is None:
        return f"global batch {verdict}: {_moved(*each)} sequences per rank"
    tokens = _moved(before.tokens_per_step, after.tokens_per_step)
    return f"global batch {verdict}: {_moved(before.sequences, after.sequences)} sequences, {tokens} tokens"


def _moved(before: int, after: int) -> str:
    return _told(f"{before:,}", f"{after:,}")


def left_words(seen: Preview) -> str:
    """What is left, and where it changes old -> new: "400 steps left, 819k tokens, ETA 1m 00s"; empty while not known."""
    before, after = seen.before, seen.after
    parts = []
    if before.steps_left is not None and after.steps_left is not None:
        parts.append(f"{_moved(before.steps_left, after.steps_left)} steps left")
        if before.steps_left != after.steps_left:
            parts[0] += f" (the run ends by {seen.ends_by})"
    if before.tokens_left is not None and after.tokens_left is not None:
        parts.append(f"{_told(format_count(before.tokens_left), format_count(after.tokens_left))} tokens")
    if before.eta_s is not None and after.eta_s is not None:
        etas = format_duration(before.eta_s), format_duration(after.eta_s)
        parts.append(f"ETA {_told(*etas)}{' at the present tokens/s' if etas[0] != etas[1] else ''}")
    return ", ".join(parts)


def _told(before: str, after: str) -> str:
    return after if before == after else f"{before} -> {after}"


def curve_rows(seen: Preview) -> list[str]:
    """Two rows, the learning rate as it stands and as it would be, to one scale; none while the end is not known."""
    both = (*seen.before.rates, *seen.after.rates)
    if not both:
        return []
    low, high = min(both), max(both)
    cells = len(seen.steps)
    rows = []
    for name, outlook in (("now", seen.before), ("new", seen.after)):
        drawn = "".join(_LEVELS[_level(rate, low, high)] for rate in outlook.rates).ljust(cells)
        ends = f"{format_value(outlook.rates[0])} .. {format_value(outlook.rates[-1])}" if outlook.rates else ""
        rows.append(f"{name}  {drawn}  {ends} at step {outlook.target_step}".rstrip())
    return rows


def _level(rate: float, low: float, high: float) -> int:
    share = (rate - low) / (high - low) if high > low else 0.5
    return min(len(_LEVELS) - 1, int(share * len(_LEVELS)))
