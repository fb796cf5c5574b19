"""The command line of the run screen: typed, completed, judged while it is typed, carried out, and remembered."""

from __future__ import annotations

import fakes
import pytest
import scenes
from driving import COMPACT, WIDE, driven, run_screen, screen_lines, screen_text, until, until_seen
from textual import events
from textual.pilot import Pilot
from textual.widgets import Input

from plt_tui.protocol.events import End
from plt_tui.views.commands_text import OWN_VERBS
from plt_tui.views.tui.keys import BY_ID
from plt_tui.views.tui.person import Person
from plt_tui.views.tui.screens.command_line import CommandLine
from plt_tui.views.tui.screens.leave import LeaveChoice

NAMES = {" ": "space", "-": "minus", ".": "full_stop", ",": "comma", "_": "underscore", "'": "apostrophe", ":": "colon"}


async def type_line(pilot: Pilot, text: str) -> None:
    """Open the command line and type `text`."""
    await pilot.press("colon", *(NAMES.get(char, char) for char in text))
    await pilot.pause()


def typed(pilot: Pilot) -> str:
    """What stands in the line."""
    return pilot.app.screen.query_one(Input).value


async def closed(pilot: Pilot) -> None:
    """Wait until the command line is gone."""
    await until(pilot, lambda: len(pilot.app.screen_stack) == 2)


SENT = {
    "pause": ("pause", {}),
    "set lr 0.5 scale": ("set", {"name": "lr", "value": "0.5", "mode": "scale"}),
    "lr 1e-4": ("set", {"name": "lr", "value": "1e-4"}),
    "note it's fine": ("note", {"text": "it's fine"}),
    "rewind 400 skip 3": ("rewind", {"step": "400", "skip": "3"}),
    "checkpoint best": ("checkpoint", {"name": "best"}),
    "undo": ("undo", {"edit": "e1"}),
    "stop --now": ("stop", {"now": True}),
}


async def test_enter_sends_the_command() -> None:
    """One command for each line, with the person as its actor; the answer line says that it was asked for."""
    async with driven(fakes.training()) as (pilot, source):
        for line, (name, args) in SENT.items():
            source.sent.clear()
            await type_line(pilot, line)
            await pilot.press("enter")
            await until(pilot, lambda: source.sent)
            assert [(command.name, command.args, command.actor) for command in source.sent] == [(name, args, fakes.ACTOR)]
            await closed(pilot)
            assert "requested" in screen_lines(pilot.app)[-2]


@pytest.mark.parametrize("size", [WIDE, COMPACT, (60, 16)])
async def test_the_line_stands_where_the_answers_stand(size: tuple[int, int]) -> None:
    """Syntax and present value above it, what it would do below; the run is seen behind it."""
    async with driven(fakes.training(), size=size) as (pilot, source):
        await type_line(pilot, "lr 1e-4")
        *above, hint, line, verdict = screen_lines(pilot.app)
        assert hint.strip().startswith("set lr VALUE [set|scale|replan]  ·  now 0.00")
        assert line.strip() == ":lr 1e-4"
        assert verdict.strip().startswith("⏎ lr 0.00")
        assert "→ 0.0001 from step 601 on" in verdict
        assert "● training" in above[0]
        assert {len(row) for row in screen_lines(pilot.app)} == {size[0]}
        assert source.sent == []


async def test_what_is_wrong_is_told_before_enter_and_enter_does_nothing() -> None:
    """The sentence under the line, and the line is still there to be corrected."""
    async with driven(fakes.training()) as (pilot, source):
        await type_line(pilot, "lr 11")
        await until_seen(pilot, "✖ lr: 11 is outside 0 to 10")
        await pilot.press("enter")
        await pilot.pause()
        assert typed(pilot) == "lr 11"
        await pilot.press("backspace")
        await until_seen(pilot, "⏎ lr ")
        await pilot.press("enter")
        await until(pilot, lambda: source.sent)
        assert source.sent[0].args == {"name": "lr", "value": "1"}


