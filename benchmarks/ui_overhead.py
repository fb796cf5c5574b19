"""What it costs to watch: tokens per second with the UI attached against none, one rank per core.

One headless run goes on all the time, so that nothing differs but the view: windows of steps without a UI, with one at 140x45
and with one at 200x60 follow each other, to and fro. The UI draws into a pseudo-terminal whose output is read at once and
thrown away. Compared is the whole time of a window, because a view works in bursts that a median step would not see.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from benchmarks.records import newest_step, read_steps
from benchmarks.table import Row, row
from benchmarks.terminal import Terminal
from benchmarks.workplace import QUIET, Workplace, headless, started, wait_for_step, workplace
from plt_tui.control.folder import RunFolder

NAME = "bench"
FIRST_STEP = 30
SETTLE_STEPS = 10
"""Left out when a view has come or gone."""

Size = tuple[int, int]
"""Columns and rows of a terminal."""
SIZES: tuple[Size, ...] = ((140, 45), (200, 60))


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The steps after `first` up to `last`, and what the view used meanwhile: zeros without one."""

    first: int
    last: int
    cpu_s_per_minute: float = 0.0
    bytes_per_s: float = 0.0


def measure(*, quick: bool) -> list[Row]:
    """For each size of terminal the ratio with its budget, and the view's own use."""
    steps, rounds = (20, 1) if quick else (100, 8)
    alone: list[Window] = []
    watched: dict[Size, list[Window]] = {size: [] for size in SIZES}
    with workplace() as place, started(place, headless(NAME, *QUIET, "train.steps=1000000")):
        folder = place.run_folder(NAME)
        wait_for_step(folder, FIRST_STEP)
        for number in range(rounds):
            arms: Sequence[Size | None] = (None, *SIZES)
            for size in arms if number % 2 == 0 else arms[::-1]:
                if size is None:
                    alone.append(_window(folder, steps))
                else:
                    watched[size].append(_watched_window(place, folder, steps, size))
        ends_s = [step.time for step in read_steps(folder)]
    return [row_ for size in SIZES for row_ in _rows(size, watched[size], alone, ends_s)]


def _rows(size: Size, watched: Sequence[Window], alone: Sequence[Window], ends_s: Sequence[float]) -> list[Row]:
    terminal = f"{size[0]}x{size[1]}"
    ratios = [seconds(without, ends_s) / seconds(seen, ends_s) for without, seen in zip(alone, watched, strict=True)]
    return [
        row(f"tokens/s with the UI attached, {terminal}, against headless", ratios, at_least=0.99),
        row(f"(CPU of the UI, {terminal})", [seen.cpu_s_per_minute for seen in watched], "s a minute"),
        row(f"(bytes to the terminal, {terminal})", [seen.bytes_per_s for seen in watched], "a second"),
    ]


def seconds(window: Window, ends_s: Sequence[float]) -> float:
    """Mean seconds of a step in `window`; `ends_s[i]` is the end of step i + 1."""
    return (ends_s[window.last - 1] - ends_s[window.first - 1]) / (window.last - window.first)


def _window(folder: RunFolder, steps: int) -> Window:
    first = _settled(folder)
    wait_for_step(folder, first + steps)
    return Window(first=first, last=first + steps)


def _watched_window(place: Workplace, folder: RunFolder, steps: int, size: Size) -> Window:
    columns, rows = size
    with Terminal(place, "attach", NAME, columns=columns, rows=rows) as terminal:
        terminal.wait_for("training")
        view = psutil.Process(terminal.process.pid)
        first = _settled(folder)
        began = time.monotonic(), _cpu_s(view), terminal.num_bytes
        wait_for_step(folder, first + steps)
        ended = time.monotonic(), _cpu_s(view), terminal.num_bytes
    wall_s, cpu_s, num_bytes = (after - before for before, after in zip(began, ended, strict=True))
    return Window(first=first, last=first + steps, cpu_s_per_minute=cpu_s / wall_s * 60, bytes_per_s=num_bytes / wall_s)


def _settled(folder: RunFolder) -> int:
    """The step that the run has reached when what has just begun or ended beside it is over."""
    wait_for_step(folder, newest_step(folder) + SETTLE_STEPS)
    return newest_step(folder)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
