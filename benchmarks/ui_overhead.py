"""What it costs to watch: tokens per second with the UI attached against none, one rank per core.

One headless run goes on all the time, so that nothing differs but the view: windows of steps without a UI, with one at 140x45,
with one at 200x60 and with one at low bandwidth follow each other, to and fro. The UI draws into a pseudo-terminal whose output
is read at once and thrown away. Compared is the whole time of a window, because a view works in bursts that a median step would
not see.
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


@dataclass(frozen=True, slots=True)
class View:
    """One way to watch: columns and rows of the terminal, and what stands behind `attach NAME`."""

    columns: int
    rows: int
    options: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """Such as "140x45, low bandwidth"."""
        return ", ".join([f"{self.columns}x{self.rows}", *(option.strip("-").replace("-", " ") for option in self.options)])


VIEWS = (View(140, 45), View(200, 60))
THRIFTY = View(140, 45, ("--low-bandwidth",))
SETTLE_S = 10.0
"""Left out of the window of a thrifty view besides: its first frames are large and come at an even pace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The steps after `first` up to `last`, and what the view used meanwhile: zeros without one."""

    first: int
    last: int
    cpu_s_per_minute: float = 0.0
    bytes_per_s: float = 0.0


def measure(*, quick: bool) -> list[Row]:
    """For each view the ratio with its budget, and its own use; at low bandwidth the bytes have a budget."""
    steps, rounds = (20, 1) if quick else (100, 8)
    alone: list[Window] = []
    watched: dict[View, list[Window]] = {view: [] for view in (*VIEWS, THRIFTY)}
    with workplace() as place, started(place, headless(NAME, *QUIET, "train.steps=1000000")):
        folder = place.run_folder(NAME)
        wait_for_step(folder, FIRST_STEP)
        for number in range(rounds):
            arms: Sequence[View | None] = (None, *watched)
            for view in arms if number % 2 == 0 else arms[::-1]:
                if view is None:
                    alone.append(_window(folder, steps))
                else:
                    watched[view].append(_watched_window(place, folder, steps, view))
        ends_s = [step.time for step in read_steps(folder)]
    return [row_ for view in watched for row_ in rows(view, watched[view], alone, ends_s)]


def rows(view: View, watched: Sequence[Window], alone: Sequence[Window], ends_s: Sequence[float]) -> list[Row]:
    """What the windows of one view tell."""
    ratios = [seconds(without, ends_s) / seconds(seen, ends_s) for without, seen in zip(alone, watched, strict=True)]
    num_bytes, terminal = [seen.bytes_per_s for seen in watched], view.words
    thrifty = row(f"bytes to the terminal, {terminal}", num_bytes, "a second", at_most=5000)
    return [
        row(f"tokens/s with the UI attached, {terminal}, against headless", ratios, at_least=0.99),
        row(f"(CPU of the UI, {terminal})", [seen.cpu_s_per_minute for seen in watched], "s a minute"),
        thrifty if view.options else row(f"(bytes to the terminal, {terminal})", num_bytes, "a second"),
    ]


def seconds(window: Window, ends_s: Sequence[float]) -> float:
    """Mean seconds of a step in `window`; `ends_s[i]` is the end of step i + 1."""
    return (ends_s[window.last - 1] - ends_s[window.first - 1]) / (window.last - window.first)


def _window(folder: RunFolder, steps: int) -> Window:
    first = _settled(folder)
    wait_for_step(folder, first + steps)
    return Window(first=first, last=first + steps)


def _watched_window(place: Workplace, folder: RunFolder, steps: int, view: View) -> Window:
    with Terminal(place, "attach", NAME, *view.options, columns=view.columns, rows=view.rows) as terminal:
        terminal.wait_for("training")
        time.sleep(SETTLE_S if view.options else 0.0)
        process = psutil.Process(terminal.process.pid)
        first = _settled(folder)
        began = time.monotonic(), _cpu_s(process), terminal.num_bytes
        wait_for_step(folder, first + steps)
        ended = time.monotonic(), _cpu_s(process), terminal.num_bytes
    wall_s, cpu_s, num_bytes = (after - before for before, after in zip(began, ended, strict=True))
    return Window(first=first, last=first + steps, cpu_s_per_minute=cpu_s / wall_s * 60, bytes_per_s=num_bytes / wall_s)


def _settled(folder: RunFolder) -> int:
    """The step that the run has reached when what has just begun or ended beside it is over."""
    wait_for_step(folder, newest_step(folder) + SETTLE_STEPS)
    return newest_step(folder)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system
