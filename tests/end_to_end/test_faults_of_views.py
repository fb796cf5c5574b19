"""Views that are killed, hung up, stopped or stuck beside a real run of two ranks, and a hub that is stopped: training goes on.

All tests but the headless ones share a run. Whatever was done to its views, at the end it has never restarted, and leaves what
every run has to.
"""

import asyncio
import fcntl
import json
import os
import pty
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from plt_tui.control.folder import RunFolder
from plt_tui.control.state import RunState, apply
from plt_tui.protocol.commands import Command, new_command
from plt_tui.protocol.events import CommandStatus
from plt_tui.views.client import HubClient
from tests.end_to_end.endless import ENDLESS, endless, steps_of, trains_on
from tests.end_to_end.invariants import assert_sound
from tests.end_to_end.runs import DEADLINE_S, PLT_TUI, UNHURRIED, command, environment, options, show, wait_until
from tests.end_to_end.terminal import LEAVE_ALTERNATE_SCREEN, TAKES_KEYS, Terminal

NAME = "watched"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFolder]:
    """A run in the background; at the end it is told to stop, and what it leaves is looked at."""
    with endless(tmp_path_factory.mktemp("views"), NAME) as folder:
        yield folder


def place_of(run: RunFolder) -> Path:
    """Where `plt-tui` finds the run by its name."""
    return run.path.parents[1]


