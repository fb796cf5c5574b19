"""Runs of a folder that is not there: rows, a port that gives them, and the app on it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import reduce

import fakes
from driving import DEADLINE_S, screen_text
from textual.pilot import Pilot

from plt_tui.config.schema import RunConfig, UiSection
from plt_tui.control.state import RunState, apply
from plt_tui.errors import UsageError
from plt_tui.protocol.events import Event, Phase, Step
from plt_tui.views.draft import Checked
from plt_tui.views.source import RecordSource, Source
from plt_tui.views.tui.app import RunApp
from plt_tui.views.tui.runs import Look, OpenedRun, RunRow
from plt_tui.views.tui.screens.runs import RunsScreen

NOW = fakes.at(700)


def crashed() -> list[Event]:
    """A run whose hub is gone without a word."""
    return [*fakes.training(300), Phase(time=0.0, phase="failed", reason="its hub is gone without a word", step=300)]


STORIES: dict[str, Callable[[], list[Event]]] = {
    "big-live": fakes.training,
    "big-paused": fakes.paused,
    "done": fakes.finished,
    "out-of-memory": fakes.failed,
    "gone": crashed,
    "never-begun": lambda: [Phase(phase="failed", reason="it has never begun; start it")],
}
"""Runs, the newest first."""


def state_of(events: Sequence[Event]) -> RunState:
    """The state after `events`."""
    return reduce(apply, events, RunState())


def row(name: str, events: Sequence[Event]) -> RunRow:
    """A row as a look would give it."""
    losses = [event.loss for event in events if isinstance(event, Step)]
    return RunRow(name=name, state=state_of(events), losses=tuple(losses[:: max(1, len(losses) // 64)]))


class NoForm:
    """A form's port that finds nothing wrong, and starts what it is told to."""

    def check(self, values: object) -> Checked:
        return Checked()

    def launch(self, values: object) -> str:
        return "big-live"

    def save(self, values: object, path: str, *, replace: bool) -> str:
        raise AssertionError


class FakeRuns:
    """A `RunsPort`. `stories`: events by name, the newest first; change them and the next look sees it."""

    place = "runs"
    first_values: dict[str, str] = {}  # noqa: RUF012  (never changed)

    def __init__(self, stories: dict[str, list[Event]]) -> None:
        self.stories = stories
        self.new_runs = NoForm()
        self.num_looks = 0
        self.opened: list[str] = []
        self.watched: list[str] = []
        """Of the runs that were opened those that were asked for without steering."""
        self._told: dict[str, int] = {}

    def look(self) -> Iterator[Look]:
        self.num_looks += 1
        names = tuple(self.stories)
        for name, events in list(self.stories.items()):
            if self._told.get(name) != len(events):
                self._told[name] = len(events)
                yield Look(names=names, rows=(row(name, events),))
        yield Look(names=names)

    def open(self, name: str, *, readonly: bool = False) -> OpenedRun:
        if name not in self.stories:
            raise UsageError(f"no run {name!r}")
        self.opened.append(name)
        self.watched += [name] * readonly
        events = self.stories[name]

        async def connect() -> Source:
            return RecordSource(events) if state_of(events).is_over else fakes.FakeSource(events)

        return OpenedRun(name=name, connect=connect, config=RunConfig(), readonly=readonly or state_of(events).is_over)


def stories(*names: str) -> dict[str, list[Event]]:
    """The events of these runs, or of all."""
    return {name: tell() for name, tell in STORIES.items() if not names or name in names}


def runs_app(port: FakeRuns) -> RunApp:
    """The app on all runs, on a frozen clock."""
    return RunApp(ui=UiSection(), actor=fakes.ACTOR, runs=port, clock=lambda: NOW)


async def seen(pilot: Pilot, happens: Callable[[], object]) -> None:
    """Let the app run until `happens()` is true."""
    deadline = time.monotonic() + DEADLINE_S
    await pilot.pause()
    while not happens():
        assert time.monotonic() < deadline, f"waited in vain; the screen:\n{screen_text(pilot.app)}"
        await asyncio.sleep(0.01)
        await pilot.pause()


async def seen_text(pilot: Pilot, *texts: str) -> None:
    """Wait until all of `texts` are on the screen."""
    await seen(pilot, lambda: all(text in screen_text(pilot.app) for text in texts))


@asynccontextmanager
async def listed(
    told: dict[str, list[Event]] | None = None, *, size: tuple[int, int] = (120, 40)
) -> AsyncIterator[tuple[Pilot, FakeRuns, RunsScreen]]:
    """The app on these runs (or on all of STORIES), the first look done and drawn."""
    port = FakeRuns(stories() if told is None else told)
    app = runs_app(port)
    async with app.run_test(size=size) as pilot:
        await seen(pilot, lambda: isinstance(app.screen_stack[1], RunsScreen) if len(app.screen_stack) > 1 else False)
        screen = app.screen_stack[1]
        assert isinstance(screen, RunsScreen)
        await seen(pilot, lambda: port.num_looks and screen.table.is_attached and len(screen._rows) == len(port.stories))
        await pilot.pause()
        yield pilot, port, screen
