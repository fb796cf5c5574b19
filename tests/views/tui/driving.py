"""How the UI's tests start the app on a scripted run, wait for it, and read its screen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import fakes
from textual import events
from textual.keys import _character_to_key, key_to_character
from textual.pilot import Pilot

from plt_tui.config.schema import RunConfig, UiSection
from plt_tui.protocol.events import Event
from plt_tui.views.source import Source
from plt_tui.views.tui.app import RunApp
from plt_tui.views.tui.person import Person
from plt_tui.views.tui.screens.run import RunScreen

WIDE, COMPACT = (140, 45), (80, 24)
SAME_PICTURES = 5
DEADLINE_S = 60.0


def make_app(
    connect: Callable[[], Awaitable[Source]],
    *,
    now: float = fakes.at(600) + 1.2,
    config: RunConfig | None = fakes.CONFIG,
    readonly: bool = False,
    person: Person | None = None,
    ui: UiSection | None = None,
) -> RunApp:
    """The app on a frozen clock."""
    about = {"name": "quickstart", "config": config, "readonly": readonly, "actor": fakes.ACTOR, "person": person}
    return RunApp(connect, ui=ui or UiSection(), clock=lambda: now, **about)  # type: ignore[arg-type]  # each has its own type


def run_screen(app: RunApp) -> RunScreen:
    """The run screen, also under a dialog."""
    return next(screen for screen in app.screen_stack if isinstance(screen, RunScreen))


def screen_lines(app: RunApp) -> list[str]:
    """What is on the screen, line by line, dialogs included."""
    update = app.screen._compositor.render_update(full=True, screen_stack=app._background_screens)
    return ["".join(segment.text for part in line for segment in part) for line in update.strips]  # type: ignore[union-attr]


def screen_text(app: RunApp) -> str:
    """What is on the screen."""
    return "\n".join(screen_lines(app))


async def until(pilot: Pilot, happens: Callable[[], object]) -> None:
    """Let the app run until `happens()` is true, redrawing at once what changed."""
    deadline = time.monotonic() + DEADLINE_S
    while not happens():
        assert time.monotonic() < deadline, f"waited in vain; the screen:\n{screen_text(pilot.app)}"
        await asyncio.sleep(0.005)
        if pilot.app.is_running and any(isinstance(screen, RunScreen) for screen in pilot.app.screen_stack):
            run_screen(pilot.app).tick()
        await pilot.pause()


async def until_seen(pilot: Pilot, text: str) -> None:
    """Wait until `text` is on the screen."""
    await until(pilot, lambda: text in screen_text(pilot.app))


async def settled(pilot: Pilot, tick: Callable[[], object] = lambda: None) -> None:
    """Let the app run until nothing on the screen changes any more; `tick` draws what is due.

    `Pilot.pause` takes a process that gets no time, on a busy machine, for one that has nothing to do.
    """
    deadline, before, num_same = time.monotonic() + DEADLINE_S, "", 0
    while num_same < SAME_PICTURES:
        assert time.monotonic() < deadline, f"the screen does not come to rest:\n{before}"
        await asyncio.sleep(0.02)
        tick()
        await pilot.pause()
        now = screen_text(pilot.app)
        before, num_same = now, num_same + 1 if now == before else 0


def burst(pilot: Pilot, *keys: str) -> None:
    """Keys that come all at once, as over a slow connection; `pilot.press` waits for what each of them does."""
    for key in keys:
        name = _character_to_key(key) if len(key) == 1 else key
        pilot.app.post_message(events.Key(name, key if len(key) == 1 else key_to_character(key)))


@asynccontextmanager
async def driven(
    history: list[Event],
    *,
    size: tuple[int, int] = WIDE,
    readonly: bool = False,
    config: RunConfig | None = fakes.CONFIG,
    person: Person | None = None,
    ui: UiSection | None = None,
) -> AsyncIterator[tuple[Pilot, fakes.FakeSource]]:
    """The app on `history`, all of it folded and drawn."""
    source = fakes.FakeSource(history, readonly=readonly)
    app = make_app(source.connect, config=config, readonly=readonly, person=person, ui=ui)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: len(app.screen_stack) > 1 and run_screen(app).session.model.is_live)
        await pilot.pause()
        run_screen(app).tick()
        await pilot.pause()
        yield pilot, source
