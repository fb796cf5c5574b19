"""The UI where most people meet it: in tmux, whose server goes while the run stays."""

import contextlib
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from plt_tui.control.folder import RunFolder
from tests.end_to_end.runs import PLT_TUI, UNHURRIED, command, environment, options, show, wait_until

ENDLESS = [*options("train.steps=100000", "optim.warmup=0", "optim.schedule=constant", "parallel.ranks=1"), *UNHURRIED]
DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Tmux:
    """A tmux server of its own with one session, in which a shell waits."""

    socket: Path
    folder: Path

    def __call__(self, *words: str) -> str:
        """What the tmux command `words` prints."""
        whole = ["tmux", "-S", str(self.socket), "-f", "/dev/null", *words]
        variables = {**environment(), "TERM": "xterm-256color"}
        done = subprocess.run(whole, cwd=self.folder, env=variables, capture_output=True, text=True, timeout=30, check=True)
        return done.stdout

    def type(self, *words: str) -> None:
        """Give the shell a command of plt-tui."""
        self("send-keys", "-l", shlex.join([*PLT_TUI, *words]))
        self("send-keys", "Enter")

    def press(self, *keys: str) -> None:
        """Press keys, by tmux's names."""
        self("send-keys", *keys)

    def wait_for(self, *wanted: str) -> str:
        """The screen, once every one of `wanted` is on it."""
        wait_until(lambda: all(text in self("capture-pane", "-p") for text in wanted), DEADLINE_S)
        return self("capture-pane", "-p")


@pytest.fixture
def tmux(tmp_path: Path, own_folders: Path) -> Iterator[Tmux]:
    """A server that is gone afterwards."""
    if shutil.which("tmux") is None:
        pytest.fail("the tests of the UI want tmux: apt-get install tmux")
    server = Tmux(own_folders / "tmux", tmp_path)
    server("new-session", "-d", "-x", "120", "-y", "40", "env PS1='ready$ ' sh -i")
    try:
        server.wait_for("ready$")
        yield server
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            server("kill-server")


def test_a_session_in_tmux(tmux: Tmux, tmp_path: Path) -> None:
    """Run, pause, edit, detach, attach, leave; the shell's screen is as it was, and the run survives the whole tmux server."""
    tmux.type("run", "--name", "inside", *ENDLESS)
    tmux.wait_for("training", "inside", "loss", "rank")
    tmux.press("p")
    tmux.wait_for("paused at step")
    tmux.press("l")
    tmux.wait_for("learning rate", "now 0.003")
    tmux.press("x", "0", ".", "5", "Enter")
    tmux.wait_for("0.0015", "in force at step")
    tmux.press("p")
    tmux.wait_for("training")
    tmux.press("d")
    shown = tmux.wait_for("plt-tui attach inside")
    assert "ready$" in shown
    assert "learning rate" not in shown  # the shell's own screen is back
    tmux.type("attach", "inside")
    tmux.wait_for("training")
    tmux.press("q")
    tmux.wait_for("Detach", "Save and stop")
    tmux.press("Enter")
    tmux.wait_for("plt-tui attach inside", "ready$")
    tmux.type("attach", "inside")
    tmux.wait_for("training")
    tmux("kill-server")
    left_at = show(tmp_path, "inside")["step"]
    wait_until(lambda: show(tmp_path, "inside")["step"] > left_at)
    command(tmp_path, "ctl", "inside", "stop", "--now")
    wait_until(lambda: not RunFolder(tmp_path / "runs" / "inside").is_live())
