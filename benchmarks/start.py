"""How long plt-tui takes to answer: `--help`, the first frame of the UI, the first training step.

Whole processes on the wall clock, from the moment before they are started. Each run starts with empty caches, as on a new
machine, but with compiled bytecode and a warm file cache.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

from benchmarks.table import Row, row
from benchmarks.terminal import Terminal
from benchmarks.workplace import PLT_TUI, QUIET, Workplace, headless, run_words, started, stop_hub, workplace


def measure(*, quick: bool) -> list[Row]:
    """Three rows with budgets, and torch's own import."""
    with workplace() as place:
        _timed(place, PLT_TUI, "--help")
        helps = [_timed(place, PLT_TUI, "--help") for _ in range(2 if quick else 10)]
        _timed_first_frame("warm-up")
        frames = [_timed_first_frame(f"bench-{number}") for number in range(1 if quick else 10)]
        _timed(place, sys.executable, "-c", "import torch")
        pairs = [(_timed(place, sys.executable, "-c", "import torch"), _timed_first_step()) for _ in range(1 if quick else 5)]
    return [
        row("`plt-tui --help`", helps, "s", at_most=0.25),
        row("first frame of the UI after `plt-tui run`, 140x45", frames, "s", at_most=0.8),
        row(
            "first training step after `plt-tui run`, beyond torch's import",
            [first_step - torch_import for torch_import, first_step in pairs],
            "s",
            at_most=2.0,
            budget="torch's import + 2 s",
        ),
        row("(import of torch alone)", [torch_import for torch_import, _ in pairs], "s"),
    ]


def _timed(place: Workplace, *command: str) -> float:
    """Seconds that a command takes."""
    started_s = time.perf_counter()
    place.execute(command)
    return time.perf_counter() - started_s


def _timed_first_frame(name: str) -> float:
    """Seconds until the name of the run has been drawn."""
    with workplace() as place, Terminal(place, *run_words(name, *QUIET)) as terminal:
        drawn_s = terminal.wait_for(name)
        stop_hub(place.run_folder(name))
    return drawn_s - terminal.started_s


def _timed_first_step() -> float:
    """Seconds until a headless run has printed its first step."""
    with workplace() as place:
        started_s = time.perf_counter()
        with started(place, headless("bench", *QUIET), stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if json.loads(line)["kind"] == "step":
                    return time.perf_counter() - started_s
    raise RuntimeError("the run ended before its first step")
