"""What the tests of the chart pane share: pressing keys and looking at the charts in sight."""

from __future__ import annotations

from driving import run_screen, screen_lines
from textual.pilot import Pilot

from plt_tui.views.tui.panes.board import Board
from plt_tui.views.tui.panes.charts import Charts

HUGE = (200, 60)


def board(pilot: Pilot) -> Board:
    """The board of the run screen."""
    return run_screen(pilot.app).board


def charts(pilot: Pilot) -> Charts:
    """The chart pane."""
    return board(pilot).chart


def titles(pilot: Pilot) -> list[str]:
    """The titles of the charts in sight."""
    return [chart._title for chart in charts(pilot).in_sight]


def windows(pilot: Pilot) -> set[tuple[float, float]]:
    """The x windows of the charts in sight."""
    frames = [chart._frame for chart in charts(pilot).in_sight]
    return {(round(frame.plot.x0, 6), round(frame.plot.x1, 6)) for frame in frames if frame is not None and frame.plot}


async def press(pilot: Pilot, *keys: str) -> None:
    """Press, and let everything be drawn."""
    await pilot.press(*keys)
    await pilot.pause()
    run_screen(pilot.app).tick()
    await pilot.pause()


def answer(pilot: Pilot) -> str:
    """The answer line."""
    return screen_lines(pilot.app)[-2].strip()
