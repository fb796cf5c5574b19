"""The keys of the form for a new run, one table in the form of `keys`, which holds the run screen's.

Invariant: none of them is a letter, because letters are typed into fields; "/" and "?" count where nothing is being typed.
"""

from __future__ import annotations

from dataclasses import replace

from textual.binding import Binding, BindingType

from plt_tui.views.tui.keys import BY_ID, Key, bindings, screen_key

NEW_RUN_KEYS: tuple[Key, ...] = (
    screen_key("new run", "new_start", "ctrl+r", "start", "start", "Start the run in the background, and open it.", 1),
    screen_key("new run", "new_save", "ctrl+s", "save", "save", "Write what was changed into a TOML file.", 2),
    screen_key("new run", "new_copy", "ctrl+y", "copy", "copy", "Copy the command that would do the same.", 5),
    screen_key("find", "new_search", "ctrl+f,slash", "search", "search", "Find fields by words of their name or meaning.", 3),
    screen_key("find", "new_next_section", "pagedown", "section(1)", "section", "Go to the next section.", 4),
    screen_key("find", "new_previous_section", "pageup", "section(-1)", "section before", "Go to the section before."),
    screen_key("find", "new_next_field", "down", "field(1)", "next field", "Go to the next field."),
    screen_key(
        "find", "new_enter", "enter", "enter", "fields", "Go from a section or a search into its fields, then to the next."
    ),
    screen_key("find", "new_previous_field", "up", "field(-1)", "field before", "Go to the field before."),
    replace(
        BY_ID["leave"],
        id="new_leave",  # its own, because it has priority over what is typed: a keymap must not make it a letter by the way
        keys="escape,ctrl+c,ctrl+q",
        help="Leave the form; a draft that is not saved is asked for.",
        rank=7,
    ),
    BY_ID["suspend"],
    replace(BY_ID["help"], keys="f1,question_mark", rank=6),
    BY_ID["palette"],
)

_TYPED = ("slash", "question_mark")
_TABS = (
    Binding("tab", "app.focus_next", "next", show=False, priority=True),
    Binding("shift+tab", "app.focus_previous", "previous", show=False, priority=True),
)

BY_NEW_ID = {key.id: key for key in NEW_RUN_KEYS}


def form_bindings() -> list[BindingType]:
    """The table as Textual bindings.

    With priority, but for what can be typed and what other screens share: so what is typed right behind a key goes to where
    that key leads, however busy the machine is.
    """
    made: list[BindingType] = []
    for binding in bindings(NEW_RUN_KEYS):
        assert isinstance(binding, Binding)
        for key in binding.key.split(","):
            has_priority = key not in _TYPED and binding.id not in BY_ID
            made.append(replace(binding, key=key, priority=has_priority))
    return [*made, *_TABS]
