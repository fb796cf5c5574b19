"""Runs side by side: numbers, first differing step, and what differs in their configurations; or a run beside its branches.

Pure; draws nothing (`table` gives plain text). Invariant: two lines count as alike in a step only when the bits of their losses
are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from plt_tui.config.schema import RunConfig
from plt_tui.control.state import Branch, RunState
from plt_tui.protocol.events import Eval
from plt_tui.protocol.text import safe_line
from plt_tui.views.formats import format_count, format_duration, format_value
from plt_tui.views.model import RunModel, StepTable

MAX_LINES = 8
"""More curves on one chart cannot be told apart."""
CHUNK_ROWS = 4096
"""Steps compared at once."""
_OWN_KEYS = frozenset({"run.name", "run.dir"})
"""Of every run its own, and told elsewhere."""
NONE = "–"
"""Shown where there is no value."""
NUMBERS, CONFIGURATION = "numbers", "configuration"
"""Titles of sections."""

Config: TypeAlias = Mapping[str, Any]
"""Values by "section.key"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of steps: what a run is on, or a branch that it left."""

    name: str
    state: RunState
    steps: StepTable
    evals: Sequence[Eval]
    config: Config
    branch: Branch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """What two lines have in common."""

    num_alike: int
    """Steps that both have, and alike, before the first that differs."""
    differs_at: int | None
    """The first common step whose losses differ in a bit; None: none does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the comparison: rows of a name and one cell for each line."""

    title: str
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def flat(config: RunConfig | None) -> Config:
    """The configuration by "section.key"; empty for None."""
    sections = config.model_dump() if config is not None else {}
    return {f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()}


def lines_of(runs: Sequence[tuple[str, Config, RunModel]]) -> list[Line]:
    """The lines to compare: one of each run; of a single run its branches too, the newest ones."""
    found = [
        Line(name=name, state=model.state, steps=model.steps, evals=model.evals, config=config) for name, config, model in runs
    ]
    if len(runs) == 1:
        model, main = runs[0][2], found[0]
        kept = [left for left in model.state.branches if left.number in model.branches][-(MAX_LINES - 1) :]
        found += [
            Line(
                name=f"branch {left.number}",
                state=model.state,
                steps=model.branches[left.number],
                evals=model.evals_of(left.number),
                config=main.config,
                branch=left,
            )
            for left in kept
        ]
    return found


@dataclass(slots=True)
class _Walk:
    """How far two lines were compared."""

    generations: tuple[int, int]
    """Of the tables then."""
    at: tuple[int, int] = (0, 0)
    """Their first rows that were not."""
    num_alike: int = 0
    differs_at: int | None = None


class Meetings:
    """Where lines begin to differ, by the bits of their losses at the steps that both have.

    A pair that is asked for again is compared from where it was left, unless one of the two was cut.
    """

    def __init__(self) -> None:
        self._walks: dict[tuple[StepTable, StepTable], _Walk] = {}

    def of(self, one: StepTable, other: StepTable) -> Meeting:
        """What the two have in common so far."""
        generations = (one.generation, other.generation)
        walk = self._walks.get((one, other))
        if walk is None or walk.generations != generations:
            walk = self._walks[one, other] = _Walk(generations)
        while walk.differs_at is None and walk.at[0] < len(one) and walk.at[1] < len(other):
            _go_on(walk, one, other)
        return Meeting(num_alike=walk.num_alike, differs_at=walk.differs_at)


def meeting(one: StepTable, other: StepTable) -> Meeting:
    """What two lines have in common, asked for once."""
    return Meetings().of(one, other)


def _go_on(walk: _Walk, one: StepTable, other: StepTable) -> None:
    """Compare some rows more: at once where they are alike, else one by one."""
    if _chunk(one, walk.at[0]) == _chunk(other, walk.at[1]):
        num_rows = min(CHUNK_ROWS, len(one) - walk.at[0])
        alike, walk.at = num_rows, (walk.at[0] + num_rows, walk.at[1] + num_rows)
    else:
        alike, walk.differs_at, walk.at = _met((one, other), walk.at)
    walk.num_alike += alike


def _chunk(table: StepTable, start: int) -> tuple[bytes, ...]:
    """The bits of the steps and losses in some rows from `start` on."""
    return tuple(table.columns[name][start : start + CHUNK_ROWS].tobytes() for name in ("step", "loss"))


def _met(tables: tuple[StepTable, StepTable], at: tuple[int, int]) -> tuple[int, int | None, tuple[int, int]]:
    """Rows from `at` on, one by one, CHUNK_ROWS times: how many steps are alike, the first that is not, and the rows after."""
    (one, other), alike = at, 0
    steps, losses = ([table.columns[name] for table in tables] for name in ("step", "loss"))
    for _ in range(CHUNK_ROWS):
        if one >= len(tables[0]) or other >= len(tables[1]):
            break
        first, second = steps[0][one], steps[1][other]
        if first == second:
            if losses[0][one : one + 1].tobytes() != losses[1][other : other + 1].tobytes():
                return alike, int(first), (one, other)
            alike += 1
        one, other = one + (first <= second), other + (second <= first)
    return alike, None, (one, other)


def differing(configs: Sequence[Config]) -> dict[str, tuple[Any, ...]]:
    """The keys in which the configurations differ, in the schema's order, with the value of each (None where it has none)."""
    keys = dict.fromkeys(itertools.chain.from_iterable(configs))
    rows = {key: tuple(config.get(key) for config in configs) for key in keys if key not in _OWN_KEYS}
    return {key: values for key, values in rows.items() if any(value != values[0] for value in values)}


