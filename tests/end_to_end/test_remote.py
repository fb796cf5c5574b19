"""`attach ssh://` under a real pseudo-terminal, over an ssh that is a fake, on a real run in another home.

All tests but the last share a run. Whatever was done to its views and their links, it has never restarted, and nothing is left
of them on the far side.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from plt_tui.control.folder import RunFolder
from tests import fake_ssh
from tests.end_to_end.endless import ENDLESS, endless, trains_on
from tests.end_to_end.invariants import assert_sound
from tests.end_to_end.runs import UNHURRIED, command, options, processes_of, show, wait_until
from tests.end_to_end.terminal import LEAVE_ALTERNATE_SCREEN, TAKES_KEYS, Terminal

NAME = "far"
TARGET = f"ssh://ana@gpu1:2222/{NAME}"
THERE = f"{sys.executable} -m plt_tui"
DOWN = "\x1b[B"
ENTER_ALTERNATE_SCREEN = b"\x1b[?1049h"
"""The last of what a view writes to a terminal that it has taken (bracketed paste)."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The other machine's home, with a live run; at the end it is told to stop, and what it leaves is looked at."""
    with endless(tmp_path_factory.mktemp("home"), NAME, "parallel.ranks=1") as run:
        yield run.path.parents[1]


@pytest.fixture
def near(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder of this machine, from which ssh leads to the other one; in the end nothing is left there but the run."""
    fake_ssh.install(monkeypatch, tmp_path, home)
    yield tmp_path
    wait_until(lambda: not proxies(home))


def proxies(home: Path) -> list[list[str]]:
    """The command lines of what passes on runs there."""
    found = []
    for process in processes_of(home):
        with suppress(psutil.Error):
            found.append(process.cmdline())
    return [words for words in found if "--stdio" in words]


@contextmanager
def attached(near: Path, home: Path, *words: str) -> Iterator[Terminal]:
    """A view of the run that shows it training."""
    with Terminal(near, "attach", TARGET, "--remote-command", THERE, *words) as terminal:
        terminal.wait_for("training", "loss", f"gpu1:{NAME}")
        assert proxies(home)
        yield terminal


def ssh_of(terminal: Terminal) -> psutil.Process:
    """The ssh of a view."""
    found = [each for each in psutil.Process(terminal.process.pid).children() if "fake_ssh" in " ".join(each.cmdline())]
    assert len(found) == 1
    return found[0]


def test_a_session_over_ssh(near: Path, home: Path) -> None:
    """Keys answer with the step at which they are in force; files are said to be there; detach leaves the run training."""
    with attached(near, home) as terminal:
        assert fake_ssh.calls(near / "ssh-calls")[0][-7:-1] == ["-p", "2222", "-l", "ana", "--", "gpu1"]
        terminal.press("p")
        terminal.wait_for("paused at step")
        assert show(home, NAME)["state"] == "paused"
        terminal.press("b")
        terminal.wait_for("texts of a step", "files on gpu1", "ssh -t -p 2222 ana@gpu1")
        terminal.press("\x1b")
        terminal.wait_until_gone("texts of a step")
        terminal.press("i")
        terminal.wait_for("so far", f"plt-tui attach {TARGET}", "ssh -t -p 2222 ana@gpu1 ")
        terminal.press("\x1b")
        terminal.wait_until_gone("so far")
        terminal.press("E")
        terminal.wait_for("exports/steps.csv")
        assert (near / "exports" / "steps.csv").is_file()
        terminal.press("p")
        terminal.wait_for("training")
        terminal.press("d")
        assert terminal.wait_for_exit() == 0
        assert terminal.is_restored
        assert f"plt-tui attach {TARGET} --remote-command" in " ".join(terminal.text.split())
    assert "tui " in (home / "runs" / NAME / "journal.jsonl").read_text()
    trains_on(RunFolder(home / "runs" / NAME))


def test_a_link_that_is_cut(near: Path, home: Path) -> None:
    """The view says that the link is lost, not that the run has ended; left by a key it says so again."""
    with attached(near, home) as terminal:
        ssh_of(terminal).kill()
        terminal.wait_for("the link to gpu1 is lost", "whether the run goes on is known there")
        terminal.wait_for("not connected")
        terminal.press("p")
        terminal.wait_for("not connected to the run")
        terminal.press("q")
        assert terminal.wait_for_exit() == 1
        assert terminal.is_restored
        assert LEAVE_ALTERNATE_SCREEN in terminal.output
        assert "the link to gpu1 is lost" in terminal.text
        assert "goes on; see it again" not in terminal.text
    trains_on(RunFolder(home / "runs" / NAME))


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_view_that_is_ended_takes_its_ssh_along(near: Path, home: Path, number: signal.Signals, exit_code: int) -> None:
    """And with it what was on the far side; the run trains on."""
    with attached(near, home) as terminal:
        ssh = ssh_of(terminal)
        terminal.process.send_signal(number)
        assert terminal.wait_for_exit() == exit_code
        wait_until(lambda: not ssh.is_running())
        if number is not signal.SIGKILL:
            assert terminal.is_restored
    trains_on(RunFolder(home / "runs" / NAME))


def test_a_view_whose_terminal_is_closed(near: Path, home: Path) -> None:
    """The view and its ssh end by the hang-up."""
    with attached(near, home) as terminal:
        ssh = ssh_of(terminal)
        terminal.hang_up()
        assert terminal.process.wait(20) == 129
        wait_until(lambda: not ssh.is_running())


def test_a_view_that_is_stopped_for_a_while(near: Path, home: Path) -> None:
    """The run trains on, and the view catches up."""
    run = RunFolder(home / "runs" / NAME)
    with attached(near, home) as terminal:
        os.kill(terminal.process.pid, signal.SIGSTOP)
        trains_on(run)
        os.kill(terminal.process.pid, signal.SIGCONT)
        terminal.wait_until(lambda: terminal.output.count(TAKES_KEYS) == 2)  # those that come before are lost
        terminal.press("n")
        terminal.wait_for("kept in the journal")
        terminal.press("over ssh")
        terminal.wait_for("over ssh")
        terminal.press("\r")
        wait_until(lambda: "over ssh" in run.journal.read_text())
        terminal.press("d")
        assert terminal.wait_for_exit() == 0


def test_watching_only(near: Path, home: Path) -> None:
    """The far side is told so too, and the key for a pause is refused."""
    with attached(near, home, "--readonly") as terminal:
        assert "--readonly" in proxies(home)[0]
        terminal.press("p")
        terminal.wait_for("opened read-only")
        terminal.press("q")
        assert terminal.wait_for_exit() == 0
    assert show(home, NAME)["state"] == "running"


@pytest.mark.parametrize(("how", "exit_code"), [("\x03", 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_log_in_that_is_broken_off(
    near: Path, home: Path, monkeypatch: pytest.MonkeyPatch, how: str | signal.Signals, exit_code: int
) -> None:
    """Ctrl-C or a signal while ssh waits for the other machine: neither is left behind."""
    monkeypatch.setenv("FAKE_SSH_DELAY_S", "60")
    with Terminal(near, "attach", TARGET) as terminal:
        terminal.wait_until(lambda: fake_ssh.calls(near / "ssh-calls"))
        ssh = ssh_of(terminal)
        if isinstance(how, str):
            terminal.press(how)
        else:
            terminal.process.send_signal(how)
        assert terminal.wait_for_exit() == exit_code
        wait_until(lambda: not ssh.is_running())
        assert "Traceback" not in terminal.text
    assert proxies(home) == []


def test_noise_is_told_and_the_run_is_shown(near: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the login shell prints is on the terminal when the view is left."""
    monkeypatch.setenv("FAKE_SSH_NOISE", "Welcome to gpu1!\n")
    with attached(near, home) as terminal:
        terminal.press("d")
        assert terminal.wait_for_exit() == 0
        told = "skipped what gpu1 printed before plt-tui began: “Welcome to gpu1!”"
        assert told.encode() in terminal.output.split(ENTER_ALTERNATE_SCREEN)[0]


@pytest.mark.parametrize(
    ("words", "exit_code", "said"),
    [
        (
            ["ssh://gpu1/nowhere", "--remote-command", THERE],
            2,
            "plt-tui: on gpu1: no run 'nowhere' under runs; runs there: far",
        ),
        (["ssh://gpu1/far", "--remote-command", "no-plt-tui"], 2, "plt-tui: gpu1 knows no command 'no-plt-tui'"),
        (["ssh://gpu1/far", "--dir", "else", "--remote-command", THERE], 2, "no run 'far' under else"),
        (["ssh://-oProxyCommand=touch%20hacked/far"], 2, "no address such as"),
        (["ssh://gpu1/-far"], 2, "is no run"),
    ],
)
def test_what_does_not_lead_to_a_run(near: Path, home: Path, words: list[str], exit_code: int, said: str) -> None:
    """One sentence, the exit code of the same mistake at home, and no view."""
    printed = command(near, "attach", *words, exit_code=exit_code)
    assert said in printed
    assert "Traceback" not in printed
    assert list(near.glob("**/hacked")) == list(home.glob("hacked")) == []


def test_the_settings_say_where_plt_tui_is(near: Path, home: Path, own_home: Path) -> None:
    """By machine; an option wins."""
    settings = own_home / "config" / "plt-tui" / "settings.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text('[remote]\ngpu1 = "of-gpu1"\n"*" = "of-others"\n')
    for host, there in (("gpu1", "of-gpu1"), ("gpu2", "of-others")):
        printed = command(near, "attach", f"ssh://{host}/far", exit_code=2)
        assert f"{host} knows no command {there!r}" in printed
    assert "'by-option'" in command(near, "attach", "ssh://gpu1/far", "--remote-command", "by-option", exit_code=2)


def test_a_run_from_its_life_to_its_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its hub is killed under a view: the crash comes over; then it is stopped by a key; then it is shown as it ended."""
    near, home, name = tmp_path / "near", tmp_path / "home", "brief"
    near.mkdir()
    fake_ssh.install(monkeypatch, near, home)
    run = RunFolder(home / "runs" / name)
    words = ["attach", f"ssh://gpu1/runs/{name}", "--remote-command", THERE]
    begin = ["run", "--detach", "--name", name, *options(*ENDLESS, "parallel.ranks=1"), *UNHURRIED]
    command(home, *begin)
    with Terminal(near, *words) as terminal:
        terminal.wait_for("training", "loss")
        info = run.read_info()
        assert info is not None
        os.kill(info.pid, signal.SIGKILL)
        terminal.wait_for("its hub is gone without a word")
        assert "the link to gpu1 is lost" not in terminal.text
        terminal.press("q")
        assert terminal.wait_for_exit() == 1
    command(home, *begin)
    with Terminal(near, *words) as terminal:
        terminal.wait_for("training", "loss")
        terminal.press("q")
        terminal.wait_for("Detach", "Save and stop")
        terminal.press(DOWN, "\r")
        assert terminal.wait_for_exit() == 0
        assert f"{name}: stopped at step" in terminal.text
    wait_until(lambda: not run.is_live())
    with Terminal(near, *words) as terminal:
        terminal.wait_for("stopped", "loss")
        terminal.press("p")
        terminal.wait_for("nothing to steer")
        terminal.press("q")
        assert terminal.wait_for_exit() == 0
    wait_until(lambda: not proxies(home))
    assert_sound(home, name, None, exit_code=143)
