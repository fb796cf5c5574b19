"""The person at the terminal: what they have chosen for all runs, and what is remembered of them from one session to the next.

Reads and writes no file: who opens the view brings a Person, and keeps what has changed in it when the view is left. Invariant:
nothing changes here but by what the person did.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

from plt_tui.config.settings import Settings
from plt_tui.views.completion import remembered
from plt_tui.views.tui.keymap import Keymap, keymap
from plt_tui.views.tui.keys import KEYS, Key
from plt_tui.views.tui.layout import Layout
from plt_tui.views.tui.new_run_keys import NEW_RUN_KEYS
from plt_tui.views.tui.runs_keys import COMPARE_KEYS, RUNS_KEYS


@dataclass(kw_only=True)
class Person:
    """One person, in one session."""

    settings: Settings = field(default_factory=Settings)
    layout: Layout = field(default_factory=Layout)
    """Of the run screen, as it is now."""
    earlier: tuple[str, ...] = ()
    """Command lines of earlier sessions, the newest last."""
    lines: list[str] = field(default_factory=list)
    """Command lines of this one."""

    @property
    def history(self) -> tuple[str, ...]:
        """All command lines, the newest last."""
        return remembered(self.earlier, self.lines)

    @cached_property
    def keymap(self) -> Keymap:
        """The keys of all screens as this person wants them."""
        return keymap(self.settings.keys, KEYS, RUNS_KEYS, COMPARE_KEYS, NEW_RUN_KEYS)


@runtime_checkable
class HasPerson(Protocol):
    """An app that somebody sits at."""

    person: Person


def person_at(app: object) -> Person:
    """The person who sits at `app`; one who is new where the app knows none."""
    return app.person if isinstance(app, HasPerson) else Person()


def keys_in_force(app: object, table: tuple[Key, ...]) -> tuple[Key, ...]:
    """One of the tables of keys, as the person at `app` wants it."""
    return person_at(app).keymap.of(table) if isinstance(app, HasPerson) else table


def page_keys(app: object) -> str:
    """The keys that turn the pages of charts, as the person at `app` presses them."""
    return " ".join(dict.fromkeys(shown_key(app, key_id) for key_id in ("page_back", "page_on")))


def shown_key(app: object, key_id: str, table: tuple[Key, ...] = KEYS) -> str:
    """The key of an action of a table, as the person at `app` presses it; without a key it is still in the palette."""
    return next(key.shown for key in keys_in_force(app, table) if key.id == key_id) or "the palette"
