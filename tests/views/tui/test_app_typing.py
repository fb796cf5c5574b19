"""Keys that come all at once, as over a slow connection: each acts in its turn, and what is typed goes where it is meant to."""

from __future__ import annotations

from typing import Any

import fakes
import pytest
import scenes
from driving import burst, driven, run_screen, screen_text, until
from run_fakes import listed, seen
from test_app_new_run import FakePort, form
from textual.widgets import Input

from plt_tui.config.fields import describe
from plt_tui.views.draft import choices_of
from plt_tui.views.tui.screens.ask import PathDialog
from plt_tui.views.tui.screens.run import RunScreen
from plt_tui.views.tui.screens.runs import RunsScreen

SET = ("ctrl+a", "ctrl+k")
"""Empties a field."""

CORRECTED: list[tuple[list[str], list[str], dict[str, Any]]] = [
    (["l"], [*"3e-5", "backspace", "4", "enter"], {"name": "lr", "value": 3e-4, "mode": "set"}),
    (["l"], ["5", "up", "enter"], {"name": "lr", "value": 2.0, "mode": "scale"}),
    (["l"], ["up", "backspace", "3", "enter"], {"name": "lr", "value": 3.0, "mode": "scale"}),
    (["l"], [*"3e-4", "enter", "tab", "5", "up"], {"name": "lr", "value": 3e-4, "mode": "set"}),
    (["l"], [*"3e-4", "enter", "enter", "enter"], {"name": "lr", "value": 3e-4, "mode": "set"}),
    (["n"], ["a", "b", "backspace", "c", "enter"], {"text": "ac"}),
    (["n"], ["a", "b", "left", "c", "home", "x", "end", "y", "enter"], {"text": "xacby"}),
    (["r"], [*"512", "backspace", "0", "enter"], {"step": 510}),
    (["r"], [*"51", "tab", *"34", "backspace", "shift+tab", "end", "0", "enter"], {"step": 510, "skip": 3}),
    (["e", "down", "enter"], [*"0.9", "backspace", "2", "enter"], {"name": "grad_clip", "value": "0.2"}),
    (["G"], [*SET, "a", "b", "backspace", "c", "enter"], {"name": "prompt", "value": "ac"}),
    (["colon"], [*"note ab", "backspace", "c", "enter"], {"text": "ac"}),
]


@pytest.mark.parametrize(("opened", "keys", "args"), CORRECTED, ids=lambda value: " ".join(value))
async def test_a_correction_is_sent_as_it_was_made(opened: list[str], keys: list[str], args: dict[str, Any]) -> None:
    """Letters do not overtake what takes them back, nor Enter what stands before it."""
    async with driven(scenes.rewound()) as (pilot, source):
        await pilot.press(*opened)
        await pilot.pause()
        burst(pilot, *keys)
        await until(pilot, lambda: source.sent)
        await until(pilot, lambda: len(pilot.app.screen_stack) == 2)
        assert source.sent[0].args == args
        assert [command.name for command in source.sent if command.name != "sample"] == [source.sent[0].name]


OPENED: list[tuple[list[str], list[tuple[str, dict[str, Any]]]]] = [
    (["l", *"3e-4", "enter"], [("set", {"name": "lr", "value": 3e-4, "mode": "set"})]),
    (["n", *"crash", "enter"], [("note", {"text": "crash"})]),
    (["r", *"510", "enter"], [("rewind", {"step": 510})]),
    (["e", "down", "enter", *"0.2", "enter"], [("set", {"name": "grad_clip", "value": "0.2"})]),
    (["e", "enter", *"3e-4", "enter"], [("set", {"name": "lr", "value": 3e-4, "mode": "set"})]),
    (
        ["G", *SET, "x", "enter"],
        [("set", {"name": "prompt", "value": "x"}), ("sample", {"prompt": "x"})],
    ),
    (["colon", *"pause", "enter"], [("pause", {})]),
    (["q", "down", "enter"], [("stop", {})]),
    (["question_mark", "escape", "c"], [("checkpoint", {})]),
    (["b", "escape", "c"], [("checkpoint", {})]),
    (["i", "escape", "c"], [("checkpoint", {})]),
    (["p", "n", *"why", "enter"], [("pause", {}), ("note", {"text": "why"})]),
    (["comma", "comma", "r", "enter"], [("rewind", {"step": 523})]),
    (
        ["plus", "tab", "z", "c", "l", *"1e-3", "enter"],
        [("checkpoint", {}), ("set", {"name": "lr", "value": 1e-3, "mode": "set"})],
    ),
]


