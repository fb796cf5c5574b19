"""The board of panes: which of them are seen, which has the focus, and redrawing those whose part of the model changed.

Knows no command and sends nothing. Invariant: a pane that is out of sight, or whose part of the model stands still, costs
nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import DescendantFocus, Resize
from textual.style import Style
from textual.widgets import Static

from plt_tui.views.tui.chart.raster import Mode
from plt_tui.views.tui.layout import MIN_HEIGHT, MIN_WIDTH, PANES, STORY, Plan, plan
from plt_tui.views.tui.panes.bars import Banner
from plt_tui.views.tui.panes.events import Events
from plt_tui.views.tui.panes.header import Header
from plt_tui.views.tui.panes.logs import Logs
from plt_tui.views.tui.panes.loss import LossChart
from plt_tui.views.tui.panes.machine import Machine
from plt_tui.views.tui.panes.numbers import Numbers
from plt_tui.views.tui.panes.samples import Samples
from plt_tui.views.tui.panes.trends import Trends
from plt_tui.views.tui.session import RunSession
from plt_tui.views.tui.words import STYLES

Version = tuple[object, ...]

STEADY_PARTS = ("header", "numbers", "chart", "trends", "machine")
"""What changes with every step: redrawn together, once in STEADY_TICKS, and at once when something happened to the run."""
STEADY_TICKS = 4
"""A frame costs about 10 ms of a core, however little changes in it; the time is the training's, not ours."""


