"""The UI under a real pseudo-terminal: train, pause, edit, sample, detach, attach, stop."""

from pathlib import Path

from tests.end_to_end.runs import UNHURRIED, command, options, show, wait_until
from tests.end_to_end.terminal import LEAVE_ALTERNATE_SCREEN, Terminal

DOWN = "\x1b[B"
ENDLESS = [*options("train.steps=100000", "optim.warmup=0", "optim.schedule=constant"), *UNHURRIED]


def test_a_session_by_keys(tmp_path: Path) -> None:
    """Every key answers with the step at which it is in force; detach leaves the run training; attach finds it; q stops it."""
    with Terminal(tmp_path, "run", "--name", "keys", *ENDLESS) as terminal:
        terminal.wait_for("training", "keys", "loss", "rank")
        terminal.press("p")
        terminal.wait_for("paused at step")
        terminal.press("l")
        terminal.wait_for("learning rate", "now 0.003")
        terminal.press("x0.5", "\r")
        terminal.wait_for("0.0015", "in force at step")
        terminal.press("g")
        terminal.wait_for("sample", "step")
        terminal.press("u")
        terminal.wait_for("in force at step")
        terminal.press("p")
        terminal.wait_for("training")
        terminal.press("d")
        assert terminal.wait_for_exit() == 0
        assert "plt-tui attach keys" in terminal.text
        assert LEAVE_ALTERNATE_SCREEN in terminal.output
    left_at = show(tmp_path, "keys")["step"]
    wait_until(lambda: show(tmp_path, "keys")["step"] > left_at)
    with Terminal(tmp_path, "attach", "keys", columns=80, rows=24) as terminal:
        terminal.wait_for("training")
        terminal.press("q")
        terminal.wait_for("Detach", "Save and stop", "Stop now")
        terminal.press(DOWN, "\r")
        assert terminal.wait_for_exit() == 0
        assert "stopped" in terminal.text
    shown = show(tmp_path, "keys")
    assert shown["state"] == "stopped"
    assert shown["last_checkpoint"] == f"checkpoints/step-{shown['step']:08d}"


def test_a_finished_run_opens_read_only(tmp_path: Path) -> None:
    """`attach` on a run that has ended shows its end and leaves with its exit code."""
    command(tmp_path, "run", "--no-ui", "--name", "done", *options("train.steps=5", "parallel.ranks=1"))
    with Terminal(tmp_path, "attach", "done") as terminal:
        terminal.wait_for("finished", "done")
        terminal.press("p")
        terminal.press("q")
        assert terminal.wait_for_exit() == 0


def test_a_tiny_terminal_gets_a_sentence(tmp_path: Path) -> None:
    """Below the smallest layout there is one sentence and no traceback."""
    command(tmp_path, "run", "--no-ui", "--name", "small", *options("train.steps=3", "parallel.ranks=1"))
    with Terminal(tmp_path, "attach", "small", columns=40, rows=8) as terminal:
        terminal.wait_for("too small")
        terminal.press("q")
        terminal.wait_for_exit()
        assert b"Traceback" not in terminal.output
