"""The two plainest widgets: text that redraws only when it changed, alone or in a scrolling pane.

Interprets no markup. Invariant: `put` with what is already shown costs neither a redraw nor a layout.
"""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from plt_tui.views.tui.meters import lines


class Block(Static):
    """Plain text of some lines."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__("", markup=False, id=id, classes=classes)
        self._parts: tuple[Content, ...] = ()

    def put(self, parts: Sequence[Content]) -> None:
        """Show `parts` as lines."""
        new = tuple(parts)
        if len(new) == len(self._parts) and all(map(Content.is_same, new, self._parts)):
            return
        height = self.styles.height
        is_elastic = height is None or height.is_auto
        # A layout costs as much as drawing the whole screen; where lines do not wrap their number tells whether one is needed.
        needs_layout = is_elastic and (self.styles.text_wrap == "wrap" or len(new) != len(self._parts))
        self._parts = new
        self.update(lines(new), layout=needs_layout)


class ScrollBlock(VerticalScroll):
    """A pane that holds one Block and scrolls when it is too tall."""

    DEFAULT_CSS = """
    ScrollBlock > Block { height: auto; width: 100%; }
    """

    def __init__(self, title: str, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id, classes="pane", can_focus=True)
        self.border_title = Content(title)
        self._block = Block()

    def compose(self) -> ComposeResult:
        """The text."""
        yield self._block

    def put(self, parts: Sequence[Content]) -> None:
        """Show `parts` as paragraphs."""
        self._block.put(parts)