@contextmanager
def attached(run: RunFolder, *, ignoring_hangup: bool = False) -> Iterator[Terminal]:
    """A view of the run that shows it training."""
    with Terminal(place_of(run), "attach", NAME, ignoring_hangup=ignoring_hangup) as terminal:
        terminal.wait_for("training", "loss")
        yield terminal


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that gets no time until the end."""
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_view_that_is_ended_by_a_signal(run: RunFolder, number: signal.Signals, exit_code: int) -> None:
    """The run trains on; the terminal is as it was before, where the view could still see to it."""
    with attached(run) as terminal:
        assert not terminal.is_restored
        terminal.process.send_signal(number)
        assert terminal.wait_for_exit() == exit_code
        if number is not signal.SIGKILL:
            assert terminal.is_restored
            assert LEAVE_ALTERNATE_SCREEN in terminal.output
        trains_on(run)


def test_a_view_whose_terminal_is_closed(run: RunFolder) -> None:
    """It ends by itself, without spinning until then, although its parent had ignored SIGHUP; the run trains on."""
    with attached(run, ignoring_hangup=True) as terminal:
        view = psutil.Process(terminal.process.pid)
        began_s, before_s = time.monotonic(), sum(view.cpu_times()[:2])
        spent_s = before_s
        terminal.hang_up()
        while terminal.process.poll() is None:
            assert time.monotonic() - began_s < DEADLINE_S, "the view outlived its terminal"
            with suppress(psutil.NoSuchProcess):
                spent_s = sum(view.cpu_times()[:2])
            time.sleep(0.01)
        assert terminal.process.returncode == 129
        assert spent_s - before_s < 1.0  # seconds: to leave in good order takes some
        trains_on(run)


def test_a_view_that_is_stopped_for_a_while(run: RunFolder) -> None:
    """The run trains on; the view goes on with it, and gives the terminal back as it was when it is left."""
    with attached(run) as terminal:
        before = terminal.output.count(TAKES_KEYS)
        with stopped(terminal.process.pid):
            trains_on(run)
        terminal.wait_until(lambda: terminal.output.count(TAKES_KEYS) > before)  # keys typed before are thrown away
        terminal.press("?")
        terminal.wait_for("steer the run")
        terminal.press("\x1b")
        terminal.wait_until_gone("steer the run")
        terminal.press("d")
        assert terminal.wait_for_exit() == 0
        assert terminal.is_restored


def test_a_view_whose_terminal_does_not_read(run: RunFolder) -> None:
    """The view waits, the run does not; a signal ends the view."""
    with attached(run) as terminal:
        terminal.stop_reading()
        trains_on(run)
        terminal.process.terminate()
        assert terminal.process.wait(DEADLINE_S) == 143
        assert terminal.is_restored


def test_a_hub_that_does_not_answer_is_told_and_found_again(run: RunFolder) -> None:
    """A view of a stopped hub says so and hears keys; `ctl` gives up with a sentence; once the hub goes on, so do both."""
    info = run.read_info()
    assert info is not None
    with attached(run) as terminal:
        with stopped(info.pid):
            printed = command(place_of(run), "ctl", NAME, "note", "one", "--timeout", "0.5", exit_code=1)
            assert "no answer to note within 0.5 s; it may still take effect" in printed
            terminal.wait_for("the hub has not answered for")
            terminal.press("?")
            terminal.wait_for("steer the run")
            terminal.press("\x1b")
            terminal.wait_until_gone("steer the run")
        terminal.wait_until_gone("the hub has not answered")
        terminal.wait_for("training", "one")
        terminal.press("d")
        assert terminal.wait_for_exit() == 0
    trains_on(run)


def test_a_command_whose_sender_is_killed_takes_effect_once(run: RunFolder) -> None:
    """`ctl` that dies right after it has asked: the journal has one answer, and the run trains on."""
    words = [*PLT_TUI, "ctl", NAME, "checkpoint", "orphaned"]
    with subprocess.Popen(words, cwd=place_of(run), env=environment()) as sender:
        wait_until(lambda: told_of_saving(run, "orphaned"))
        sender.kill()
    wait_until(lambda: told_of_saving(run, "orphaned")[-1] == "applied")
    trains_on(run)
    assert told_of_saving(run, "orphaned") == ["requested", "agreed", "applied"]


def told_of_saving(run: RunFolder, name: str) -> list[str]:
    """What the journal says of the command to save a checkpoint under this name."""
    written = run.journal.read_text()
    said = [json.loads(line) for line in written[: written.rfind("\n") + 1].splitlines()]
    return [line["status"] for line in said if line["kind"] == "command" and line["args"].get("name") == name]


class Follower:
    """A client of the hub and the state that it has folded, as a view does."""

    def __init__(self, client: HubClient) -> None:
        self.client = client
        self.state = RunState()
        self._following = asyncio.ensure_future(self._follow())

    async def _follow(self) -> None:
        async for event in self.client.events():
            self.state = apply(self.state, event)

    async def ask(self, wanted: Command) -> CommandStatus:
        """Send a command, and wait for its last word."""
        await self.client.send(wanted)
        return await self.fate(wanted)

    async def fate(self, wanted: Command) -> CommandStatus:
        """The last word on a command, as this client hears it."""
        give_up_at = time.monotonic() + 30.0
        while True:
            known = [status for status in self.state.commands if status.id == wanted.id]
            if known and known[0].status in ("applied", "refused"):
                return known[0]
            assert time.monotonic() < give_up_at, f"{wanted} was never answered"
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        """Leave."""
        await self.client.close()
        await self._following


def test_two_clients_that_quarrel_see_the_same_run(run: RunFolder) -> None:
    """An id counts once, whoever repeats it; a rate outside its limits is refused; and both end with the same state."""
    info = run.read_info()
    assert info is not None
    socket = Path(info.socket)

    async def quarrel() -> None:
        ana, ben = [Follower(await HubClient.connect(socket, actor=actor)) for actor in ("ana", "ben")]
        try:
            wanted = new_command("set", {"name": "lr", "value": 0.002})
            first = await ana.ask(wanted)
            assert (await ben.ask(wanted)).actor == first.actor == "ana"
            storm = [(who, new_command("set", {"name": "lr", "value": n * 1e-4})) for n in range(1, 11) for who in (ana, ben)]
            await asyncio.gather(*(who.client.send(one) for who, one in storm))
            told = [(await ana.fate(one), await ben.fate(one)) for _, one in storm]
            assert all(mine == yours and mine.status == "applied" for mine, yours in told)
            assert ana.state.edits == ben.state.edits
            assert [edit.id for edit in ana.state.edits].count(wanted.id) == 1
            for value in (-1.0, 11.0, 1e300, "fast", True):
                refused = await ana.ask(new_command("set", {"name": "lr", "value": value}))
                assert (refused.status, refused.actor) == ("refused", "ana"), value
            assert ana.state.edits == ben.state.edits
        finally:
            await ana.close()
            await ben.close()

    asyncio.run(quarrel())
    trains_on(run)


@contextmanager
def headless(folder: Path, name: str, stdout: int, *words: str, closed: bool = False) -> Iterator[RunFolder]:
    """A headless run of one rank that has begun to train; it must then end by SIGTERM, with its last state saved."""

    def begin() -> None:
        if os.isatty(1):
            fcntl.ioctl(1, termios.TIOCSCTTY, 0)
        if closed:
            os.close(1)

    sets = options(*ENDLESS, "parallel.ranks=1", "parallel.threads=1")
    process = subprocess.Popen(
        [*PLT_TUI, "run", "--no-ui", *words, "--name", name, *sets, *UNHURRIED],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=begin,
    )
    run = RunFolder(folder / "runs" / name)
    try:
        wait_until(lambda: steps_of(run) > 0 or process.poll() is not None)
        assert process.poll() is None
        yield run
        trains_on(run)
        process.terminate()
        assert process.wait(DEADLINE_S) == 143
        assert show(folder, name)["last_checkpoint"] == f"checkpoints/step-{steps_of(run):08d}"
        assert_sound(folder, name, None, exit_code=143)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_a_console_whose_terminal_is_hung_up(tmp_path: Path) -> None:
    """A progress bar in a window that is closed: the run goes on without it."""
    outer, inner = pty.openpty()
    try:
        with headless(tmp_path, "bar", inner):
            os.close(outer)
    finally:
        os.close(inner)


def test_a_console_whose_reader_does_not_read(tmp_path: Path) -> None:
    """Stdout is a pipe that is full: the run goes on, and a signal ends it with its own exit code."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    try:
        with headless(tmp_path, "full", writer, "--json") as run:
            trains_on(run)
    finally:
        os.close(reader)
        os.close(writer)


def test_a_run_that_is_over_can_be_ended_whatever_its_reader_does(tmp_path: Path) -> None:
    """Stdout is a full pipe: the last lines wait for the reader until a signal comes; the exit code is the record's."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    sets = options("train.steps=40", "parallel.ranks=1", "parallel.threads=1")
    words = [*PLT_TUI, "run", "--json", "--name", "over", *sets]
    with subprocess.Popen(words, cwd=tmp_path, env=environment(), stdout=writer, stderr=subprocess.PIPE, text=True) as process:
        try:
            journal = RunFolder(tmp_path / "runs" / "over").journal
            wait_until(lambda: journal.exists() and '"kind":"end"' in journal.read_text(), DEADLINE_S)
            process.terminate()
            assert process.wait(DEADLINE_S) == show(tmp_path, "over")["exit_code"] == 0
            assert process.stderr is not None
            assert process.stderr.read() == ""
        finally:
            process.kill()
            os.close(reader)
            os.close(writer)


def test_a_console_without_stdout(tmp_path: Path) -> None:
    """As a service manager or `>&-` starts it."""
    with headless(tmp_path, "mute", subprocess.DEVNULL, closed=True):
        pass
