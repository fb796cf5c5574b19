"""The rewind dialog: the states that one can go back to, a step, batches to leave out, and what that would do.

Follows the run while it is open, because the run goes on. Sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from plt_tui.config.schema import RunConfig
from plt_tui.control.state import RunState
from plt_tui.errors import UsageError
from plt_tui.protocol.commands import rewind_of
from plt_tui.protocol.events import Recent
from plt_tui.protocol.text import safe_line
from plt_tui.views.formats import format_bytes, format_duration
from plt_tui.views.rewind import Place, Return, counted, places, plan_return
from plt_tui.views.tui.field import Field, taken_in
from plt_tui.views.tui.screens.dialog import FOLLOW_S, Box, Dialog, plain
from plt_tui.views.tui.words import STYLES

_STEP_CELLS, _PLACE_CELLS, _BACK_CELLS = 14, 26, 18


class RewindDialog(Dialog[dict[str, Any]]):
    """Returns the arguments of a `rewind` command."""

    BINDINGS: ClassVar[list[BindingType]] = [
        # With priority: a key typed right after goes to the next field, however busy the machine is.
        Binding("tab", "field(1)", "next field", show=False, priority=True),
        Binding("shift+tab", "field(-1)", "previous field", show=False, priority=True),
    ]
    DEFAULT_CSS = """
    RewindDialog > Box { width: 84; }
    RewindDialog OptionList { max-height: 7; }
    RewindDialog #fields { height: 3; }
    RewindDialog #fields Input { width: 1fr; border: round $foreground 25%; }
    RewindDialog #fields Input:focus { border: round $accent; }
    RewindDialog #verdict { height: 2; padding: 0 1; }
    """

    def __init__(
        self, read: Callable[[], RunState], config: RunConfig | None, clock: Callable[[], float], pointed: int | None = None
    ) -> None:
        """`pointed`: the step to offer, one that somebody points at."""
        super().__init__()
        self._read = read
        self._config = config
        self._clock = clock
        self._pointed = pointed
        self._kept: list[Place] = []

    def compose(self) -> ComposeResult:
        """The states, the fields, the verdict."""
        with Box("rewind", "enter go back · ↑ ↓ choose · tab next field · esc cancel"):
            yield plain("", id="cost")
            choices = OptionList(markup=False)
            choices.can_focus = False
            yield choices
            with Horizontal(id="fields"):
                yield self._field("step", "to step", "")
                yield self._field("skip", "batches to leave out", self._skip_hint())
            yield plain("", id="verdict")

    def _field(self, name: str, title: str, placeholder: str) -> Field:
        choices = {key: partial(self._choose, direction) for key, direction in (("up", -1), ("down", 1))}
        field = Field(id=name, placeholder=placeholder, max_length=13, wishes={**choices, "enter": self._submit})
        field.border_title = Content(title)
        return field

    def _skip_hint(self) -> str:
        return f"0 (the guard: {self._config.guard.leave_out})" if self._config is not None else "0"

    def on_mount(self) -> None:
        """Offer the step pointed at, else the newest state that lies behind the run."""
        self._follow()
        now = self._read().step
        field = self.query_one("#step", Input)
        newest = next((place.step for place in self._kept if place.step < now), "")
        field.value = str(newest if self._pointed is None else self._pointed)
        field.focus()
        field.select_all()  # what is typed first replaces the offer
        self.set_interval(FOLLOW_S, self._follow)

    def _follow(self) -> None:
        """Show the run as it is now."""
        state = self._read()
        self._kept = places(state, self._config.checkpoint.keep if self._config is not None else 1)
        self.query_one("#cost", Static).update(Content(cost_words(state.recent)))
        choices, now = self.query_one(OptionList), self._clock()
        highlighted, scrolled = choices.highlighted, choices.scroll_offset
        choices.clear_options().add_options([Option(_row(place, state.step, now)) for place in self._kept])
        choices.highlighted = highlighted
        choices.scroll_to(*scrolled, animate=False)
        self._judge()

    async def action_field(self, direction: int) -> None:
        """Go to the next field or the one before, once this one has what was typed before: Enter there is for both."""
        await taken_in(self.focused)
        if self.is_active:
            self.focus_next() if direction > 0 else self.focus_previous()

    def _choose(self, direction: int) -> None:
        """Fill in the next or previous state of the list."""
        here = self.query_one(OptionList).highlighted
        place = 0 if here is None else min(max(here + direction, 0), len(self._kept) - 1)
        self.query_one("#step", Input).value = str(self._kept[place].step)

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        self.query_one("#step", Input).value = str(self._kept[event.option_index].step)

    @on(Input.Changed)
    def _typed(self) -> None:
        self._judge()

    def _submit(self) -> None:
        planned = self._judge()
        if planned is not None:
            skip = {"skip": planned.skip} if planned.skip else {}
            self.dismiss({"step": planned.asked_step, **skip})

    def _judge(self) -> Return | None:
        """What was typed, with its state marked in the list and its effect in words; None while it is not valid."""
        texts = {name: self.query_one(f"#{name}", Input).value.strip() for name in ("step", "skip")}
        verdict, planned = self.query_one("#verdict", Static), None
        try:
            planned = self._planned(texts)
            verdict.update(Content(planned.words if planned is not None else "type a step, or choose a state"))
            verdict.remove_class("bad")
        except UsageError as error:
            verdict.update(Content(safe_line(str(error))))
            verdict.add_class("bad")
        if planned is not None and planned.to in self._kept:
            self.query_one(OptionList).highlighted = self._kept.index(planned.to)
        return planned

    def _planned(self, texts: dict[str, str]) -> Return | None:
        if not texts["step"]:
            return None
        step, skip = rewind_of(texts)
        return plan_return(self._read(), self._kept, step, skip)


def cost_words(recent: Recent | None) -> str:
    """What the states in memory cost."""
    if recent is None or not recent.steps:
        return "no state is in memory now"
    states = counted(len(recent.steps), "state", "states")
    return f"{states} in memory: {format_bytes(recent.bytes)} on each rank, {format_duration(recent.seconds)} a copy"


def _row(place: Place, step: int, now: float) -> Content:
    words = safe_line(place.words)
    words = words if len(words) < _PLACE_CELLS else words[: _PLACE_CELLS - 2] + "…"
    back = f"{counted(step - place.step, 'step', 'steps')} back" if place.step < step else "now"
    age = f"{format_duration(max(0.0, now - place.time))} ago" if place.time else ""
    return Content.assemble(
        (f"step {place.step:,}".ljust(_STEP_CELLS), "bold"),
        (words.ljust(_PLACE_CELLS), STYLES["accent"]),
        (f"{back.ljust(_BACK_CELLS)}{age}", STYLES["muted"]),
    )
