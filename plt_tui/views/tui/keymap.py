"""The keys as the person at the terminal wants them: the tables of keys with the lines of `[keys]` in their settings applied.

Pure. Bindings, footer, help and palette are made from what comes out here. Invariant: in no table that comes out do two
entries share a key, and what was asked for and is not so is told in `problems`, with its file and line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from textual.binding import Binding
from textual.keys import KEY_NAME_REPLACEMENTS, Keys, key_to_character

from plt_tui.config.fields import listed, printable
from plt_tui.config.settings import KeySetting
from plt_tui.views.tui.keys import Key

_MODIFIERS = ("alt", "ctrl", "shift", "super", "hyper", "meta")
_OTHER_NAMES = {"esc": "escape", "return": "enter", "pgup": "pageup", "pgdn": "pagedown", "del": "delete", "ins": "insert"}
_NAMES = frozenset(KEY_NAME_REPLACEMENTS.values()) | {key.value for key in Keys if key.value.isalnum()}
NO_KEY = "no_key"
"""Stands for the keys of an action that has none: Textual's keymap takes an empty text for no wish at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keymap:
    """The tables in force."""

    tables: tuple[tuple[tuple[Key, ...], tuple[Key, ...]], ...]
    """Each as it was given, and as it is wanted."""
    overrides: Mapping[str, str]
    """What Textual's keymap must say: ids and their keys."""
    problems: tuple[str, ...]

    def of(self, table: tuple[Key, ...]) -> tuple[Key, ...]:
        """`table` as it is wanted; one that was not given stays as it is."""
        return next((wanted for given, wanted in self.tables if given is table), table)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    id: str
    keys: tuple[str, ...]
    place: str


def keymap(wanted: Sequence[KeySetting], *tables: tuple[Key, ...]) -> Keymap:
    """`tables`, one for each screen, with `wanted` applied.

    What is wanted wins over what a table gives the key to, and of two wishes for one key the first does.
    """
    problems: list[str] = []
    wishes = [wish for setting in wanted if (wish := _wish(setting, tables, problems)) is not None]
    for table in tables:
        wishes = _apart(wishes, {key.id for key in table}, problems)
    by_id = {wish.id: wish for wish in wishes}
    applied = tuple((table, _applied(table, by_id, problems)) for table in tables)
    overrides = {wish.id: ",".join(wish.keys) or NO_KEY for wish in wishes}
    return Keymap(tables=applied, overrides=overrides, problems=tuple(dict.fromkeys(problems)))


def key_name(text: str) -> str:
    """Textual's name of a key as people write it, such as "/", "esc" or "Ctrl+X"; empty when there is none."""
    *modifiers, base = text.strip().split("+") if len(text.strip()) > 1 else [text.strip()]
    modifiers = sorted(modifier.lower() for modifier in modifiers)
    base = _OTHER_NAMES.get(base.lower(), base)
    if len(base) == 1 and base.isprintable() and base != " ":
        if modifiers == ["shift"] and base.isalpha():  # terminals send the letter
            modifiers, base = [], base.upper()
        base = base.lower() if modifiers else base
        (binding,) = Binding.make_bindings([Binding(base, "")])
        base = binding.key
    elif base.lower() in _NAMES or (len(base) > 1 and (key_to_character(base.lower()) or "\n").isprintable()):
        base = base.lower()
    else:
        return ""
    return "+".join([*modifiers, base]) if set(modifiers) <= set(_MODIFIERS) else ""


def _wish(setting: KeySetting, tables: Sequence[Sequence[Key]], problems: list[str]) -> _Wish | None:
    """A line of the file as a wish, or None and a problem."""
    name, ids = f"{setting.place}: keys.{printable(setting.id)}", {key.id: None for table in tables for key in table}
    if setting.id not in ids:
        close = get_close_matches(setting.id.lower(), ids, n=1)
        hint = f"did you mean {close[0]}?" if close else "the README lists them"
        problems.append(f"{name}: there is no such action; {hint}")
        return None
    texts = [text.strip() for text in setting.keys.split(",") if text.strip()]
    unknown = [text for text in texts if not key_name(text)]
    if unknown:
        problems.append(f'{name}: there is no key "{printable(unknown[0])}"; such as: x, X, ctrl+x, f5, space, question_mark')
        return None
    return _Wish(id=setting.id, keys=tuple(dict.fromkeys(map(key_name, texts))), place=setting.place)


def _apart(wishes: Sequence[_Wish], ids: set[str], problems: list[str]) -> list[_Wish]:
    """The wishes with each key left to the first of those for `ids` that ask for it."""
    taken: dict[str, _Wish] = {}
    found = []
    for wish in wishes:
        if wish.id not in ids:
            found.append(wish)
            continue
        lost = [key for key in wish.keys if key in taken]
        for key in lost:
            first = taken[key]
            problems.append(f"{wish.place}: keys.{wish.id}: {key} is taken by {first.id} ({first.place})")
        kept = tuple(key for key in wish.keys if key not in taken)
        taken |= dict.fromkeys(kept, wish)
        # A wish of which nothing is left is none: the action keeps its own keys.
        if kept or not lost:
            found.append(replace(wish, keys=kept))
    return found


def _applied(table: Sequence[Key], by_id: Mapping[str, _Wish], problems: list[str]) -> tuple[Key, ...]:
    """One table with the wishes of `by_id`, which are for different keys."""
    takers = {key: by_id[entry.id] for entry in table if entry.id in by_id for key in by_id[entry.id].keys}
    found = []
    for entry in table:
        if entry.id in by_id:
            found.append(replace(entry, keys=",".join(by_id[entry.id].keys)))
            continue
        own = entry.keys.split(",")
        kept = [key for key in own if key not in takers]
        for key in (key for key in own if key in takers):
            taker = takers[key]
            left = f"which keeps {listed(kept, 'and')}" if kept else "which has no key now"
            problems.append(f"{taker.place}: keys.{taker.id}: {key} was the key of {entry.id}, {left}")
        found.append(replace(entry, keys=",".join(kept)))
    return tuple(found)
