"""The form for a new run under a real pseudo-terminal: `plt-tui` in an empty folder leads to a trained model by keys alone."""

from pathlib import Path

import tomli

from tests.end_to_end.runs import CORPUS, show
from tests.end_to_end.terminal import Terminal

UP, DOWN, CTRL_R, CTRL_S, CTRL_U = "\x1b[A", "\x1b[B", "\x12", "\x13", "\x15"


def test_a_first_run_from_the_form(tmp_path: Path) -> None:
    """What is typed is told, saved, trained, and shown; nothing that was not typed is in the file."""
    with Terminal(tmp_path, columns=80, rows=24) as terminal:
        terminal.wait_for("new run", "run.name", "no mistakes found")
        terminal.press("formed", DOWN, "no.txt", DOWN, DOWN, "1", DOWN, "16", DOWN, "20")
        terminal.wait_for("no such file", "--set train.steps=20")
        terminal.press(UP * 4, CTRL_U)
        terminal.wait_until_gone("no.txt")
        terminal.press(str(CORPUS))
        terminal.wait_for("no mistakes found · 5 changed", "1 layers, width 16")
        terminal.press(CTRL_S)
        terminal.wait_for("formed.toml")
        terminal.press("\r")
        terminal.wait_for("saved formed.toml")
        terminal.press(CTRL_R)
        terminal.wait_for("formed", "finished", "20")
        terminal.press("q")
        terminal.wait_for("formed", "runs", "finished")
        terminal.press("q")
        assert terminal.wait_for_exit() == 0
        assert terminal.is_restored
        assert b"Traceback" not in terminal.output
    assert tomli.loads((tmp_path / "formed.toml").read_text()) == {
        "run": {"name": "formed"},
        "data": {"train": str(CORPUS)},
        "model": {"layers": 1, "width": 16},
        "train": {"steps": 20},
    }
    shown = show(tmp_path, "formed")
    assert (shown["state"], shown["step"]) == ("finished", 20)
