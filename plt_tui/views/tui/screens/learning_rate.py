"""The learning-rate dialog: a value, a factor or a new end point, with the rest of the schedule drawn before it is in force.

Draws with `config.hyper.lr_at`, the function the ranks obey, so the preview is the truth, and follows the run, because
the run goes on. Sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click
from textual.widgets import Input, Static

from plt_tui.config.edits import Edit, EditMode
from plt_tui.config.hyper import lr_at
from plt_tui.config.knobs import LR_MODES, check_edit
from plt_tui.config.schema import RunConfig
from plt_tui.control.state import RunState
from plt_tui.errors import UsageError
from plt_tui.protocol.text import safe_line
from plt_tui.views.formats import format_value
from plt_tui.views.preview import left_now
from plt_tui.views.tui.chart.line_chart import Curve, LineChart
from plt_tui.views.tui.chart.raster import Mode
from plt_tui.views.tui.chart.series import Series
from plt_tui.views.tui.field import Field
from plt_tui.views.tui.panes.block import Block
from plt_tui.views.tui.screens.dialog import FOLLOW_S, Box, Dialog, plain
from plt_tui.views.tui.words import STYLES

PREVIEW_POINTS = 240


class LearningRateDialog(Dialog[dict[str, Any]]):
    """Returns the arguments of a `set` command."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "fill('x2')", "double", show=False),
        Binding("down", "fill('x0.5')", "halve", show=False),
        Binding("tab", "next_mode", "mode", show=False),
    ]
    DEFAULT_CSS = """
    LearningRateDialog > Box { width: 84; padding: 0 2; }
    LearningRateDialog #modes { height: 1; padding: 0 1; }
    LearningRateDialog #verdict { height: 2; padding: 0 1; }
    LearningRateDialog LineChart { height: 11; }
    """

    def __init__(self, read: Callable[[], RunState], config: RunConfig | None, chart_mode: Mode) -> None:
        super().__init__()
        self._read = read
        self._config = config
        self._chart_mode = chart_mode
        self._mode: EditMode = "set"
        self._old, self._new = Series(), Series()

    def compose(self) -> ComposeResult:
        """Field, mode, verdict, preview."""
        with Box("learning rate", "enter apply · ↑ ×2 · ↓ ×0.5 · tab mode · esc cancel"):
            yield plain("", id="now")
            yield Field(placeholder="3e-4 or x0.5", max_length=32, wishes=self._wishes())
            yield Block(id="modes")
            yield plain("", id="verdict")
            if self._config is None:
                yield plain("no preview: the run's configuration is not known here")
            else:
                yield LineChart("rest of the schedule", y_format=format_value, mode=self._chart_mode)

    def _wishes(self) -> dict[str, Callable[[], None]]:
        """Keys of the dialog that act in their turn with what is typed; its bindings are for when the chart has the focus."""
        fills = {key: partial(self.action_fill, text) for key, text in (("up", "x2"), ("down", "x0.5"))}
        return {**fills, "tab": self.action_next_mode, "enter": self._submit}

    def on_mount(self) -> None:
        """Draw the schedule as it stands, and again now and then."""
        if self._config is not None:
            new = Curve("new", self._new, "accent", smooth=False)
            self.query_one(LineChart).set_curves([Curve("as it stands", self._old, "foreground", smooth=False), new])
        self._follow()
        self.set_interval(FOLLOW_S, self._follow)

    def _follow(self) -> None:
        """Show the run as it is now."""
        state = self._read()
        now = f"now {format_value(state.last_step.lr)}" if state.last_step is not None else "not stepping yet"
        told = [f"{now}; type a value such as 3e-4, or a factor such as x0.5"]
        if self._config is not None:
            told.append(_left(self._config, state))
            self._fill(self._old, state.edits)
        self.query_one("#now", Static).update(Content("\n".join(told)))
        self._judge()

    def action_fill(self, text: str) -> None:
        """Put `text` into the field."""
        field = self.query_one(Input)
        field.value, field.cursor_position = text, len(text)

    def action_next_mode(self) -> None:
        """Choose the next mode."""
        self._mode = LR_MODES[(LR_MODES.index(self._mode) + 1) % len(LR_MODES)]
        self._judge()

    @on(Click, "#modes")
    def _clicked(self) -> None:
        self.action_next_mode()

    @on(Input.Changed)
    def _changed(self) -> None:
        self._judge()

    def _submit(self) -> None:
        edit = self._judge()
        if edit is not None:
            self.dismiss({"name": "lr", "value": edit.value, "mode": edit.mode})

    def _judge(self) -> Edit | None:
        """The edit as typed, drawn and described; None while it is not valid."""
        state, text, edit = self._read(), self.query_one(Input).value, None
        verdict = self.query_one("#verdict", Static)
        try:
            edit = typed_edit(text, self._mode, state.step + 1) if text.strip() else None
            verdict.update(Content(_verdict(edit)))
            verdict.remove_class("bad")
        except UsageError as error:
            verdict.update(Content(safe_line(str(error))))
            verdict.add_class("bad")
        self.query_one("#modes", Block).put([_modes_line(edit.mode if edit is not None else self._mode)])
        if self._config is not None:
            self._fill(self._new, (*state.edits, edit) if edit is not None else ())
            self.query_one(LineChart).refresh_data()
        return edit

    def _fill(self, series: Series, edits: Sequence[Edit]) -> None:
        series.cut(-1.0)
        if self._config is None or (series is self._new and not edits):
            return
        series.extend(*schedule(self._config, self._read(), edits))


def typed_edit(text: str, mode: EditMode, step: int) -> Edit:
    """The edit that `text` asks for from `step` on; a leading x or * makes it a factor whatever the mode.

    Raises: UsageError with the value seen and the allowed range.
    """
    stripped = text.strip()
    if stripped[:1] in ("x", "X", "*", "×"):
        stripped, mode = stripped[1:], "scale"
    name, value, checked = check_edit("lr", stripped, mode)
    return Edit(id="preview", step=step, name=name, value=value, mode=checked)


def schedule(config: RunConfig, state: RunState, edits: Sequence[Edit]) -> tuple[Any, Any]:
    """Steps from the next one to the target, and the learning rate at each: two float64 arrays (at most PREVIEW_POINTS,)."""
    target = state.run.target_step if state.run is not None else max(1, config.train.steps)
    steps = np.unique(np.linspace(min(state.step + 1, target), target, PREVIEW_POINTS).astype(np.int64))
    rates = [lr_at(config.optim, target, edits, int(step)) for step in steps]
    return steps.astype(np.float64), np.array(rates, dtype=np.float64)


def _left(config: RunConfig, state: RunState) -> str:
    try:
        return left_now(config, state)
    except UsageError as error:
        return str(error)


def _modes_line(chosen: EditMode) -> Content:
    words = [
        (f"{'●' if mode == chosen else '○'} {mode}", f"bold {STYLES['accent']}" if mode == chosen else "") for mode in LR_MODES
    ]
    return Content("   ").join([Content.styled(word, style or STYLES["muted"]) for word, style in words])


def _verdict(edit: Edit | None) -> str:
    if edit is None:
        return "0 to 10"
    value = format_value(float(edit.value))
    words = {
        "set": f"holds {value} to the end",
        "scale": f"multiplies the rest of the schedule by {value}",
        "replan": f"goes from the present rate to {value} at the last step",
    }
    return f"from step {edit.step:,} on: {words[edit.mode]}"
