"""The log pane: follows the newest line until scrolled away, searches, and stays fast in a burst.

Draws only the lines in sight (Line API) from the model's ring and copies none. Invariant: line numbers are the ring's,
which never change, so scrolling back and search hits survive lines that come and go.
"""

from __future__ import annotations

from rich.cells import cell_len
from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Input

from plt_tui.protocol.events import LogLine
from plt_tui.views.model import LogRing
from plt_tui.views.tui.words import STYLES, Tone, clock_words

LEVELS: dict[str, tuple[str, Tone]] = {
    "DEBUG": ("D", "muted"),
    "INFO": ("I", "normal"),
    "WARNING": ("W", "warning"),
    "ERROR": ("E", "bad"),
    "CRITICAL": ("C", "bad"),
}
HIT_STYLE = "bold $background on $warning"
CURRENT_STYLE = "bold $background on $foreground"
SOURCE_CELLS = 7


class LogView(ScrollView, can_focus=True):
    """The lines themselves."""

    class HitsChanged(Message):
        """The search found more, or another hit is current."""

    def __init__(self) -> None:
        super().__init__()
        self._ring = LogRing()
        self._first = 0
        self._following = True
        self._query = ""
        self._hits: list[int] = []
        self._searched = 0
        self._current = -1
        self._widest = 0
        self._measured = 0

    @property
    def status(self) -> str:
        """Where the view is, for the pane's border."""
        parts = []
        if self._query:
            place = len(self._hits) - self._hits.index(self._current) if self._current in self._hits else 0
            parts.append(f"“{self._query}” {place}/{len(self._hits)}")
        if not self._following:
            parts.append("end: newest")
        if self._ring.dropped:
            parts.append(f"{self._ring.dropped:,} lines lost by a slow connection")
        return " · ".join(parts)

    def show(self, ring: LogRing) -> None:
        """Take note of new lines in `ring`; costs as much as there are new ones."""
        self._ring = ring
        self._measure()
        self._search_new()
        trimmed, self._first = ring.first - self._first, ring.first
        self._take_size(Size(self._widest, len(ring.lines)))
        if self._following:
            self.scroll_end(animate=False, immediate=True, x_axis=False, force=True)
        elif trimmed:
            self.scroll_to(y=max(0, self.scroll_y - trimmed), animate=False, immediate=True, force=True)
        self.refresh()

    def search(self, query: str) -> None:
        """Mark all lines that hold `query` (case ignored) and go to the newest; an empty query ends the search."""
        self._query = query
        self._hits, self._searched, self._current = [], self._ring.first, -1
        self._search_new()
        self.next_hit()

    def next_hit(self) -> None:
        """Go to the next older hit; after the oldest comes the newest again."""
        self._hits = [hit for hit in self._hits if hit >= self._ring.first]
        older = [hit for hit in self._hits if hit < self._current] if self._current >= 0 else self._hits
        if self._hits:
            self._current = older[-1] if older else self._hits[-1]
            self._go_to(self._current)
        self.refresh()
        self.post_message(self.HitsChanged())

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Follow again once the end is in sight, and no longer after a move away from it."""
        super().watch_scroll_y(old_value, new_value)
        at_end = round(new_value) >= self.max_scroll_y
        following = at_end or (self._following and new_value > old_value)
        if following != self._following:
            self._following = following
            self.post_message(self.HitsChanged())

    def on_resize(self) -> None:
        """Another height has another last page."""
        if self._following:
            self.scroll_end(animate=False, immediate=True, x_axis=False, force=True)

    def render_line(self, y: int) -> Strip:
        """One line in sight."""
        scroll_x, scroll_y = self.scroll_offset
        width, place = self.size.width, scroll_y + y
        if place >= len(self._ring.lines):
            return Strip.blank(width, self.rich_style)
        content = self._line(self._ring.first + place, self._ring.lines[place])
        strip = Strip(content.render_segments(self.visual_style), content.cell_length)
        return strip.crop_extend(scroll_x, scroll_x + width, self.rich_style)

    def _line(self, number: int, line: LogLine) -> Content:
        moment, source, level, text = line
        letter, tone = LEVELS.get(str(level), ("·", "normal"))
        body = _as_shown(text)
        content = Content.assemble(
            (f"{clock_words(float(moment))} ", STYLES["muted"]),
            (f"{letter} ", f"bold {STYLES[tone]}"),
            (f"{str(source)[:SOURCE_CELLS]:<{SOURCE_CELLS}} ", STYLES["muted"]),
            (body, STYLES[tone]),
        )
        return self._with_hits(content, number, len(content) - len(body)) if self._query else content

    def _with_hits(self, content: Content, number: int, offset: int) -> Content:
        style = CURRENT_STYLE if number == self._current else HIT_STYLE
        lowered, query = content.plain.lower(), self._query.lower()
        found = lowered.find(query, offset)
        while found >= 0:
            content = content.stylize(style, found, found + len(query))
            found = lowered.find(query, found + len(query))
        return content

    def _take_size(self, size: Size) -> None:
        """Become scrollable over `size`; once there is a scrollbar this needs no layout, which would cost a screen's redraw."""
        if self.show_vertical_scrollbar and size.height > self.size.height:
            self.set_reactive(LogView.virtual_size, size)
            self.vertical_scrollbar.window_virtual_size = size.height
        else:
            self.virtual_size = size

    def _measure(self) -> None:
        fresh = self._ring.lines[max(0, self._measured - self._ring.first) :]
        prefix = 12 + SOURCE_CELLS
        self._widest = max([self._widest, *(prefix + cell_len(_as_shown(line[3])) for line in fresh)])
        self._measured = self._ring.stop

    def _search_new(self) -> None:
        if self._query:
            start = max(self._searched, self._ring.first)
            fresh, query = self._ring.lines[start - self._ring.first :], self._query.lower()
            self._hits += [start + i for i, line in enumerate(fresh) if query in _as_shown(line[3]).lower()]
        self._searched = self._ring.stop

    def _go_to(self, number: int) -> None:
        self.scroll_to(y=max(0, number - self._ring.first - self.size.height // 2), animate=False, immediate=True, force=True)


def _as_shown(text: str) -> str:
    return text.replace("\n", " ⏎ ").expandtabs(4)


class Logs(Vertical):
    """The log lines of hub and ranks, with a search field that appears when asked for."""

    DEFAULT_CSS = """
    Logs LogView { height: 1fr; scrollbar-size-horizontal: 0; }
    Logs Input { display: none; border: none; height: 1; padding: 0 1; background: $boost; }
    Logs.-searching Input { display: block; }
    """

    def __init__(self) -> None:
        super().__init__(id="logs", classes="pane")
        self.border_title = "logs"

    def compose(self) -> ComposeResult:
        """The lines, and the search field under them."""
        yield LogView()
        yield Input(placeholder="search the logs, enter to go, esc to end", compact=True)

    @property
    def view(self) -> LogView:
        """The lines."""
        return self.query_one(LogView)

    def show(self, ring: LogRing) -> None:
        """Draw what is new in `ring`."""
        self.view.show(ring)
        self._tell()

    def action_search(self) -> None:
        """Let the user type a text to look for."""
        self.add_class("-searching")
        self.query_one(Input).focus()

    def action_next_hit(self) -> None:
        """Go to the next older hit."""
        self.view.next_hit()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self.view.search(event.value)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.view.focus()
        self.remove_class("-searching")

    def key_escape(self) -> None:
        """End the search."""
        self.query_one(Input).value = ""
        self.view.search("")
        self.view.focus()
        self.remove_class("-searching")

    @on(LogView.HitsChanged)
    def _tell(self) -> None:
        self.border_subtitle = Content(self.view.status)
