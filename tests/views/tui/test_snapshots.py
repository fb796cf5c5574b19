"""Pictures of the run screen on a scripted run and a frozen clock; `pytest --snapshot-update` takes them anew."""

from collections.abc import Callable

import fakes
import pytest
import scenes
from driving import make_app, run_screen, settled, until
from textual.pilot import Pilot

SCENES: dict[str, tuple[Callable[[], list[fakes.Event]], list[str]]] = {
    "training": (fakes.training, []),
    "rate-dialog": (fakes.paused, ["l", "down"]),
    "failed": (fakes.failed, []),
    "rewound": (scenes.rewound, []),
    "rewind-dialog": (scenes.rewound, ["r", "ctrl+a", "ctrl+k", *"512", "tab", *"30"]),
    "batch-dialog": (fakes.training, ["e", *["down"] * 4, "enter", "ctrl+a", "ctrl+k", "4", "space", *"keep"]),
    "hibernated": (scenes.hibernated, []),
    "all-metrics": (scenes.rewound, ["m"]),
    "outcome": (fakes.failed, ["i"]),
    "command-line": (fakes.training, ["colon", *"set lr 1e-3"]),
    "watched": (scenes.watched, []),
}


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 60)], ids=["80x24", "120x40", "200x60"])
@pytest.mark.parametrize("scene", SCENES)
def test_the_screen_looks_as_before(scene: str, size: tuple[int, int], snap_compare: Callable[..., bool]) -> None:
    """Each scene at each size is drawn to the same cells as when a person last looked at it."""
    events, keys = SCENES[scene]
    app = make_app(fakes.FakeSource(events()).connect)

    async def act(pilot: Pilot) -> None:
        await until(pilot, lambda: len(app.screen_stack) > 1 and run_screen(app).session.model.is_live)
        await settled(pilot, run_screen(app).tick)  # a screen under a dialog stays as it was when that was opened
        await pilot.press(*keys)
        for blinking in app.screen.query("Input"):
            blinking.cursor_blink = False  # type: ignore[attr-defined]  # what the query finds are Inputs
        await settled(pilot, run_screen(app).tick)

    assert snap_compare(app, terminal_size=size, run_before=act)
