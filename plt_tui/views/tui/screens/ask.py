"""Two small questions: one of a few answers, and the path of a file.

Sends and writes nothing: a dialog returns what was answered, and the screen that opened it acts.
"""

from __future__ import annotations

from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from plt_tui.views.tui.field import Field
from plt_tui.views.tui.screens.dialog import Box, Dialog, plain
from plt_tui.views.tui.words import STYLES

_LABEL_CELLS = 15


class AskDialog(Dialog[str]):
    """One of a few answers, each with what it leads to; the first is chosen. Returns its label."""

    def __init__(self, title: str, question: str, answers: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._title = title
        self._question = question
        self._answers = tuple(answers)

    def compose(self) -> ComposeResult:
        """The question, and the answers below it."""
        rows = [
            Content.assemble((label.ljust(_LABEL_CELLS), "bold"), (words, STYLES["muted"])) for label, words in self._answers
        ]
        with Box(self._title, "enter choose · esc back"):
            if self._question:
                yield plain(self._question)
            yield OptionList(*map(Option, rows), markup=False)

    def on_mount(self) -> None:
        """Take the keys."""
        self.query_one(OptionList).focus()

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._answers[event.option_index][0])


class PathDialog(Dialog[str]):
    """The path of a file to write."""

    def __init__(self, title: str, words: str, path: str) -> None:
        super().__init__()
        self._title = title
        self._words = words
        self._path = path

    def compose(self) -> ComposeResult:
        """What it is for, and the field."""
        with Box(self._title, "enter write · esc back"):
            yield plain(self._words)
            yield Field(self._path, placeholder="path of a file", max_length=1000)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        self.dismiss(event.value.strip() or None)
