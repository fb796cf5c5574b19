"""All keys, by group, made from the one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from plt_tui.views.tui.keys import KEYS, Key
from plt_tui.views.tui.meters import lines
from plt_tui.views.tui.person import keys_in_force
from plt_tui.views.tui.screens.dialog import Box, Dialog
from plt_tui.views.tui.words import STYLES

KEY_CELLS = 7


class HelpScreen(Dialog[None]):
    """The keys and what they do."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("q,question_mark,f1", "give_up", "close", show=False)]
    DEFAULT_CSS = """
    HelpScreen > Box { width: 82; height: 90%; padding: 0 2; }
    HelpScreen VerticalScroll > Static { width: 100%; height: auto; }
    """

    def __init__(self, keys: tuple[Key, ...] = KEYS) -> None:
        super().__init__()
        self._keys = keys

    def compose(self) -> ComposeResult:
        """The table."""
        with Box("keys", "esc close"), VerticalScroll(can_focus=True):
            yield Static(help_text(keys_in_force(self.app, self._keys)), markup=False)


def help_text(keys: Sequence[Key] = KEYS) -> Content:
    """Every key with its sentence under its group's heading."""
    parts: list[Content] = []
    group = ""
    for key in keys:
        if key.group != group:
            group = key.group
            parts += [Content(""), Content.styled(group, "bold $accent")]
        parts.append(Content.assemble((key.shown.rjust(KEY_CELLS), "bold"), ("  " + key.help, STYLES["muted"])))
    return lines(parts[1:])
