r"""The prompt that samples continue, edited on one line.

Sends nothing. What one line cannot hold is written as in Python: \n, \t, \\, \x1b, \u200b. Invariant: a prompt that is not
touched comes back as it was.
"""

from __future__ import annotations

import re

from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Input, Static

from plt_tui.config.knobs import check_edit
from plt_tui.errors import UsageError
from plt_tui.protocol.text import safe_line
from plt_tui.views.tui.field import Field
from plt_tui.views.tui.screens.dialog import Box, Dialog, plain

HINT = "It is in force from the next step on, and a sample of it is written at once. \\n is a new line, \\t a tab."
_WRITTEN = {"\n": "\\n", "\t": "\\t", "\\": "\\\\"}
_MEANT = {written: char for char, written in _WRITTEN.items()}
_ESCAPE = re.compile(r"\\(?:[nt\\]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
_LAST_CHAR = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


class PromptDialog(Dialog[str]):
    """Returns the new prompt, which may be empty."""

    def __init__(self, prompt: str) -> None:
        super().__init__()
        self._prompt = prompt

    def compose(self) -> ComposeResult:
        """The hint, the field with the prompt in force, and what is wrong with what stands there."""
        with Box("prompt of the samples", "enter set it and sample · esc cancel"):
            yield plain(HINT)
            yield Field(as_typed(self._prompt), select_on_focus=False)
            yield plain("", id="verdict", classes="bad")

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self.query_one("#verdict", Static).update(Content(_fault(event.value)))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        if not _fault(event.value):
            self.dismiss(as_meant(event.value))


def as_typed(prompt: str) -> str:
    """`prompt` on one line, without a character that a terminal would act on."""
    return "".join(_WRITTEN.get(char) or safe_line(char) for char in prompt)


def as_meant(typed: str) -> str:
    """The prompt that `typed` stands for; a backslash that begins nothing known is one."""
    return _ESCAPE.sub(lambda found: _char(found[0]), typed)


def _char(written: str) -> str:
    if written in _MEANT:
        return _MEANT[written]
    code = int(written[2:], 16)
    return chr(code) if code <= _LAST_CHAR and code not in _SURROGATES else written


def _fault(typed: str) -> str:
    try:
        check_edit("prompt", as_meant(typed))
    except UsageError as error:
        return str(error)
    return ""