def last_values(line: Line) -> dict[str, Any]:
    """The newest numbers of a line, exactly; None where there is none."""
    state, newest = line.state, {name: values[-1] for name, values in line.steps.columns.items() if values}
    evaluation, best = _scores_of_branch(line.evals) if line.branch else (state.last_eval, state.best_eval)
    end = state.end if line.branch is None else None
    return {
        "state": state.phase if line.branch is None else "left behind",
        "step": int(newest["step"]) if newest else 0,
        "target_step": state.run.target_step if state.run else 0,
        "tokens": int(newest["tokens"]) if newest else 0,
        "loss": newest.get("loss"),
        "eval_loss": evaluation.loss if evaluation else None,
        "best_eval_loss": best.loss if best else None,
        "best_eval_step": best.step if best else None,
        "lr": newest.get("lr"),
        "grad_norm": newest.get("grad_norm"),
        "tokens_per_s": newest.get("tokens_per_s"),
        "params": state.run.params if state.run else 0,
        "world_size": state.run.world_size if state.run else 0,
        "device": state.run.device if state.run else "",
        "seconds": _seconds(line),
        "edits": len(line.branch.edits if line.branch else state.edits),
        "spikes": state.num_spikes,
        "restarts": state.restarts,
        "weights_sha256": end.weights_sha256 if end else "",
    }


def _scores_of_branch(evals: Sequence[Eval]) -> tuple[Eval | None, Eval | None]:
    """The newest and the best evaluation on a branch itself; a loss that is NaN is never better than one that is a number."""
    best = min(evals, key=lambda scores: (math.isnan(scores.loss), scores.loss), default=None)
    return evals[-1] if evals else None, best


def _seconds(line: Line) -> float | None:
    """From the line's first word to its newest step."""
    times = line.steps.columns["time"]
    if not times:
        return None
    begin = times[0] if line.branch else line.state.started_at or times[0]
    return max(0.0, times[-1] - begin)


def comparison(lines: Sequence[Line]) -> dict[str, Any]:
    """All of it as built-in values: a contract with scripts, keys may be added, never renamed."""
    first, others = lines[0], lines[1:]
    meetings = {line.name: meeting(first.steps, line.steps) for line in others}
    return {
        "names": [line.name for line in lines],
        "config": {
            key: dict(zip((line.name for line in lines), values, strict=True))
            for key, values in differing([line.config for line in lines]).items()
        },
        "first_difference": {
            name: {"from": first.name, "alike_steps": met.num_alike, "step": met.differs_at} for name, met in meetings.items()
        },
        "last": {line.name: last_values(line) for line in lines},
    }


