"""Pictures of the list of runs and of the comparison, on scripted runs and a frozen clock; see `test_snapshots`."""

from collections.abc import Callable

import fakes
import pytest
import scenes
from driving import settled
from run_fakes import FakeRuns, runs_app, seen, stories
from test_app_compare import opened, two
from textual.pilot import Pilot

from plt_tui.config.schema import UiSection
from plt_tui.views.tui.app import RunApp
from plt_tui.views.tui.screens.compare import CompareScreen
from plt_tui.views.tui.screens.runs import RunsScreen

SIZES = pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)], ids=["80x24", "120x40", "200x60"])
LISTS = {"runs": ["down", "space"], "filtered": ["o", "slash", *"failed", "enter"]}


@SIZES
@pytest.mark.parametrize("scene", LISTS)
def test_the_list_looks_as_before(scene: str, size: tuple[int, int], snap_compare: Callable[..., bool]) -> None:
    """Each scene at each size is drawn to the same cells as when a person last looked at it."""
    app = runs_app(FakeRuns(stories()))

    async def act(pilot: Pilot) -> None:
        await seen(pilot, lambda: isinstance(app.screen, RunsScreen) and len(app.screen._rows) == len(stories()))
        await pilot.press(*LISTS[scene])
        await settled(pilot)

    assert snap_compare(app, terminal_size=size, run_before=act)


COMPARISONS = {"two": two, "branches": lambda: (opened(fakes.FakeSource(scenes.rewound()), "sky"),)}


@SIZES
@pytest.mark.parametrize("scene", COMPARISONS)
def test_the_comparison_looks_as_before(scene: str, size: tuple[int, int], snap_compare: Callable[..., bool]) -> None:
    """The same for the comparison of two runs, and of a run with its branch."""
    app = RunApp(ui=UiSection(), actor=fakes.ACTOR, compare=COMPARISONS[scene]())

    async def act(pilot: Pilot) -> None:
        await seen(pilot, lambda: isinstance(app.screen, CompareScreen))
        screen = app.screen
        assert isinstance(screen, CompareScreen)
        await seen(pilot, lambda: all(session.model.is_live for session in screen.sessions))
        await settled(pilot, screen.draw)

    assert snap_compare(app, terminal_size=size, run_before=act)
