"""The comparison: the losses of some runs over each other, or of one run and its branches, with what differs between them.

Watches every run as a read-only client and sends nothing. Invariant: what live runs do is followed, and a run that cannot be
read is said in words while the others are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.screen import Screen

from plt_tui.config.schema import UiSection
from plt_tui.protocol.text import safe_line
from plt_tui.views.compare import Line, flat, lines_of
from plt_tui.views.tui.driver import pace_at
from plt_tui.views.tui.keys import bindings
from plt_tui.views.tui.meters import spread
from plt_tui.views.tui.pace import TICK_S, Pace
from plt_tui.views.tui.panes.bars import Answer, KeyBar
from plt_tui.views.tui.panes.block import Block
from plt_tui.views.tui.panes.comparison import CompareChart, CompareTable, looks
from plt_tui.views.tui.person import shown_key
from plt_tui.views.tui.runs import OpenedRun
from plt_tui.views.tui.runs_keys import COMPARE_KEYS
from plt_tui.views.tui.screens.help import HelpScreen
from plt_tui.views.tui.screens.leave import LeaveChoice
from plt_tui.views.tui.session import RunSession
from plt_tui.views.tui.words import STYLES, Tone, Word

WIDE_WIDTH = 150
"""From here on chart and table stand side by side."""


class CompareScreen(Screen[None]):
    """Some runs side by side."""

    keys = COMPARE_KEYS
    BINDINGS = bindings(COMPARE_KEYS)
    DEFAULT_CSS = """
    CompareScreen { background: $background; }
    CompareScreen #compare-head { height: 1; padding: 0 1; background: $panel; }
    CompareScreen #compare-panes { height: 1fr; layout: vertical; }
    CompareScreen CompareChart { width: 1fr; height: 55%; }
    CompareScreen CompareTable { width: 1fr; height: 1fr; }
    CompareScreen .pane {
        border: round $foreground 25%; border-title-color: $text-muted; border-subtitle-color: $text-muted;
        padding: 0 1; background: $background;
        scrollbar-size-vertical: 1; scrollbar-background: $background; scrollbar-color: $foreground 25%;
    }
    CompareScreen .pane:focus { border: round $accent; border-title-color: $accent; border-title-style: bold; }
    CompareScreen.-wide #compare-panes { layout: horizontal; }
    CompareScreen.-wide CompareChart, CompareScreen.-wide CompareTable { height: 100%; }
    CompareScreen.-maximised CompareChart, CompareScreen.-maximised CompareTable { height: 100%; }
    """

    def __init__(self, runs: Sequence[OpenedRun], ui: UiSection, *, actor: str, leave: Callable[[LeaveChoice], None]) -> None:
        super().__init__()
        self.sessions = [
            RunSession(run.connect, name=run.name, config=run.config, readonly=True, actor=actor, files=run.files)
            for run in runs
        ]
        self._configs = [flat(run.config) for run in runs]
        self._ui = ui
        self._leave = leave
        self._pace = Pace()
        self._ticks_left = 0
        self._drawn_links: tuple[object, ...] = ()
        self._drawn: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        """The chart, the table, and the keys."""
        yield Block(id="compare-head")
        with Container(id="compare-panes"):
            yield CompareChart(self._ui.chart)
            yield CompareTable()
        yield Answer(id="answer")
        yield KeyBar(COMPARE_KEYS, id="keys")

    @property
    def chart(self) -> CompareChart:
        """The curves."""
        return self.query_one(CompareChart)

    @property
    def table(self) -> CompareTable:
        """The numbers."""
        return self.query_one(CompareTable)

    def on_mount(self) -> None:
        """Draw first, connect then."""
        self.chart.focus()
        self._say("·", f"{shown_key(self.app, 'help', COMPARE_KEYS)} shows all keys", "muted")
        self._pace = pace_at(self.app._driver, low_bandwidth=self._ui.low_bandwidth)
        self.set_interval(TICK_S, self.tick)
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        self.tick()
        for session in self.sessions:
            self.run_worker(session.follow(), name=f"follow {session.name}")

    def tick(self) -> None:
        """Redraw what changed, when it is time for a steady frame, or at once when there is news of a connection."""
        self._ticks_left -= 1
        links = tuple((session.link, session.trouble, session.model.is_live) for session in self.sessions)
        is_news = links != self._drawn_links and not self._pace.is_frugal
        self._drawn_links = links
        if self._ticks_left <= 0 or is_news:
            self._ticks_left = self._pace.next_ticks()
            self.draw()

    def draw(self) -> None:
        """Redraw what changed."""
        content = tuple(
            (session.link, session.trouble, session.model.is_live, *session.model.revisions.values())
            for session in self.sessions
        )
        if content == self._drawn:
            return
        self._drawn = content
        lines = self.lines()
        looked = looks([line.name for line in lines], self._ui.chart)
        self.chart.show(lines, looked)
        self.table.show(lines, looked)
        self._draw_head()
        self.query_one(KeyBar).show(refused=(), is_held=False)

    def lines(self) -> list[Line]:
        """What is compared."""
        pairs = zip(self.sessions, self._configs, strict=True)
        return lines_of([(session.name, config, session.model) for session, config in pairs])

    def _draw_head(self) -> None:
        head = self.query_one("#compare-head", Block)
        names = " · ".join(session.name for session in self.sessions)
        what = "compare" if len(self.sessions) > 1 else "branches of"
        left = Content.assemble((what, "bold"), (f"  {names}", STYLES["muted"]))
        head.put([spread(left, self._standing(), head.content_size.width)])

    def _standing(self) -> Content:
        """Which runs are still being read, or cannot be."""
        troubles = [f"{session.name}: {session.trouble}" for session in self.sessions if session.trouble]
        if troubles:
            return Content.styled(f"✖ {'; '.join(troubles)}", f"bold {STYLES['bad']}")
        reading = [session.name for session in self.sessions if not session.model.is_live and session.link != "closed"]
        return Content.styled(f"reading {', '.join(reading)} …" if reading else "", STYLES["muted"])

    def _say(self, glyph: str, text: str, tone: Tone) -> None:
        self.query_one(Answer).say(Word(glyph, safe_line(text), tone))

    @on(events.Resize)
    def _resized(self) -> None:
        self.set_class(self.app.size.width >= WIDE_WIDTH, "-wide")
        self._drawn = ()
        self.call_after_refresh(self.draw)

    # --- keys --------------------------------------------------------------------------------------------------------------

    async def action_perform(self, key_id: str) -> None:
        """The gate of all keys: run the entry's action."""
        key = next(key for key in COMPARE_KEYS if key.id == key_id)
        await (self.chart if key.on == "chart" else self).run_action(key.action)

    async def on_key_bar_pressed(self, event: KeyBar.Pressed) -> None:
        """A click on the key bar is a press."""
        await self.action_perform(event.key_id)

    def action_next_pane(self) -> None:
        """Focus the other pane; where one has all the room, the other gets it."""
        target = self.table if self.focused is self.chart else self.chart
        if self.has_class("-maximised"):
            self._maximise(target is self.chart)
        self.set_focus(target)

    def action_maximise(self) -> None:
        """Give the focused pane all the room, or put both back."""
        if self.has_class("-maximised"):
            self.remove_class("-maximised")
            self.chart.display = self.table.display = True
        else:
            self._maximise(self.focused is not self.table)
        self._drawn = ()
        self.call_after_refresh(self.draw)

    def _maximise(self, is_chart: bool) -> None:
        self.add_class("-maximised")
        self.chart.display, self.table.display = is_chart, not is_chart
        self._drawn = ()
        self.call_after_refresh(self.draw)

    def action_toggle_evals(self) -> None:
        """Show or hide the evaluations."""
        self._say("·", f"evaluations {'shown' if self.chart.toggle_evals() else 'hidden'}", "muted")

    def action_leave(self) -> None:
        """Go back, or leave."""
        self._leave(LeaveChoice.DETACH)

    def action_help(self) -> None:
        """Show all keys."""
        self.app.push_screen(HelpScreen(COMPARE_KEYS))

    def action_palette(self) -> None:
        """Open the command palette."""
        self.app.action_command_palette()
