"""Promises of `keymap`: the keys are as the person wants them, and what cannot be so is told with file and line."""

from __future__ import annotations

from collections import Counter

import fakes
import pytest
import scenes
from driving import driven, screen_lines, until, until_seen
from hypothesis import given
from hypothesis import strategies as st
from run_fakes import NOW, FakeRuns, seen_text, stories

from plt_tui.config.schema import UiSection
from plt_tui.config.settings import KeySetting, Settings
from plt_tui.views.tui.app import RunApp
from plt_tui.views.tui.keymap import NO_KEY, Keymap, key_name, keymap
from plt_tui.views.tui.keys import BY_ID, KEYS, PANE_KEYS, footer, typing_bindings
from plt_tui.views.tui.new_run_keys import NEW_RUN_KEYS
from plt_tui.views.tui.person import Person
from plt_tui.views.tui.runs_keys import COMPARE_KEYS, RUNS_KEYS

TABLES = (KEYS, RUNS_KEYS, COMPARE_KEYS, NEW_RUN_KEYS)


def wanted(*lines: str) -> list[KeySetting]:
    """Settings from lines such as "pause=x,y", the first in line 1."""
    return [
        KeySetting(id=line.partition("=")[0], keys=line.partition("=")[2], place=f"s.toml:{number}")
        for number, line in enumerate(lines, 1)
    ]


def made(*lines: str) -> tuple[dict[str, str], Keymap]:
    """The run screen's keys by id, and the keymap, for some lines of settings."""
    found = keymap(wanted(*lines), *TABLES)
    return {key.id: key.keys for key in found.of(KEYS)}, found


def test_without_settings_every_table_stays_as_it_is() -> None:
    """No wish, no change and nothing to tell."""
    _, found = made()
    assert [found.of(table) for table in TABLES] == list(TABLES)
    assert (found.overrides, found.problems) == ({}, ())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("x", "x"),
        ("X", "X"),
        ("/", "slash"),
        ("?", "question_mark"),
        ("+", "plus"),
        ("slash", "slash"),
        ("Ctrl+X", "ctrl+x"),
        ("shift+a", "A"),
        ("shift+tab", "shift+tab"),
        ("alt+ctrl+left", "alt+ctrl+left"),
        ("ctrl+alt+left", "alt+ctrl+left"),
        ("F5", "f5"),
        ("Esc", "escape"),
        ("PgUp", "pageup"),
        ("space", "space"),
        ("ä", "ä"),
        (" x ", "x"),
        ("ctl+x", ""),
        ("nokey", ""),
        ("ctrl+", ""),
        ("f99", ""),
        ("", ""),
        (" ", ""),
        ("\x1b", ""),
    ],
)
def test_keys_are_named_as_people_write_them(text: str, name: str) -> None:
    """A character, a name, with modifiers; what is no key is none."""
    assert key_name(text) == name


def test_every_key_of_the_tables_has_its_own_name() -> None:
    """What stands in a table can be written into the settings."""
    keys = {one for table in TABLES for key in table for one in key.keys.split(",")}
    assert {one: key_name(one) for one in keys} == {one: one for one in keys}


def test_a_key_that_is_free_is_given() -> None:
    """The action has its new keys and only these, and there is nothing to tell."""
    keys, found = made("pause=f2,ctrl+t")
    assert keys["pause"] == "f2,ctrl+t"
    assert found.problems == ()


def test_a_key_that_another_action_has_is_taken_and_told() -> None:
    """The person's wish wins; who loses it is named with what is left."""
    keys, found = made("note=p", "smoother=q")
    assert (keys["note"], keys["pause"], keys["smoother"], keys["leave"]) == ("p", "", "q", "ctrl+c,ctrl+q")
    assert "s.toml:1: keys.note: p was the key of pause, which has no key now" in found.problems
    assert "s.toml:2: keys.smoother: q was the key of leave, which keeps ctrl+c and ctrl+q" in found.problems


def test_two_actions_can_change_places() -> None:
    """Each takes the other's key, so nobody loses one."""
    keys, found = made("pause=n", "note=p")
    assert (keys["pause"], keys["note"]) == ("n", "p")
    assert [problem for problem in found.problems if "note" in problem or "pause" in problem] == []


def test_of_two_wishes_for_one_key_the_first_counts() -> None:
    """Both places are named; the other action keeps what else it asked for, or its own keys."""
    keys, found = made("pause=f2", "note=f2,f3", "undo=f2")
    assert (keys["pause"], keys["note"], keys["undo"]) == ("f2", "f3", "u")
    assert found.problems == (
        "s.toml:2: keys.note: f2 is taken by pause (s.toml:1)",
        "s.toml:3: keys.undo: f2 is taken by pause (s.toml:1)",
    )


def test_screens_do_not_get_into_each_others_way() -> None:
    """The same key may do one thing in the list of runs and another in a run."""
    _, found = made("runs_new=f2", "note=f2")
    assert found.problems == ()
    assert {key.id: key.keys for key in found.of(RUNS_KEYS)}["runs_new"] == "f2"


def test_what_is_on_several_screens_moves_on_all() -> None:
    """One id, one wish."""
    _, found = made("palette=f4")
    assert {key.keys for table in TABLES for key in found.of(table) if key.id == "palette"} == {"f4"}