async def test_a_colon_that_is_text_opens_nothing() -> None:
    """Where something is typed already, it is a character like any other."""
    async with driven(fakes.training()) as (pilot, _):
        await pilot.press("slash", *"step", "colon")
        await pilot.pause()
        assert len(pilot.app.screen_stack) == 2
        assert pilot.app.screen.query_one("#logs Input", Input).value == "step:"


async def test_an_empty_line_or_escape_leads_back() -> None:
    """Nothing is sent, and nothing is remembered."""
    mine = Person()
    async with driven(fakes.training(), person=mine) as (pilot, source):
        await pilot.press("colon", "enter")
        await closed(pilot)
        await type_line(pilot, "pause")
        await pilot.press("escape")
        await closed(pilot)
        assert (source.sent, mine.lines) == ([], [])


async def test_tab_completes_and_walks_through_what_there_is() -> None:
    """As far as it is certain, then one option after the other, and back; the one in the line is shown among the others."""
    async with driven(fakes.training()) as (pilot, _):
        await type_line(pilot, "se")
        await pilot.press("tab")
        assert typed(pilot) == "set "
        await pilot.press(*"top", "tab")
        assert typed(pilot) == "set top_"
        await pilot.press("tab")
        assert typed(pilot) == "set top_k"
        await pilot.press("tab")
        assert typed(pilot) == "set top_p"
        await pilot.press("tab", "shift+tab")
        assert typed(pilot) == "set top_p"
        await until_seen(pilot, "set NAME VALUE [MODE]  top_k  top_p")
        await pilot.press("space", "tab")
        assert typed(pilot) == "set top_p 1.0 "
        await pilot.press("backspace", "backspace", "backspace", "backspace", "x", "tab")
        assert typed(pilot) == "set top_p x"


async def test_what_tab_chose_can_be_typed_on() -> None:
    """An option that was walked to is as good as typed, and the next tab completes what was typed behind it."""
    async with driven(fakes.training()) as (pilot, _):
        await type_line(pilot, "set top_")
        await pilot.press("tab")
        assert typed(pilot) == "set top_k"
        await pilot.press("space", "tab")
        assert typed(pilot) == "set top_k 0 "
        await until_seen(pilot, "top_k stays 0 from step 601 on")


async def test_up_and_down_walk_through_earlier_lines() -> None:
    """Those of earlier sessions and of this one that begin like what is typed; down leads back to that."""
    mine = Person(earlier=("pause", "set lr 1e-3", "note a"))
    async with driven(fakes.training(), person=mine) as (pilot, source):
        await type_line(pilot, "eval")
        await pilot.press("enter")
        await until(pilot, lambda: source.sent)
        await closed(pilot)
        await pilot.press("colon", "up")
        assert typed(pilot) == "eval"
        await pilot.press("up", "up")
        assert typed(pilot) == "set lr 1e-3"
        await until_seen(pilot, "from step 601 on")
        await pilot.press("down", "down", "down", "down")
        assert typed(pilot) == ""
        await pilot.press("p", "up")
        assert typed(pilot) == "pause"
        await pilot.press("up", "down")
        assert typed(pilot) == "p"
        assert mine.lines == ["eval"]
        assert mine.history == ("pause", "set lr 1e-3", "note a", "eval")


async def test_an_earlier_line_can_be_edited_and_completed() -> None:
    """It is typed text from the first change on."""
    async with driven(fakes.training(), person=Person(earlier=("set lr 1e-3",))) as (pilot, _):
        await pilot.press("colon", "up", "space", *"sc", "tab")
        assert typed(pilot) == "set lr 1e-3 scale "
        await pilot.press("up")
        assert typed(pilot) == "set lr 1e-3 scale "


async def test_the_line_follows_the_run() -> None:
    """The step from which a value would be in force is that of now."""
    async with driven(fakes.training()) as (pilot, source):
        await type_line(pilot, "lr 1e-4")
        await until_seen(pilot, "from step 601 on")
        source.feed(*fakes.steps(601, 620))
        await until_seen(pilot, "from step 621 on")


async def test_a_run_that_is_over_takes_no_command_and_says_so() -> None:
    """At the verb already; the view's own verbs still work."""
    async with driven(fakes.finished()) as (pilot, source):
        await type_line(pilot, "pause")
        await until_seen(pilot, "✖ pause: the run has finished")
        await pilot.press("enter", "ctrl+u", *"goto", "space", *"300", "enter")
        await closed(pilot)
        assert run_screen(pilot.app).board.pointed == 300
        assert source.sent == []