class Board(Vertical):
    """Everything between the top of the screen and the answer line."""

    def __init__(self, chart_mode: Mode) -> None:
        super().__init__(id="board")
        self._chart_mode = chart_mode
        self._hidden: set[str] = set()
        self._front, self._story, self._maximised = "logs", "samples", ""
        self._plan = Plan("tiny", frozenset(), ())
        self._is_arranged = False
        self._tick = 0
        self._drawn_story = -1
        self._drawn: dict[str, Version] = {}

    def compose(self) -> ComposeResult:
        """All panes; which of them are seen is `layout.plan`'s decision."""
        yield Static("", markup=False, id="tiny")
        yield Header(id="header")
        yield Banner(id="banner")
        yield Numbers(id="numbers")
        with Horizontal(id="top"):
            yield LossChart(self._chart_mode)
            with Vertical(id="side"):
                yield Trends()
                yield Machine()
        with Horizontal(id="bottom"):
            yield Logs()
            yield Samples()
            yield Events()

    @property
    def chart(self) -> LossChart:
        """The chart that the chart keys act on."""
        return self.query_one(LossChart)

    @property
    def logs(self) -> Logs:
        """The log pane."""
        return self.query_one(Logs)

    @property
    def samples(self) -> Samples:
        """The pane of samples."""
        return self.query_one(Samples)

    def draw(self, session: RunSession, now: float) -> None:
        """Redraw what is in sight and has changed; called at every tick of the screen."""
        self._tick += 1
        story = session.model.revisions["story"]
        is_full = self._tick % STEADY_TICKS == 0 or story != self._drawn_story
        self._drawn_story = story
        for part, (version, show) in self._parts(session, now).items():
            is_due = is_full or part not in self._drawn or part not in STEADY_PARTS
            if is_due and self._drawn.get(part) != version and self._is_seen(part):
                self._drawn[part] = version
                show()

    def _is_seen(self, part: str) -> bool:
        return part in self._plan.shown if part in PANES else self._plan.mode != "tiny"

    def _parts(self, session: RunSession, now: float) -> dict[str, tuple[Version, Callable[[], None]]]:
        """Every part by id: a version that changes when it must be redrawn, and how to redraw it."""
        model, seen, second = session.model, session.model.revisions, int(now)
        link = (session.link, session.trouble)
        return {
            "header": ((seen["state"], second, *link), lambda: self.query_one(Header).show(session, now)),
            "banner": ((seen["story"], *link), lambda: self.query_one(Banner).show(session)),
            "numbers": ((seen["steps"], seen["evals"]), lambda: self.query_one(Numbers).show(model.state)),
            "chart": ((seen["steps"], seen["branches"], seen["evals"], seen["story"]), lambda: self.chart.show(model)),
            "trends": ((seen["steps"],), lambda: self.query_one(Trends).show(model.steps)),
            "machine": ((seen["state"], second), lambda: self.query_one(Machine).show(model.state, now)),
            "logs": ((seen["logs"],), lambda: self.logs.show(model.logs)),
            "samples": ((seen["samples"],), lambda: self.samples.show(model.samples)),
            "events": ((seen["story"],), lambda: self.query_one(Events).show(model.happenings.values())),
        }

    # --- what is seen ------------------------------------------------------------------------------------------------------

    def action_toggle_pane(self, name: str) -> None:
        """Show or hide a pane; "story" stands for samples and events. A compact screen has room for one beside the chart."""
        panes = STORY if name == "story" else (name,)
        pane = self._story if name == "story" else name
        if self._plan.mode == "compact":
            self._hidden.difference_update(panes)
            self._front = "" if self._front == pane else pane
        else:
            self._hidden.symmetric_difference_update(panes)
        self._maximised = ""
        self.rearrange()

    def action_maximise(self) -> None:
        """Give the focused pane all the room, or put everything back."""
        self._maximised = "" if self._maximised else self._focused_pane() or "chart"
        self.rearrange()

    def action_next_pane(self, direction: int) -> None:
        """Focus the next (1) or previous (-1) pane."""
        reachable = self._plan.reachable
        if reachable:
            current = self._focused_pane()
            place = reachable.index(current) + direction if current in reachable else 0
            self.look_at(reachable[place % len(reachable)])

    def look_at(self, pane: str) -> None:
        """Bring `pane` to light and focus it."""
        self._hidden.discard(pane)
        self._maximised = pane if self._maximised else ""
        self._bring_forward(pane)
        target = self.logs.view if pane == "logs" else self.query_one(f"#{pane}")
        target.focus()

    def _bring_forward(self, pane: str) -> None:
        self._story = pane if pane in STORY else self._story
        self._front = self._front if pane == "chart" else pane
        self.rearrange()

    def _focused_pane(self) -> str:
        focused = self.screen.focused
        nodes = focused.ancestors_with_self if focused is not None else []
        return next((node.id for node in nodes if node.id in PANES), "")

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """A click focuses too."""
        pane = self._focused_pane()
        if pane:
            self._bring_forward(pane)

    def on_resize(self, event: Resize) -> None:
        """Another size may have room for more or less; all texts are cut to the new width."""
        self.rearrange()
        self._forget_drawn()

    def rearrange(self) -> None:
        """Let the widgets follow the plan."""
        width, height = self.app.size
        new = plan(width, height, hidden=self._hidden, front=self._front, story=self._story, maximised=self._maximised)
        if new.mode == "tiny":
            words = f"terminal too small ({width}x{height}); plt-tui needs {MIN_WIDTH}x{MIN_HEIGHT}; the run goes on"
            self.query_one("#tiny", Static).update(Content(words))
        if new == self._plan and self._is_arranged:
            return
        self._plan, self._is_arranged = new, True
        self.set_classes(f"-{new.mode}")
        self.set_class(bool(self._maximised), "-maximised")
        for pane in PANES:
            self.query_one(f"#{pane}").display = pane in new.shown
        self.query_one("#top").display = bool(new.shown & {"chart", "trends", "machine"})
        self.query_one("#side").display = bool(new.shown & {"trends", "machine"})
        self.query_one("#bottom").display = bool(new.shown & {"logs", *STORY})
        self._entitle()
        # Widths are known after the layout only; until then nothing could be cut to size.
        self.call_after_refresh(self._forget_drawn)
        if new.mode != "tiny" and self._focused_pane() not in new.shown:
            self.chart.focus()

    def _forget_drawn(self) -> None:
        self._drawn.clear()

    def _entitle(self) -> None:
        """Samples and events name each other where they share one place; a click on the other's name goes there."""
        together = sum(pane in self._plan.shown for pane in STORY) != 1 or not set(STORY) <= set(self._plan.reachable)
        for pane, other in (STORY, STORY[::-1]):
            link = Style.from_meta({"@click": f"screen.look_at('{other}')"})
            rest = Content("") if together else Content.assemble(" · ", Content.styled(other, STYLES["muted"]).stylize(link))
            names = [Content(pane), rest]
            self.query_one(f"#{pane}").border_title = Content("").join(names)
