"""The cockpit under a real pseudo-terminal: all runs, one of them, a comparison, and the way back."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from plt_tui.config.load import to_toml
from plt_tui.config.schema import RunConfig
from plt_tui.control.folder import RunFolder
from plt_tui.control.record import Recorder
from plt_tui.protocol.events import End, Phase, Run, Step
from tests.end_to_end.runs import DEADLINE_S, UNHURRIED, command, options, show, wait_until
from tests.end_to_end.terminal import Terminal

ENDLESS = options("train.steps=100000", "optim.warmup=0", "optim.schedule=constant", "parallel.ranks=1")


def finished_run(folder: Path, name: str, lr: float) -> None:
    """The record of a run of 20 steps, without the training."""
    base = RunConfig()
    run = RunFolder(folder / "runs" / name)
    run.create(to_toml(base.model_copy(update={"optim": base.optim.model_copy(update={"lr": lr})})))
    with closing(Recorder(run, 0, lambda problem: None)) as recorder:
        recorder.record(Phase(phase="starting", time=1e9))
        recorder.record(Run(time=1e9, name=name, dir="/a", world_size=2, params=10, target_step=20))
        for number in range(1, 21):
            loss = 5.0 - number / 10 - (lr if number > 10 else 0.0)
            recorder.record(
                Step(
                    time=1e9 + number,
                    step=number,
                    loss=loss,
                    lr=lr,
                    grad_norm=1.0,
                    tokens=number,
                    tokens_per_s=50.0,
                    step_ms=1.0,
                )
            )
        recorder.record(End(time=1e9 + 21, phase="finished", step=20, exit_code=0))


def test_a_session_among_runs(tmp_path: Path) -> None:
    """Live and finished runs are listed; one is opened and steered, two are compared, and the live one outlives the view."""
    finished_run(tmp_path, "done", 0.25)
    command(tmp_path, "run", "--detach", "--name", "live", *ENDLESS, *UNHURRIED)
    with Terminal(tmp_path) as terminal:
        terminal.wait_for("all runs in runs", "2 runs, 1 live", "training", "finished", "20/20 100%", deadline_s=DEADLINE_S)
        terminal.press("\r")
        terminal.wait_for("training", "logs", "rewind")
        terminal.press("p")
        terminal.wait_for("paused at step")
        terminal.press("q")
        terminal.wait_for("Detach")
        terminal.press("\r")
        terminal.wait_for("all runs in runs", "paused")
        terminal.press(" ", " ", "c")
        terminal.wait_for("compare  live · done", "loss", "side by side", deadline_s=DEADLINE_S)
        terminal.press("q")
        terminal.wait_for("2 marked")
        terminal.press("q")
        assert terminal.wait_for_exit() == 0
        assert b"Traceback" not in terminal.output
    command(tmp_path, "ctl", "live", "stop")
    wait_until(lambda: show(tmp_path, "live")["state"] == "stopped")


def test_compare_opens_on_a_terminal(tmp_path: Path) -> None:
    """`plt-tui compare` draws where it can be drawn, also when keys come faster than frames, and q leaves."""
    finished_run(tmp_path, "one", 0.25)
    finished_run(tmp_path, "two", 0.5)
    with Terminal(tmp_path, "compare", "one", "two", columns=80, rows=24) as terminal:
        terminal.wait_for("compare  one · two", "side by side")
        terminal.press("\t", "z")
        terminal.wait_for("loss differs at", "step 11", "optim.lr", "0.25")
        terminal.press("q")
        assert terminal.wait_for_exit() == 0
