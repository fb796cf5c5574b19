"""The board of panes: which of them are seen, which has the focus, and redrawing those whose part of the model changed.

Knows no command and sends nothing. Invariant: a pane that is out of sight, or whose part of the model stands still, costs
nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import DescendantFocus, MouseDown, MouseMove, MouseUp, Resize
from textual.message import Message
from textual.style import Style
from textual.widgets import Static

from plt_tui.views.model import RunModel
from plt_tui.views.tui.chart.lane import AXES
from plt_tui.views.tui.chart.raster import Mode
from plt_tui.views.tui.layout import MIN_HEIGHT, MIN_WIDTH, PANES, STORY, Layout, Plan, plan
from plt_tui.views.tui.marks import next_mark, pointed_moment
from plt_tui.views.tui.pace import Pace
from plt_tui.views.tui.panes.bars import Banner, Refused
from plt_tui.views.tui.panes.charts import Charts
from plt_tui.views.tui.panes.events import Events
from plt_tui.views.tui.panes.header import Header
from plt_tui.views.tui.panes.logs import Logs
from plt_tui.views.tui.panes.machine import Machine
from plt_tui.views.tui.panes.numbers import Numbers
from plt_tui.views.tui.panes.resizer import Resizer
from plt_tui.views.tui.panes.samples import Samples
from plt_tui.views.tui.panes.trends import Trends
from plt_tui.views.tui.person import Person
from plt_tui.views.tui.session import RunSession
from plt_tui.views.tui.words import STYLES

Version = tuple[object, ...]

STEADY_PARTS = ("header", "numbers", "chart", "trends", "machine", "logs")
"""What changes with every step: redrawn together, as often as `pace` allows, and at once when something happened to the run.
A frame costs about 10 ms of a core, however little changes in it; the time is the training's, not ours."""
ROUGH_S = 10.0
"""Where bytes are dear, times that go on are told in steps of this length."""


