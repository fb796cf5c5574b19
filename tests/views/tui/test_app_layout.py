"""Borders that are moved in the run screen, with the mouse and with keys, and a layout that comes back in the next session."""

from __future__ import annotations

import fakes
import pytest
from driving import COMPACT, WIDE, driven, run_screen, screen_lines, until, until_seen
from textual.geometry import Region
from textual.pilot import Pilot
from textual.widget import Widget

from plt_tui.views.tui.keys import KEYS
from plt_tui.views.tui.layout import Layout, Sizes
from plt_tui.views.tui.person import Person

HUGE = (176, 34)
"""Just large enough for all panes side by side."""


def pane(pilot: Pilot, name: str) -> Widget:
    """A pane or a part that holds some."""
    return run_screen(pilot.app).board.query_one(f"#{name}")


def areas(pilot: Pilot) -> dict[str, Region]:
    """Where everything is."""
    return {name: pane(pilot, name).region for name in ("chart", "trends", "machine", "logs", "samples", "events")}


async def drag(pilot: Pilot, start: tuple[int, int], end: tuple[int, int]) -> None:
    """Press at a cell of the screen, move, and let go."""
    await pilot.mouse_down(offset=start)
    await pilot.hover(offset=((start[0] + end[0]) // 2, (start[1] + end[1]) // 2))
    await pilot.hover(offset=end)
    await pilot.mouse_up(offset=end)
    await pilot.pause()


def tiled(pilot: Pilot) -> None:
    """The parts of the board fill it without a gap."""
    board = run_screen(pilot.app).board
    top, bottom, side = (pane(pilot, name).region for name in ("top", "bottom", "side"))
    assert (top.bottom, bottom.bottom) == (bottom.y, board.region.bottom)
    assert (pane(pilot, "chart").region.right, side.right) == (side.x, board.region.right)
    assert (pane(pilot, "trends").region.bottom, pane(pilot, "machine").region.bottom) == (
        pane(pilot, "machine").region.y,
        top.bottom,
    )
    row = [pane(pilot, name).region for name in ("logs", "samples", "events")]
    assert [part.right for part in row] == [row[1].x, row[2].x, board.region.right]


async def test_every_border_can_be_dragged_to_any_cell() -> None:
    """It is drawn where it was put, and nothing else has a gap."""
    async with driven(fakes.training(), size=HUGE) as (pilot, _):
        for x in (150, 101):
            side = pane(pilot, "side").region
            await drag(pilot, (side.x, side.y + 3), (x, side.y + 9))
            assert pane(pilot, "side").region.x == x
            tiled(pilot)
        for y in (25, 20):
            bottom = pane(pilot, "bottom").region
            await drag(pilot, (30, bottom.y - 1), (80, y - 1))
            assert pane(pilot, "bottom").region.y == y
            tiled(pilot)
        for name, x in (("samples", 71), ("events", 131)):
            region = pane(pilot, name).region
            await drag(pilot, (region.x, region.y + 2), (x, region.y + 3))
            assert pane(pilot, name).region.x == x
            tiled(pilot)
        machine = pane(pilot, "machine").region
        await drag(pilot, (machine.x + 30, machine.y), (machine.x + 30, machine.y + 2))
        assert pane(pilot, "machine").region.y == machine.y + 2
        tiled(pilot)


async def test_a_border_stops_where_a_pane_would_become_too_small() -> None:
    """However far it is dragged; and no text is selected on the way."""
    async with driven(fakes.training(), size=HUGE) as (pilot, _):
        side, bottom = pane(pilot, "side").region, pane(pilot, "bottom").region
        await drag(pilot, (side.x, side.y + 2), (0, side.y + 2))
        assert pane(pilot, "chart").region.width == 20
        await drag(pilot, (30, bottom.y), (30, HUGE[1] - 1))
        assert pane(pilot, "bottom").region.height == 4
        assert pilot.app.screen.selections == {}


async def test_dragging_inside_a_pane_moves_no_border() -> None:
    """The chart is panned as before, and a click on the other name in a title goes there."""
    async with driven(fakes.training()) as (pilot, _):
        before = areas(pilot)
        await drag(pilot, (40, 15), (60, 20))
        assert areas(pilot) == before
        title = next(row for row in screen_lines(pilot.app) if "samples · events" in row)
        await pilot.click(offset=(title.index("events"), screen_lines(pilot.app).index(title)))
        await until_seen(pilot, "events · samples")
        assert pane(pilot, "events").region == before["samples"]


async def test_keys_make_the_focused_pane_larger_and_smaller() -> None:
    """Whatever pane it is, narrower is narrower and taller is taller, on every axis on which it has a neighbour."""
    async with driven(fakes.training(), size=HUGE) as (pilot, _):
        for name in ("chart", "machine", "samples"):
            run_screen(pilot.app).board.look_at(name)
            await pilot.pause()
            for key, columns, rows in (("ctrl+left", -4, 0), ("ctrl+right", 4, 0), ("ctrl+up", 0, 2), ("ctrl+down", 0, -2)):
                before = pane(pilot, name).region.size
                await pilot.press(key)
                await pilot.pause()
                after = pane(pilot, name).region.size
                assert (after.width - before.width, after.height - before.height) == (columns, rows), (name, key)
                tiled(pilot)


async def test_a_compact_screen_divides_its_height() -> None:
    """Between the chart and what stands below it; there is no border to move sideways, and that is said."""
    async with driven(fakes.training(), size=COMPACT) as (pilot, _):
        chart = pane(pilot, "chart").region
        await pilot.press("ctrl+down", "ctrl+down")
        await pilot.pause()
        assert pane(pilot, "chart").region.height == max(4, chart.height - 4)
        assert pane(pilot, "logs").region.y == pane(pilot, "chart").region.bottom
        await pilot.press("2")
        await pilot.pause()
        assert pane(pilot, "machine").region.y == pane(pilot, "chart").region.bottom
        await pilot.press("ctrl+left")
        await until_seen(pilot, "no border beside it")


async def test_a_maximised_pane_has_all_the_room_whatever_was_chosen() -> None:
    """And the sizes are there again when it is put back."""
    async with driven(fakes.training(), person=Person(layout=Layout(sizes=Sizes(side=0.5, bottom=0.5)))) as (pilot, _):
        before = areas(pilot)
        assert before["chart"].width == 70
        await pilot.press("z")
        await pilot.pause()
        assert pane(pilot, "chart").region.width == 140
        await pilot.press("z")
        await pilot.pause()
        assert areas(pilot) == before


async def test_what_was_drawn_for_another_width_is_drawn_again() -> None:
    """Texts are cut to the width that their pane has now."""
    async with driven(fakes.training(gpus=True)) as (pilot, _):
        run_screen(pilot.app).board.look_at("machine")
        await pilot.press(*["ctrl+right"] * 5)
        edge = pane(pilot, "machine").region.right
        await until(
            pilot,
            lambda: any(
                row[edge - 12 : edge].strip().startswith("8 GiB") or "7.8 GiB   │" in row for row in screen_lines(pilot.app)
            ),
        )


async def test_0_puts_everything_back() -> None:
    """All panes, each of its usual size."""
    async with driven(fakes.training()) as (pilot, _):
        before = areas(pilot)
        await pilot.press("ctrl+left", "ctrl+up", "1", "3", "z")
        await pilot.pause()
        assert areas(pilot) != before
        await pilot.press("0")
        await pilot.pause()
        assert areas(pilot) == before


async def test_the_layout_is_there_again_in_the_next_session() -> None:
    """Hidden panes, sizes, the page of small charts, the x axis and the smoothing."""
    mine = Person()
    async with driven(fakes.training(), person=mine) as (pilot, _):
        await pilot.press("ctrl+left", "ctrl+up", "1", "m", "x", "s", "s")
        await pilot.pause()
        first = areas(pilot)
    assert mine.layout.hidden == {"trends"}
    assert (mine.layout.metrics, mine.layout.x_axis) == (True, "tokens")
    assert mine.layout.smoothing > 0
    async with driven(fakes.training(), person=Person(layout=mine.layout)) as (pilot, _):
        chart = run_screen(pilot.app).board.chart
        assert (chart.is_grid, chart.axis, chart.smoothing) == (True, "tokens", mine.layout.smoothing)
        assert {name: region for name, region in areas(pilot).items() if name != "trends"} == {
            name: region for name, region in first.items() if name != "trends"
        }


@pytest.mark.parametrize("size", [WIDE, COMPACT])
async def test_looking_around_changes_nothing_that_is_remembered(size: tuple[int, int]) -> None:
    """A session in which nothing of the layout was touched leaves the file alone."""
    mine = Person()
    async with driven(fakes.training(), size=size, person=mine) as (pilot, _):
        await pilot.press("tab", "tab", "plus", "minus", "question_mark", "escape", "slash", "escape")
        await pilot.pause()
    assert mine.layout == Layout()


async def test_leaving_right_after_a_change_keeps_it() -> None:
    """Nothing has to be drawn in between."""
    mine = Person()
    async with driven(fakes.training(), person=mine) as (pilot, _):
        await pilot.press("2", "d")
        await until(pilot, lambda: pilot.app.return_value is not None)
    assert mine.layout.hidden == {"machine"}


def test_the_resize_keys_are_in_the_table() -> None:
    """Under the ids that a keymap can move."""
    keys = {key.id: key.keys for key in KEYS if key.action.startswith(("resize", "reset"))}
    assert keys == {
        "narrower": "ctrl+left",
        "wider": "ctrl+right",
        "taller": "ctrl+up",
        "shorter": "ctrl+down",
        "reset_layout": "0",
    }
