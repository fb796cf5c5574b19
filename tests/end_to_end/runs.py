"""Real runs for tests: the `plt-tui` command in a process of its own, a tiny model, a small corpus."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plt_tui.config.sources import ENVIRONMENT

PLT_TUI = (sys.executable, "-m", "plt_tui")
CORPUS = Path(__file__).parents[2] / "data" / "tiny.txt"
TINY = (
    "model.layers=2",
    "model.width=32",
    "model.heads=2",
    "data.context=32",
    "train.batch_size=4",
    "optim.warmup=5",
    "eval.batches=4",
    "sample.tokens=20",
    "parallel.ranks=2",
)
"""A model whose step takes a few milliseconds."""
DEADLINE_S = 90.0

Line = dict[str, Any]


def options(*sets: str, train: Path = CORPUS) -> list[str]:
    """The options of a tiny run on `train`, later ones winning."""
    return [word for value in (f"data.train={train}", *TINY, *sets) for word in ("--set", value)]


def start(folder: Path, name: str, *sets: str, extra: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    """A headless run that writes JSON lines to its stdout."""
    command = [*PLT_TUI, "run", "--no-ui", "--json", "--name", name, *options(*sets), *extra]
    with (folder / f"{name}.stderr").open("a") as errors:
        return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment())


def environment() -> dict[str, str]:
    """This process's environment without what would change a run's configuration."""
    return {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}


def finish(process: "subprocess.Popen[str]", exit_code: int = 0) -> list[Line]:
    """The remaining lines of a run that must end with `exit_code`."""
    assert process.stdout is not None
    with process.stdout:
        lines = [json.loads(text) for text in process.stdout]
    assert process.wait(DEADLINE_S) == exit_code, lines[-3:]
    return lines


def train(folder: Path, name: str, *sets: str, exit_code: int = 0, extra: tuple[str, ...] = ()) -> list[Line]:
    """All lines of a run from start to end."""
    return finish(start(folder, name, *sets, extra=extra), exit_code)


def read_until(process: "subprocess.Popen[str]", wanted: Callable[[Line], bool]) -> list[Line]:
    """The lines of a live run up to the first one that is `wanted`."""
    assert process.stdout is not None
    lines: list[Line] = []
    for text in process.stdout:
        lines.append(json.loads(text))
        if wanted(lines[-1]):
            return lines
    raise AssertionError(f"the run ended first: {lines[-3:]}")


def command(folder: Path, *words: str, exit_code: int = 0) -> str:
    """What `plt-tui WORDS` prints."""
    done = subprocess.run(
        [*PLT_TUI, *words], cwd=folder, capture_output=True, text=True, timeout=DEADLINE_S, env=environment(), check=False
    )
    assert done.returncode == exit_code, done.stdout + done.stderr
    return done.stdout + done.stderr


def show(folder: Path, name: str) -> Line:
    """`plt-tui show NAME --json`."""
    shown: Line = json.loads(command(folder, "show", name, "--json"))
    return shown


def at_step(step: int) -> Callable[[Line], bool]:
    """Wanted: the line of this step."""
    return lambda line: line["kind"] == "step" and line["step"] >= step


def losses(lines: list[Line]) -> dict[int, float]:
    """Loss by step: exact floats, comparable with ==."""
    return {line["step"]: line["loss"] for line in lines if line["kind"] == "step"}


def end_of(lines: list[Line]) -> Line:
    """The last line, which must be the end."""
    assert lines[-1]["kind"] == "end", lines[-1]
    return lines[-1]


def stop(process: "subprocess.Popen[str]", number: signal.Signals = signal.SIGINT) -> None:
    """Send a signal to the run's foreground process only."""
    os.kill(process.pid, number)


def wait_until(condition: Callable[[], object], deadline_s: float = 30.0) -> None:
    """Return as soon as `condition` holds; fail when it does not in time."""
    give_up_at = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < give_up_at, f"not in {deadline_s} s: {condition}"
        time.sleep(0.02)


def applied_step(printed: str) -> int:
    """The step in "...: in force at step 12"."""
    match = re.search(r"in force at step (\d+)", printed)
    assert match is not None, printed
    return int(match[1])