class Board(Vertical):
    """Everything between the top of the screen and the answer line."""

    class Pointed(Message):
        """Somebody points at `step`, or no more at any (None)."""

        def __init__(self, step: int | None) -> None:
            super().__init__()
            self.step = step

    def __init__(self, chart_mode: Mode, person: Person | None = None) -> None:
        super().__init__(id="board")
        self._chart_mode = chart_mode
        self._person = person or Person()
        self._hidden = set(self._person.layout.hidden)
        self._resizer = Resizer(self, self._person.layout.sizes, self._resized)
        self._front, self._story, self._maximised = "logs", "samples", ""
        self._plan = Plan("tiny", frozenset(), ())
        self._is_arranged = False
        self.pointed: int | None = None
        """The step that somebody points at; None: nobody does."""
        self.pace = Pace()
        """How far steady frames are apart."""
        self._ticks_left = 0
        self._drawn_story = -1
        self._drawn: dict[str, Version] = {}

    def compose(self) -> ComposeResult:
        """All panes; which of them are seen is `layout.plan`'s decision."""
        yield Static("", markup=False, id="tiny")
        yield Header(id="header")
        yield Banner(id="banner")
        yield Numbers(id="numbers")
        with Horizontal(id="top"):
            yield Charts(self._chart_mode)
            with Vertical(id="side"):
                yield Trends(self._chart_mode)
                yield Machine(self._chart_mode)
        with Horizontal(id="bottom"):
            yield Logs()
            yield Samples()
            yield Events()

    def on_mount(self) -> None:
        """Take what is remembered, and note what changes of it."""
        chart, before = self.chart, self._person.layout
        chart.smoothing, chart.is_grid = before.smoothing, before.metrics
        chart.axis = next((name for name in AXES if name == before.x_axis), chart.axis)
        for name in ("smoothing", "is_grid", "axis"):
            self.watch(chart, name, self._remember, init=False)

    @property
    def chart(self) -> Charts:
        """The charts that the chart keys act on."""
        return self.query_one(Charts)

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
        self._ticks_left -= 1
        story = session.model.revisions["story"]
        is_frugal = self.pace.is_frugal
        is_full = self._ticks_left <= 0 or (story != self._drawn_story and not is_frugal)
        self._drawn_story = story
        self._ticks_left = self.pace.next_ticks() if is_full else self._ticks_left
        now = now - now % ROUGH_S if is_frugal else now
        for part, (version, show) in self._parts(session, now).items():
            is_due = is_full or part not in self._drawn or (part not in STEADY_PARTS and not is_frugal)
            if is_due and self._drawn.get(part) != version and self._is_seen(part):
                self._drawn[part] = version
                show()

    def _is_seen(self, part: str) -> bool:
        return part in self._plan.shown if part in PANES else self._plan.mode != "tiny"

    def _parts(self, session: RunSession, now: float) -> dict[str, tuple[Version, Callable[[], None]]]:
        """Every part by id: a version that changes when it must be redrawn, and how to redraw it."""
        model, seen, second = session.model, session.model.revisions, int(now)
        link, is_silent = (session.link, session.trouble), bool(session.trouble)
        pointed, whole = self.pointed, session.typed(f"plt-tui logs {session.name}")
        can_sample = not session.refusal(needs_ranks=True)
        return {
            "header": ((seen["state"], second, *link), lambda: self.query_one(Header).show(session, now)),
            "banner": ((seen["story"], *link), lambda: self.query_one(Banner).show(session)),
            "numbers": ((seen["steps"], seen["evals"]), lambda: self.query_one(Numbers).show(model.state)),
            "chart": ((seen["steps"], seen["branches"], seen["evals"], seen["story"]), lambda: self.chart.show(model)),
            "trends": ((seen["steps"],), lambda: self.query_one(Trends).show(model.steps)),
            "machine": (
                (seen["state"], second, is_silent),
                lambda: self.query_one(Machine).show(model, now, is_silent=is_silent),
            ),
            "logs": ((seen["logs"], pointed), lambda: self.logs.show(model.logs, self._moment(model), whole=whole)),
            "samples": (
                (seen["samples"], pointed, can_sample),
                lambda: self.samples.show(model.samples, pointed, can_sample=can_sample),
            ),
            "events": ((seen["story"],), lambda: self.query_one(Events).show(model.happenings.values())),
        }

    def _moment(self, model: RunModel) -> float | None:
        """When the step pointed at ended; None: nobody points."""
        return pointed_moment(model, self.pointed) if self.pointed is not None else None

    # --- the step pointed at -----------------------------------------------------------------------------------------------

    def point_at(self, step: int | None) -> None:
        """Point at a step, or at none; everything that belongs to a step follows."""
        self.pointed = step
        self.chart.point_at(step)
        for part in ("logs", "samples"):
            self._drawn.pop(part, None)  # to be drawn at the next tick, however seldom steady frames come
        self.post_message(self.Pointed(step))

    def action_next_mark(self, direction: int) -> None:
        """Point at the next mark (1) or at the one before (-1)."""
        step = next_mark(self.chart.marks, self.pointed, direction)
        if step is not None:
            self.point_at(step)
        else:
            side = "" if self.pointed is None else " later" if direction > 0 else " earlier"
            self.post_message(Refused(f"no{side} mark"))

    def action_unpoint(self) -> None:
        """Point at no step any more."""
        if self.pointed is not None:
            self.point_at(None)

    def on_charts_pointed(self, event: Charts.Pointed) -> None:
        """A click points, a double click takes that back."""
        if event.step is not None or self.pointed is not None:
            self.point_at(event.step)

    def on_samples_picked(self, event: Samples.Picked) -> None:
        """Who walks through the samples points at their steps."""
        self.point_at(event.step)

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
        self._remember()

    def action_maximise(self) -> None:
        """Give the focused pane all the room, or put everything back."""
        self._maximised = "" if self._maximised else self._focused_pane() or "chart"
        self.rearrange()

    def action_next_pane(self, direction: int) -> None:
        """Focus the next (1) or previous (-1) pane."""
        reachable = self._plan.reachable
        if reachable:
            current = self._focused_pane()
            if reachable == (current,):
                self.post_message(Refused("no other pane is shown"))
            place = reachable.index(current) + direction if current in reachable else 0
            self.look_at(reachable[place % len(reachable)])

    def look_at(self, pane: str) -> None:
        """Bring `pane` to light and focus it."""
        self._hidden.discard(pane)
        self._maximised = pane if self._maximised else ""
        self._bring_forward(pane)
        # At once, not by `focus()`: the next key is for it.
        self.screen.set_focus(self.logs.view if pane == "logs" else self.query_one(f"#{pane}"))

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

    # --- how large it is ---------------------------------------------------------------------------------------------------

    def _remember(self) -> None:
        """Let what was made of the board be there again the next time."""
        chart = self.chart
        self._person.layout = Layout(
            hidden=frozenset(self._hidden),
            sizes=self._resizer.sizes,
            metrics=chart.is_grid,
            x_axis=chart.axis,
            smoothing=chart.smoothing,
        )

    def _resized(self) -> None:
        self._remember()
        self.call_after_refresh(self._forget_drawn)  # all texts are cut to the new size

    def action_resize(self, columns: int, rows: int) -> None:
        """Make the focused pane wider and taller, or narrower and shorter."""
        pane = self._focused_pane() or "chart"
        if not self._resizer.nudge(pane, "x" if columns else "y", columns or rows):
            self.post_message(Refused(f"{pane}: no border beside it that could be moved there"))

    def action_reset_layout(self) -> None:
        """All panes, each of its usual size."""
        self._hidden.clear()
        self._maximised = ""
        self._resizer.reset()
        self.rearrange()
        self._remember()

    def on_mouse_down(self, event: MouseDown) -> None:
        """Take hold of a border, unless there is something to click on."""
        if event.button == 1 and "@click" not in event.style.meta and self._resizer.grab(event.screen_x, event.screen_y):
            event.stop()
            self.screen.clear_selection()  # which has begun with the press
            self.capture_mouse()

    def on_mouse_move(self, event: MouseMove) -> None:
        """Drag the border along."""
        if self._resizer.is_dragging:
            self._resizer.drag(event.screen_x, event.screen_y)

    def on_mouse_up(self, event: MouseUp) -> None:
        """Let go of the border."""
        if self._resizer.is_dragging:
            self._resizer.drop()
            self.release_mouse()

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
        self._resizer.apply(new)
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
            self.screen.set_focus(self.chart)

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
