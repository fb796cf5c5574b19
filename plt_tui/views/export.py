"""What somebody takes out of a view: the numbers of a run as CSV, and the line that goes into the clipboard.

Pure text; writes no file. Invariant: every number in the CSV reads back to the same bits.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

from plt_tui.control.state import RunState
from plt_tui.protocol.events import STEP_COLUMNS, Eval
from plt_tui.views.formats import format_count, format_duration, format_value
from plt_tui.views.model import RunModel, StepTable

SCORES = ("loss", "perplexity", "bits_per_byte", "accuracy")
"""Fields of an evaluation, in the CSV with "eval_" before."""
CSV_HEAD = ("branch", "step", *(name for name in STEP_COLUMNS if name != "step"), *(f"eval_{name}" for name in SCORES))
"""branch 0 is the line that the run is on; the others are those that rewinds left, by number."""
MAX_COPY_BYTES = 50_000
"""Terminals take about 74,000 characters of base64 in one OSC 52 (xterm, tmux)."""

_ROWS_PER_PIECE = 4096
_COUNTS = ("step", "tokens")
"""Whole numbers."""

Columns = Mapping[str, "array[float]"]


def csv_pieces(model: RunModel) -> Iterator[str]:
    """All steps and evaluations as CSV, one row for each step, in pieces of some thousand rows.

    What the model holds now is copied before this returns: the pieces may be made in another thread while it grows.
    """
    lines = [(0, model.steps), *sorted(model.branches.items())]
    parts = [(number, _copied(table), list(model.evals_of(number))) for number, table in lines]
    return _written(parts)


def _copied(table: StepTable) -> Columns:
    return {name: values[:] for name, values in table.columns.items()}


def _written(parts: Sequence[tuple[int, Columns, Sequence[Eval]]]) -> Iterator[str]:
    yield ",".join(CSV_HEAD) + "\n"
    for number, columns, evals in parts:
        rows = _rows(number, columns, evals)
        while piece := [row for row, _ in zip(rows, range(_ROWS_PER_PIECE), strict=False)]:
            yield "\n".join(piece) + "\n"


def _rows(number: int, columns: Columns, evals: Sequence[Eval]) -> Iterator[str]:
    """Rows by step; an evaluation stands in the row of its step, and in one of its own where there is no such step."""
    scores = {scored.step: scored for scored in evals}
    alone = sorted(scores.keys() - {int(step) for step in columns["step"]}) if scores else []
    names = [name for name in CSV_HEAD[1:] if name in STEP_COLUMNS]
    for values in zip(*(columns[name] for name in names), strict=True):
        step = int(values[0])
        while alone and alone[0] < step:
            yield _lonely(number, scores[alone.pop(0)])
        cells = [_cell(name, value) for name, value in zip(names, values, strict=True)]
        yield ",".join([str(number), *cells, *_score_cells(scores.get(step))])
    for step in alone:
        yield _lonely(number, scores[step])


def _lonely(number: int, scored: Eval) -> str:
    known = {"branch": str(number), "step": str(scored.step), "time": repr(scored.time)}
    cells = [known.get(name, "") for name in CSV_HEAD[: -len(SCORES)]]
    return ",".join([*cells, *_score_cells(scored)])


def _score_cells(scored: Eval | None) -> list[str]:
    return [repr(getattr(scored, name)) if scored is not None else "" for name in SCORES]


def _cell(name: str, value: float) -> str:
    return str(int(value)) if name in _COUNTS else repr(value)


def step_line(name: str, steps: StepTable, evals: Sequence[Eval], step: int, *, branch: int = 0) -> str:
    """The numbers of one step, exactly: "quickstart step 600: loss=1.601 lr=0.0012 ..."; empty where there are none.

    branch: the one that `steps` and `evals` are of; 0: the line that the run is on.
    """
    row = bisect_left(steps.columns["step"], step)
    numbers, scores = {}, {}
    if row < len(steps) and steps.columns["step"][row] == step:
        numbers = {key: _cell(key, steps.columns[key][row]) for key in STEP_COLUMNS if key not in ("step", "time")}
    for scored in evals:
        if scored.step == step:
            scores = {f"eval_{key}": repr(getattr(scored, key)) for key in SCORES}
    values = " ".join(f"{key}={value}" for key, value in {**numbers, **scores}.items())
    where = f"step {step} on branch {branch}" if branch else f"step {step}"
    return f"{name} {where}: {values}" if values else ""


def summary_line(name: str, state: RunState, now: float) -> str:
    """A run in a line for people: "quickstart: running, step 600 of 1,000, loss 1.601, eval loss 1.787, 13.6k tokens/s"."""
    parts = [state.phase, f"step {state.step:,}" + (f" of {state.run.target_step:,}" if state.run is not None else "")]
    if state.last_step is not None:
        parts.append(f"loss {format_value(state.last_step.loss)}")
    if state.last_eval is not None:
        parts.append(f"eval loss {format_value(state.last_eval.loss)}")
    if state.last_step is not None and not state.is_over:
        parts.append(f"{format_count(state.last_step.tokens_per_s)} tokens/s")
    if state.run is not None:
        until = state.end.time if state.end is not None and state.end.time else now
        parts.append(f"after {format_duration(max(0.0, until - state.session_at))}")
    return f"{name}: {', '.join(parts)}"


def clipped(text: str) -> str:
    """As much of `text` as a terminal takes for its clipboard, in whole characters."""
    return text.encode()[:MAX_COPY_BYTES].decode(errors="ignore")
