"""What the UI says about a run, in words: states, the life of commands, entries of its story.

Pure: values in, plain text out; no widget, no colour codes (a `tone` names a theme colour). Invariant: no line holds a newline.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

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
    Run,
    RunPhase,
    Spike,
)
from plt_tui.views.formats import format_bytes, format_duration, format_value
from plt_tui.views.model import Happening
from plt_tui.views.preview import value_words
from plt_tui.views.rewind import counted

Tone = Literal["normal", "muted", "accent", "good", "warning", "bad"]

STYLES: dict[Tone, str] = {
    "normal": "$foreground",
    "muted": "$foreground 60%",
    "accent": "$accent",
    "good": "$success",
    "warning": "$warning",
    "bad": "$error",
}
"""Theme colour of each tone."""


@dataclass(frozen=True, slots=True)
class Word:
    """A short text with the glyph and the tone that go with it: never colour alone."""

    glyph: str
    text: str
    tone: Tone


PHASES: dict[RunPhase, Word] = {
    "starting": Word("◌", "starting", "accent"),
    "preparing": Word("◔", "preparing", "accent"),
    "running": Word("●", "training", "good"),
    "paused": Word("‖", "paused", "warning"),
    "hibernated": Word("☾", "hibernated", "warning"),
    "stopping": Word("◑", "stopping", "warning"),
    "restarting": Word("↻", "restarting", "warning"),
    "finished": Word("✔", "finished", "good"),
    "stopped": Word("■", "stopped", "warning"),
    "failed": Word("✖", "failed", "bad"),
}

_DONE = {
    "pause": "paused at step {step}",
    "resume": "resumed at step {step}",
    "checkpoint": "checkpoint taken at step {step}",
    "eval": "evaluated at step {step}",
    "sample": "sample written at step {step}",
    "hibernate": "hibernated at step {step}",
    "stop": "stopped at step {step}",
    "note": "note kept at step {step}",
    "skip_update": "update of step {step} left out",
}
_SPIKE_ACTS = {"warn": "", "skip": "update left out", "lower": "rate lowered", "rewind": "rewound", "stop": "run stopped"}


def one_line(text: str) -> str:
    """`text` on one line."""
    return " ".join(text.split())


def knob_words(name: object) -> str:
    """A knob's name for people."""
    return "learning rate" if name == "lr" else str(name).replace("_", " ")


def asked(name: str, args: Mapping[str, Any]) -> str:
    """What a command asks for, such as "learning rate x0.5" or "note: looks good"."""
    match name:
        case "set":
            return one_line(_asked_value(args))
        case "stop" if args.get("now"):
            return "stop without saving"
        case "rewind":
            return one_line(f"rewind to step {args.get('step')}{_leaving_out(args)}")
        case "skip_update":
            return "leave this update out"
    detail = next((str(args[key]) for key in ("text", "prompt", "name") if args.get(key)), "")
    return one_line(f"{name}: {detail}" if detail else name)


def _asked_value(args: Mapping[str, Any]) -> str:
    knob, value, mode = knob_words(args.get("name")), args.get("value"), str(args.get("mode", "set"))
    if mode == "keep" and isinstance(value, list | tuple):  # as it was applied
        return f"batch size = {value[0]}, accumulate = {value[1]}, same global batch"
    shown = value if isinstance(value, str) else value_words(value)
    words = {
        "scale": f"{knob} ×{shown}",
        "replan": f"{knob} replanned to end at {shown}",
        "keep": f"{knob} = {shown}, same global batch",
    }
    return words.get(mode, f"{knob} = {shown}")


def _leaving_out(args: Mapping[str, Any]) -> str:
    skip = str(args.get("skip") or 0)
    return "" if skip == "0" else f", leaving out {skip} {'batch' if skip == '1' else 'batches'}"


def command_words(status: CommandStatus, ranks: int = 0) -> Word:
    """Where a command is, in a sentence. `ranks`: how many must agree; 0: not known."""
    match status.status:
        case "requested":
            return Word("◌", f"{asked(status.name, status.args)} requested …", "accent")
        case "agreed":
            return Word("◔", f"{asked(status.name, status.args)} agreed by {_all_of(ranks)} …", "accent")
        case "refused":
            reason = one_line(status.reason) or "no reason given"
            return Word("✖", f"{asked(status.name, status.args)} refused: {reason}", "bad")
        case "applied":
            return Word("✔", _applied(status), "good")


def _all_of(ranks: int) -> str:
    """Agreement is of all ranks or none: "2/2 ranks"."""
    return f"{ranks}/{ranks_words(ranks)}" if ranks else "all ranks"


def _applied(status: CommandStatus) -> str:
    change = one_line(status.reason).replace("->", "→")
    if status.name in ("set", "undo"):
        return f"{_new_value(status, change)} in force at step {status.step}"
    if status.name == "rewind":
        return rewound_words(status)
    done = _DONE.get(status.name, f"{status.name} done at step {{step}}").format(step=status.step)
    detail = one_line(str(status.args.get("text") or status.args.get("name") or "")) or change
    return f"{done}: {detail}" if detail else done


