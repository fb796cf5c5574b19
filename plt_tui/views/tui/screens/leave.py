"""How to leave a live run: the run goes on unless the user says otherwise."""

from __future__ import annotations

from enum import Enum

from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from plt_tui.views.tui.screens.dialog import Box, Dialog
from plt_tui.views.tui.words import STYLES


class LeaveChoice(Enum):
    """Why the UI was closed."""

    DETACH = "detach"
    STOP = "stop"
    STOP_NOW = "stop now"
    ENDED = "ended"


_CHOICES = (
    (LeaveChoice.DETACH, "Detach", "the run goes on; attach again at any time"),
    (LeaveChoice.STOP, "Save and stop", "a checkpoint, then the run ends; it can be resumed"),
    (LeaveChoice.STOP_NOW, "Stop now", "end at once; steps since the last checkpoint are lost"),
    (None, "Cancel", "stay here"),
)


class LeaveDialog(Dialog[LeaveChoice]):
    """Detach, save and stop, stop now, or stay."""

    def compose(self) -> ComposeResult:
        """The choices, Detach first and chosen."""
        prompts = [Content.assemble((label.ljust(15), "bold"), (words, STYLES["muted"])) for _, label, words in _CHOICES]
        with Box("leave", "enter choose · esc stay"):
            yield OptionList(*(Option(prompt) for prompt in prompts), markup=False)

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(_CHOICES[event.option_index][0])
