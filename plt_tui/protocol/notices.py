"""Which events a person is called for, and in what words: the same for the bell, the desktop and the webhook.

Pure: sends nothing, and reads no clock. Invariant: the text of a notice is one line of at most MAX_CHARS harmless characters,
whatever a rank, a file or an exception had to say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from plt_tui.protocol.events import Alert, CheckpointFailed, End, Event, Phase, Spike
from plt_tui.protocol.text import safe_line

Kind = Literal["finish", "crash", "nan", "spike", "plateau", "disk", "gpu"]
"""As `alerts.on` of the configuration names them."""
Level = Literal["info", "warning", "error"]

MAX_CHARS = 300
GAP_S = 10.0
"""Least time between two notices of one kind."""
_TOPICS: Mapping[str, Kind] = {"plateau": "plateau", "disk": "disk", "record": "disk", "gpu": "gpu"}
"""Alerts that call a person, by topic: no better loss, little space, a record that cannot be written, a GPU that is held back.
One of level "info" calls nobody."""
_ACTS = {"warn": "", "skip": "; update left out", "lower": "; rate lowered", "rewind": "; rewound", "stop": "; run stopped"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something to call a person for."""

    kind: Kind
    level: Level
    text: str
    """Without the name of the run."""
    time: float
    """Unix seconds."""
    is_last: bool = False
    """Nothing comes after it: the run has ended."""


def notice_of(event: Event) -> Notice | None:
    """What `event` is to a person who is somewhere else; None for what can wait until somebody looks."""
    match event:
        case End(phase="failed"):
            text = f"failed at step {event.step} (exit code {event.exit_code}): {event.reason}"
            return _notice("crash", "error", text, event, is_last=True)
        case End():
            return _notice("finish", "info", f"{event.phase} at step {event.step}: {event.reason}", event, is_last=True)
        case Phase(phase="failed"):  # its hub died without a word
            return _notice("crash", "error", f"failed at step {event.step}: {event.reason}", event, is_last=True)
        case Phase(phase="restarting"):
            return _notice("crash", "warning", f"ranks start again after step {event.step}: {event.reason}", event)
        case Spike():
            return _of_spike(event)
        case CheckpointFailed():
            return _notice("disk", "error", f"step {event.step} not saved: {event.reason}", event)
        case Alert() if event.text and event.level != "info" and event.topic in _TOPICS:
            return _notice(_TOPICS[event.topic], event.level, event.text, event)
        case _:
            return None


def _of_spike(spike: Spike) -> Notice:
    is_finite = math.isfinite(spike.value)
    text = f"step {spike.step}: {spike.reason or f'{spike.what} is {spike.value:.4g}'}{_ACTS[spike.act]}"
    return _notice("spike" if is_finite else "nan", "warning" if is_finite else "error", text, spike)


def _notice(kind: Kind, level: Level, text: str, event: Event, *, is_last: bool = False) -> Notice:
    return Notice(kind=kind, level=level, text=bounded(text), time=event.time, is_last=is_last)


def bounded(text: str) -> str:
    """`text` as one line of at most MAX_CHARS harmless characters."""
    line = safe_line(" ".join(text.split()).rstrip(" :"))
    return line if len(line) <= MAX_CHARS else f"{line[: MAX_CHARS - 1]}…"


class Throttle:
    """At most one notice of a kind in GAP_S; the end of a run always comes through. What is held back is counted."""

    def __init__(self) -> None:
        self._last: dict[Kind, float] = {}
        self._held: dict[Kind, int] = {}

    def admit(self, notice: Notice, now: float) -> Notice | None:
        """The notice as it is to be told, with how many like it were held back before it; None: not now.

        now: seconds of a clock that is never set, such as time.monotonic().
        """
        kind = notice.kind
        if not notice.is_last and kind in self._last and now - self._last[kind] < GAP_S:
            self._held[kind] = self._held.get(kind, 0) + 1
            return None
        self._last[kind] = now
        held = 0 if notice.is_last else self._held.pop(kind, 0)
        return replace(notice, text=bounded(f"{notice.text} (and {held} more before)")) if held else notice
