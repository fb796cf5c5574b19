"""The lab log of a run as a Markdown document, and its curves as a picture: a logbook that nobody had to keep.

Pure: values in, text out; times are UTC. Reads no file and asks no hub. Invariant: every event of the record has a row, in the
order in which it happened, and no text of the record reaches the document but through `markdown` and `svg`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any
from urllib.parse import quote

from plt_tui.config.edits import GUARD, UNDO, Edit, live_edits
from plt_tui.config.knobs import KNOBS
from plt_tui.protocol.events import FINAL_PHASES, CommandStatus, End, Event, Failed, Phase, Run, Spike
from plt_tui.views.entries import (
    Fates,
    clock,
    entry,
    evaluation_words,
    fates,
    knob_of,
    left_out_words,
    mode_words,
    value_code,
    value_words,
)
from plt_tui.views.formats import format_count, format_duration, format_value
from plt_tui.views.markdown import code, plain, table
from plt_tui.views.model import RunModel
from plt_tui.views.svg import Mark, picture

_SPENT = {"running": "training", "stopping": "saving", "restarting": "starting", "preparing": "starting"}
"""What the time in a phase goes to, where the phase's own name does not say it."""
_SHAPE = {"model.layers": "layers", "model.width": "wide", "model.heads": "heads", "data.context": "tokens of context"}
"""What is said of the model's shape, by key of the configuration."""
_BRANCH_COLUMNS = ("branch", "steps", "loss", "left at", "by", "batches left out instead", "edits on it")


def lab_log(events: Sequence[Event], model: RunModel, curves_file: str = "") -> str:
    """The document. events: all of the record but steps, oldest first. model: the same events and the steps, folded.

    curves_file: path of the picture as seen from the document; empty: there is none.
    """
    run = model.state.run
    name = code(run.name) if run is not None else "a run that has not begun to train"
    lines = [f"# Lab log of {name}", ""]
    lines += table(("", ""), ([what, words] for what, words in _head(events, model) if words))
    lines += [f"![Loss, learning rate and gradient norm over the steps]({quote(curves_file)})", ""] if curves_file else []
    lines += ["## What happened", "", "Times are UTC.", ""]
    lines += _story(events, model)
    lines += _section("Branches that rewinds left", _branch_rows(model), _BRANCH_COLUMNS)
    lines += _section("Edits in force", _edit_rows(model), ("knob", "configured", "now", "since step", "by"))
    return "\n".join(lines)


def curves(events: Sequence[Event], model: RunModel) -> str:
    """The picture, as SVG. Arguments as of `lab_log`."""
    run, state = model.state.run, model.state
    size = f"{format_count(run.params)} parameters, {_ranks(run)}, " if run is not None else ""
    target = f" of {run.target_step}" if run is not None else ""
    return picture(
        title=run.name if run is not None else "",
        subtitle=f"{size}{_last_step(model)}{target} steps: {state.phase}",
        line=model.steps.columns,
        branches=[steps.columns for _, steps in sorted(model.branches.items())],
        evals=[(result.step, result.loss) for result in model.evals],
        marks=_marks(events),
    )


def _head(events: Sequence[Event], model: RunModel) -> Iterator[tuple[str, str]]:
    """What the run is, and what became of it: name and Markdown of each line, empty where nothing is known."""
    state = model.state
    run, end, steps = state.run, state.end, model.steps.columns
    if run is not None:
        yield from _setting(run)
    yield "started", f"{clock(state.started_at)} UTC"
    yield "lasted", _lasted(events, model)
    if steps["step"]:
        target = f" of {run.target_step:,}" if run is not None else ""
        yield "steps", f"{_last_step(model):,}{target}, {format_count(steps['tokens'][-1])} tokens"
        lowest = min(filter(math.isfinite, steps["loss"]), default=math.nan)
        yield "training loss", f"last {format_value(steps['loss'][-1])}, lowest {format_value(lowest)}"
    for which, result in (("last evaluation", state.last_eval), ("best evaluation", state.best_eval)):
        if result is not None:
            yield which, f"{evaluation_words(result)}, at step {result.step}"
    yield "happened", _counts(events, model)
    yield "state", plain(f"{state.phase}: {state.reason}" if state.reason else state.phase)
    if end is not None:
        yield "exit code", str(end.exit_code)
        yield "weights", code(end.weights_sha256)


