"""What all dialogs share: a framed box over the dimmed screen, and `esc` that gives up.

Sends nothing: a dialog returns what the user chose, and the screen that opened it acts.
"""

from __future__ import annotations

import os
from typing import ClassVar, TypeVar

from textual.await_complete import AwaitComplete
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from plt_tui.views.tui.panes.text_view import TextView
from plt_tui.views.tui.takeaway import as_copied, copy

ResultT = TypeVar("ResultT")

FOLLOW_S = 0.5
"""How often a dialog looks at the run again, which goes on while one thinks."""


class Box(Vertical):
    """The frame of a dialog."""

    def __init__(self, title: str, hint: str) -> None:
        super().__init__()
        self.border_title = Content(title)
        self.border_subtitle = Content(hint)


class Dialog(ModalScreen[ResultT | None]):
    """A modal question; its result is None when the user gave up."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+c,ctrl+q", "give_up", "cancel", show=False, priority=True),
        Binding("ctrl+z", "app.suspend", "suspend", id="suspend", show=False),
    ]
    DEFAULT_CSS = """
    Dialog { align: center middle; background: $background 60%; }
    Dialog > Box {
        width: 78; max-width: 100%; height: auto; max-height: 100%; overflow-y: auto;
        padding: 1 2; background: $surface;
        border: round $accent; border-title-color: $accent; border-title-style: bold; border-subtitle-color: $text-muted;
    }
    Dialog Input, Dialog Input:focus { border: round $accent; background: $surface; height: 3; padding: 0 1; }
    Dialog Input:focus, Dialog OptionList:focus { background-tint: $foreground 0%; }
    Dialog .hint { color: $text-muted; height: auto; }
    Dialog .bad { color: $error; }
    Dialog OptionList, Dialog OptionList:focus {
        height: auto; max-height: 20; border: none; background: $surface; padding: 0;
    }
    Dialog OptionList > .option-list--option-highlighted,
    Dialog OptionList:focus > .option-list--option-highlighted { background: $accent 25%; color: $foreground; }
    Dialog VerticalScroll, Dialog OptionList {
        scrollbar-size-vertical: 1; scrollbar-background: $surface; scrollbar-color: $foreground 25%;
    }
    """

    def begin(self) -> None:
        """Let the next key come here, once mounted; else those that come before the first frame would go nowhere."""
        if self.focused is None and self.focus_chain:
            self.set_focus(self.focus_chain[0])

    def dismiss(self, result: ResultT | None = None) -> AwaitComplete:
        """Close, once: of two keys that close it, the second would close the screen below."""
        return super().dismiss(result) if self.is_active else AwaitComplete()

    def action_give_up(self) -> None:
        """Close without a result."""
        self.dismiss(None)


def copy_read(screen: Screen[ResultT], view: TextView) -> None:
    """Copy what is selected on `screen`, else all that `view` holds, and say what it was."""
    selected = screen.get_selected_text() or ""
    text, words = as_copied(selected, "the selected text") if selected.strip() else as_copied(view.text, "all of it")
    copy(screen.app, text, os.environ)
    screen.notify(f"copied: {words}", markup=False)


def plain(text: str, *, id: str | None = None, classes: str = "hint") -> Static:  # noqa: A002
    """A text that is shown as it is."""
    return Static(Content(text), markup=False, id=id, classes=classes)