def test_an_empty_wish_takes_the_keys_away() -> None:
    """Textual is told of a key that no terminal sends, because nothing would be no wish for it."""
    keys, found = made("stop_it=", "hibernate=")
    assert keys["hibernate"] == ""
    assert found.overrides == {"hibernate": NO_KEY}
    assert found.problems == ("s.toml:1: keys.stop_it: there is no such action; the README lists them",)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("puase=x", "s.toml:1: keys.puase: there is no such action; did you mean pause?"),
        ("pause=x,ctl+x", 's.toml:1: keys.pause: there is no key "ctl+x"; such as: x, X, ctrl+x, f5, space, question_mark'),
        ("\x1b[2J=x", r"s.toml:1: keys.\x1b[2J: there is no such action; the README lists them"),
    ],
)
def test_what_is_no_action_or_no_key_is_told(line: str, said: str) -> None:
    """With its place, and what it could have been; the action keeps its keys."""
    keys, found = made(line)
    assert said in found.problems
    assert keys == {key.id: key.keys for key in KEYS}


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(BY_ID)), st.sampled_from(["p", "q", "f2", "f2,f3", "x,p", "", "tab"])), max_size=6
    )
)
def test_no_key_is_ever_given_twice(lines: list[tuple[str, str]]) -> None:
    """In any table, whatever is asked for."""
    unique = dict(lines)
    _, found = made(*(f"{name}={keys}" for name, keys in unique.items()))
    for table in TABLES:
        count = Counter(one for key in found.of(table) for one in key.keys.split(",") if one)
        given = Counter(one for key in table for one in key.keys.split(","))
        assert all(number <= max(1, given[one]) for one, number in count.items())


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(BY_ID)), st.sampled_from(["p", "q", "f2", "f2,f3", "x,p", "", "tab"])), max_size=6
    )
)
def test_textual_binds_what_is_shown(lines: list[tuple[str, str]]) -> None:
    """Its keymap, applied to the screen's bindings, gives each key the action that the table in force has for it."""
    from textual.binding import BindingsMap

    _, found = made(*(f"{name}={keys}" for name, keys in dict(lines).items()))
    bound = BindingsMap(typing_bindings(KEYS, PANE_KEYS))
    bound.apply_keymap(found.overrides)
    ids = {key: {binding.id for binding in those} for key, those in bound.key_to_bindings.items() if key != NO_KEY}
    assert ids == {one: {key.id} for key in found.of(KEYS) for one in key.keys.split(",") if one}


def person(*lines: str, problems: tuple[str, ...] = ()) -> Person:
    """Somebody with these lines in their settings."""
    return Person(settings=Settings(keys=tuple(wanted(*lines)), problems=problems))


async def test_remapped_keys_work_and_are_shown() -> None:
    """The new key acts, the old one does not; footer, help and palette have the new one."""
    async with driven(fakes.training(), person=person("pause=f2", "help=f3")) as (pilot, source):
        assert "f2 pause" in screen_lines(pilot.app)[-1]
        assert "f3 shows all keys" in screen_lines(pilot.app)[-2]
        await pilot.press("p")
        await pilot.pause()
        assert source.sent == []
        await pilot.press("f2")
        await until(pilot, lambda: [command.name for command in source.sent] == ["pause"])
        await pilot.press("f3")
        await until_seen(pilot, f"f2  {BY_ID['pause'].help}")
        await pilot.press("escape", "ctrl+p", *"hold")
        await until_seen(pilot, "Hold all ranks")


async def test_what_is_said_of_a_key_is_said_of_the_key_in_force() -> None:
    """Banner, refusal, samples, logs and the pages of metrics name what the person presses."""
    mine = person("pause=space", "sample=f5", "search=f6", "log_source=f7", "log_level=f8", "log_filter=f9", "page_on=f10")
    async with driven(scenes.hibernated(), person=mine) as (pilot, _):
        await until_seen(pilot, "space brings it back, and so does")
        await pilot.press("l")
        await until_seen(pilot, "✖ rate: hibernated: space brings it back")
        await pilot.press("colon", *"eval")
        await until_seen(pilot, "✖ eval: hibernated: space brings it back")
    async with driven([*fakes.opening(), *fakes.steps(1, 50)], person=mine) as (pilot, _):
        await until_seen(pilot, "no sample yet: f5 writes one now")
        await pilot.press("N")
        await until_seen(pilot, "✖ no search: f6 begins one")
        await pilot.press("f8", "f8")
        await until_seen(pilot, "no line fits: f7 and f8 choose others, f9 shows")
        await pilot.press("f10")
        await until_seen(pilot, "[ f10 metric 2 of")


async def test_the_list_of_runs_names_the_keys_in_force() -> None:
    """How to show all runs again, and how to make the first one."""
    app = RunApp(ui=UiSection(), runs=FakeRuns(stories()), clock=lambda: NOW, person=person("runs_clear=f5", "runs_new=f6"))
    async with app.run_test(size=(120, 40)) as pilot:
        await seen_text(pilot, "6 runs, 2 live")
        await pilot.press("slash")
        await seen_text(pilot, "big; f5 ends")
        await pilot.press("x")
        await seen_text(pilot, "none of them has “x”; f5 shows all")


async def test_what_is_wrong_with_the_settings_is_a_toast() -> None:
    """The view opens all the same, with what was good."""
    mine = person("pause=f2", "puase=x", problems=("s.toml:9: ui.x: unknown key",))
    async with driven(fakes.training(), person=mine) as (pilot, _):
        told = {note.message for note in pilot.app._notifications}
        assert told == {"s.toml:9: ui.x: unknown key", "s.toml:2: keys.puase: there is no such action; did you mean pause?"}


def test_an_action_without_a_key_is_not_in_the_footer() -> None:
    """Nothing is shown that cannot be pressed."""
    _, found = made("pause=", "lr=f2")
    shown = [key.id for key in footer(400, found.of(KEYS))]
    assert "pause" not in shown
    assert shown[0] == "lr"
