"""The UI of a run that does not train now: what it says, which keys it takes, and how it comes back."""

from __future__ import annotations

import fakes
import pytest
import scenes
from driving import COMPACT, WIDE, driven, run_screen, screen_lines, screen_text, until, until_seen

from plt_tui.protocol.events import Phase, RunPhase
from plt_tui.views.tui.keys import KEYS


@pytest.mark.parametrize("size", [WIDE, COMPACT])
async def test_a_hibernated_run_says_how_to_bring_it_back(size: tuple[int, int]) -> None:
    """State and way back are on the screen, `p` resumes, and every other steering key is answered with why not."""
    async with driven(scenes.hibernated(), size=size) as (pilot, source):
        lines = screen_lines(pilot.app)
        assert "☾ hibernated" in lines[0]
        assert "plt-tui ctl quickstart resume" in screen_text(pilot.app)
        assert "p resume" in lines[-1]
        for key in (key for key in KEYS if key.when == "awake"):
            await pilot.press(key.keys)
            await until_seen(pilot, f"✖ {key.label}: hibernated: p brings it back")
            assert len(pilot.app.screen_stack) == 2
        assert source.sent == []
        await pilot.press("p")
        assert [command.name for command in source.sent] == ["resume"]


async def test_who_only_watches_a_hibernated_run_is_not_promised_a_key() -> None:
    """`p` would be refused: the command is the way back."""
    async with driven(scenes.hibernated(), readonly=True) as (pilot, _):
        await until_seen(pilot, "hibernated; to bring it back: plt-tui ctl quickstart resume")


@pytest.mark.parametrize("phase", ["paused", "starting", "preparing", "restarting", "stopping"])
async def test_a_run_that_does_not_train_has_no_time_left(phase: RunPhase) -> None:
    """Nobody knows when the next step comes."""
    async with driven([*fakes.training(), Phase(time=fakes.at(600), phase=phase, step=600)]) as (pilot, _):
        assert "ETA –" in screen_lines(pilot.app)[0]


async def test_a_hibernated_run_can_be_stopped() -> None:
    """Leaving offers it, as on any live run."""
    async with driven(scenes.hibernated()) as (pilot, source):
        await pilot.press("q", "down", "enter")
        await until(pilot, lambda: source.sent)
        assert source.sent[0].name == "stop"


async def test_a_dialog_that_outlives_the_ranks_sends_nothing() -> None:
    """The run hibernates while the user types: the answer says why nothing happens."""
    async with driven(fakes.training()) as (pilot, source):
        await pilot.press("l", "up")
        source.feed(Phase(time=fakes.at(601), phase="hibernated", step=600))
        await until(pilot, lambda: run_screen(pilot.app).session.model.state.phase == "hibernated")
        await pilot.press("enter")
        await until_seen(pilot, "hibernated: p brings it back")
        assert source.sent == []
