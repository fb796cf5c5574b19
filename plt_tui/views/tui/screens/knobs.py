"""The hyperparameter sheet: every knob with its value in force and where that came from, and one line to change one of them.

What a value would do is told while it is typed, and follows the run, because the run goes on. Sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from plt_tui.config.hyper import value_at
from plt_tui.config.knobs import KNOBS, check_edit
from plt_tui.config.schema import RunConfig
from plt_tui.control.state import RunState
from plt_tui.errors import UsageError
from plt_tui.protocol.text import safe_line
from plt_tui.views.formats import format_value
from plt_tui.views.origin import origin_words
from plt_tui.views.preview import batch_words, change_words, left_words, preview, set_edit, value_words
from plt_tui.views.tui.field import Field
from plt_tui.views.tui.screens.dialog import FOLLOW_S, Box, Dialog, plain
from plt_tui.views.tui.words import STYLES, knob_words

NAMES = tuple(KNOBS)
WANTED = {name: {"name": name} for name in ("lr", "prompt")}
"""Results that ask for the dialogs which these knobs have of their own."""
_UNKNOWN, _BY_SIZE = "–", value_words(())
NO_VALUES = (_UNKNOWN, _BY_SIZE)
"""What stands in the sheet where there is nothing to edit."""
_NAME_CELLS = 22
_VALUE_CELLS = 13


class KnobsDialog(Dialog[dict[str, Any]]):
    """Returns the arguments of a `set` command, the value as typed (already found valid), or one of WANTED."""

    BINDINGS: ClassVar[list[BindingType]] = [
        # With priority, as long as they are for the sheet: what is typed right behind Enter goes into the field.
        Binding("up", "move(-1)", "knob above", show=False, priority=True),
        Binding("down", "move(1)", "knob below", show=False, priority=True),
        Binding("enter", "change", "change", show=False, priority=True),
    ]
    DEFAULT_CSS = """
    KnobsDialog > Box { width: 96; padding: 0 2; }
    KnobsDialog OptionList { text-wrap: nowrap; text-overflow: ellipsis; }
    KnobsDialog #verdict { margin: 1 0 0 0; }
    KnobsDialog Input { display: none; }
    KnobsDialog.-editing Input { display: block; }
    KnobsDialog.-editing OptionList { max-height: 12; }
    """

    def __init__(self, read: Callable[[], RunState], config: RunConfig | None) -> None:
        super().__init__()
        self._read = read
        self._config = config
        self._values, self._origins = self._values_now(), self._origins_now()
        self._knob = NAMES[0]

    def compose(self) -> ComposeResult:
        """The sheet, what is said about the chosen knob, and the field for the one being changed."""
        with Box("hyperparameters", "enter change · esc back"):
            yield OptionList(*(Option(self._prompt(name)) for name in NAMES), markup=False)
            yield plain("", id="verdict")
            yield Field()

    def on_mount(self) -> None:
        """Look at the run now and then."""
        self.set_interval(FOLLOW_S, self._follow)

    def _follow(self) -> None:
        """Show the run as it is now."""
        known, origins = self._values, self._origins
        self._values, self._origins = self._values_now(), self._origins_now()
        for place, name in enumerate(NAMES):
            if (self._values[name], self._origins[name]) != (known[name], origins[name]):
                self.query_one(OptionList).replace_option_prompt_at_index(place, self._prompt(name))
        if self.has_class("-editing"):
            self._judge(self.query_one(Input).value)

    def _values_now(self) -> dict[str, str]:
        return {name: shown_value(name, self._read(), self._config) for name in NAMES}

    def _origins_now(self) -> dict[str, str]:
        state, config = self._read(), self._config
        if config is None:
            return dict.fromkeys(NAMES, "")
        return {name: safe_line(origin_words(config, state.edits, name, state.step + 1)) for name in NAMES}

    def _prompt(self, name: str) -> Content:
        value = self._values[name]
        value = value if len(value) < _VALUE_CELLS else value[: _VALUE_CELLS - 2] + "…"
        return Content.assemble(
            (knob_words(name).ljust(_NAME_CELLS), "bold"),
            (value.ljust(_VALUE_CELLS), "$accent"),
            (self._origins[name], STYLES["muted"]),
        )

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        if not self.has_class("-editing"):
            self._say(KNOBS[NAMES[event.option_index]].help)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a value is edited, keys are the field's."""
        return action not in ("move", "change") or not self.has_class("-editing")

    def action_move(self, direction: int) -> None:
        """Go to the knob below (1) or above (-1)."""
        sheet = self.query_one(OptionList)
        sheet.action_cursor_down() if direction > 0 else sheet.action_cursor_up()

    def action_change(self) -> None:
        """Edit the chosen knob."""
        self._edit(self.query_one(OptionList).highlighted or 0)

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        self._edit(event.option_index)

    def _edit(self, place: int) -> None:
        self._knob = NAMES[place]
        if self._knob in WANTED:
            self.dismiss(WANTED[self._knob])
            return
        self.add_class("-editing")
        field = self.query_one(Input)
        field.border_title = Content(_field_title(self._knob))
        value = self._values[self._knob]
        field.value = "" if value in NO_VALUES else value
        self.set_focus(field)
        self.query_one(OptionList).scroll_to_highlight()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self._judge(event.value)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        if self._judge(event.value):
            value, mode = typed_value(self._knob, event.value)
            self.dismiss({"name": self._knob, "value": value, **({} if mode == "set" else {"mode": mode})})

    def _judge(self, text: str) -> bool:
        try:
            self._say(*self._effect(*typed_value(self._knob, text)))
        except UsageError as error:
            self._say(str(error), is_bad=True)
            return False
        return True

    def _effect(self, value: str, mode: str) -> list[str]:
        if self._config is None:
            check_edit(self._knob, value, mode)
            return ["enter puts it in force at the next step"]
        state = self._read()
        seen = preview(self._config, state, set_edit(self._config, state, self._knob, value, mode))
        return [line for line in (change_words(seen), batch_words(seen), left_words(seen)) if line]

    def _say(self, *lines: str, is_bad: bool = False) -> None:
        verdict = self.query_one("#verdict", Static)
        verdict.update(Content("\n".join(safe_line(line).replace("->", "→") for line in lines)))
        verdict.set_class(is_bad, "bad")

    def action_give_up(self) -> None:
        """From the field back to the sheet, from the sheet back to the run."""
        if not self.has_class("-editing"):
            self.dismiss(None)
            return
        self.remove_class("-editing")
        self._say(KNOBS[self._knob].help)
        self.query_one(OptionList).focus()


def typed_value(name: str, text: str) -> tuple[str, str]:
    """The value and the mode in a text such as "4 keep"; a last word that is no mode of the knob belongs to the value."""
    value, _, mode = text.strip().rpartition(" ")
    modes = KNOBS[name].modes
    return (value.strip(), mode) if value and len(modes) > 1 and mode in modes else (text, "set")


def _field_title(name: str) -> str:
    others = KNOBS[name].modes[1:]
    return " · ".join([knob_words(name), *(f"or such as “4 {mode}”" for mode in others)])


def shown_value(name: str, state: RunState, config: RunConfig | None) -> str:
    """The value in force for the next step on one line; a dash while unknown."""
    return safe_line(typed_as(name, state, config))


def typed_as(name: str, state: RunState, config: RunConfig | None) -> str:
    """The value in force for the next step as one would type it, if every character can be typed; a dash while unknown."""
    if name == "lr":
        return format_value(state.last_step.lr) if state.last_step is not None else _UNKNOWN
    if config is None:
        return _UNKNOWN
    value = value_at(config, state.edits, name, state.step + 1)
    return value_words(value) if isinstance(value, tuple) else str(value)
