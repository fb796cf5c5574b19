"""What a run said in words, as short notes for tools that show text beside curves.

Pure. Does not know any tool, and does not decide which notes one shows. Invariant: every text has passed the filter for
untrusted text, so a tool may print it; it is plain text, not Markdown or HTML.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from plt_tui.protocol.events import Alert, CommandStatus, End, Event, Run, Sample, Spike
from plt_tui.protocol.text import safe_line, safe_text

MAX_SAMPLE_CHARS = 20_000
"""Of one sample; tools refuse or choke on texts without a limit."""

NoteKind = Literal["sample", "alert", "rewind", "resume", "spike", "command", "end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One text at one step. `title` is one line."""

    kind: NoteKind
    step: int
    time: float
    """Unix seconds."""
    title: str
    text: str
    level: Literal["info", "warning", "error"] = "info"


def note_of(event: Event, step: int) -> Note | None:
    """`event` in words; None when there is nothing to say. `step`: the newest step before it, for events that name none."""
    match event:
        case Sample():
            text = safe_text(f"{event.prompt}{event.text}"[:MAX_SAMPLE_CHARS])
            return _note(event, "sample", event.step, f"sample after step {event.step}", text)
        case Alert(text=text) if text:
            return _note(event, "alert", step, f"alert: {safe_line(event.topic)}", safe_line(text), event.level)
        case CommandStatus(name="rewind", status="applied"):
            title = f"rewind from step {event.before} to step {event.step}"
            return _note(event, "rewind", event.step, title, _by(event))
        case CommandStatus(name="set" | "undo" | "skip_update" | "note", status="applied"):
            return _note(event, "command", max(0, event.step), f"{event.name} at step {event.step}", _by(event))
        case Run(start_step=start) if start:
            origin = f" from {safe_line(event.resumed_from)}" if event.resumed_from else ""
            return _note(
                event, "resume", start, f"resumed at step {start}{origin}", f"{event.world_size} ranks, {event.device}"
            )
        case Spike():
            title = f"spike of {event.what} at step {event.step}"
            return _note(event, "spike", event.step, title, safe_line(event.reason), "warning")
        case End():
            title = f"{event.phase} at step {event.step}"
            return _note(
                event, "end", event.step, title, safe_line(event.reason), "error" if event.phase == "failed" else "info"
            )
        case _:
            return None


def _note(
    event: Event, kind: NoteKind, step: int, title: str, text: str, level: Literal["info", "warning", "error"] = "info"
) -> Note:
    return Note(kind=kind, step=step, time=event.time, title=title, text=text, level=level)


def _by(command: CommandStatus) -> str:
    arguments = ", ".join(f"{key} = {value}" for key, value in command.args.items())
    reason = f": {command.reason}" if command.reason else ""
    return safe_line(f"{command.name} {arguments}, by {command.actor}{reason}")
