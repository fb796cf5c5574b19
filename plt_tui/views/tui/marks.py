"""What happened to a run as marks on its charts, and in words for the step that somebody points at.

Pure; draws nothing. Invariant: what is marked at a step can be pointed at, and is then told whole: who, when, why, and the
values before and after.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeGuard

from plt_tui.config.edits import GUARD
from plt_tui.control.state import RunState
from plt_tui.protocol.events import Checkpoint, CommandStatus, Eval, Event, Failed, Run, Spike
from plt_tui.views.formats import format_count, format_value
from plt_tui.views.model import Happening, RunModel, newest
from plt_tui.views.preview import value_words
from plt_tui.views.tui.chart.scene import Mark
from plt_tui.views.tui.words import Word, asked, clock_words, one_line, spike_words, story_words

MAX_MARKS = 200
NEIGHBOURS = 20
"""Steps on each side of a mark over which the loss before and after it is averaged."""

_COMMAND_GLYPHS = {
    "set": "L",
    "undo": "U",
    "pause": "P",
    "resume": "R",
    "note": "N",
    "sample": "S",
    "eval": "V",
    "stop": "Q",
    "rewind": "↶",
    "hibernate": "H",
    "skip_update": "G",
}
_GUARD_GLYPH = "G"


def marks(happenings: Iterable[Happening]) -> list[Mark]:
    """Marks of the newest interventions, checkpoints, resumes, failures and spikes, by step; checkpoints make room first.

    Of what happened on a branch only spikes and rewinds are marked: they are why the run is not on it any more.
    """
    found = newest(_marked(happenings), MAX_MARKS, lambda pair: pair[1])
    return sorted((mark for mark, _ in found), key=lambda mark: mark.x)


def next_mark(marked: Iterable[Mark], pointed: int | None, direction: int) -> int | None:
    """The step of the next mark (direction 1) or of the one before (-1); from nowhere the first or the last one.

    None: there is none on that side.
    """
    steps = sorted({int(mark.x) for mark in marked}, reverse=direction < 0)
    return next((step for step in steps if pointed is None or (step - pointed) * direction > 0), None)


def point_words(model: RunModel, step: int) -> Word:
    """All that is known of `step`: what is marked there with who, when, why and what it changed, else its numbers."""
    happened = [event for mark, event in _marked(model.happenings.values()) if mark.x == step]
    if not happened:
        return Word("▸", f"step {step:,}: {_numbers(model, step)}", "accent")
    heaviest = max(happened, key=_weight)
    told = [_told(event, model.state) for event in sorted(happened, key=lambda event: event is not heaviest)]
    lines = {branch_of(model.state, event) for event in happened if isinstance(event, CommandStatus | Spike)}
    around = _around(model, step, lines.pop()) if len(lines) == 1 else ""
    return Word("▸", " · ".join([*told, *([around] if around else [])]), story_words(heaviest).tone)


def pointed_branch(model: RunModel, step: int) -> int:
    """The branch of the newest spike that is marked at `step`; 0: the line that the run is on, or no spike.

    Steps of one number can have been computed often, from other batches.
    """
    events = (happening.event for happening in reversed(model.happenings.values()))
    spike = next((event for event in events if isinstance(event, Spike) and event.step == step), None)
    return branch_of(model.state, spike) if spike is not None else 0


def pointed_moment(model: RunModel, step: int) -> float | None:
    """Unix seconds at which the step that `step` points at ended, or the last known one before it; None: there is none."""
    line = model.line(pointed_branch(model, step))
    return line.time_at(step) if line is not None else None


def branch_of(state: RunState, event: Spike | CommandStatus) -> int:
    """The first branch that holds the event's step as it was when that happened; 0 for the line that the run is on."""
    for branch in state.branches:
        if branch.first <= event.step <= branch.last and event.time <= branch.time:
            return branch.number
    return 0