def _setting(run: Run) -> Iterator[tuple[str, str]]:
    """What was trained, on what, and where, in the last session."""
    config = _flat(run.config)
    shape = [f"{value_words(config[key])} {word}" for key, word in _SHAPE.items() if key in config]
    yield "model", plain(", ".join([f"{run.params:,} parameters", *shape]))
    corpora = [value_words(config["data.train"])] if "data.train" in config else []
    tokens = f"{run.train_tokens:,} tokens to train on, {run.eval_tokens:,} held out, vocabulary of {run.vocab_size:,}"
    yield "data", plain(": ".join([*corpora, tokens]))
    yield "ranks", plain(_ranks(run))
    yield "environment", ", ".join(f"{plain(key)} {value_code(value)}" for key, value in run.environment.items() if value)
    yield "folder", code(run.dir)


def _counts(events: Sequence[Event], model: RunModel) -> str:
    """How often something was done to the run."""
    done = [status.name for status in fates(events).outcomes.values() if status.status == "applied"]
    counts = {
        "edits": done.count("set"),
        "undone": done.count("undo"),
        "rewinds": done.count("rewind"),
        "spikes": sum(isinstance(event, Spike) for event in events),
        "acts of the guard": model.state.guard_acts,
        "restarts": model.state.restarts,
        "notes": done.count("note"),
    }
    return ", ".join(f"{what}: {count}" for what, count in counts.items() if count)


def _lasted(events: Sequence[Event], model: RunModel) -> str:
    """The time from the first event to the last, and what it went to."""
    times = [event.time for event in events if event.time] + list(model.steps.columns["time"][-1:])
    if not times:
        return ""
    entered = [(event.time, event.phase) for event in events if isinstance(event, Phase | End) and event.time]
    spent: defaultdict[str, float] = defaultdict(float)
    for (start, phase), (stop, _) in pairwise([*entered, (max(times), "")]):
        spent["ended" if phase in FINAL_PHASES else _SPENT.get(phase, phase)] += max(0.0, stop - start)
    parts = [f"{what} {format_duration(seconds)}" for what, seconds in spent.items() if seconds >= 1.0]
    whole = format_duration(max(times) - min(times))
    return f"{whole} ({', '.join(parts)})" if parts else whole


def _story(events: Sequence[Event], model: RunModel) -> list[str]:
    """Every event in order, in a table for each session; what came before the first one has a table without a heading."""
    known, branches = fates(events), model.state.branches
    starts = [index for index, event in enumerate(events) if isinstance(event, Run)]
    lines: list[str] = []
    before: Run | None = None
    for number, (start, stop) in enumerate(pairwise([0, *starts, len(events)])):
        begin = events[start] if number else None
        if isinstance(begin, Run):
            lines += _session_head(number, begin, before)
            before = begin
        rows = ((event, entry(event, known, branches)) for event in events[start:stop])
        lines += table(("time", "step", "by", "what"), (_row(event, words) for event, words in rows if words))
    return lines


def _row(event: Event, words: str) -> Sequence[str]:
    step = getattr(event, "step", -1)
    who = event.actor if isinstance(event, CommandStatus) else GUARD if isinstance(event, Spike) else ""
    return clock(event.time), str(step) if step >= 0 else "", plain(who), words


def _session_head(number: int, begin: Run, before: Run | None) -> list[str]:
    resumed = f", resumed from {code(begin.resumed_from)}" if begin.resumed_from else ""
    lines = [f"### Session {number}: {clock(begin.time)}", ""]
    lines += [f"It begins after step {begin.start_step} with {plain(_ranks(begin))}{resumed}.", ""]
    if before is not None:
        changes = [f"- {line}" for line in _changes(before, begin)]
        lines += [*(changes or ["Environment and configuration are as before."]), ""]
    return lines


