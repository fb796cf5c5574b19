"""The dialogs: learning rate, hyperparameters, note, leave, help, palette."""

import re
from typing import Any

import fakes
import pytest
from driving import COMPACT, WIDE, driven, run_screen, screen_text, until, until_seen
from textual.widgets import Input

from plt_tui.config.knobs import KNOBS
from plt_tui.protocol.events import End
from plt_tui.views.formats import format_value
from plt_tui.views.tui.chart.line_chart import LineChart
from plt_tui.views.tui.screens.leave import LeaveChoice
from plt_tui.views.tui.screens.prompt import PromptDialog
from plt_tui.views.tui.words import knob_words


@pytest.mark.parametrize(
    ("keys", "args"),
    [
        (["3", "e", "minus", "4", "enter"], {"name": "lr", "value": 3e-4, "mode": "set"}),
        (["x", "0", ".", "5", "enter"], {"name": "lr", "value": 0.5, "mode": "scale"}),
        (["up", "enter"], {"name": "lr", "value": 2.0, "mode": "scale"}),
        (["down", "enter"], {"name": "lr", "value": 0.5, "mode": "scale"}),
        (["tab", "tab", "1", "e", "minus", "5", "enter"], {"name": "lr", "value": 1e-5, "mode": "replan"}),
        (["tab", "tab", "tab", "1", "enter"], {"name": "lr", "value": 1.0, "mode": "set"}),
    ],
)
async def test_the_rate_dialog_sends_what_was_typed(keys: list[str], args: dict[str, Any]) -> None:
    """A value, a factor, the halving and doubling keys, and each mode become one set command."""
    async with driven(fakes.training()) as (pilot, source):
        await pilot.press("l", *keys)
        await until(pilot, lambda: source.sent)
        assert [(command.name, command.args) for command in source.sent] == [("set", args)]
        await until_seen(pilot, "requested …")


@pytest.mark.parametrize("size", [WIDE, COMPACT])
async def test_the_rate_dialog_draws_the_schedule_before_enter(size: tuple[int, int]) -> None:
    """Old and new curve are there while typing; nothing has been sent."""
    async with driven(fakes.paused(), size=size) as (pilot, source):
        await pilot.press("l", "down")
        await until_seen(pilot, "from step 601 on: multiplies the rest of the schedule by 0.500")
        text = screen_text(pilot.app)
        for words in (
            "now 0.00132",
            "400 steps left, 819k tokens, ETA 1m 00s",
            "● scale",
            "rest of the schedule",
            "as it stands 1.50e-4",
            "new 7.50e-5",
            "esc cancel",
        ):
            assert words in text
        chart = pilot.app.screen.query_one(LineChart)
        assert chart.region.height >= 8
        assert source.sent == []


async def test_the_rate_dialog_follows_the_run() -> None:
    """The run goes on while one thinks: step, rate and what is left are those of now."""
    async with driven(fakes.training()) as (pilot, source):
        await pilot.press("l", "down")
        await until_seen(pilot, "from step 601 on")
        source.feed(*fakes.steps(601, 620))
        await until_seen(pilot, "from step 621 on")
        await until_seen(pilot, "380 steps left")
        assert f"now {format_value(run_screen(pilot.app).session.model.state.last_step.lr)};" in screen_text(pilot.app)


async def test_a_rate_out_of_range_is_named_as_one_types_and_not_sent() -> None:
    """The verdict gives the allowed range, and enter does nothing."""
    async with driven(fakes.training()) as (pilot, source):
        await pilot.press("l", "1", "1", "enter")
        await until_seen(pilot, "lr: 11 is outside 0 to 10")
        await pilot.press("backspace")
        await until_seen(pilot, "holds 1.000 to the end")
        await pilot.press("escape")
        await until(pilot, lambda: len(pilot.app.screen_stack) == 2)
        assert source.sent == []


async def test_without_a_configuration_the_rate_can_still_be_changed() -> None:
    """Attached to a run whose config cannot be read: no preview, and it says so."""
    async with driven(fakes.training(), config=None) as (pilot, source):
        await pilot.press("l", "up")
        await until_seen(pilot, "no preview")
        await pilot.press("enter")
        await until(pilot, lambda: source.sent)


