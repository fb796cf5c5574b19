"""Hubs whose ranks are played by `fake_ranks`, and how tests start, follow and question them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import psutil

from plt_tui.config.schema import ControlSection, RunConfig
from plt_tui.control.folder import RunFolder
from plt_tui.control.hub import Hub
from plt_tui.control.options import HubOptions
from plt_tui.control.placement import Placement
from plt_tui.control.record import read_journal
from plt_tui.protocol.commands import Command, new_command
from plt_tui.protocol.events import End, Event, Phase

DEADLINE_S = 50.0
EventT = TypeVar("EventT", bound=Event)


def new_hub(
    folder: RunFolder, entry: str, *, ranks: int = 2, resume: str = "auto", resume_step: int | None = None, **control: Any
) -> Hub:
    """A hub whose ranks play `entry`."""
    config = RunConfig(control=ControlSection(**control))
    placement = Placement(devices=("cpu",) * ranks, threads=1)
    entry = f"tests.control.fake_ranks:{entry}"
    return Hub(folder, config, HubOptions(placement=placement, resume=resume, resume_step=resume_step, entry=entry))


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until `is_so`, at most DEADLINE_S."""
    give_up_at = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < give_up_at, "it did not come"
        await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def running(hub: Hub) -> AsyncIterator[asyncio.Task[int]]:
    """The hub at work; a test that fails does not leave it behind."""
    session = asyncio.create_task(hub.run())
    try:
        yield session
    finally:
        session.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await session


def play(scenario: Coroutine[Any, Any, None]) -> None:
    """Run `scenario` in an event loop of its own."""
    asyncio.run(asyncio.wait_for(scenario, 2 * DEADLINE_S))


def finish(hub: Hub) -> int:
    """Run the hub to its end by itself."""
    return asyncio.run(asyncio.wait_for(hub.run(), 2 * DEADLINE_S))


def said(hub: Hub, kind: type[EventT]) -> list[EventT]:
    """What was published, of one kind."""
    return [event for event in hub.feed.events if isinstance(event, kind)]


def phases(hub: Hub) -> list[str]:
    """The phases that the run went through."""
    return [event.phase for event in said(hub, Phase)]


def end_of(hub: Hub) -> End:
    """The last word, which must be the last event of journal and feed."""
    end = hub.feed.events[-1]
    assert isinstance(end, End)
    assert read_journal(RunFolder(Path(hub._folder.path)))[-1] == end
    return end


def status_of(hub: Hub, command: Command) -> str:
    """How far a command is."""
    return next((status.status for status in hub.feed.state.commands if status.id == command.id), "unknown")


async def asked(hub: Hub, verb: str, /, **args: Any) -> Command:
    """Submit a command and wait until it is in force."""
    command = new_command(verb, args, actor="tui ana@box")
    await hub.submit(command)
    await until(lambda: status_of(hub, command) == "applied")
    return command


def is_training(hub: Hub) -> Callable[[], bool]:
    """True once ranks make steps."""
    return lambda: hub.feed.state.phase == "running" and hub.feed.state.step > 0


def rank_pid(hub: Hub, rank: int) -> int:
    """Process id of a rank."""
    return hub._attempt.pids[rank]


def is_dead(pid: int) -> bool:
    """True for a process that has ended, reaped or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
