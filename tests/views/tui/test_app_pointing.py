"""Crosshair, mouse and the step that somebody points at: linked across all charts, and to logs, samples and the answer line."""

from __future__ import annotations

import re

import fakes
from charting import HUGE, answer, board, charts, press, windows
from driving import COMPACT, driven, screen_lines, screen_text, until, until_seen
from textual.content import Content
from textual.pilot import Pilot

from plt_tui.views.tui.chart import line_chart as chart_module
from plt_tui.views.tui.chart.line_chart import LineChart
from plt_tui.views.tui.panes.bars import ANSWER_LINES, Answer, first_lines


async def test_the_mouse_on_one_chart_moves_all() -> None:
    """The wheel zooms all charts at the pointer, dragging pans all."""
    async with driven(fakes.training()) as (pilot, _):
        await press(pilot, "m")
        second = charts(pilot).in_sight[3]
        for _ in range(4):
            await pilot._post_mouse_events([chart_module.events.MouseScrollUp], second, offset=(20, 4), button=0)
        await pilot.pause()
        assert len(windows(pilot)) == 1
        ((x0, x1),) = windows(pilot)
        assert 200 < x1 - x0 < 400
        await pilot.mouse_down(second, offset=(20, 4))
        await pilot.hover(second, offset=(25, 4))
        await pilot.mouse_up(second, offset=(25, 4))
        await pilot.pause()
        ((moved, _),) = windows(pilot)
        assert moved < x0


async def test_the_crosshair_is_on_all_charts_at_once() -> None:
    """Hovering one chart tells the values of all at that step, and moving on to another leaves one crosshair."""
    async with driven(fakes.training(), size=HUGE) as (pilot, _):
        await press(pilot, "m")
        first, second = charts(pilot).in_sight[:2]
        for chart, x in ((first, 30), (second, 20)):
            await pilot.hover(chart, offset=(x, 5))
            await pilot.pause()
            positions = {each.crosshair for each in charts(pilot).in_sight}
            assert len(positions) == 1
            assert None not in positions
            heads = [each.render_line(0).text.removeprefix("step time") for each in charts(pilot).in_sight]
            assert len({found for head in heads for found in re.findall(r"step (\S+)", head)}) == 1
        await pilot.hover("#header", offset=(5, 0))
        await pilot.pause()
        assert {each.crosshair for each in charts(pilot).in_sight} == {None}


async def test_keys_go_from_mark_to_mark_and_tell_of_each() -> None:
    """Comma goes back in time, full stop forward, the answer line has who, when and what, and escape points at nothing."""
    async with driven(fakes.training()) as (pilot, _):
        await press(pilot, "comma")
        assert board(pilot).pointed == 600
        await press(pilot, "comma", "comma", "comma")
        assert board(pilot).pointed == 301
        assert answer(pilot).startswith("▸ 02:40:50 · tui ana@box · learning rate 0.00258 → 0.00129 in force at step 301")
        assert "▸ step 301" in charts(pilot).in_sight[0].render_line(0).text
        assert "┃" in charts(pilot).in_sight[0].render_line(3).text
        await press(pilot, "comma", "comma")
        assert "no earlier mark" in answer(pilot)
        assert board(pilot).pointed == 200
        await press(pilot, "full_stop")
        assert board(pilot).pointed == 301
        await press(pilot, "escape")
        assert board(pilot).pointed is None
        assert "no step is pointed at" in answer(pilot)
        assert "┃" not in charts(pilot).in_sight[0].render_line(3).text
        before = answer(pilot)
        await press(pilot, "escape")
        assert answer(pilot) == before


async def test_a_run_without_marks_says_so() -> None:
    """Every key gets an answer."""
    async with driven([*fakes.opening(), *fakes.steps(1, 20)]) as (pilot, _):
        await press(pilot, "comma")
        assert answer(pilot) == "✖ no mark"


async def test_a_click_points_at_the_step_under_it_in_all_charts() -> None:
    """The hairline stays when the pointer goes, on every chart, on pages turned to later, and follows the axis."""
    async with driven(fakes.training()) as (pilot, _):
        await press(pilot, "m")
        await pilot.click(charts(pilot).in_sight[2], offset=(25, 4))
        await pilot.pause()
        step = board(pilot).pointed
        assert step is not None
        assert 200 < step < 500
        await pilot.hover("#header", offset=(5, 0))
        await press(pilot, "right_square_bracket", "x", "x")
        assert {chart.pointed for chart in charts(pilot).in_sight} == {step}
        for chart in charts(pilot).in_sight:
            assert any("┃" in chart.render_line(y).text for y in range(chart.size.height))


