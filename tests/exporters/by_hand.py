"""An exporter in a process of its own, driven call by call: `python -m tests.exporters.by_hand MODULE:CLASS FOLDER < CALLS`.

Each line of CALLS is a JSON list: the name of a method and its argument. "die" ends the process as a crash does, "say" prints a
line. What a test needs to write such lines and to start the process stands here too.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from plt_tui.exporters.base import ExportTarget, Row, RunFacts, row_of
from plt_tui.protocol.events import End, Event, Run, Step
from plt_tui.protocol.framing import from_json, to_json

ROOT = Path(__file__).parents[2]
TOOLS = ("WANDB_", "MLFLOW_", "TRACKIO_", "HF_")
"""Beginnings of the names of variables that a person may have set for the tools."""
WITHOUT = "PLT_TUI_TEST_WITHOUT"
"""Variable with the name of a package that the driven process shall not find."""
RUN_ID = "c0ffee" * 5 + "00"
FLUSH: list[Any] = ["flush", None]
DIE: list[Any] = ["die", None]
SAY: list[Any] = ["say", None]
DONE = "so far\n"
"""Printed at the call "say"."""
START = 1_700_000_000.25
SECRET = "0123456789abcdef0123456789abcdef01234567"
"""What a key of W&B looks like."""


def session(config: Mapping[str, Any] | None = None, start_step: int = 0) -> Run:
    """The beginning of a session of a run."""
    return Run(
        name="little",
        dir="runs/little",
        world_size=2,
        params=812_345,
        target_step=100,
        start_step=start_step,
        config={"optim": {"lr": 3e-3, "betas": [0.9, 0.95]}, "data": {"train": "x" * 9000}, **(config or {})},
        environment={"torch": "2.10.0", "plugins": {}},
        time=START,
    )


def opened(run: Run | None = None, *, is_new: bool = True, step: int = 0) -> list[Any]:
    """The call of `open`."""
    facts = {"name": "little", "id": RUN_ID, "started_at": START, "step": step, "is_new": is_new}
    return ["open", {**facts, "run": to_json(run or session())}]


def step_of(step: int, seq: int, loss: float | None = None) -> Step:
    """A step whose numbers need all their bits."""
    return Step(
        step=step,
        loss=8.0 / (3.0 + step) if loss is None else loss,
        lr=3e-3 * (1 - step / 777),
        grad_norm=1.0 / step,
        tokens=2048 * step,
        tokens_per_s=13_600.1 + 1 / 3,
        step_ms=150.0 / 7,
        time=START + step / 3,
        seq=seq,
    )


def rows(*steps: Step) -> list[Any]:
    """The call of `metrics`."""
    return ["metrics", [asdict(row_of(step)) for step in steps]]


def steps(first: int, last: int, seq: int | None = None) -> list[Any]:
    """The call of `metrics` with steps `first` to `last`; `seq`: number of the first of them, else that of the step."""
    begin = first if seq is None else seq
    return rows(*(step_of(step, begin + step - first) for step in range(first, last + 1)))


def event(what: Event) -> list[Any]:
    """The call of `event`."""
    return ["event", to_json(what)]


def closed(end: End | None = None) -> list[Any]:
    """The call of `close`."""
    return ["close", to_json(end) if end is not None else None]


def written(calls: Sequence[Sequence[Any]]) -> str:
    """`calls` as the process reads them."""
    return "".join(json.dumps(call) + "\n" for call in calls)


def begun(exporter: str, folder: Path, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """The process that drives the exporter MODULE:CLASS, whose files lie in `folder`; a person's settings are not seen."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(TOOLS)}
    home = folder.parent / "home"
    home.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.exporters.by_hand", exporter, str(folder)],
        cwd=ROOT,
        env={**own, "HOME": str(home), "NETRC": str(home / "none"), **(environment or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def said_after(process: subprocess.Popen[str], calls: Sequence[Sequence[Any]]) -> str:
    """What `process` has printed when it has made `calls`."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(written([*calls, SAY]))
    process.stdin.flush()
    said = ""
    for line in process.stdout:
        if line == DONE:
            return said
        said += line
    raise AssertionError(said)


def drive(
    exporter: str, folder: Path, calls: Sequence[Sequence[Any]], environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Make `calls`: the exit code of the process, and what it has printed."""
    with begun(exporter, folder, environment) as process:
        said, _ = process.communicate(written(calls), timeout=100)
    return process.returncode, said


def driven(exporter: str, folder: Path, calls: Sequence[Sequence[Any]], environment: Mapping[str, str] | None = None) -> str:
    """Like `drive`, for calls that must work; what the process printed."""
    exit_code, said = drive(exporter, folder, calls, environment)
    died = any(call[0] == "die" for call in calls)
    assert exit_code == (-signal.SIGKILL if died else 0), said
    return said


def files_with(text: str, folder: Path) -> list[Path]:
    """Files below `folder` that hold `text`."""
    return [path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def _argument(name: str, value: Any) -> list[Any]:
    if name == "open":
        return [RunFacts(**{**value, "run": from_json(value["run"])})]
    if name == "metrics":
        return [[Row(**row) for row in value]]
    if name in ("event", "close"):
        return [from_json(value) if value is not None else None]
    return []


def main() -> None:
    """Make the calls that stand on standard input."""
    if missing := os.environ.get(WITHOUT):
        sys.modules[missing] = None  # type: ignore[assignment]  # as if it were not installed
    module, _, name = sys.argv[1].partition(":")
    folder = Path(sys.argv[2])
    notes = folder.parent / "kept.json"
    kept: dict[str, str] = json.loads(notes.read_text()) if notes.exists() else {}

    def keep(key: str, value: str) -> None:
        kept[key] = value
        notes.write_text(json.dumps(kept))

    target = ExportTarget(name="little", directory=folder, project="plt-tui", kept=dict(kept), keep=keep)
    exporter = getattr(importlib.import_module(module), name)(target)
    for line in sys.stdin:
        call, value = json.loads(line)
        if call == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if call == "say":
            print(DONE, end="", flush=True)
            continue
        getattr(exporter, call)(*_argument(call, value))


if __name__ == "__main__":
    main()
