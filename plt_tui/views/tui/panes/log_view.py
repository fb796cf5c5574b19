"""The lines of the log pane: follows the newest until scrolled away, and draws only what is in sight (Line API).

Which lines are shown is `log_filter`'s decision, looked into a few milliseconds at a time. Invariant: whatever comes, goes or
is filtered away, the line at the top stays the one that it was, unless the view follows or was told to go somewhere.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from dataclasses import replace

from rich.cells import cell_len, set_cell_size
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.timer import Timer

from plt_tui.views.log_filter import LogIndex, Wanted
from plt_tui.views.log_ring import LogRing, Row
from plt_tui.views.pattern import Pattern, TooSlow
from plt_tui.views.tui.panes.text_view import marked
from plt_tui.views.tui.person import shown_key
from plt_tui.views.tui.words import STYLES, Tone, clock_words

LEVELS: dict[str, tuple[str, Tone]] = {
    "DEBUG": ("D", "muted"),
    "INFO": ("I", "normal"),
    "WARNING": ("W", "warning"),
    "ERROR": ("E", "bad"),
    "CRITICAL": ("C", "bad"),
}
HIT_STYLE = "bold underline $warning"
CURRENT_STYLE = "bold reverse $warning"
SOURCE_CELLS = 7
_PREFIX_CELLS = 12 + SOURCE_CELLS
MAX_COPIED_LINES = 10_000
"""Of a longer selection the first lines are taken: more than any clipboard of a terminal."""

SLICE_S = 0.008
"""How long a filter looks at lines before keys and drawing get their turn ..."""
REST_S = 0.016
"""... and how long that turn is."""
_SLICES_PER_FRAME = 12
"""A frame costs more than a slice: what a search has found so far is drawn a few times a second."""


class LogView(ScrollView, can_focus=True):
    """The lines themselves."""

    class Changed(Message):
        """Something that `status` tells is another."""

    def __init__(self) -> None:
        super().__init__()
        self._index = LogIndex(LogRing(), Wanted())
        self.whole = ""
        """The command line that tells all lines, also those that are not here."""
        self._following = True
        self._current = -1
        """Number of the hit that was gone to; -1: none."""
        self._pointed = -1
        """Number of the line of the moment pointed at; -1: none."""
        self._top = 0
        """Number of the line that belongs at the top, where the view does not follow."""
        self._is_settling = False
        """The view is being scrolled to where it belongs, not by anybody to somewhere else."""
        self._followed = True
        """What `_following` was before a moment was pointed at."""
        self._seeks = False
        """Go to the newest hit as soon as one is found."""
        self._rest: Timer | None = None
        """Runs until the next slice."""
        self._num_slices = 0
        self._widest = 0
        self._measured = 0

    @property
    def wanted(self) -> Wanted:
        """Which lines are shown, and what is searched for."""
        return self._index.wanted

    @property
    def status(self) -> str:
        """Where the view is, for the pane's border."""
        parts, pattern, hits = [], self.wanted.pattern, self._index.hits
        if pattern is not None:
            at = bisect_left(hits, self._current)
            place = len(hits) - at if at < len(hits) and hits[at] == self._current else 0
            parts.append(f"“{pattern.text}” {place:,}/{len(hits):,}")
        if self._index.is_too_slow:
            parts.append("✖ search given up: it takes too long on these lines")
        elif not self._index.is_done:
            parts.append("looking …")
        if self._index.ring.older and (pattern is not None or not self._following):
            parts.append(f"older lines: {self.whole}" if self.whole else "there were older lines")
        if not self._following:
            parts.append("end: newest")
        if self._index.ring.dropped:
            parts.append(f"{self._index.ring.dropped:,} lines lost by a slow connection")
        return " · ".join(parts)

    # --- what is shown -----------------------------------------------------------------------------------------------------

    def show(self, ring: LogRing) -> None:
        """Take note of new lines in `ring`; costs as much as there are new ones, and at most a slice of time."""
        if ring is not self._index.ring:
            self._index = LogIndex(ring, self.wanted)
        self._measure()
        self._look()
        self._settle()

    def want(self, wanted: Wanted) -> None:
        """Show other lines, or look for something else; the line at the top stays in sight where it still can."""
        is_other_search = wanted.pattern is not self.wanted.pattern
        self._index = LogIndex(self._index.ring, wanted)
        if is_other_search:
            self._current, self._seeks = -1, wanted.pattern is not None
        self._look()
        self._settle()
        self.post_message(self.Changed())

    def search(self, pattern: Pattern | None) -> None:
        """Mark all lines that match and go to the newest; None ends the search."""
        self.want(replace(self.wanted, pattern=pattern))

    def _look(self) -> None:
        """Look at lines for a slice of time, and see to it that looking goes on later if there are more."""
        deadline = time.perf_counter() + SLICE_S
        self._index.look(lambda: time.perf_counter() > deadline)
        if self._rest is None and not self._index.is_done:
            self._rest = self.set_timer(REST_S, self._go_on)

    def _go_on(self) -> None:
        """Another slice."""
        self._rest = None
        self._look()
        self._num_slices += 1
        if self._index.is_done or self._num_slices % _SLICES_PER_FRAME == 0 or (self._seeks and self._index.hits):
            self._settle()
            self.post_message(self.Changed())

    def _settle(self) -> None:
        """Scroll to where the view belongs among the lines that are shown now, and draw."""
        self._is_settling = True  # what is known of a filter's lines so far may have no place for `_top` yet
        self._take_size(Size(self._widest, len(self._index.shown)))
        if self._following:
            self.scroll_end(animate=False, immediate=True, x_axis=False, force=True)
        else:
            self._scroll_to_row(bisect_left(self._index.shown, self._top))
        self._is_settling = False
        if self._seeks and self._index.hits:
            self._seeks = False
            self.go_to_hit(self._index.hits[-1])
        self.refresh()

    # --- where the view is -------------------------------------------------------------------------------------------------

    def go_to_time(self, unix_s: float | None) -> None:
        """Show and mark the first line of that moment or after it, and stay; None: mark none, and follow again if it did."""
        if unix_s is None:
            was_pointed, self._pointed = self._pointed >= 0, -1
            if was_pointed and self._followed and not self._following:
                self.scroll_end(animate=False, immediate=True, x_axis=False, force=True)
                self._stay(at_end=True)  # where all lines are in sight, nothing has scrolled
        else:
            self._followed = self._followed if self._pointed >= 0 else self._following
            shown = self._index.shown
            row = bisect_left(shown, self._index.ring.number_at(unix_s))
            self._pointed = shown[row] if row < len(shown) else self._index.ring.stop
            self._center(row)
            self._following = False
        self.refresh()
        self.post_message(self.Changed())

    @property
    def has_hit(self) -> bool:
        """True when the search has found a line so far."""
        return bool(self._index.hits)

    def older_hit(self) -> None:
        """Go to the next older hit; after the oldest comes the newest again."""
        hits = self._index.hits
        older = self._index.older_hit(self._current) if self._current >= 0 else None
        self.go_to_hit(older if older is not None else hits[-1] if hits else -1)

    def newer_hit(self) -> None:
        """Go to the next newer hit; after the newest comes the oldest again."""
        hits = self._index.hits
        newer = self._index.newer_hit(self._current)
        self.go_to_hit(newer if newer is not None else hits[0] if hits else -1)

    def go_to_hit(self, number: int) -> None:
        """Make the line `number` the current hit and show it; -1: there is none."""
        self._current = number
        if number >= 0:
            self._center(bisect_left(self._index.shown, number))
        self.refresh()
        self.post_message(self.Changed())

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Follow again once the end is in sight, and no longer after a move away from it."""
        super().watch_scroll_y(old_value, new_value)
        if not self._is_settling:
            self._stay(at_end=self._following and new_value > old_value)

    def watch_show_vertical_scrollbar(self) -> None:
        """A scrollbar that appears has been told of no scrolling before."""
        self.vertical_scrollbar.position = self.scroll_y

    def on_resize(self) -> None:
        """Another height has another last page."""
        self._settle()

    def _center(self, row: int) -> None:
        self._scroll_to_row(row - self.size.height // 2)
        self._stay()

    def _stay(self, *, at_end: bool = False) -> None:
        """Where the view is now is where it belongs; at the end of the lines it follows them."""
        shown, top = self._index.shown, round(self.scroll_y)
        self._top = shown[top] if top < len(shown) else self._index.ring.stop
        following = at_end or top >= self.max_scroll_y
        if following != self._following:
            self._following = following
            self.post_message(self.Changed())

    def _scroll_to_row(self, row: int) -> None:
        self.scroll_to(y=max(0, row), animate=False, immediate=True, force=True)

    def _take_size(self, size: Size) -> None:
        """Become scrollable over `size`; once there is a scrollbar this needs no layout, which would cost a screen's redraw."""
        if self.show_vertical_scrollbar and size.height > self.size.height:
            self.set_reactive(LogView.virtual_size, size)
            self.vertical_scrollbar.window_virtual_size = size.height
        else:
            self.virtual_size = size

    def _measure(self) -> None:
        ring = self._index.ring
        fresh = ring.lines[max(0, self._measured - ring.first) :]
        self._widest = max([self._widest, *(_PREFIX_CELLS + _cells(row[3]) for row in fresh)])
        self._measured = ring.stop

    # --- drawing -----------------------------------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """One line in sight."""
        scroll_x, scroll_y = self.scroll_offset
        width, row, shown, ring = self.size.width, scroll_y + y, self._index.shown, self._index.ring
        number = shown[row] if row < len(shown) else -1
        if number >= ring.first:  # else it has left the ring since the last look
            content = marked(self._line(number, ring.lines[number - ring.first]), self, number)
        elif not shown and y == 0:
            content = Content.styled(self._why_empty(), STYLES["muted"])
        else:
            return Strip.blank(width, self.rich_style).apply_offsets(0, ring.stop)
        strip = Strip(content.render_segments(self.visual_style), content.cell_length)
        strip = strip.crop_extend(scroll_x, scroll_x + width, self.rich_style)
        # What is selected keeps its place by the number of the line, whatever comes, goes or is filtered away.
        return strip.apply_offsets(_num_chars(content.plain, scroll_x), number) if number >= 0 else strip

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """What is selected, as it is drawn. Where it goes on above or below this pane, the lines in sight are."""
        shown, ring, top = self._index.shown, self._index.ring, round(self.scroll_y)
        first = bisect_left(shown, selection.start.y) if selection.start is not None else top
        stop = bisect_right(shown, selection.end.y) if selection.end is not None else top + self.size.height
        lines = []
        for number in shown[first : min(stop, first + MAX_COPIED_LINES)]:
            span = selection.get_span(number) if number >= ring.first else None
            if span is not None:
                text = self._line(number, ring.lines[number - ring.first]).plain
                lines.append(text[span[0] : len(text) if span[1] == -1 else span[1]])
        return "\n".join(lines), "\n"

    def _why_empty(self) -> str:
        if not self._index.ring.lines:
            return "no line yet"
        source, level, hits = (shown_key(self.app, name) for name in ("log_source", "log_level", "log_filter"))
        fits_not = f"no line fits: {source} and {level} choose others, {hits} shows those that do not match"
        return fits_not if self._index.is_done else "looking …"

    def _line(self, number: int, row: Row) -> Content:
        moment, source, level, text = row
        letter, tone = LEVELS.get(level, ("·", "normal"))
        is_pointed = number == self._pointed
        content = Content.assemble(
            (
                f"{clock_words(moment)}{'▸' if is_pointed else ' '}",
                f"bold {STYLES['accent']}" if is_pointed else STYLES["muted"],
            ),
            (f"{letter} ", f"bold {STYLES[tone]}"),
            (f"{source[:SOURCE_CELLS]:<{SOURCE_CELLS}} ", STYLES["muted"]),
            (text, STYLES[tone]),
        )
        pattern = self.wanted.pattern
        if pattern is None or self._index.is_too_slow:
            return content
        style, offset = CURRENT_STYLE if number == self._current else HIT_STYLE, len(content) - len(text)
        for start, stop in _spans(pattern, text):
            content = content.stylize(style, offset + start, offset + stop)
        return content


def _spans(pattern: Pattern, text: str) -> list[tuple[int, int]]:
    """Where the pattern matches; nothing where that is too dear: the line is found, but not marked."""
    try:
        return pattern.spans(text)
    except TooSlow:
        return []


def _cells(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)


def _num_chars(text: str, cells: int) -> int:
    """Characters in the first `cells` cells of `text`."""
    return cells if text.isascii() else len(set_cell_size(text, cells))
