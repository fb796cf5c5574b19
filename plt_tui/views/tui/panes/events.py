"""The story of a run, newest first: every command with its life, evaluations, checkpoints, restarts, failures.

Invariant: a command is one entry that grows, however often its status changes.
"""

from __future__ import annotations

from collections.abc import Iterable

from textual.content import Content

from plt_tui.protocol.events import CommandStatus, Phase
from plt_tui.views.model import Happening, newest
from plt_tui.views.tui.meters import hanging
from plt_tui.views.tui.panes.block import ScrollBlock
from plt_tui.views.tui.words import STYLES, asked, clock_words, life_words, one_line, story_words

MAX_ENTRIES = 200
SCROLLBAR_CELLS = 1
"""Kept free, so that lines do not move when the scrollbar appears."""


class Events(ScrollBlock):
    """The newest happenings."""

    def __init__(self) -> None:
        super().__init__("events", id="events")

    def show(self, happenings: Iterable[Happening]) -> None:
        """Draw `happenings`, given oldest first; where they are many, evaluations and checkpoints make room first."""
        told = [happening for happening in happenings if not _is_small_talk(happening)]
        width = self.content_region.width - SCROLLBAR_CELLS  # the same with the scrollbar and without
        shown = newest(told, MAX_ENTRIES, lambda happening: happening.event)
        entries = [_entry(happening, width) for happening in reversed(shown)]
        self.put(entries or [Content.styled("nothing has happened yet", STYLES["muted"])])


def _is_small_talk(happening: Happening) -> bool:
    """Phases that come with every start, and that the header tells already."""
    return isinstance(happening.event, Phase) and happening.event.phase in ("starting", "preparing", "running")


def _entry(happening: Happening, width: int) -> Content:
    event, word = happening.event, story_words(happening.event)
    head = Content.assemble((f"{clock_words(happening.time)} ", STYLES["muted"]), (f"{word.glyph} ", STYLES[word.tone]))
    if not isinstance(event, CommandStatus):
        return hanging(head, Content.styled(word.text, STYLES[word.tone]), width)
    reason = f" ({one_line(event.reason)})" if event.reason else ""
    body = Content.assemble(
        (asked(event.name, event.args), "bold"),
        (reason, STYLES["bad" if event.status == "refused" else "normal"]),
        (f"\n{life_words(happening)}", STYLES[word.tone]),
        (f" · {one_line(event.actor)}" if event.actor else "", STYLES["muted"]),
    )
    return hanging(head, body, width)