async def test_the_sheet_lists_every_knob_with_its_value_in_force() -> None:
    """Values come from config and edits, not from the defaults."""
    edits = fakes.command("c1", "set", {"name": "grad_clip", "value": 0.5}, 300)
    async with driven([*fakes.training(), *edits], size=COMPACT) as (pilot, _):
        await pilot.press("e")
        await until_seen(pilot, "hyperparameters")
        text = screen_text(pilot.app)
        assert sum(line.strip(" │").startswith("grad clip") and "0.5 " in line for line in text.splitlines()) == 1
        assert all(any(knob_words(name) in line for line in text.splitlines()) for name in KNOBS)
        assert "0.9,0.95" in text


@pytest.mark.parametrize("size", [WIDE, COMPACT])
async def test_the_sheet_tells_where_each_value_came_from(size: tuple[int, int]) -> None:
    """Who changed it, and since which step; it follows an undo by somebody else."""
    edits = fakes.command("c1", "set", {"name": "grad_clip", "value": 0.5}, 300)
    async with driven([*fakes.training(), *edits], size=size) as (pilot, source):
        await pilot.press("e")
        await until_seen(pilot, f"grad clip             0.5          since step 300 · {fakes.ACTOR}")
        assert f"×0.5 since step 301 · {fakes.ACTOR}" in screen_text(pilot.app)
        assert "weight decay          0.1          default" in screen_text(pilot.app)
        source.feed(*fakes.command("u1", "undo", {"edit": "c1"}, 601, actor="ctl bob@laptop"))
        await until_seen(pilot, "grad clip             1.0          undone at step 601 · ctl bob@laptop")


@pytest.mark.parametrize("size", [WIDE, COMPACT])
async def test_what_the_sheet_has_no_room_for_is_told_of_the_chosen_knob(size: tuple[int, int]) -> None:
    """Each knob's help is there in full when the knob is chosen, on any screen."""
    async with driven(fakes.training(), size=size) as (pilot, _):
        await pilot.press("e")
        for knob in KNOBS.values():
            await until_seen(pilot, f" {knob.help} ")
            await pilot.press("down")


@pytest.mark.parametrize(
    ("name", "typed", "args"),
    [
        ("grad_clip", "0.25", {"value": "0.25"}),
        ("betas", "0.8,0.99", {"value": "0.8,0.99"}),
        ("batch_size", "4", {"value": "4"}),
        ("batch_size", "4 keep", {"value": "4", "mode": "keep"}),
    ],
)
async def test_the_sheet_changes_one_knob(name: str, typed: str, args: dict[str, str]) -> None:
    """Choose, type, enter: one set command; a mode is the last word of a knob that has modes."""
    async with driven(fakes.training()) as (pilot, source):
        keys = ["space" if char == " " else char for char in typed]
        await pilot.press("e", *["down"] * list(KNOBS).index(name), "enter", "ctrl+a", "ctrl+k", *keys, "enter")
        await until(pilot, lambda: source.sent)
        assert source.sent[0].args == {"name": name, **args}


@pytest.mark.parametrize("size", [WIDE, COMPACT])
async def test_the_sheet_tells_the_effect_before_enter(size: tuple[int, int]) -> None:
    """Whether the global batch is kept, and what is left, while typing; nothing has been sent."""
    async with driven(fakes.training(), size=size) as (pilot, source):
        await pilot.press("e", *["down"] * list(KNOBS).index("batch_size"), "enter", "ctrl+a", "ctrl+k", "4")
        await until_seen(pilot, "global batch changed: 16 → 8 sequences, 2,048 → 1,024 tokens")
        await pilot.press("space", *"keep")
        await until_seen(pilot, "batch_size 8 → 4, accumulate 1 → 2 from step 601 on")
        text = screen_text(pilot.app)
        for words in ("global batch kept: 16 sequences, 2,048 tokens", "400 steps left, 819k tokens, ETA 1m 00s", "esc back"):
            assert words in text
        assert source.sent == []


