"""The hyperparameter sheet: every knob with its value in force, and one line to change one of them."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from plt_tui.config.hyper import KNOBS, check_edit, value_at
from plt_tui.config.schema import RunConfig
from plt_tui.control.state import RunState
from plt_tui.errors import UsageError
from plt_tui.protocol.text import safe_line
from plt_tui.views.tui.chart.axis import format_value
from plt_tui.views.tui.screens.dialog import Box, Dialog, plain
from plt_tui.views.tui.words import STYLES, knob_words

NAMES = tuple(KNOBS)
_NAME_CELLS = 18
_VALUE_CELLS = 14


class KnobsDialog(Dialog[tuple[str, str]]):
    """Returns the knob and the new value as typed (already found valid); ("lr", "") asks for the learning-rate dialog."""

    DEFAULT_CSS = """
    KnobsDialog > Box { width: 78; }
    KnobsDialog Input { display: none; }
    KnobsDialog.-editing Input { display: block; }
    """

    def __init__(self, state: RunState, config: RunConfig | None) -> None:
        super().__init__()
        self._values = {name: shown_value(name, state, config) for name in NAMES}
        self._knob = NAMES[0]

    def compose(self) -> ComposeResult:
        """The sheet, and the field for the one being changed."""
        with Box("hyperparameters", "enter change · esc back"):
            yield OptionList(*(Option(self._prompt(name)) for name in NAMES), markup=False)
            yield plain("", id="verdict")
            yield Input()

    def _prompt(self, name: str) -> Content:
        value = self._values[name]
        value = value if len(value) < _VALUE_CELLS else value[: _VALUE_CELLS - 2] + "…"
        return Content.assemble(
            (knob_words(name).ljust(_NAME_CELLS), "bold"),
            (value.ljust(_VALUE_CELLS), "$accent"),
            (KNOBS[name].help, STYLES["muted"]),
        )

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self._knob = NAMES[event.option_index]
        if self._knob == "lr":
            self.dismiss(("lr", ""))
            return
        self.add_class("-editing")
        field = self.query_one(Input)
        field.border_title = Content(knob_words(self._knob))
        field.value = self._values[self._knob].removesuffix("–")
        field.focus()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self._judge(event.value)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        if self._judge(event.value):
            self.dismiss((self._knob, event.value))

    def _judge(self, text: str) -> bool:
        verdict = self.query_one("#verdict", Static)
        try:
            check_edit(self._knob, text)
        except UsageError as error:
            verdict.update(Content(safe_line(str(error))))
            verdict.add_class("bad")
            return False
        verdict.update(Content("enter puts it in force at the next step"))
        verdict.remove_class("bad")
        return True

    def action_give_up(self) -> None:
        """From the field back to the sheet, from the sheet back to the run."""
        if not self.has_class("-editing"):
            self.dismiss(None)
            return
        self.remove_class("-editing")
        self.query_one("#verdict", Static).update(Content(""))
        self.query_one(OptionList).focus()


def shown_value(name: str, state: RunState, config: RunConfig | None) -> str:
    """The value in force for the next step, as one would type it; a dash while unknown."""
    if name == "lr":
        return format_value(state.last_step.lr) if state.last_step is not None else "–"
    if config is None:
        return "–"
    value = value_at(config, state.edits, name, state.step + 1)
    return ",".join(f"{part:g}" for part in value) if isinstance(value, tuple) else safe_line(str(value))
