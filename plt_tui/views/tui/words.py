"""What the UI says about a run, in words: states, the life of commands, entries of its story.

Pure: values in, plain text out; no widget, no colour codes (a `tone` names a theme colour). Invariant: no line holds a newline.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

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
)
from plt_tui.views.model import Happening
from plt_tui.views.tui.chart.axis import format_bytes, format_duration

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
    "stop": "stopped at step {step}",
    "note": "note kept at step {step}",
}


def one_line(text: str) -> str:
    """`text` on one line."""
    return " ".join(text.split())


def knob_words(name: object) -> str:
    """A knob's name for people."""
    return "learning rate" if name == "lr" else str(name).replace("_", " ")


def asked(name: str, args: dict[str, object]) -> str:
    """What a command asks for, such as "learning rate x0.5" or "note: looks good"."""
    if name == "set":
        knob, value, mode = knob_words(args.get("name")), args.get("value"), args.get("mode", "set")
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        words = {"scale": f"{knob} ×{shown}", "replan": f"{knob} replanned to end at {shown}"}
        return one_line(words.get(str(mode), f"{knob} = {shown}"))
    if name == "stop" and args.get("now"):
        return "stop without saving"
    detail = next((str(args[key]) for key in ("text", "prompt", "name") if args.get(key)), "")
    return one_line(f"{name}: {detail}" if detail else name)


def command_words(status: CommandStatus) -> Word:
    """Where a command is, in a sentence."""
    match status.status:
        case "requested":
            return Word("◌", f"{asked(status.name, status.args)} requested …", "accent")
        case "agreed":
            return Word("◔", f"{asked(status.name, status.args)} agreed by all ranks …", "accent")
        case "refused":
            reason = one_line(status.reason) or "no reason given"
            return Word("✖", f"{asked(status.name, status.args)} refused: {reason}", "bad")
        case "applied":
            return Word("✔", _applied(status), "good")


def _applied(status: CommandStatus) -> str:
    change = one_line(status.reason).replace("->", "→")
    if status.name in ("set", "undo"):
        what = knob_words(status.args.get("name")) if status.name == "set" else "undo:"
        words = f"{what} {change}" if change else asked(status.name, status.args)
        return f"{words} in force at step {status.step}"
    done = _DONE.get(status.name, f"{status.name} done at step {{step}}").format(step=status.step)
    detail = one_line(str(status.args.get("text") or status.args.get("name") or "")) or change
    return f"{done}: {detail}" if detail else done


def life_words(happening: Happening) -> str:
    """The life of a command so far: "requested → agreed → in force at step 312"."""
    event = happening.event
    if not isinstance(event, CommandStatus):
        return ""
    last = {"applied": f"in force at step {event.step}", "refused": "refused"}
    return " → ".join(last.get(state, state) for state in happening.life)


def story_words(event: Event) -> Word:
    """One entry of the story."""
    match event:
        case CommandStatus():
            return command_words(event)
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