async def test_the_sheet_follows_the_run() -> None:
    """The run goes on while one thinks: step, what is left and the values in force are those of now."""
    async with driven(fakes.training()) as (pilot, source):
        await pilot.press("e", *["down"] * list(KNOBS).index("batch_size"), "enter", "4")
        await until_seen(pilot, "from step 601 on")
        source.feed(*fakes.steps(601, 620), *fakes.command("c1", "set", {"name": "grad_clip", "value": 0.25}, 620))
        await until_seen(pilot, "batch_size 8 → 4 from step 621 on")
        await until_seen(pilot, "380 steps left")
        await until(pilot, lambda: re.search(r"grad clip +0\.25 ", screen_text(pilot.app)))


async def test_without_a_configuration_the_sheet_still_checks_ranges() -> None:
    """No effect can be told, but a wrong value is still refused before it is sent."""
    async with driven(fakes.training(), config=None) as (pilot, source):
        await pilot.press("e", "down", "enter", *"-1", "enter")
        await until_seen(pilot, "grad_clip: -1 is outside 0 to 1e+06")
        await pilot.press("ctrl+a", "ctrl+k", "1", "enter")
        await until(pilot, lambda: source.sent)
        assert source.sent[0].args == {"name": "grad_clip", "value": "1"}


async def test_the_sheet_refuses_a_wrong_value_and_goes_back_step_by_step() -> None:
    """The range is named, enter sends nothing, esc leads to the sheet and then to the run."""
    async with driven(fakes.training()) as (pilot, source):
        await pilot.press("e", "down", "enter", "ctrl+a", "ctrl+k", "minus", "1", "enter")
        await until_seen(pilot, "grad_clip: -1 is outside 0 to 1e+06")
        await pilot.press("escape")
        await pilot.pause()
        assert len(pilot.app.screen_stack) == 3
        await pilot.press("escape")
        await until(pilot, lambda: len(pilot.app.screen_stack) == 2)
        assert source.sent == []


async def test_the_sheet_hands_the_rate_to_its_own_dialog() -> None:
    """One place where the learning rate is changed."""
    async with driven(fakes.training()) as (pilot, _):
        await pilot.press("e", "enter")
        await until_seen(pilot, "rest of the schedule")


