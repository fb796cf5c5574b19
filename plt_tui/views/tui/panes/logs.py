"""The log pane: the lines, what is filtered away, and a search field that appears when asked for.

Decides nothing about lines: `log_view` shows them, `views.log_filter` picks them. Invariant: what is typed into the search
field is a search or a sentence that says why not, never an exception.
"""

from __future__ import annotations

from dataclasses import replace

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import Key
from textual.widgets import Input, Static

from plt_tui.errors import UsageError
from plt_tui.protocol.text import safe_line
from plt_tui.views.log_filter import LEVELS, Wanted, next_of, sources_in_order
from plt_tui.views.log_ring import LogRing
from plt_tui.views.pattern import MAX_PATTERN_CHARS, Pattern
from plt_tui.views.tui.field import Field
from plt_tui.views.tui.panes.bars import Refused
from plt_tui.views.tui.panes.log_view import LogView
from plt_tui.views.tui.person import shown_key
from plt_tui.views.tui.words import STYLES

LEVEL_WORDS = {"all": "", "warnings": "warnings and worse", "errors": "errors only"}


class Logs(Vertical):
    """The log lines of hub and ranks."""

    DEFAULT_CSS = """
    Logs LogView { height: 1fr; scrollbar-size-horizontal: 0; }
    Logs #log-search { display: none; height: 1; background: $boost; }
    Logs.-searching #log-search { display: block; }
    Logs #log-search Input { width: 1fr; border: none; height: 1; padding: 0 1; background: $boost; }
    Logs #log-verdict { width: auto; max-width: 75%; height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self) -> None:
        super().__init__(id="logs", classes="pane")
        self.border_title = Content("logs")
        self._sources: list[str] = []
        self._moment_s: float | None = None
        self._fault = ""
        """What is wrong with the expression in the search field."""
        self._told_fault = ""

    def compose(self) -> ComposeResult:
        """The lines, and the search field under them."""
        yield LogView()
        with Horizontal(id="log-search"):
            yield Field(placeholder="regular expression; enter to go, esc to end", compact=True, max_length=MAX_PATTERN_CHARS)
            yield Static("", markup=False, id="log-verdict")

    @property
    def view(self) -> LogView:
        """The lines."""
        return self.query_one(LogView)

    def show(self, ring: LogRing, moment_s: float | None = None, *, whole: str = "") -> None:
        """Draw what is new in `ring`, and go to the moment pointed at (Unix seconds) when it is another than before.

        whole: the command line that tells all lines, also those that are not in `ring`.
        """
        if len(ring.sources) != len(self._sources):
            self._sources = sources_in_order(ring.sources)
        self.view.whole = whole
        self.view.show(ring)
        if moment_s != self._moment_s:
            self._moment_s = moment_s
            self.view.go_to_time(moment_s)
        self._tell()

    # --- keys --------------------------------------------------------------------------------------------------------------

    def action_search(self) -> None:
        """Let the user type what to look for."""
        self.add_class("-searching")
        self.screen.set_focus(self.query_one(Input))

    def action_older_hit(self) -> None:
        """Go to the next older hit."""
        if self._has_hit():
            self.view.older_hit()

    def action_newer_hit(self) -> None:
        """Go to the next newer hit."""
        if self._has_hit():
            self.view.newer_hit()

    def _has_hit(self) -> bool:
        """True when there is one to go to; else says why there is none."""
        if self.view.wanted.pattern is None:
            self.post_message(Refused(f"no search: {shown_key(self.app, 'search')} begins one"))
        elif not self.view.has_hit:
            self.post_message(Refused("no hit"))
        return self.view.has_hit

    def action_next_source(self) -> None:
        """Show the lines of everybody, then of the hub, of rank 0, ... alone."""
        wanted = self.view.wanted
        self.view.want(replace(wanted, source=next_of(["", *self._sources], wanted.source)))

    def action_next_level(self) -> None:
        """Show all lines, then warnings and worse, then errors only."""
        wanted = self.view.wanted
        self.view.want(replace(wanted, level=next_of(LEVELS, wanted.level)))

    def action_toggle_hits_only(self) -> None:
        """Hide the lines that the search does not find, or show them again; without a search ask for one."""
        wanted = self.view.wanted
        self.view.want(replace(wanted, hits_only=not wanted.hits_only))
        if self.view.wanted.hits_only and wanted.pattern is None:
            self.action_search()

    def key_escape(self, event: Key) -> None:
        """End the search; without one the key is somebody else's."""
        if self.view.wanted.pattern is None and not self.has_class("-searching"):
            return
        event.stop()
        self.query_one(Input).value = ""
        self._search("")
        self._close_field()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._search(event.value)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if not self._fault:
            self._close_field()

    def _close_field(self) -> None:
        self.screen.set_focus(self.view)
        self.remove_class("-searching")

    def _search(self, text: str) -> None:
        known = self.view.wanted.pattern
        if not self._fault and text == (known.text if known is not None else ""):
            return
        try:
            pattern, self._fault = Pattern(text) if text else None, ""
        except UsageError as error:
            pattern, self._fault = None, safe_line(str(error))
        self.view.search(pattern)

    # --- what is said ------------------------------------------------------------------------------------------------------

    @on(LogView.Changed)
    def _tell(self) -> None:
        self.border_title = Content.assemble("logs", (_filter_words(self.view.wanted), STYLES["muted"]))
        self.border_subtitle = Content(self.view.status)
        if self._fault != self._told_fault:  # an update is a layout, which costs as much as drawing the screen
            self._told_fault = self._fault
            verdict = Content.styled(f"✖ {self._fault}", STYLES["bad"]) if self._fault else Content("")
            self.query_one("#log-verdict", Static).update(verdict)


def _filter_words(wanted: Wanted) -> str:
    """What is filtered away, for the border: " · rank 0 · errors only"; nothing when nothing is."""
    hits = "hits only" if wanted.hits_only and wanted.pattern is not None else ""
    return "".join(f" · {words}" for words in (wanted.source, LEVEL_WORDS[wanted.level], hits) if words)
