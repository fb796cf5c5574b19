"""From a request to its being in force on all ranks, on a running quick start with one rank per core.

A client of the hub sends pause, resume and edits of the learning rate at random moments, and stamps the answer "applied" when
it arrives. The same for the key p, typed into the terminal of an attached UI. One step (the median) is subtracted, because a
command acts between two steps; not for a resume, which waits for none.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.records import read_steps
from benchmarks.table import Row, row
from benchmarks.terminal import Terminal
from benchmarks.workplace import QUIET, headless, started, wait_for_step, workplace
from plt_tui.control.folder import RunFolder
from plt_tui.protocol.commands import new_command
from plt_tui.protocol.events import CaughtUp, CommandStatus, Event
from plt_tui.views.client import HubClient

NAME = "bench"
FIRST_STEP = 20
LONGEST_REST_S = 0.5
PATIENCE_S = 30.0
SEED = 20
"""Of the moments at which commands are sent."""

COMMANDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("pause", {}),
    ("resume", {}),
    ("set", {"name": "lr", "value": 1e-3}),
    ("pause", {}),
    ("resume", {}),
    ("set", {"name": "lr", "value": 2e-3}),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A command that took effect, and the seconds from its sending to the news of it."""

    name: str
    seconds: float


def measure(*, quick: bool) -> list[Row]:
    """Commands of a client, keys of the UI, and the step that is subtracted."""
    num_commands, num_keys = (6, 2) if quick else (42, 20)
    with workplace() as place, started(place, headless(NAME, *QUIET, "train.steps=1000000")):
        folder = place.run_folder(NAME)
        wait_for_step(folder, FIRST_STEP)
        sent = asyncio.run(_send_commands(socket_of(folder), num_commands))
        with Terminal(place, "attach", NAME) as terminal:
            terminal.wait_for("training")
            pressed = asyncio.run(_press_keys(socket_of(folder), terminal, num_keys))
        step_s = median(step.step_ms for step in read_steps(folder)[FIRST_STEP:]) / 1e3  # without the pauses between steps
    presses = [answer for answer in pressed if answer.name == "pause"]
    budget = "one step + 50 ms"
    return [
        row(
            "command to in force on all ranks, beyond one step", beyond(sent, step_s), "ms", at_most=50, budget=budget, by="p95"
        ),
        row(
            "key p to in force on all ranks, beyond one step",
            beyond(presses, step_s),
            "ms",
            at_most=50,
            budget=budget,
            by="p95",
        ),
        row("(one step meanwhile)", [step_s * 1e3], "ms"),
    ]


def beyond(answers: list[Answered], step_s: float) -> list[float]:
    """Milliseconds that each command took beyond the step that it may have had to wait for."""
    return [(answer.seconds - (0.0 if answer.name == "resume" else step_s)) * 1e3 for answer in answers]


async def _send_commands(socket: Path, count: int) -> list[Answered]:
    async with _watching(socket) as (client, answers):

        async def send(name: str, args: dict[str, Any]) -> None:
            await client.send(new_command(name, args))

        rest = random.Random(SEED)
        return [await _timed(partial(send, name, args), answers, rest) for name, args in islice(cycle(COMMANDS), count)]


async def _press_keys(socket: Path, terminal: Terminal, count: int) -> list[Answered]:
    """`p` pauses and resumes by turns; `count` presses in all."""
    async with _watching(socket) as (_, answers):

        async def press() -> None:
            terminal.press("p")

        rest = random.Random(SEED)
        return [await _timed(press, answers, rest) for _ in range(count)]


Answers = asyncio.Queue[tuple[float, CommandStatus]]
"""Final words on commands, with the moment of their arrival by `time.perf_counter`."""


async def _timed(ask: Callable[[], Awaitable[None]], answers: Answers, rest: random.Random) -> Answered:
    """Ask at a random moment, with nothing else under way, and wait for the answer. Raises: RuntimeError when refused."""
    await asyncio.sleep(rest.uniform(0.2, LONGEST_REST_S))
    asked_s = time.perf_counter()
    await ask()
    arrived_s, status = await asyncio.wait_for(answers.get(), PATIENCE_S)
    if status.status == "refused":
        raise RuntimeError(f"{status.name} was refused: {status.reason}")
    return Answered(name=status.name, seconds=arrived_s - asked_s)


@asynccontextmanager
async def _watching(socket: Path) -> AsyncIterator[tuple[HubClient, Answers]]:
    """A client that has read the run's history, and the answers that arrive from now on."""
    client = await HubClient.connect(socket, actor="benchmark", deadline_s=PATIENCE_S)
    answers: Answers = asyncio.Queue()
    events = client.events()
    try:
        async for event in events:
            if isinstance(event, CaughtUp):
                break
        stamping = asyncio.create_task(_stamp(events, answers))
        try:
            yield client, answers
        finally:
            stamping.cancel()
    finally:
        await client.close()


async def _stamp(events: AsyncIterator[Event], answers: Answers) -> None:
    async for event in events:
        if isinstance(event, CommandStatus) and event.status in ("applied", "refused"):
            answers.put_nowait((time.perf_counter(), event))


def socket_of(folder: RunFolder) -> Path:
    """Where the hub of a run that steps listens."""
    info = folder.read_info()
    assert info is not None, "the hub writes run.json before its ranks step"
    return Path(info.socket)