def _changes(before: Run, now: Run) -> list[str]:
    """What is not as it was in the session before."""
    pairs = [("environment", _surroundings(before), _surroundings(now))]
    if before.config and now.config:  # older records hold none
        pairs.append(("configuration", _flat(before.config), _flat(now.config)))
    return [
        f"{what} changed: {code(key)} {value_code(old.get(key))} → {value_code(new.get(key))}"
        for what, old, new in pairs
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]


def _surroundings(run: Run) -> dict[str, Any]:
    return {"ranks": run.world_size, "device": run.device, **_flat(run.environment)}


def _section(title: str, rows: Iterable[Sequence[str]], columns: Sequence[str]) -> list[str]:
    lines = table(columns, rows)
    return [f"## {title}", "", *lines] if lines else []


def _branch_rows(model: RunModel) -> Iterator[Sequence[str]]:
    for branch in model.state.branches:
        steps = model.branches.get(branch.number)
        losses = steps.columns["loss"] if steps is not None else ()
        ends = f"{format_value(losses[0])} → {format_value(losses[-1])}" if losses else "not in the record"
        edited = ", ".join(code(name) for name in dict.fromkeys(e.name for e in branch.edits if e.step >= branch.first))
        place = (str(branch.number), f"{branch.first} to {branch.last}", ends)
        yield *place, clock(branch.time), plain(branch.actor), str(branch.skip), edited


def _edit_rows(model: RunModel) -> Iterator[Sequence[str]]:
    """The knobs that are not as configured, at the step after the last."""
    state, rates = model.state, model.steps.columns["lr"]
    config = _flat(state.run.config) if state.run is not None else {}
    newest: dict[str, Edit] = {edit.name: edit for edit in live_edits(state.edits, _last_step(model) + 1)}
    for name, edit in newest.items():
        if name in KNOBS:
            configured = config.get(f"{KNOBS[name].section}.{KNOBS[name].key}")
            now = rates[-1] if name == "lr" and rates else edit.value
            meant = mode_words(edit.value, edit.mode)
            yield code(name), value_code(configured), value_code(now) + meant, str(edit.step), plain(edit.actor)


def _marks(events: Sequence[Event]) -> Iterator[Mark]:
    """What the picture points at."""
    known, cause, has_begun = fates(events), "", False
    for event in events:
        match event:
            case CommandStatus(status="applied") if event is known.outcomes[event.id]:
                yield from _command_mark(event, known)
            case Spike():
                yield Mark(step=event.step, kind="spike", text=f"{event.act}: {event.reason or event.what}")
            case Failed():
                cause = cause or f" after rank {event.rank} failed: {event.message}"
            case Run():
                if has_begun:
                    yield Mark(step=event.start_step, kind="restart", text=f"new session{cause}")
                cause, has_begun = "", True


def _command_mark(status: CommandStatus, known: Fates) -> Iterator[Mark]:
    if status.name == "rewind":
        skip = left_out_words(status.args.get("skip"))
        yield Mark(step=status.step, kind="rewind", text=f"back from step {status.before}{skip} ({status.actor})")
    elif status.name in ("set", UNDO):
        what = f"{'undo: ' if status.name == UNDO else ''}{knob_of(status, known)}"
        change = status.reason if status.after is None else f"{value_words(status.before)} → {value_words(status.after)}"
        yield Mark(step=status.step, kind="edit", text=f"{what} {change} ({status.actor})")


def _ranks(run: Run) -> str:
    return f"{run.world_size} {'rank' if run.world_size == 1 else 'ranks'} on {run.device.partition(':')[0]}"


def _last_step(model: RunModel) -> int:
    return int(model.steps.columns["step"][-1]) if len(model.steps) else 0


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of nested mappings by their dotted names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