def sections(lines: Sequence[Line], meetings: Meetings | None = None) -> list[Section]:
    """All of it as cells of text, each safe for a terminal; a part without rows is left out.

    meetings: what is known of these lines from the time before.
    """
    found = [
        Section(title=NUMBERS, rows=tuple(_number_rows(lines))),
        Section(title="first difference", rows=tuple(_meeting_rows(lines, meetings or Meetings()))),
        Section(title=CONFIGURATION, rows=tuple(_config_rows(lines))),
    ]
    return [section for section in found if section.rows]


def _number_rows(lines: Sequence[Line]) -> list[tuple[str, tuple[str, ...]]]:
    rows = list(zip(*(_cells(line) for line in lines), strict=True))
    table = [(cells[0][0], tuple(value for _, value in cells)) for cells in rows]
    return [(name, cells) for name, cells in table if any(cell not in (NONE, "0") for cell in cells)]


def _cells(line: Line) -> list[tuple[str, str]]:
    """One line's numbers in words, by name."""
    values, first = last_values(line), line.steps.columns["step"]
    step = f"{values['step']:,}" + (f" / {values['target_step']:,}" if values["target_step"] and not line.branch else "")
    best = f"{format_value(values['best_eval_loss'])} @{values['best_eval_step']:,}" if values["best_eval_step"] else NONE
    number = {
        key: NONE if values[key] is None else format_value(values[key]) for key in ("loss", "eval_loss", "lr", "grad_norm")
    }
    ranks = f"{values['world_size']} on {safe_line(values['device'])}" if values["world_size"] else NONE
    return [
        ("loss", number["loss"]),
        ("eval loss", number["eval_loss"]),
        ("best eval loss", best),
        ("step", step),
        ("steps from", f"{int(first[0]):,}" if first and first[0] != 1 else NONE),
        ("state", values["state"]),
        ("tokens", format_count(values["tokens"])),
        ("tokens/s", NONE if values["tokens_per_s"] is None else format_count(values["tokens_per_s"])),
        ("took", NONE if values["seconds"] is None else format_duration(values["seconds"])),
        ("learning rate", number["lr"]),
        ("gradient norm", number["grad_norm"]),
        ("parameters", format_count(values["params"])),
        ("ranks", ranks),
        ("edits", str(values["edits"])),
        ("spikes", str(values["spikes"])),
        ("restarts", str(values["restarts"])),
        ("weights", safe_line(values["weights_sha256"][:12]) or NONE),
    ]


def _meeting_rows(lines: Sequence[Line], meetings: Meetings) -> list[tuple[str, tuple[str, ...]]]:
    if len(lines) < 2:
        return []
    met = [meetings.of(lines[0].steps, line.steps) for line in lines[1:]]
    where = [f"step {each.differs_at:,}" if each.differs_at is not None else "none" if each.num_alike else NONE for each in met]
    return [
        ("loss differs at", ("(from this)", *where)),
        ("steps alike before", (NONE, *(f"{each.num_alike:,}" for each in met))),
    ]


def _config_rows(lines: Sequence[Line]) -> list[tuple[str, tuple[str, ...]]]:
    rows = differing([line.config for line in lines])
    return [(key, tuple(_value(value) for value in values)) for key, values in rows.items()]


def _value(value: object) -> str:
    """A value of the configuration as one line of text."""
    match value:
        case None:
            return NONE
        case bool():
            return "true" if value else "false"
        case str():
            return safe_line(value) or '""'
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
        case _:
            return safe_line(str(value))


def table(lines: Sequence[Line]) -> str:
    """The comparison as plain text, one column for each line."""
    parts = sections(lines)
    head = ("", *(line.name for line in lines))
    rows = [head, *((name, *cells) for part in parts for name, cells in part.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]

    def written(row: Sequence[str]) -> str:
        return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

    blocks = [[part.title.upper(), *(written((name, *cells)) for name, cells in part.rows)] for part in parts]
    return "\n\n".join("\n".join(block) for block in [[written(head)], *blocks])
