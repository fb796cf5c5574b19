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
from textual.selection import Selection
from textual.strip import Strip
from textual.style import Style
from textual.widget import Widget

TAB_CELLS = 4


class Passage(NamedTuple):
    """A heading and the text under it; either may be empty."""

    heading: str
    text: str


class Line(NamedTuple):
    """What stands on one line of the page."""

    text: str
    style: str
    is_cut: bool
    """What follows on the next line belongs to the same line of the text."""


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
        self._lines: list[Line] = []

    def show(self, passages: Iterable[Passage]) -> None:
        """Show `passages` from their beginning."""
        self._passages = tuple(passages)
        self._lay_out()
        self.scroll_home(animate=False)

    def on_resize(self) -> None:
        """Another width wraps otherwise."""
        self._lay_out()

    @property
    def text(self) -> str:
        """All of it, without the line breaks of the page."""
        return self._joined(range(len(self._lines)), Selection(None, None))

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """What is selected, without the line breaks of the page."""
        first = selection.start.y if selection.start is not None else 0
        last = selection.end.y if selection.end is not None else len(self._lines) - 1
        return self._joined(range(first, min(last + 1, len(self._lines))), selection), "\n"

    def _joined(self, places: range, selection: Selection) -> str:
        parts = []
        for place in places:
            line, (start, end) = self._lines[place], selection.get_span(place) or (0, 0)
            parts.append(line.text[start : len(line.text) if end == -1 else end] + ("" if line.is_cut else "\n"))
        return "".join(parts).removesuffix("\n")

    def _lay_out(self) -> None:
        if self.text_selection is not None:  # its places are those of the lines that were
            self.screen.clear_selection()
        width = max(1, self.scrollable_content_region.width)
        self._lines = list(laid_out(self._passages, width))
        self.virtual_size = Size(width, len(self._lines))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line in sight."""
        width, place = self.size.width, self.scroll_offset.y + y
        if place >= len(self._lines):
            return Strip.blank(width, self.rich_style).apply_offsets(0, len(self._lines))
        text, style, _ = self._lines[place]
        content = Content.styled(text, style) if style else Content(text)
        content = marked(content, self, place)
        strip = Strip(content.render_segments(self.visual_style), content.cell_length)
        return strip.crop_extend(0, width, self.rich_style).apply_offsets(0, place)


def marked(content: Content, widget: Widget, place: int) -> Content:
    """The line `place` of `widget` with what the mouse has selected of it drawn as such."""
    selection = widget.text_selection
    span = selection.get_span(place) if selection is not None else None
    if span is None:
        return content
    style = Style.from_styles(widget.screen.get_component_styles("screen--selection"))
    return content.stylize(style, span[0], len(content) if span[1] == -1 else span[1])


def laid_out(passages: Iterable[Passage], width: int) -> Iterator[Line]:
    """The passages as lines of at most `width` cells, and an empty line between two passages."""
    for number, passage in enumerate(passages):
        if number:
            yield Line("", "", is_cut=False)
        if passage.heading:
            yield from _cut(passage.heading, width, "bold $accent")
        for line in passage.text.split("\n") if passage.text else ():
            yield from _cut(line.expandtabs(TAB_CELLS), width, "")


def _cut(line: str, width: int, style: str) -> Iterator[Line]:
    *parts, last = wrapped(line, width)
    yield from (Line(part, style, is_cut=True) for part in parts)
    yield Line(last, style, is_cut=False)


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
