"""The whole outcome of a run, or how far it is, on one page that scrolls; the banner has room for a part of it only.

Follows the run while it is open. Sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content

from plt_tui.views.tui.meters import hanging
from plt_tui.views.tui.outcome import Outcome, Row, outcome
from plt_tui.views.tui.panes.block import Block
from plt_tui.views.tui.panes.header import state_word
from plt_tui.views.tui.screens.dialog import FOLLOW_S, Box, Dialog
from plt_tui.views.tui.session import RunSession
from plt_tui.views.tui.words import STYLES

LABEL_CELLS = 20
"""Of a row's label and the gap behind it; a longer label has a line of its own."""


class OutcomeDialog(Dialog[None]):
    """What failed first, what was reached, what to do next."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("q,i", "give_up", "close", show=False)]
    DEFAULT_CSS = """
    OutcomeDialog > Box { width: 100; height: auto; max-height: 90%; padding: 0 2; }
    OutcomeDialog VerticalScroll { height: auto; max-height: 100%; }
    OutcomeDialog VerticalScroll > Block { width: 100%; height: auto; }
    """

    def __init__(self, session: RunSession) -> None:
        super().__init__()
        self._session = session

    def compose(self) -> ComposeResult:
        """The page."""
        with Box("outcome", "↑ ↓ scroll · esc close"), VerticalScroll(can_focus=True):
            yield Block()

    def on_mount(self) -> None:
        """Look at the run now and then."""
        self.query_one(VerticalScroll).focus()
        self.set_interval(FOLLOW_S, self.follow)

    def on_resize(self) -> None:
        """Another width wraps otherwise."""
        self.call_after_refresh(self.follow)

    def follow(self) -> None:
        """Show the run as it is now."""
        session, block = self._session, self.query_one(Block)
        self.query_one(Box).border_title = Content("outcome" if session.model.state.is_over else "so far")
        told = outcome(session.model, session.name, state_word(session))
        block.put(page(told, block.content_size.width, session.typed))


def page(told: Outcome, width: int, typed: Callable[[str], str] = str) -> list[Content]:
    """The outcome as lines of `width` cells. `typed`: makes of a command line what one types at this terminal."""
    head = Content.styled(f"{told.word.glyph} {told.word.text}", f"bold {STYLES[told.word.tone]}")
    lines = [head, *([Content.styled(told.why, STYLES["normal"])] if told.why else [])]
    for part in told.parts:
        lines += [Content(""), Content.styled(part.title, "bold $accent"), *(_line(row, width, typed) for row in part.rows)]
    return lines


def _line(row: Row, width: int, typed: Callable[[str], str]) -> Content:
    label, text = f"  {row.label}", typed(row.text) if row.is_command else row.text
    body = Content.styled(text, "bold" if row.is_command else STYLES[row.tone])
    if len(label) < LABEL_CELLS:
        return hanging(Content.styled(label.ljust(LABEL_CELLS), STYLES["muted"]), body, width)
    return Content.styled(f"{label}\n", STYLES["muted"]) + hanging(Content(" " * LABEL_CELLS), body, width)
