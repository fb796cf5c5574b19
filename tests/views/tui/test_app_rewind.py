"""The rewind dialog: what can be chosen, what would happen, what is sent."""

from __future__ import annotations

import re
from typing import Any

import fakes
import pytest
import scenes
from driving import COMPACT, WIDE, driven, run_screen, screen_lines, screen_text, until, until_seen
from textual.events import Key
from textual.widgets import Input


@pytest.mark.parametrize("size", [WIDE, (120, 40), COMPACT])
async def test_the_dialog_lists_what_one_can_go_back_to(size: tuple[int, int]) -> None:
    """Newest first with where it lies, what it costs, and the verdict for the newest one behind the run; nothing is cut."""
    async with driven(scenes.rewound(), size=size) as (pilot, source):
        await pilot.press("r")
        await until_seen(pilot, 'back from step 600 to 580 (checkpoint "best"); 20 steps become branch 2')
        text = screen_text(pilot.app)
        steps = re.findall(r"│ +step (\d+) +(?:in memory|checkpoint|the start)", text)
        assert steps == ["600", "580", "575", "550", "400", "0"]
        for words in ("in memory", 'checkpoint "best"', "25 steps back", " ago", "the start", "to step", "batches to leave out",
                      "3 states in memory: 31 MiB on each rank, 4ms a copy", "0 (the guard: 200)", "esc cancel"):  # fmt: skip
            assert words in text
        assert source.sent == []


@pytest.mark.parametrize(
    ("keys", "args"),
    [
        (["enter"], {"step": 580}),
        (["down", "enter"], {"step": 575}),
        (["down", "down", "up", "up", "up", "tab", "5", "enter"], {"step": 600, "skip": 5}),
        ([*"512", "enter"], {"step": 512}),
        (["ctrl+a", "ctrl+k", *"512", "enter"], {"step": 512}),
        (["ctrl+a", "ctrl+k", *"512", "tab", *"30", "enter"], {"step": 512, "skip": 30}),
        (["ctrl+a", "ctrl+k", "0", "enter"], {"step": 0}),
        (["tab", *"30", "tab", "enter"], {"step": 580, "skip": 30}),
    ],
)
async def test_what_was_chosen_is_sent(keys: list[str], args: dict[str, Any]) -> None:
    """From the list or typed, with batches to leave out or without."""
    async with driven(scenes.rewound()) as (pilot, source):
        await pilot.press("r", *keys)
        await until(pilot, lambda: source.sent)
        assert [(command.name, command.args) for command in source.sent] == [("rewind", args)]


async def test_a_field_is_left_before_the_next_key_comes() -> None:
    """On a busy machine keys come faster than widgets answer; none of them lands in the field before."""
    async with driven(scenes.rewound()) as (pilot, source):
        await pilot.press("r", *"512")
        for key, character in (("tab", None), ("7", "7"), ("shift+tab", None), ("0", "0"), ("enter", None)):
            pilot.app.post_message(Key(key, character))
        await until(pilot, lambda: source.sent)
        assert source.sent[0].args == {"step": 0, "skip": 7}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([*"512"], "back from step 600 to 400 (checkpoint), the newest state kept at or before"),
        ([*"601"], "step 601: the run is at step 600; give an earlier step"),
        ([*"600"], "step 600: the run is there already"),
        ([*"5x"], "rewind: step is a whole number from 0 on, not '5x'"),
        ([*"500", "tab", *"-3"], "rewind: skip is a whole number from 0 on, not '-3'"),
        ([], "type a step, or choose a state"),
    ],
)
async def test_typing_tells_where_it_lands_or_why_not(keys: list[str], said: str) -> None:
    """The verdict follows every key; what would be refused is not sent."""
    async with driven(scenes.rewound()) as (pilot, source):
        await pilot.press("r", "ctrl+a", "ctrl+k", *keys)
        await until_seen(pilot, said)
        if not said.startswith("back"):
            await pilot.press("enter")
            await pilot.pause()
            assert source.sent == []
        await pilot.press("escape")
        await until(pilot, lambda: len(pilot.app.screen_stack) == 2)
        assert source.sent == []


async def test_a_click_chooses_a_state() -> None:
    """As the arrow keys do."""
    async with driven(scenes.rewound()) as (pilot, source):
        await pilot.press("r")
        await until_seen(pilot, "step 550")
        row = next(y for y, line in enumerate(screen_lines(pilot.app)) if "step 550" in line)
        await pilot.click(offset=(pilot.app.size.width // 2, row))
        await until_seen(pilot, "back from step 600 to 550 (in memory)")
        assert source.sent == []


async def test_the_dialog_follows_the_run() -> None:
    """The run goes on while one thinks: what would be lost and what is kept are those of now."""
    async with driven(scenes.rewound()) as (pilot, source):
        await pilot.press("r")
        await until_seen(pilot, "back from step 600 to 580")
        source.feed(*fakes.steps(601, 625), scenes.recent(600, 625))
        await until_seen(pilot, "back from step 625 to 580")
        await until_seen(pilot, "step 625      in memory")
        assert "step 575" not in screen_text(pilot.app)


async def test_without_a_configuration_one_can_still_go_back() -> None:
    """Then only the newest checkpoint is sure to be there."""
    async with driven(scenes.rewound(), config=None) as (pilot, source):
        await pilot.press("r")
        await until_seen(pilot, 'checkpoint "best"')
        assert "step 400      checkpoint" not in screen_text(pilot.app)
        await pilot.press("enter")
        await until(pilot, lambda: source.sent)


@pytest.mark.parametrize(("pointed", "offered"), [(512, "512"), (400, "400"), (600, "600"), (None, "580"), (700, "580")])
async def test_the_step_pointed_at_is_offered(pointed: int | None, offered: str) -> None:
    """With where it really lands; a step that a rewind has taken back since is not."""
    async with driven(scenes.rewound(), size=COMPACT) as (pilot, source):
        run_screen(pilot.app).board.pointed = pointed
        await pilot.press("r")
        await until(pilot, lambda: pilot.app.screen.query_one("#step", Input).value == offered)
        if pointed == 512:
            await until_seen(pilot, "back from step 600 to 400 (checkpoint), the newest state kept at or")
            await pilot.press("enter")
            await until(pilot, lambda: source.sent)
            assert source.sent[0].args == {"step": 512}
