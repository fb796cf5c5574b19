"""A remark for the run's journal."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.widgets import Input

from plt_tui.views.tui.field import Field
from plt_tui.views.tui.screens.dialog import Box, Dialog, plain


class NoteDialog(Dialog[str]):
    """One line of text."""

    def compose(self) -> ComposeResult:
        """The field."""
        with Box("note", "enter keep · esc cancel"):
            yield plain("It is kept in the journal with your name and this step, and marked on the chart.")
            yield Field(placeholder="what you want to remember", max_length=500)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip() or None)
