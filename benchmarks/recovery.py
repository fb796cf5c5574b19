"""From a fault to its name, and from a fault back to training, on two CPU ranks; and how long ranks outlive their hub.

A client of the hub's socket sees the failure and the steps. The way back holds the start of new processes, so torch's own
import is measured in the same minute, by as many processes at once as there are ranks.
"""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil

from benchmarks.faults import Victim
from benchmarks.latency import socket_of
from benchmarks.table import Row, row
from benchmarks.workplace import QUIET, Workplace, headless, started, wait_for_step, workplace
from plt_tui.protocol.events import CaughtUp, Event, Failed, Run, Steps
from plt_tui.views.client import HubClient

NAME = "bench"
SETTINGS = (
    *QUIET,
    "parallel.ranks=2",
    "train.batch_size=2",
    "train.steps=1000000",
    "checkpoint.every=25",
    "control.hang_s=3",
    "control.max_restarts=1000",
)
HANG_S = 3.0
PATIENCE_S = 120.0
RUN_UP_S = 4.0
"""Training between two faults, so that a checkpoint lies between them."""


def measure(*, quick: bool) -> list[Row]:
    """Four rows with budgets."""
    count = 2 if quick else 8
    with workplace() as place, started(place, headless(NAME, *SETTINGS)) as process:
        folder = place.run_folder(NAME)
        wait_for_step(folder, 30)
        victim = Victim(folder, process, random.Random(0))
        killed = [_hurt(socket_of(folder), lambda: _send(victim, signal.SIGKILL)) for _ in range(count)]
        stopped = [_hurt(socket_of(folder), lambda: _send(victim, signal.SIGSTOP)) for _ in range(count // 2)]
        imports = [_two_imports(place) for _ in range(count)]
        orphans = _outlive(victim)
    typical = sorted(imports)[len(imports) // 2]
    return [
        row("a killed rank is named", [named_s for named_s, _ in killed], "s", at_most=1.0),
        row(
            "training again after a rank was killed, beyond torch's import by two processes at once",
            [back_s - typical for _, back_s in killed],
            "s",
            at_most=3.0,
            budget="torch's import + 3 s",
        ),
        row("a stopped rank is named, beyond `control.hang_s`", [named_s - HANG_S for named_s, _ in stopped], "s", at_most=2.0),
        row("ranks alive after their hub was killed", [orphans], "s", at_most=5.0),
    ]


def _send(victim: Victim, number: signal.Signals) -> None:
    victim.ranks[1].send_signal(number)


def _hurt(socket: Path, inflict: Callable[[], None]) -> tuple[float, float]:
    """Seconds from the fault until it was named, and until the next step was made."""
    time.sleep(RUN_UP_S)
    return asyncio.run(asyncio.wait_for(_follow(socket, inflict), PATIENCE_S))


async def _follow(socket: Path, inflict: Callable[[], None]) -> tuple[float, float]:
    client = await HubClient.connect(socket, actor="benchmark", readonly=True)
    try:
        events = client.events()
        await _next(events, CaughtUp)
        began_s = time.perf_counter()
        inflict()
        await _next(events, Failed)
        named_s = time.perf_counter()
        await _next(events, Run)
        await _next(events, Steps)
        return named_s - began_s, time.perf_counter() - began_s
    finally:
        await client.close()


async def _next(events: AsyncIterator[Event], kind: type[Event]) -> None:
    """Return once an event of this kind has come. Raises: RuntimeError when the run ends first."""
    async for event in events:
        if isinstance(event, kind):
            return
    raise RuntimeError("the run ended first")


def _two_imports(place: Workplace) -> float:
    """Seconds until two processes that were started at once have both imported torch."""
    began_s = time.perf_counter()
    command = [sys.executable, "-c", "import torch"]
    processes = [
        subprocess.Popen(command, cwd=place.folder, env={**place.environment, "OMP_NUM_THREADS": "1"}) for _ in range(2)
    ]
    for process in processes:
        process.wait(PATIENCE_S)
    return time.perf_counter() - began_s


def _outlive(victim: Victim) -> float:
    """Seconds until no rank of a hub that is killed now is alive."""
    ranks = victim.ranks
    victim.process.kill()
    began_s = time.perf_counter()
    psutil.wait_procs(ranks, timeout=PATIENCE_S)
    return time.perf_counter() - began_s
