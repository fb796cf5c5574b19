"""Settings, the command line and the layout in a real pseudo-terminal, on a real run, over two sessions."""

from pathlib import Path

from tests.end_to_end.runs import UNHURRIED, options, show
from tests.end_to_end.terminal import Terminal

UP = "\x1b[A"
SETTINGS = """\
[ui]
theme = "nord"
[keys]
pause = "f2"
puase = "x"
"""


def mouse(kind: int, column: int, row: int, *, up: bool = False) -> str:
    """A report of the mouse (SGR), cells counted from 0."""
    return f"\x1b[<{kind};{column + 1};{row + 1}{'m' if up else 'M'}"


def side(terminal: Terminal) -> int:
    """The first column of what stands beside the chart."""
    return next((line.index("╭─ trends") for line in terminal.text.splitlines() if "╭─ trends" in line), -1)


def test_a_person_is_known_in_the_next_session(tmp_path: Path, own_home: Path) -> None:
    """The wrong line of the settings is told; commands are typed, completed and sent; what was moved and typed comes back."""
    settings = own_home / "config" / "plt-tui" / "settings.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text(SETTINGS)
    endless = options("train.steps=100000", "optim.warmup=0", "optim.schedule=constant", "parallel.ranks=1")
    with Terminal(tmp_path, "run", "--name", "mine", *endless, *UNHURRIED, columns=140, rows=40) as terminal:
        terminal.wait_for("settings.toml:5: keys.puase: there is no", "f2 pause", "rank")
        terminal.press(":", "set gr\t")
        terminal.wait_for(":set grad_clip", "set grad_clip VALUE  ·  now 1.0")
        terminal.press("-1")
        terminal.wait_for("✖ grad_clip: -1 is outside 0 to 1e+06")
        terminal.press("\x7f\x7f0.5")
        terminal.wait_for("grad_clip 1 → 0.5 from step")
        terminal.press("\r")
        terminal.wait_for("grad clip", "→ 0.5 in force at step")
        terminal.press(":", "pause\r")
        terminal.wait_for("paused at step")
        edge = side(terminal)
        terminal.press(mouse(0, edge, 8), mouse(32, edge - 10, 8), mouse(32, edge - 20, 9), mouse(0, edge - 20, 9, up=True))
        terminal.wait_until(lambda: side(terminal) == edge - 20)
        terminal.press("3")
        terminal.wait_until_gone("logs")
        terminal.press(":", "detach\r")
        assert terminal.wait_for_exit() == 0
    with Terminal(tmp_path, "attach", "mine", columns=140, rows=40) as terminal:
        terminal.wait_for("paused", "trends", "samples")
        assert side(terminal) == edge - 20
        assert "╭─ logs" not in terminal.text
        terminal.press(":", UP)
        terminal.wait_for(":detach")
        terminal.press(UP, UP)
        terminal.wait_for(":set grad_clip 0.5")
        terminal.press("\x15", "stop\r")
        terminal.wait_for("stopped at step")
        terminal.press(":", "q\r")
        assert terminal.wait_for_exit() == 0
    assert show(tmp_path, "mine")["state"] == "stopped"
    assert (own_home / "state" / "plt-tui" / "history").read_text().splitlines()[-2:] == ["stop", "q"]
