"""When the terminal calls the person: what is toasted, what rings, and what a terminal is sent to ring.

Decides by values that it is given; only `ring` writes. Invariant: a storm of one kind is one toast and one ring in
`notices.GAP_S`, and what goes to the terminal is the words of a notice, which hold nothing that a terminal acts on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from textual.app import App
from textual.screen import Screen

from plt_tui.config.alerts import AlertsSection, Bell
from plt_tui.protocol.events import Event, Failed
from plt_tui.protocol.notices import Throttle, bounded, notice_of

IDLE_S = 120.0
"""Nobody looks at a terminal that does not tell of its focus, and at which no key was pressed for so long."""
_SILENT_TERMINALS = ("linux", "dumb")
"""These show the text of an OSC that they do not know."""


@dataclass(frozen=True, slots=True)
class Call:
    """What to do about an event."""

    is_toasted: bool
    words: str = ""
    """To ring with; empty: not at all."""


class Alarm:
    """The alerts of one run at one terminal. Clocks are time.monotonic()."""

    def __init__(self, alerts: AlertsSection, name: str, now: float) -> None:
        """name: of the run, safe to show."""
        self._alerts = alerts
        self._bell = alerts.bell
        self._name = name
        self._throttle = Throttle()
        self._has_focus: bool | None = None
        """None: the terminal has not told."""
        self._touched_at = now

    def attend(self, screen: Screen[Any], bell: Bell | None) -> None:
        """Heed the terminal's reports of focus, and what the person at it wants instead of what the run says."""
        self._bell = bell or self._bell
        screen.watch(screen.app, "app_focus", self.focus_told, init=False)

    def focus_told(self, has_focus: bool) -> None:
        """The terminal gained or lost the focus."""
        self._has_focus = has_focus

    def touched(self, now: float) -> None:
        """Somebody pressed a key."""
        self._touched_at = now

    def is_away(self, now: float) -> bool:
        """True when nobody looks, as far as can be known."""
        return not self._has_focus if self._has_focus is not None else now - self._touched_at > IDLE_S

    def hear(self, event: Event, now: float) -> Call:
        """What to do about a live event."""
        notice = notice_of(event)
        if notice is None:  # of a failure the phase that follows rings, if the run goes on or not
            return Call(is_toasted=not isinstance(event, Failed) or "crash" in self._alerts.on)
        if notice.kind not in self._alerts.on:
            return Call(is_toasted=False)
        told = self._throttle.admit(notice, now)
        if told is None:
            return Call(is_toasted=False)
        rings = self._bell == "always" or (self._bell == "away" and self.is_away(now))
        return Call(is_toasted=True, words=bounded(f"plt-tui {self._name}: {told.text}") if rings else "")


def calling(words: str, environ: Mapping[str, str]) -> str:
    """What makes the terminal of `environ` ring and its desktop show `words`, a line of `notices.bounded`.

    BEL, and iTerm2's OSC 9, which many others know too; the rest drop it. tmux hands it on from its passthrough (where its
    option allow-passthrough is on), in which every ESC is doubled. `words` must not begin with a digit: to some terminals
    "OSC 9 ; 4 ; ..." is a progress bar.
    """
    if environ.get("TERM", "dumb") in _SILENT_TERMINALS:
        return "\x07"
    notification = f"\x1b]9;{words}\x07"
    return "\x07" + (passed_through(notification) if environ.get("TMUX") else notification)


def passed_through(sequence: str) -> str:
    """`sequence` for the terminal around tmux."""
    return "\x1bPtmux;" + sequence.replace("\x1b", "\x1b\x1b") + "\x1b\\"


def ring(app: App[Any], words: str, environ: Mapping[str, str]) -> None:
    """Call the person at the terminal of `app`."""
    if app._driver is not None and not app.is_headless:
        app._driver.write(calling(words, environ))
