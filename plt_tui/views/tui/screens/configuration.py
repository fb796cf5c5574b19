"""The run's whole configuration, every value with where it came from, on a page that scrolls.

Changes nothing and reads no file. Invariant: what a person may see of the configuration is in it, the webhook's address is not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from plt_tui.config.knobs import KNOBS
from plt_tui.config.schema import RunConfig
from plt_tui.config.section import Section
from plt_tui.control.state import RunState
from plt_tui.protocol.text import safe_line
from plt_tui.views.origin import origin, origin_words
from plt_tui.views.tui.panes.text_view import Passage, TextView
from plt_tui.views.tui.screens.dialog import Box, Dialog, copy_read
from plt_tui.views.tui.screens.knobs import shown_value

KEY_CELLS, VALUE_CELLS = 21, 24
_DEFAULTS = RunConfig()
_KNOBS = {(knob.section, knob.key): name for name, knob in KNOBS.items()}


class ConfigurationDialog(Dialog[None]):
    """The sections as in the file, as they are at the step at which the dialog was opened."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,C", "give_up", "close", show=False),
        Binding("Y", "copy", "copy", show=False),
    ]
    DEFAULT_CSS = """
    ConfigurationDialog > Box { width: 110; height: 90%; padding: 0 2; }
    ConfigurationDialog TextView { height: 1fr; background: $surface; }
    """

    def __init__(self, config: RunConfig | None, state: RunState) -> None:
        """config: None where the view does not know it."""
        super().__init__()
        self._config = config
        self._state = state

    def compose(self) -> ComposeResult:
        """The page."""
        with Box(f"configuration · at step {self._state.step:,}", "↑ ↓ scroll · Y copy · esc close"):
            yield TextView()

    def on_mount(self) -> None:
        """Show it."""
        view = self.query_one(TextView)
        view.show(passages(self._config, self._state))
        view.focus()

    def action_copy(self) -> None:
        """Copy what is selected, else the whole page."""
        copy_read(self, self.query_one(TextView))


def passages(config: RunConfig | None, state: RunState) -> list[Passage]:
    """One for each section."""
    if config is None:
        return [Passage("", "this view does not know the run's configuration")]
    return [
        Passage(f"[{name}]", "\n".join(_lines(config, state, name, getattr(config, name), getattr(_DEFAULTS, name))))
        for name in RunConfig.model_fields
    ]


def _lines(config: RunConfig, state: RunState, section: str, given: Section, defaults: Section) -> Iterator[str]:
    for key, field in type(given).model_fields.items():
        if not field.repr:  # a secret, which says so of itself
            continue
        value, default = getattr(given, key), getattr(defaults, key)
        text, words = _as_toml(value), "default" if value == default else "configured"
        knob, step = _KNOBS.get((section, key)), state.step + 1
        if knob is not None and origin(state.edits, knob, step) is not None:
            words = f"{origin_words(config, state.edits, knob, step)}, configured {text}"
            text = shown_value(knob, state, config)
        yield safe_line(f"{key:<{KEY_CELLS}} {text:<{VALUE_CELLS}} {words}")


def _as_toml(value: object) -> str:
    return "–" if value is None else json.dumps(value, ensure_ascii=False)
