"""A view of a real run whose hub is killed: it says so at once and how to go on; and the texts of a step, while it trains."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from plt_tui.control.folder import RunFolder
from tests.end_to_end.runs import UNHURRIED, command, options, wait_until
from tests.end_to_end.terminal import Terminal

SAID_S = 3.0
"""How soon after its hub's death a view must not call the run alive any more; in time in which it has a core."""
ENDLESS = options("train.steps=1000000", "optim.warmup=0", "eval.every=0", "sample.every=0", "checkpoint.every=20")
RESUME = "plt-tui run --resume auto --name shot"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[RunFolder]:
    """A run in the background that has saved a checkpoint."""
    command(tmp_path, "run", "--detach", "--name", "shot", *ENDLESS, *UNHURRIED)
    folder = RunFolder(tmp_path / "runs" / "shot")
    try:
        wait_until(lambda: any(folder.checkpoints.glob("*/manifest.json")))
        yield folder
    finally:
        if folder.is_live():
            command(tmp_path, "ctl", "shot", "stop", "--now")


def run_delay_s(pid: int) -> float:
    """How long the threads of a process have waited for a core so far (proc_pid_schedstat, Documentation/scheduler)."""
    return sum(int(task.read_text().split()[1]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def test_a_hub_that_is_killed_under_a_view(tmp_path: Path, run: RunFolder) -> None:
    """The screen says failed within 3 s and names the command; keys are refused with it, `i` tells all, and q leaves with 1."""
    with Terminal(tmp_path, "attach", "shot", columns=80, rows=24) as terminal:
        terminal.wait_for("training", "tokens  ·")
        terminal.press("b")
        terminal.wait_for("texts of a step", "8 sequences, 264 tokens, 2 ranks", "rank 0 · micro-step 0 · sample")
        terminal.press("b")
        terminal.wait_until_gone("texts of a step")
        info = run.read_info()
        assert info is not None
        began, waited_s = time.monotonic(), run_delay_s(terminal.process.pid) + run_delay_s(os.getpid())
        os.kill(info.pid, signal.SIGKILL)
        terminal.wait_for("✖ failed", "its hub is gone", RESUME)
        assert time.monotonic() - began < SAID_S + run_delay_s(terminal.process.pid) + run_delay_s(os.getpid()) - waited_s
        assert "training" not in terminal.text.splitlines()[0]
        terminal.press("p")
        terminal.wait_for("pause: the run has failed: nothing to steer")
        terminal.press("i")
        terminal.wait_for(
            "outcome", "failed at step", "its hub is gone", "what to do next", "plt-tui logs shot", "go on at step"
        )
        terminal.press("i", "q")
        assert terminal.wait_for_exit() == 1
        assert "shot: failed at step" in terminal.text
    with Terminal(tmp_path, "attach", "shot", columns=80, rows=24) as terminal:
        terminal.wait_for("✖ failed", "its hub is gone", RESUME, "tokens  ·")
        terminal.press("b")
        terminal.wait_for("8 sequences, 264 tokens, 2 ranks")
        terminal.press("b", "q")
        assert terminal.wait_for_exit() == 1
