"""What it costs to watch: tokens per second with the UI attached against none, one rank per core.

One headless run goes on all the time, so that nothing differs but the view: windows of steps without a UI, with one at 140x45,
with one at 200x60 and with one at low bandwidth follow each other, to and fro, each between two without. A window without
between two others shows the noise. The UI draws into a pseudo-terminal whose output is read at once and thrown away. Compared
is the whole time of a window, because a view works in bursts that a median step would not see. How long the ranks waited for a
core that something else was on is taken from the kernel's own account, where a machine's changing speed does not show.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from benchmarks.disturbance import cpu_s
from benchmarks.records import newest_step, read_steps
from benchmarks.table import Row, row
from benchmarks.terminal import Terminal
from benchmarks.workplace import QUIET, Workplace, headless, ranks_of, started, wait_for_step, waited_s, workplace
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
    """The steps after `first` up to `last`, what the ranks had to wait, and what the view used meanwhile: zeros without one."""

    first: int
    last: int
    waited_share: float = 0.0
    """How long a rank waited for a core, of the window's time."""
    cpu_s_per_minute: float = 0.0
    bytes_per_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A window, and the two around it without a view."""

    before: Window
    seen: Window
    after: Window


def measure(*, quick: bool) -> list[Row]:
    """For each view the ratio with its budget, and its own use; at low bandwidth the bytes have a budget."""
    steps, rounds = (20, 1) if quick else (50, 10)
    watches: dict[View | None, list[Watch]] = {view: [] for view in (None, *VIEWS, THRIFTY)}
    with workplace() as place, started(place, headless(NAME, *QUIET, "train.steps=1000000")):
        folder = place.run_folder(NAME)
        wait_for_step(folder, FIRST_STEP)
        before = _window(folder, steps)
        for number in range(rounds):
            views = list(watches)
            for view in views if number % 2 == 0 else views[::-1]:
                seen = _window(folder, steps) if view is None else _watched_window(place, folder, steps, view)
                after = _window(folder, steps)
                watches[view].append(Watch(before=before, seen=seen, after=after))
                before = after
        ends_s = [step.time for step in read_steps(folder)]
    noise = [
        row("(tokens/s with no UI, against the windows around)", [ratio(watch, ends_s) for watch in watches[None]]),
        row("(ranks wait for a core with no UI, more than around)", more_waiting(watches[None]), "% of the time"),
    ]
    return [*noise, *(row_ for view, seen in watches.items() if view is not None for row_ in rows(view, seen, ends_s))]


def rows(view: View, watches: Sequence[Watch], ends_s: Sequence[float]) -> list[Row]:
    """What the windows of one view tell."""
    num_bytes, terminal = [watch.seen.bytes_per_s for watch in watches], view.words
    thrifty = row(f"bytes to the terminal, {terminal}", num_bytes, "a second", at_most=5000)
    ratios = [ratio(watch, ends_s) for watch in watches]
    return [
        row(f"tokens/s with the UI attached, {terminal}, against headless", ratios, at_least=0.99),
        row(f"(ranks wait for a core, {terminal}, more than headless)", more_waiting(watches), "% of the time"),
        row(f"(CPU of the UI, {terminal})", [watch.seen.cpu_s_per_minute for watch in watches], "s a minute"),
        thrifty if view.options else row(f"(bytes to the terminal, {terminal})", num_bytes, "a second"),
    ]


def ratio(watch: Watch, ends_s: Sequence[float]) -> float:
    """Tokens per second in the window that was seen over those in the two around it."""
    return (seconds(watch.before, ends_s) + seconds(watch.after, ends_s)) / (2 * seconds(watch.seen, ends_s))


def more_waiting(watches: Sequence[Watch]) -> list[float]:
    """How much longer the ranks waited for a core than in the two windows around, in percent of the time."""
    return [100 * (at.seen.waited_share - (at.before.waited_share + at.after.waited_share) / 2) for at in watches]


def seconds(window: Window, ends_s: Sequence[float]) -> float:
    """Mean seconds of a step in `window`; `ends_s[i]` is the end of step i + 1."""
    return (ends_s[window.last - 1] - ends_s[window.first - 1]) / (window.last - window.first)


def _window(folder: RunFolder, steps: int) -> Window:
    first, ranks = _settled(folder), _ranks(folder)
    began = time.monotonic(), waited_s(ranks)
    wait_for_step(folder, first + steps)
    wall_s, waiting_s = time.monotonic() - began[0], waited_s(ranks) - began[1]
    return Window(first=first, last=first + steps, waited_share=waiting_s / wall_s)


def _watched_window(place: Workplace, folder: RunFolder, steps: int, view: View) -> Window:
    with Terminal(place, "attach", NAME, *view.options, columns=view.columns, rows=view.rows) as terminal:
        terminal.wait_for("training")
        time.sleep(SETTLE_S if view.options else 0.0)
        process = psutil.Process(terminal.process.pid)
        first, ranks = _settled(folder), _ranks(folder)
        began = time.monotonic(), waited_s(ranks), cpu_s(process), terminal.num_bytes
        wait_for_step(folder, first + steps)
        ended = time.monotonic(), waited_s(ranks), cpu_s(process), terminal.num_bytes
    wall_s, waiting_s, used_s, num_bytes = (after - before for before, after in zip(began, ended, strict=True))
    return Window(
        first=first,
        last=first + steps,
        waited_share=waiting_s / wall_s,
        cpu_s_per_minute=used_s / wall_s * 60,
        bytes_per_s=num_bytes / wall_s,
    )


def _settled(folder: RunFolder) -> int:
    """The step that the run has reached when what has just begun or ended beside it is over."""
    wait_for_step(folder, newest_step(folder) + SETTLE_STEPS)
    return newest_step(folder)


def _ranks(folder: RunFolder) -> list[psutil.Process]:
    """The processes of the ranks."""
    info = folder.read_info()
    assert info is not None
    return ranks_of(psutil.Process(info.pid))