async def test_a_line_that_outlives_the_run_sends_nothing() -> None:
    """The run ends while one types."""
    async with driven(fakes.training()) as (pilot, source):
        await type_line(pilot, "pause")
        source.feed(End(time=fakes.at(601), phase="finished", step=600, exit_code=0))
        await until(pilot, lambda: run_screen(pilot.app).session.model.state.is_over)
        await pilot.press("enter")
        await until_seen(pilot, "the run has finished: nothing to steer")
        assert source.sent == []


async def test_a_hibernated_run_can_be_brought_back_and_nothing_else() -> None:
    """The same verbs are refused as the same keys."""
    async with driven(scenes.hibernated()) as (pilot, _):
        await type_line(pilot, "lr 1e-4")
        await until_seen(pilot, "✖ set: hibernated")
        await pilot.press("ctrl+u", *"resume")
        await until_seen(pilot, "⏎ go on after a pause")


def test_every_verb_of_the_view_that_is_a_key_names_one() -> None:
    """What the line does and what the key does are one thing."""
    assert {verb.key for verb in OWN_VERBS.values() if verb.key} <= set(BY_ID)


async def test_verbs_of_the_view_do_what_the_keys_do() -> None:
    """Other charts, other colours, the list of keys, and leaving."""
    async with driven(fakes.training()) as (pilot, source):
        await type_line(pilot, "metrics")
        await pilot.press("enter")
        await until(pilot, lambda: run_screen(pilot.app).board.chart.is_grid)
        await type_line(pilot, "theme nord")
        await pilot.press("enter")
        await until(pilot, lambda: pilot.app.theme != "textual-dark" and len(pilot.app.screen_stack) == 2)
        await type_line(pilot, "help")
        await pilot.press("enter")
        await until_seen(pilot, BY_ID["pause"].help)
        await pilot.press("escape")
        await closed(pilot)
        await type_line(pilot, "q")
        await pilot.press("enter")
        await until_seen(pilot, "the run goes on; attach again at any time")
        await pilot.press("escape")
        await closed(pilot)
        await type_line(pilot, "detach")
        await pilot.press("enter")
        await until(pilot, lambda: pilot.app.return_value is LeaveChoice.DETACH)
        assert source.sent == []


async def test_what_others_wrote_is_shown_harmless() -> None:
    """A knob's value is text of a person or a file: what a terminal would act on is made visible."""
    evil = fakes.command("e9", "set", {"name": "prompt", "value": "a\x1b[2Jb"}, 600)
    async with driven([*fakes.training(), *evil]) as (pilot, _):
        await type_line(pilot, "prompt ")
        await until_seen(pilot, "now a")
        await pilot.press("tab")
        await pilot.pause()
        assert "\x1b" not in screen_text(pilot.app)


async def test_a_long_line_stays_in_its_row() -> None:
    """The bound is a prompt of 1000 characters and the verb before it."""
    async with driven(fakes.training(), size=COMPACT) as (pilot, _):
        await pilot.press("colon")
        assert isinstance(pilot.app.screen, CommandLine)
        pilot.app.screen.query_one(Input).value = "note " + "long " * 300
        await until_seen(pilot, "⏎ write a remark")
        assert {len(row) for row in screen_lines(pilot.app)} == {80}


async def test_keys_that_come_all_at_once_act_in_their_order() -> None:
    """Over a slow connection a whole line arrives in one piece: the colon, corrections, tab and enter included."""
    async with driven(fakes.training()) as (pilot, source):
        keys = ["colon", *"set", "space", *"gr", "tab", "minus", "1", "backspace", "backspace", "2", "enter"]
        for key in keys:
            name = NAMES.get(key, key)
            characters = {"space": " ", "minus": "-", "colon": ":"}
            pilot.app.post_message(events.Key(name, key if len(key) == 1 else characters.get(key)))
        await until(pilot, lambda: source.sent)
        assert source.sent[0].args == {"name": "grad_clip", "value": "2"}