async def test_the_sheet_hands_the_prompt_to_its_own_dialog() -> None:
    """A prompt of several lines goes out as it is, not as the sheet shows it; the command line does not offer it at all."""
    edit = fakes.command("p1", "set", {"name": "prompt", "value": "def f():\n\treturn"}, 300)
    async with driven([*fakes.training(), *edit]) as (pilot, source):
        await pilot.press("e", *["down"] * list(KNOBS).index("prompt"), "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, PromptDialog))
        await pilot.press("enter")
        await until(pilot, lambda: len(source.sent) == 2)
        assert source.sent[0].args == {"name": "prompt", "value": "def f():\n\treturn"}
        await pilot.press("colon", *"prompt", "space", "tab")
        await until_seen(pilot, "now def f()")
        assert pilot.app.screen.query_one(Input).value == "prompt "


async def test_a_note_is_sent_as_typed() -> None:
    """Text goes to the journal; an empty one does not."""
    async with driven(fakes.training()) as (pilot, source):
        await pilot.press("n", "enter")
        await until(pilot, lambda: len(pilot.app.screen_stack) == 2)
        await pilot.press("n", *"ok", "space", "q", "enter")
        await until(pilot, lambda: source.sent)
        assert [(command.name, command.args) for command in source.sent] == [("note", {"text": "ok q"})]


@pytest.mark.parametrize("key", ["q", "ctrl+c", "ctrl+q"])
async def test_leaving_offers_detach_first(key: str) -> None:
    """Enter right after q lets the run go on, and no key kills it silently."""
    async with driven(fakes.training()) as (pilot, source):
        await pilot.press(key)
        await until_seen(pilot, "the run goes on; attach again at any time")
        assert pilot.app.is_running
        await pilot.press("enter")
        await until(pilot, lambda: pilot.app.return_value is not None)
        assert pilot.app.return_value is LeaveChoice.DETACH
        assert source.sent == []


@pytest.mark.parametrize(
    ("downs", "args", "choice"), [(1, {}, LeaveChoice.STOP), (2, {"now": True}, LeaveChoice.STOP_NOW)], ids=["save", "now"]
)
async def test_stopping_shows_the_save_and_leaves_when_the_run_has_ended(
    downs: int, args: dict[str, bool], choice: LeaveChoice
) -> None:
    """The view stays until the end is known; its result tells what was chosen."""
    async with driven(fakes.training()) as (pilot, source):
        await pilot.press("q", *["down"] * downs, "enter")
        await until(pilot, lambda: source.sent)
        assert (source.sent[0].name, source.sent[0].args) == ("stop", args)
        assert pilot.app.is_running
        source.feed(End(time=fakes.at(601), phase="stopped", step=600, exit_code=0))
        await until(pilot, lambda: pilot.app.return_value is not None)
        assert pilot.app.return_value is choice


async def test_cancel_stays() -> None:
    """Cancel and esc change nothing."""
    async with driven(fakes.training()) as (pilot, source):
        await pilot.press("q", "down", "down", "down", "enter")
        await until(pilot, lambda: len(pilot.app.screen_stack) == 2)
        await pilot.press("q", "escape")
        await until(pilot, lambda: len(pilot.app.screen_stack) == 2)
        assert pilot.app.is_running
        assert source.sent == []


async def test_d_detaches_at_once() -> None:
    """No question: nothing is lost by detaching."""
    async with driven(fakes.training()) as (pilot, source):
        await pilot.press("d")
        await until(pilot, lambda: pilot.app.return_value is not None)
        assert pilot.app.return_value is LeaveChoice.DETACH
    assert source.closed
    assert source.sent == []


async def test_a_dialog_that_outlives_the_run_sends_nothing() -> None:
    """The run ends while the user types: the answer says why nothing happens."""
    async with driven(fakes.training()) as (pilot, source):
        await pilot.press("l", "up")
        source.feed(End(time=fakes.at(601), phase="finished", step=600, exit_code=0))
        await until(pilot, lambda: run_screen(pilot.app).session.model.state.is_over)
        await pilot.press("enter")
        await until_seen(pilot, "the run has finished: nothing to steer")
        assert source.sent == []


async def test_the_palette_runs_what_it_finds() -> None:
    """Words of the help sentence lead to the command."""
    async with driven(fakes.training()) as (pilot, source):
        await pilot.press("ctrl+p", *"checkpoint")
        await until_seen(pilot, "save: Save a checkpoint now.")
        await pilot.press("enter", "enter")
        await until(pilot, lambda: source.sent)
        assert source.sent[0].name == "checkpoint"


async def test_the_palette_offers_only_what_can_be_done_now() -> None:
    """On a finished run there is nothing to steer."""
    async with driven(fakes.finished()) as (pilot, _):
        await pilot.press("ctrl+p")
        await until_seen(pilot, "Show or hide the logs.")
        assert "Save a checkpoint now." not in screen_text(pilot.app)


async def test_search_marks_hits_and_walks_back() -> None:
    """The newest hit first, N to older ones, and after the oldest the newest again."""
    async with driven(fakes.training()) as (pilot, _):
        await pilot.press("slash", *"evaluated", "enter")
        await until_seen(pilot, "“evaluated” 1/6")
        await pilot.press("N")
        await until_seen(pilot, "“evaluated” 2/6")
        await pilot.press(*"NNNNN")
        await until_seen(pilot, "“evaluated” 1/6")
        await pilot.press("escape")
        await until(pilot, lambda: "“evaluated”" not in screen_text(pilot.app))


async def test_the_logs_follow_until_scrolled_away() -> None:
    """New lines do not move what is being read; end follows again."""
    lines = fakes.Logs(lines=[[fakes.at(1), "rank 0", "INFO", f"line {number}"] for number in range(500)])
    async with driven([*fakes.training(), lines]) as (pilot, source):
        assert "line 499" in screen_text(pilot.app)
        await pilot.press("tab", "tab", "tab", "pageup")
        await until_seen(pilot, "end: newest")
        before = [line for line in screen_text(pilot.app).splitlines() if "line 48" in line]
        source.feed(fakes.Logs(lines=[[fakes.at(2), "rank 0", "INFO", "the newest"]]))
        await until(pilot, lambda: run_screen(pilot.app).session.model.logs.lines[-1][3] == "the newest")
        assert [line for line in screen_text(pilot.app).splitlines() if "line 48" in line] == before
        await pilot.press("end")
        await until_seen(pilot, "the newest")
