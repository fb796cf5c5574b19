"""From a request to go back to the run being there again, with a model of 10 million parameters on two CPU ranks.

Nothing is restarted. Measured from the sending of the command to the news that all ranks are at the earlier step, so it holds
the wait for the end of the present step, the reading of a checkpoint where there is one to read, and the copying on each rank.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from benchmarks.latency import socket_of
from benchmarks.table import Row, row
from benchmarks.workplace import QUIET, headless, started, wait_for_step, workplace
from plt_tui.control.state import RunState, apply
from plt_tui.protocol.commands import new_command
from plt_tui.protocol.events import CommandStatus
from plt_tui.views.client import HubClient

NAME = "bench"
MODEL = ("model.layers=8", "model.width=320", "model.heads=5", "parallel.ranks=2", "train.batch_size=1", "train.steps=1000000")
"""10.0 million parameters; small batches, so that many steps pass."""
EVERY = 5
"""Steps between the kept states, and steps that a rewind goes back."""
RUN_UP = 2 * EVERY + 1
PATIENCE_S = 60.0


def measure(*, quick: bool) -> list[Row]:
    """Seconds of a rewind from memory and from disk, with their budget."""
    count = 2 if quick else 12
    from_memory = _rewinds(count, f"checkpoint.recent_every={EVERY}")
    from_disk = _rewinds(count, "checkpoint.recent=0", f"checkpoint.every={EVERY}")
    return [
        row("rewind of 10 M parameters on 2 CPU ranks, from memory", from_memory, "s", at_most=2.0),
        row("the same from a checkpoint on disk", from_disk, "s", at_most=2.0),
    ]


def _rewinds(count: int, *settings: str) -> list[float]:
    """Seconds of each of `count` rewinds."""
    with workplace() as place, started(place, headless(NAME, *QUIET, *MODEL, *settings)):
        folder = place.run_folder(NAME)
        wait_for_step(folder, 1)
        return asyncio.run(_go_back(socket_of(folder), count))


async def _go_back(socket: Path, count: int) -> list[float]:
    client = await HubClient.connect(socket, actor="benchmark", deadline_s=PATIENCE_S)
    try:
        return await asyncio.wait_for(_timed(client, count), count * PATIENCE_S)
    finally:
        await client.close()


async def _timed(client: HubClient, count: int) -> list[float]:
    """A rewind each time that the run has come RUN_UP steps far. Raises: RuntimeError when one was refused."""
    state, asked_s, seconds = RunState(), 0.0, []
    async for event in client.events():
        state = apply(state, event)
        if isinstance(event, CommandStatus) and event.status == "refused":
            raise RuntimeError(f"{event.name} was refused: {event.reason}")
        if isinstance(event, CommandStatus) and event.status == "applied":
            seconds.append(time.perf_counter() - asked_s)
            asked_s = 0.0
        if len(seconds) == count:
            return seconds
        if not asked_s and state.step >= RUN_UP:
            asked_s = time.perf_counter()
            await client.send(new_command("rewind", {"step": state.step - EVERY}))
    raise RuntimeError("the run ended first")
