"""What one event of a run's record says, in Markdown: the last column of the lab log.

Pure; knows the events, not the document. Invariant: a command has one entry, where it came out, and every text of the record
passes `markdown`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plt_tui.config.edits import SKIP_UPDATE, UNDO
from plt_tui.control.state import Branch
from plt_tui.protocol.events import (
    Alert,
    Checkpoint,
    CheckpointFailed,
    CommandStatus,
    End,
    Eval,
    Event,
    Failed,
    Phase,
    Plan,
    Sample,
    Spike,
)
from plt_tui.views.formats import format_bytes, format_duration, format_value
from plt_tui.views.markdown import code, plain

_FINAL = ("applied", "refused")
_ECHOES = ("running", "paused")
"""Phases that only repeat what a command did."""
_SAMPLE_CHARS = 300
_LATEST_S = 1e11
"""Times from the year 5138 on are none."""


@dataclass(frozen=True, slots=True)
class Fates:
    """What became of every command of a record."""

    asked_at: Mapping[str, float]
    """When it was first heard of, by id."""
    outcomes: Mapping[str, CommandStatus]
    """How it came out, or how far it came."""


def fates(events: Iterable[Event]) -> Fates:
    """Read off the commands of `events`, oldest first."""
    asked_at: dict[str, float] = {}
    outcomes: dict[str, CommandStatus] = {}
    for event in events:
        if isinstance(event, CommandStatus):
            asked_at.setdefault(event.id, event.time)
            if event.id not in outcomes or outcomes[event.id].status not in _FINAL:
                outcomes[event.id] = event
    return Fates(asked_at, outcomes)


def entry(event: Event, known: Fates, branches: Sequence[Branch]) -> str:
    """What `event` says; empty for what has no entry of its own."""
    match event:
        case CommandStatus():
            return _command(event, known, branches) if event is known.outcomes[event.id] else ""
        case Spike():
            z = "" if math.isnan(event.z) else f"; z {event.z:.1f}"
            return f"**spike**: {plain(event.reason or f'{event.what} {event.value:.4g}')}{z}; act: {event.act}"
        case Checkpoint():
            kept = f" {code(event.name)}" if event.name else ""
            took = f"{format_bytes(event.bytes)} in {format_duration(event.seconds)}"
            return f"checkpoint{kept} saved as {code(event.path)}, {took}{_weights(event.weights_sha256)}"
        case CheckpointFailed():
            return f"checkpoint **not saved**{_because(event.reason)}"
        case Failed():
            return f"**rank {event.rank} failed**{_because(event.message)}"
        case Phase() if event.reason and event.phase not in _ECHOES:
            return f"{event.phase}{_because(event.reason)}"
        case Alert():
            return f"{event.level}{_because(event.text)}" if event.text else f"{plain(event.topic)}: all well again"
        case Eval():
            return f"evaluated: {evaluation_words(event)}"
        case Sample():
            text = event.prompt + event.text
            return f"sample: {plain(text[:_SAMPLE_CHARS])}{'…' * (len(text) > _SAMPLE_CHARS)}"
        case Plan():
            return f"a step has {event.tokens_per_step:,} tokens from here on, and the last one is {event.target_step:,}"
        case End():
            return f"**{event.phase}**{_because(event.reason)}; exit code {event.exit_code}{_weights(event.weights_sha256)}"
        case _:
            return ""


def knob_of(status: CommandStatus, known: Fates) -> str:
    """The knob that a `set` or an `undo` is about; empty when the record does not have the edit that is taken back."""
    edit = known.outcomes.get(str(status.args.get("edit", "")), status)
    return str(edit.args.get("name", ""))


def evaluation_words(result: Eval) -> str:
    """The numbers of an evaluation."""
    figures = f"perplexity {format_value(result.perplexity)}, {format_value(result.bits_per_byte)} bits per byte"
    return f"loss {format_value(result.loss)}, {figures}, accuracy {result.accuracy:.1%}"


def mode_words(value: Any, mode: object) -> str:
    """How a knob's new value is meant, where it is not simply the value from then on."""
    return {
        "scale": f" (times {plain(value_words(value))} from there on)",
        "replan": f" (and on to {plain(value_words(value))} at the last step)",
        "keep": " (the same global batch)",
    }.get(str(mode), "")


def left_out_words(skip: Any) -> str:
    """How many batches a rewind left out, to end a sentence with, as plain text; empty for none."""
    return f", {value_words(skip)} {'batch' if str(skip) == '1' else 'batches'} left out" if skip else ""


def value_words(value: Any) -> str:
    """A value of a knob or of a configuration, as plain text."""
    match value:
        case float():
            return f"{value:.6g}"
        case list() | tuple():
            return ", ".join(value_words(item) for item in value)
        case _:
            return str(value)


def value_code(value: Any) -> str:
    """The same in Markdown."""
    return "nothing" if value is None or value in ("", [], ()) else code(value_words(value))


def clock(unix_s: float) -> str:
    """Such as 2026-01-31 14:03:59, UTC; empty when no time was noted."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(unix_s)) if 0 < unix_s < _LATEST_S else ""


def _command(status: CommandStatus, known: Fates, branches: Sequence[Branch]) -> str:
    asked = known.asked_at[status.id]
    waited = f" (asked for at {clock(asked)})" if status.time - asked >= 1.0 else ""
    if status.status == "applied":
        return _done(status, known, branches) + waited
    outcome = f"**refused**{_because(status.reason)}" if status.status == "refused" else "no answer"
    return f"{_request(status)}{waited}: {outcome}"


def _request(status: CommandStatus) -> str:
    """What was asked for."""
    details = [key if value is True else value_words(value) for key, value in status.args.items() if value]
    return plain(" ".join([status.name, *details]))


def _done(status: CommandStatus, known: Fates, branches: Sequence[Branch]) -> str:
    """What an applied command did, with the values before and after it."""
    args = status.args
    match status.name:
        case "set":
            return _change(status, knob_of(status, known), mode_words(args.get("value"), args.get("mode", "set")))
        case name if name == UNDO:
            return f"undo: {_change(status, knob_of(status, known))}"
        case "rewind":
            start = "" if status.before is None else f" from step {plain(value_words(status.before))}"
            skip = plain(left_out_words(args.get("skip")))
            left = next((f"; branch {branch.number} is left" for branch in branches if branch.id == status.id), "")
            return f"**rewind**{start} to step {status.step}{skip}{left}{_own_reason(status)}"
        case "note":
            return f"note: {plain(str(args.get('text', '')))}"
        case name if name == SKIP_UPDATE:
            return f"the update of this step is left out{_because(status.reason)}"
        case _:
            return _request(status) + _because(status.reason)


def _change(status: CommandStatus, knob: str, mode: str = "") -> str:
    if status.before is None and status.after is None:  # older records have it in words only
        return f"{code(knob)} {plain(status.reason)}{mode}"
    return f"{code(knob)} {value_code(status.before)} → {value_code(status.after)}{mode}{_own_reason(status)}"


def _own_reason(status: CommandStatus) -> str:
    """The reason, unless it only repeats the values before and after."""
    return "" if "->" in status.reason else _because(status.reason)


def _because(reason: str) -> str:
    return f": {plain(reason)}" if reason else ""


def _weights(sha256: str) -> str:
    return f", weights {code(sha256)}" if sha256 else ""
