"""Much text on a page that scrolls: wrapped to its width once, and drawn line by line, only where it is in sight.

Interprets nothing in a text. Invariant: a redraw costs as much as the lines in sight, however long the text is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rich.cells import cell_len, chop_cells
from textual.content import Content
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

TAB_CELLS = 4


class Passage(NamedTuple):
    """A heading and the text under it; either may be empty."""

    heading: str
    text: str


class TextView(ScrollView, can_focus=True):
    """Passages under each other."""

    DEFAULT_CSS = """
    TextView {
        overflow-y: scroll; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 0;
        scrollbar-background: $surface; scrollbar-background-hover: $surface; scrollbar-background-active: $surface;
        scrollbar-color: $foreground 25%; scrollbar-color-hover: $foreground 40%; scrollbar-color-active: $accent;
    }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._passages: tuple[Passage, ...] = ()
        self._lines: list[tuple[str, str]] = []
        """Text and style."""

    def show(self, passages: Iterable[Passage]) -> None:
        """Show `passages` from their beginning."""
        self._passages = tuple(passages)
        self._lay_out()
        self.scroll_home(animate=False)

    def on_resize(self) -> None:
        """Another width wraps otherwise."""
        self._lay_out()

    def _lay_out(self) -> None:
        width = max(1, self.scrollable_content_region.width)
        self._lines = list(laid_out(self._passages, width))
        self.virtual_size = Size(width, len(self._lines))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line in sight."""
        width, place = self.size.width, self.scroll_offset.y + y
        if place >= len(self._lines):
            return Strip.blank(width, self.rich_style)
        text, style = self._lines[place]
        content = Content.styled(text, style) if style else Content(text)
        strip = Strip(content.render_segments(self.visual_style), content.cell_length)
        return strip.crop_extend(0, width, self.rich_style)


def laid_out(passages: Iterable[Passage], width: int) -> Iterator[tuple[str, str]]:
    """The passages as lines of at most `width` cells, each with its style, and an empty line between two passages."""
    for number, passage in enumerate(passages):
        if number:
            yield "", ""
        for line in wrapped(passage.heading, width) if passage.heading else ():
            yield line, "bold $accent"
        for line in passage.text.split("\n") if passage.text else ():
            for part in wrapped(line.expandtabs(TAB_CELLS), width):
                yield part, ""


def wrapped(line: str, width: int) -> Iterator[str]:
    """A line in parts of at most `width` cells, cut at the last blank where there is one in the last third of a part."""
    start = 0
    while len(line) - start > width or cell_len(line[start:]) > width:
        part = _fitting(line[start : start + width], width)
        blank = part.rfind(" ", len(part) * 2 // 3)
        part = part[: blank + 1] if blank >= 0 else part
        yield part
        start += len(part)
    yield line[start:]


def _fitting(part: str, width: int) -> str:
    """As much of `part` as fits, a character at least."""
    if cell_len(part) <= width:
        return part
    return chop_cells(part, width)[0] or part[0]
