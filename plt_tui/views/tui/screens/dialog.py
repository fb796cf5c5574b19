"""What all dialogs share: a framed box over the dimmed screen, and `esc` that gives up.

Sends nothing: a dialog returns what the user chose, and the screen that opened it acts.
"""

from __future__ import annotations

from typing import ClassVar, TypeVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

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

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,ctrl+c,ctrl+q", "give_up", "cancel", show=False, priority=True)]
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

    def action_give_up(self) -> None:
        """Close without a result."""
        self.dismiss(None)


def plain(text: str, *, id: str | None = None, classes: str = "hint") -> Static:  # noqa: A002
    """A text that is shown as it is."""
    return Static(Content(text), markup=False, id=id, classes=classes)