@pytest.mark.parametrize(("keys", "sent"), OPENED, ids=lambda value: " ".join(value) if isinstance(value[0], str) else "")
async def test_what_is_typed_behind_a_key_goes_to_where_that_key_leads(
    keys: list[str], sent: list[tuple[str, dict[str, Any]]]
) -> None:
    """A dialog has its field ready before the next key is looked at, and keys before it have acted."""
    async with driven(scenes.rewound()) as (pilot, source):
        burst(pilot, *keys)
        await until(pilot, lambda: len(source.sent) == len(sent))
        assert [(command.name, command.args) for command in source.sent] == sent
        await until(pilot, lambda: len(pilot.app.screen_stack) == 2)


@pytest.mark.parametrize("before", [[], ["3"], ["3", "3", "z"]], ids=["shown", "hidden", "maximised"])
@pytest.mark.parametrize("size", [(140, 45), (80, 24)])
async def test_a_search_takes_what_is_typed_behind_its_key(size: tuple[int, int], before: list[str]) -> None:
    """Whatever of the board is seen, no letter of it is a key of the run, and corrections are made."""
    async with driven(fakes.training(), size=size) as (pilot, source):
        burst(pilot, *before, "slash", *"errox", "backspace", "r", "enter")
        pane = run_screen(pilot.app).board.logs
        await until(pilot, lambda: pane.view.wanted.pattern is not None and pane.view.wanted.pattern.text == "error")
        await until(pilot, lambda: pilot.app.focused is pane.view)
        assert len(pilot.app.screen_stack) == 2
        assert source.sent == []


async def test_in_a_field_keys_are_the_fields() -> None:
    """What a person types or edits there is no key of the run; what the field has no use for still is."""
    async with driven(fakes.training()) as (pilot, source):
        burst(pilot, "slash", *"lp", "home", *"x:", "ctrl+right", "end", "q", "tab")
        pane = run_screen(pilot.app).board.logs
        await until(pilot, lambda: pane.query_one(Input).value == "x:lpq")
        await until(pilot, lambda: not pane.query_one(Input).has_focus)
        assert source.sent == []


async def test_the_filter_of_the_runs_takes_what_is_typed_behind_its_key() -> None:
    """No letter of it opens a form."""
    async with listed() as (pilot, _, screen):
        burst(pilot, "slash", *"dx", "backspace", *"one", "enter")
        await seen(pilot, lambda: screen.query_one(Input).value == "done" and screen.table.has_focus)
        assert isinstance(pilot.app.screen, RunsScreen)
        assert " done " in screen_text(pilot.app)
        assert " gone " not in screen_text(pilot.app)


async def test_keys_of_the_list_act_in_their_order() -> None:
    """The run under the cursor when Enter was pressed is the one that opens."""
    async with listed() as (pilot, port, _):
        burst(pilot, "end", "home", "down", "down", "enter")
        await seen(pilot, lambda: isinstance(pilot.app.screen, RunScreen))
        assert port.opened == ["done"]


async def test_a_field_of_the_form_is_corrected() -> None:
    """Also right before a key that leads to the next one; a choice is made before it too."""
    async with form(FakePort()) as (pilot, app):
        name = app.form._page.rows[0].doc.name
        burst(pilot, "a", "b", "backspace", "c", "down")
        await seen(pilot, lambda: app.form._draft.get(name) == "ac")  # type: ignore[arg-type]  # any pilot
        choice = next(doc.name for doc in describe().values() if choices_of(doc))
        await app.form.go_to(choice)
        burst(pilot, "right", "down")
        await seen(pilot, lambda: choice in app.form._draft)  # type: ignore[arg-type]
        burst(pilot, "ctrl+f", *"lx", "backspace", "r")
        await seen(pilot, lambda: app.form._search_field.value == "lr")  # type: ignore[arg-type]


async def test_a_path_is_corrected() -> None:
    """The file is written where the person said in the end."""
    async with driven(fakes.training()) as (pilot, _):
        found: list[str | None] = []
        await pilot.app.push_screen(PathDialog("save", "", ""), found.append)
        await pilot.pause()
        burst(pilot, "a", "b", "backspace", "c", "enter")
        await until(pilot, lambda: found == ["ac"])