def _new_value(status: CommandStatus, change: str) -> str:
    args, value = status.args, status.args.get("value")
    if status.name == "undo":
        return f"undo: {change}" if change else "undo"
    if args.get("mode") == "keep" and isinstance(value, list | tuple) and isinstance(status.before, int) and status.before:
        sequences = value[0] * value[1]
        other = sequences // status.before  # of the same global batch
        batch_size, accumulate = (status.before, other) if args.get("name") == "batch_size" else (other, status.before)
        return f"batch size {batch_size} → {value[0]}, accumulate {accumulate} → {value[1]}, same global batch"
    if args.get("mode") == "replan" or not change:  # a replanned rate leaves from the present one: no change yet
        return asked(status.name, args)
    return f"{knob_words(args.get('name'))} {change}"


def rewound_words(status: CommandStatus) -> str:
    """What an applied rewind did: "back at step 400: steps 401 to 523 are a branch, 30 batches left out"."""
    words = []
    if isinstance(status.before, int) and status.before > status.step:
        words.append(branch_words(status.step + 1, status.before))
    skip = str(status.args.get("skip") or 0)
    if skip.isdigit() and int(skip):
        words.append(f"{counted(int(skip), 'batch', 'batches')} left out")
    done = f"back at step {status.step}"
    return f"{done}: {', '.join(words)}" if words else done


def branch_words(first: int, last: int) -> str:
    """Steps that were left behind, in a sentence."""
    return f"step {first} is a branch" if first == last else f"steps {first} to {last} are a branch"


def spike_words(spike: Spike) -> str:
    """What the guard found and did: "spike: loss 8.210, +9.3 z, rewound"."""
    what = "gradient norm" if spike.what == "grad_norm" else "loss"
    parts = [f"spike: {what} {format_value(spike.value)}" if math.isfinite(spike.value) else f"{what} is {spike.value}"]
    if math.isfinite(spike.z):
        parts.append(f"{spike.z:+.1f} z")
    return ", ".join([*parts, _SPIKE_ACTS[spike.act]] if spike.act != "warn" else parts)


def _spike_story(spike: Spike) -> str:
    """The guard's own words, which tell value and deviation, behind what it did; in short where it gave none."""
    if not spike.reason:
        return spike_words(spike)
    parts = ["spike"] if math.isfinite(spike.value) else []
    parts += [_SPIKE_ACTS[spike.act]] if spike.act != "warn" else []
    return ": ".join([*([", ".join(parts)] if parts else []), one_line(spike.reason)])


def life_words(happening: Happening) -> str:
    """The life of a command so far: "requested → 2/2 ranks agreed → in force at step 312"."""
    event = happening.event
    if not isinstance(event, CommandStatus):
        return ""
    took = "back at" if event.name == "rewind" else "in force at"
    words = {"agreed": f"{_all_of(happening.ranks)} agreed", "applied": f"{took} step {event.step}", "refused": "refused"}
    return " → ".join(words.get(state, state) for state in happening.life)


def story_words(event: Event, ranks: int = 0) -> Word:
    """One entry of the story. `ranks`: how many must agree on a command; 0: not known."""
    match event:
        case CommandStatus():
            return command_words(event, ranks)
        case Checkpoint():
            size = f" · {format_bytes(event.bytes)}" if event.bytes else ""
            kept = f" “{event.name}”" if event.name else ""
            return Word("▪", f"checkpoint{kept} saved at step {event.step}{size} · {format_duration(event.seconds)}", "normal")
        case CheckpointFailed():
            return Word("✖", f"step {event.step} not saved: {one_line(event.reason)}", "bad")
        case Eval():
            return Word(
                "∘", f"evaluated at step {event.step}: loss {event.loss:.4f}, perplexity {event.perplexity:.2f}", "normal"
            )
        case Spike():
            return Word("!", f"step {event.step}: {_spike_story(event)}", "warning")
        case Run():
            start = f"resumed from {event.resumed_from}" if event.resumed_from else "began"
            return Word("▸", f"session {start} at step {event.start_step} with {ranks_words(event.world_size)}", "accent")
        case Phase():
            word = PHASES[event.phase]
            reason = f": {one_line(event.reason)}" if event.reason else ""
            return Word(word.glyph, f"{word.text} at step {event.step}{reason}", word.tone)
        case Failed():
            return Word("✖", f"rank {event.rank} failed at step {event.step}: {one_line(event.message)}", "bad")
        case Alert():
            tone: Tone = "bad" if event.level == "error" else "warning" if event.level == "warning" else "normal"
            return Word("!", one_line(event.text) or f"{event.topic}: all well again", tone if event.text else "good")
        case End():
            word = PHASES[event.phase]
            return Word(word.glyph, f"{word.text} at step {event.step} (exit code {event.exit_code})", word.tone)
        case _:
            return Word("·", event.kind, "muted")


def ranks_words(count: int) -> str:
    """The number of ranks: "1 rank", "2 ranks"."""
    return f"{count} rank" if count == 1 else f"{count} ranks"


def clock_words(unix_s: float) -> str:
    """Local wall-clock time, such as 14:03:59."""
    return time.strftime("%H:%M:%S", time.localtime(unix_s)) if unix_s else "--:--:--"