async def test_a_double_click_shows_the_whole_run_and_points_at_nothing() -> None:
    """Its first click is no pointing: logs and samples follow the run as before."""
    async with driven(fakes.training(), size=HUGE) as (pilot, _):
        await press(pilot, "plus", "plus")
        ((zoomed, _),) = windows(pilot)
        assert zoomed > 1
        logs = board(pilot).logs.view
        assert logs._following
        await pilot.double_click(charts(pilot).in_sight[0], offset=(30, 8))
        await press(pilot)
        ((whole, _),) = windows(pilot)
        assert whole == 1
        assert board(pilot).pointed is None
        assert logs._following
        await pilot.double_click(charts(pilot).in_sight[0], offset=(0, 0))
        await press(pilot, "p")
        assert "requested" in answer(pilot)


async def test_pointing_out_of_sight_brings_the_step_into_view() -> None:
    """Going from mark to mark works at any zoom, on all charts."""
    async with driven(fakes.training()) as (pilot, _):
        await press(pilot, "m", *["plus"] * 6, "comma", "comma", "comma")
        assert board(pilot).pointed == 310
        ((x0, x1),) = windows(pilot)
        assert x0 < 310 < x1 < 400


async def test_the_logs_and_the_sample_of_the_moment_follow() -> None:
    """Pointing at a step shows what was logged and written then."""
    async with driven(fakes.training(), size=HUGE) as (pilot, _):
        board(pilot).point_at(400)
        await until_seen(pilot, "The statement is used")
        await until(pilot, lambda: "step 600  " not in screen_text(pilot.app))


async def test_the_pane_has_the_focus_not_a_chart() -> None:
    """A click on a chart focuses the pane, so that the keys are for all charts."""
    async with driven(fakes.training()) as (pilot, _):
        await press(pilot, "tab", "m")
        await pilot.click(LineChart, offset=(20, 3))
        await pilot.pause()
        assert pilot.app.focused is charts(pilot)


def told(pilot: Pilot) -> str:
    """All that the answer line says, wherever it is wrapped."""
    region = pilot.app.screen.query_one(Answer).region
    return " ".join(line.strip() for line in screen_lines(pilot.app)[region.y : region.bottom])


async def test_what_is_told_of_a_step_is_told_whole() -> None:
    """On a small screen too: the answer takes the lines that it needs, and gives them back."""
    async with driven(fakes.training(400), size=COMPACT) as (pilot, _):
        await press(pilot, "comma", "comma", "comma")
        assert board(pilot).pointed == 201
        await until(pilot, lambda: re.search(r"in force at step 201 · loss \d\.\d+ → \d\.\d+$", told(pilot)))
        await press(pilot, "escape")
        await until(pilot, lambda: pilot.app.screen.query_one(Answer).size.height == 1)
        assert told(pilot) == "· no step is pointed at"


async def test_an_answer_that_is_cut_ends_in_an_ellipsis() -> None:
    """A long note has three lines where its step is pointed at, and one as an answer."""
    note = " ".join(f"word{number}" for number in range(100))
    async with driven([*fakes.training(20), *fakes.command("n2", "note", {"text": note}, 20)], size=COMPACT) as (pilot, source):
        board(pilot).point_at(20)
        await until(pilot, lambda: pilot.app.screen.query_one(Answer).size.height == ANSWER_LINES)
        assert told(pilot).startswith("▸ ")
        assert told(pilot).endswith("…")
        source.feed(*fakes.command("n3", "note", {"text": note}, 20))
        await until(pilot, lambda: pilot.app.screen.query_one(Answer).size.height == 1)
        assert told(pilot).startswith("✔ note kept at step 20: word0 ")
        assert told(pilot).endswith("…")


def test_text_that_fits_has_no_ellipsis() -> None:
    """Neither has text that fills its lines exactly."""
    assert [line.plain for line in first_lines(Content("one two three four"), 9, 2)] == ["one two", "three fo…"]
    assert [line.plain for line in first_lines(Content("one two three"), 7, 2)] == ["one two", "three"]
    assert [line.plain for line in first_lines(Content("one"), 9, 2)] == ["one"]