def _marked(happenings: Iterable[Happening]) -> list[tuple[Mark, Event]]:
    """What is marked, in the order in which it happened."""
    events = [happening.event for happening in happenings]
    rewinds = [(event.time, event.step) for event in events if _is_rewind(event)]
    found = []
    for event in events:
        mark = _mark(event)
        is_left = any(event.time <= time and mark is not None and mark.x > step for time, step in rewinds)
        if mark is not None and (not is_left or _is_rewind(event) or isinstance(event, Spike)):
            found.append((mark, event))
    return found


def _is_rewind(event: Event) -> TypeGuard[CommandStatus]:
    return isinstance(event, CommandStatus) and event.name == "rewind" and event.status == "applied"


def _mark(event: Event) -> Mark | None:
    moment = event.time
    match event:
        case CommandStatus(status="applied", step=step) if step >= 0 and event.name in _COMMAND_GLYPHS:
            is_own_act = event.actor == GUARD and event.name != "rewind"
            by = f" by the {GUARD}" if event.actor == GUARD else ""
            glyph = _GUARD_GLYPH if is_own_act else _COMMAND_GLYPHS[event.name]
            label = f"{asked(event.name, event.args)}{by}"
            return Mark(step, glyph, label, "warning", 3 if event.name == "rewind" else 1, moment)
        case Spike(step=step):
            return Mark(step, "!", spike_words(event), "warning", 2, moment)
        case Checkpoint(step=step, name=name):
            return Mark(step, "C", f"checkpoint {name}".strip(), "foreground", time=moment)
        case Run(start_step=step) if step > 0:
            return Mark(step, "↻", "resumed", "warning", 1, moment)
        case Failed(step=step, rank=rank):
            return Mark(step, "✖", f"rank {rank} failed", "error", 2, moment)
        case _:
            return None


def _weight(event: Event) -> int:
    mark = _mark(event)
    return mark.weight if mark is not None else 0


def _told(event: Event, state: RunState) -> str:
    """One event, first when and who; its own sentence has the why."""
    words = story_words(event).text
    actor = one_line(event.actor) if isinstance(event, CommandStatus) else ""
    if isinstance(event, CommandStatus) and event.name in ("set", "undo") and event.before is not None and "→" not in words:
        words = f"{words}, {value_words(event.before)} → {value_words(event.after)}"
    branch = branch_of(state, event) if isinstance(event, Spike) else 0
    left = [f"on branch {branch}"] if branch else []
    return " · ".join([*([clock_words(event.time)] if event.time else []), *([actor] if actor else []), words, *left])


def _numbers(model: RunModel, step: int) -> str:
    """The step's own numbers, and those of its evaluation."""
    row = model.steps.row_of(step)
    if row is None:
        return "not known on the line that the run is on"
    columns = {name: values[row] for name, values in model.steps.columns.items()}
    parts = [
        clock_words(columns["time"]),
        f"loss {format_value(columns['loss'])}",
        f"rate {format_value(columns['lr'])}",
        f"gradient {format_value(columns['grad_norm'])}",
        f"{format_count(columns['tokens_per_s'])} tokens/s",
    ]
    scores = next((scores for scores in reversed(model.evals) if scores.step == step), None)
    return " · ".join([*parts, *([_scores(scores)] if scores is not None else [])])


def _scores(scores: Eval) -> str:
    return f"eval loss {format_value(scores.loss)}, accuracy {scores.accuracy:.1%}"


def _around(model: RunModel, step: int, branch: int) -> str:
    """The mean loss before and after, over a few steps: `step` itself was computed before what happened there had an effect."""
    line = model.line(branch)
    row = line.row_of(step) if line is not None else None
    if line is None or row is None:
        return ""
    losses = line.columns["loss"]
    before = _mean(losses[max(0, row + 1 - NEIGHBOURS) : row + 1])
    after = _mean(losses[row + 1 : row + 1 + NEIGHBOURS])
    return f"loss {format_value(before)} → {format_value(after)}" if not math.isnan(before + after) else ""


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else math.nan
