"""Runs on other machines over an ssh that is a fake: links that hold, break, or never come about."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from plt_tui.config.load import to_toml
from plt_tui.config.schema import RunConfig
from plt_tui.errors import DataError, HubUnreachable, PltTuiError, UsageError
from plt_tui.protocol.commands import new_command
from plt_tui.protocol.events import Alert, CaughtUp, CommandStatus, End, Event, Logs, Phase, Run
from plt_tui.protocol.framing import encode
from plt_tui.protocol.remote import CUT, START, Introduction
from plt_tui.protocol.remote import encode as introduced
from plt_tui.views.address import parse
from plt_tui.views.client import run_command
from plt_tui.views.remote import MAX_NOISE_BYTES, Remote, dial, failure, open_remote
from tests import fake_ssh
from tests.held_runs import held_run
from tests.server.hub_fakes import FakeHub, until

PLT_TUI = f"{sys.executable} -m plt_tui"
TARGET = "ssh://gpu1/runs/quick"
BEGUN = Run(name="quick", dir="d", world_size=1, params=1, target_step=9, seq=1)
PAUSED = Phase(phase="paused", step=3, seq=2)
CRASHED = Phase(phase="failed", reason="its hub is gone without a word", step=3)
WAIT = "cat >/dev/null"
"""What a far side does until the view leaves."""
UNTIL_TOLD = "until [ -e told ]; do sleep 0.05; done"
"""What it does until the test has made the file `told` there."""


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The home of the other machine; nothing runs there in the end."""
    home = tmp_path / "far"
    fake_ssh.install(monkeypatch, tmp_path, home)
    yield home
    give_up_at = time.monotonic() + 60.0
    while left := [process for process in processes() if "fake_ssh" in process or str(home) in process]:
        assert time.monotonic() < give_up_at, left
        time.sleep(0.02)


def processes() -> list[str]:
    """What this process has started that is still there."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            found.append(" ".join([*child.cmdline(), child.cwd()]))
        except psutil.Error:
            continue
    return found


def introduction(*, live: bool = True, config: str = "", program: str = "0.1.0") -> bytes:
    """What a far plt-tui says first."""
    return introduced(Introduction(name="quick", config=config or to_toml(RunConfig()), live=live, program=program))


def said(*events: Event) -> bytes:
    """Events as a hub says them."""
    return b"".join(encode(event) + b"\n" for event in events)


def plays(far: Path, *acts: bytes | str) -> str:
    """A command for a far side that gives bytes and does shell lines, one after another."""
    lines = []
    for number, act in enumerate(acts):
        if isinstance(act, bytes):
            (far / f"{number}.bytes").write_bytes(act)
        lines.append(f"cat {far}/{number}.bytes" if isinstance(act, bytes) else act)
    (far / "play.sh").write_text("\n".join(lines))
    return f"sh {far}/play.sh"


async def played(far: Path, *acts: bytes | str) -> Remote:
    """The run that such a far side gives."""
    return await open_remote(TARGET, "test ana@box", command=plays(far, *acts))


async def heard(remote: Remote) -> list[Event]:
    """All events to the end."""
    return [event async for event in remote.events()]


async def test_a_live_run_is_followed_and_steered(far: Path) -> None:
    """History, live events and commands, as with the hub of this machine; nothing is left when the view leaves."""
    hub = FakeHub()
    hub.begin()
    hub.train(1, 5)
    async with held_run(far / "runs" / "quick", hub):
        remote = await open_remote(TARGET, "test ana@box", command=PLT_TUI)
        assert (remote.name, remote.config, remote.readonly) == ("quick", RunConfig(), False)
        told: list[Event] = []

        async def follow() -> None:
            async for event in remote.events():
                told.append(event)

        following = asyncio.ensure_future(follow())
        await until(lambda: CaughtUp() in told)
        assert [event.kind for event in told if event.kind in ("run", "steps", "caught_up")] == ["run", "steps", "caught_up"]
        await remote.send(new_command("pause"))
        await until(lambda: isinstance(told[-1], CommandStatus))
        assert [(command.name, command.actor) for command in hub.commands] == [("pause", "test ana@box")]
        following.cancel()
        await remote.close()
        await remote.close()


async def test_a_readonly_view_is_refused_by_the_hub(far: Path) -> None:
    """Not by the view, which could be changed."""
    hub = FakeHub()
    async with held_run(far / "runs" / "quick", hub):
        remote = await open_remote(TARGET, "test", readonly=True, command=PLT_TUI)
        assert remote.readonly
        status = await run_command(remote._client, new_command("pause"), 10.0)
        assert (status.status, status.reason) == ("refused", "this view is read-only")
        assert hub.commands == []
        await remote.close()


async def test_a_finished_run_is_its_record(far: Path) -> None:
    """Read-only, to its end, and then nothing; a command is refused here."""
    end = End(phase="finished", step=3, exit_code=0, seq=3)
    remote = await played(far, introduction(live=False), said(BEGUN, end, CaughtUp()))
    assert remote.readonly
    assert await heard(remote) == [BEGUN, end, CaughtUp()]
    with pytest.raises(UsageError, match="the run on gpu1 has ended; pause needs a live one"):
        await remote.send(new_command("pause"))
    await remote.close()


async def test_the_end_of_a_live_run_is_no_loss(far: Path) -> None:
    """The hub has said how it ended: nothing is wrong with the link that ends too."""
    end = End(phase="stopped", step=3, exit_code=143, seq=3)
    remote = await played(far, introduction(), said(BEGUN, CaughtUp(), end), "head -n 1 >/dev/null")
    assert (await heard(remote))[-1] == end
    await remote.close()


@pytest.mark.parametrize(
    "events",
    [
        (BEGUN, CaughtUp()),
        (BEGUN, End(phase="stopped", step=3, exit_code=143, seq=2), BEGUN, CaughtUp()),  # of an earlier session
    ],
)
@pytest.mark.parametrize("live", [True, False])
async def test_a_link_that_breaks_is_told_as_that(far: Path, events: tuple[Event, ...], live: bool) -> None:
    """Not as the end of the run, whatever an earlier session of it said; in the middle of a line, and of a record, too."""
    said_before = said(*events) if live else said(*events[:-1])
    half = said_before + b'{"kind":"st'
    remote = await played(far, introduction(live=live), half, UNTIL_TOLD, "echo 'Broken pipe' >&2", "exit 255")
    (far / "told").touch()
    with pytest.raises(HubUnreachable, match=r"^the link to gpu1 is lost: Broken pipe$"):
        await heard(remote)
    await remote.close()


async def test_an_ssh_that_is_killed_is_a_lost_link(far: Path) -> None:
    """For events and for commands; the far side ends by itself."""
    remote = await played(far, introduction(), said(BEGUN, CaughtUp()), WAIT)
    events = remote.events()
    assert await events.__anext__() == BEGUN
    remote.link._ssh._process.kill()
    with pytest.raises(HubUnreachable, match="the link to gpu1 is lost: ssh was ended by signal 9"):
        async for _ in events:
            pass
    with pytest.raises(HubUnreachable, match="the link to gpu1 is lost"):
        await remote.send(new_command("pause"))
    assert not remote.link.goes_on
    await remote.close()


async def test_a_hub_that_dies_leaves_its_record(far: Path) -> None:
    """The line that it was cut off in goes; of the record only what was not heard comes, and the crash."""
    record = said(BEGUN, PAUSED, CRASHED, CaughtUp())
    cut = b'{"kind":"step' + CUT
    remote = await played(far, introduction(), said(BEGUN, CaughtUp()) + cut, introduction(live=False), record)
    assert await heard(remote) == [BEGUN, CaughtUp(), PAUSED, CRASHED, CaughtUp()]
    assert not remote.link.goes_on
    await remote.close()


async def test_a_hub_that_lets_go_of_a_view_goes_on(far: Path) -> None:
    """The far side says that somebody holds the run: no loss, and no end."""
    remote = await played(far, introduction(), said(BEGUN, CaughtUp()) + CUT, introduction(live=True))
    assert await heard(remote) == [BEGUN, CaughtUp()]
    assert remote.link.goes_on
    await remote.close()


async def test_a_far_side_that_has_gone_before_the_view_opens_is_heard(far: Path) -> None:
    """Such as one whose hub has no room: its words are read, although nobody is there any more to be greeted."""
    full = said(Alert(topic="protocol", text="64 clients are connected"))
    link = dial(parse(TARGET), "test", command=plays(far, introduction(), full))
    await asyncio.to_thread(link._ssh._process.wait)
    remote = await link.source()
    with pytest.raises(HubUnreachable, match="the hub broke off: 64 clients are connected"):
        await heard(remote)
    await remote.close()
    await asyncio.to_thread(link.close)


@pytest.mark.parametrize("line", [b'{"kind":"from the future"}\n', b"[" * 100_000 + b"\n", b"\xff\n", b"HTTP/1.1 200 OK\n"])
async def test_another_protocol_is_named(far: Path, line: bytes) -> None:
    """Whatever comes in the place of an event is a sentence."""
    remote = await played(far, introduction(), line, WAIT)
    with pytest.raises(HubUnreachable, match="speaks another protocol"):
        await heard(remote)
    await remote.close()


async def test_a_view_that_gives_up_leaves_no_ssh_behind(far: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled while ssh waits for the other machine, or for a password."""
    monkeypatch.setenv("FAKE_SSH_DELAY_S", "60")
    opening = asyncio.ensure_future(open_remote(TARGET, "test"))
    await until(processes)
    opening.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert time.monotonic() - began < 30.0


# --- links that never come about ---------------------------------------------------------------------------------------------


def refused(far: Path, *acts: bytes | str, told: list[str] | None = None) -> str:
    """The sentence with which a far side is given up."""
    lines = told if told is not None else []
    with pytest.raises(PltTuiError) as given_up:
        dial(parse(TARGET), "test", command=plays(far, *acts), tell=lines.append)
    assert all(text.isprintable() for text in (str(given_up.value), *lines))
    return str(given_up.value)


def test_noise_before_the_run_is_skipped_and_told(far: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message of the day, also without an end of line, and with what a terminal would act on."""
    monkeypatch.setenv("FAKE_SSH_NOISE", "\x1b[2JWelcome!\n\nYou have mail.\n$ ")
    told: list[str] = []
    link = dial(parse(TARGET), "test", command=plays(far, introduction(), WAIT), tell=told.append)
    link.close()
    assert (link.name, link.is_live) == ("quick", True)
    assert told == ["skipped what gpu1 printed before plt-tui began: “\\x1b[2JWelcome!” and 2 more lines"]


def test_a_quiet_far_side_is_not_told_of(far: Path) -> None:
    """The usual case prints nothing."""
    told: list[str] = []
    dial(parse(TARGET), "test", command=plays(far, introduction(), WAIT), tell=told.append).close()
    assert told == []


@pytest.mark.parametrize("line", ["yes welcome", f"head -c {4 << 20} /dev/zero; {WAIT}"], ids=["lines", "one line"])
def test_a_far_side_that_prints_for_ever_is_given_up(far: Path, line: str) -> None:
    """After MAX_NOISE_BYTES, or as much as an introduction may be long."""
    assert MAX_NOISE_BYTES < 1 << 20
    assert "gpu1 prints on and on, and nothing of plt-tui" in refused(far, line)


def test_a_machine_that_cannot_be_reached(far: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last line is the reason and is told once; what ssh said before is told too."""
    monkeypatch.setenv("FAKE_SSH_FAILURE", "@@@ WARNING @@@\nHost key \x1b[2J verification failed.")
    told: list[str] = []
    assert refused(far, told=told) == r"gpu1 cannot be reached: Host key \x1b[2J verification failed"
    assert told == ["@@@ WARNING @@@"]


def test_what_ssh_says_while_it_asks_is_told_at_once(far: Path) -> None:
    """A person must see it before the next prompt."""
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        (far / "told").touch()

    play = plays(far, "echo 'Permission denied, please try again.' >&2", UNTIL_TOLD, introduction(), WAIT)
    dial(parse(TARGET), "test", command=play, tell=tell).close()
    assert told == ["Permission denied, please try again."]


def test_a_machine_without_plt_tui(far: Path) -> None:
    """The shell's complaint, and how to say where plt-tui is."""
    with pytest.raises(UsageError, match=r"gpu1 knows no command 'plt-tui-of-old'.*not found.*--remote-command '~/venv/bin"):
        dial(parse(TARGET), "test", command="plt-tui-of-old")


@pytest.mark.parametrize(
    ("acts", "sentence"),
    [
        (("echo 'plt-tui: no run quick under runs' >&2", "exit 2"), "on gpu1: no run quick under runs"),
        (("echo 'Error: No such option: --stdio' >&2", "exit 2"), "the plt-tui on gpu1 is too old for attach --stdio"),
        (("echo hello", "exit 0"), "gpu1 told of no run: ssh ended with exit code 0; it printed “hello”"),
        (("kill -9 $$",), "gpu1"),
        ((introduction()[:-1],), "gpu1 told of no run"),
        ((START + b'"version":2,"program":"9.9"}\n', WAIT), "gpu1 cannot be understood: it speaks version 2 of attach --stdio"),
        ((START + b"[" * 100_000 + b"\n", WAIT), "gpu1 cannot be understood"),
        ((introduction(config="[model]\nlayers_of_2031 = 3\n", program="9.9"), WAIT), "written by plt-tui 9.9, this is"),
        ((introduction(config="[model"), WAIT), "cannot be read here"),
    ],
)
def test_a_far_side_without_a_run_says_why(far: Path, acts: tuple[bytes | str, ...], sentence: str) -> None:
    """One sentence with the machine in it; a far side that stays is ended."""
    assert sentence in refused(far, *acts)


def test_an_error_over_there_is_the_same_error_here() -> None:
    """Its class, and with that the exit code; the newest of several is told."""
    words = ["plt-tui: before", "warning", "plt-tui: data.bin has changed"]
    error = failure("gpu1", "plt-tui", 7, words, [])
    assert isinstance(error, DataError)
    assert str(error) == "on gpu1: data.bin has changed"


def test_a_machine_without_ssh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A sentence; and nothing is left open."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"ssh cannot be started .* install the client of OpenSSH"):
        dial(parse(TARGET), "test")


def test_log_in_that_is_interrupted_ends_ssh(far: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while it waits."""
    monkeypatch.setenv("FAKE_SSH_DELAY_S", "60")
    signal.signal(signal.SIGALRM, signal.default_int_handler)

    def interrupt() -> None:
        while not fake_ssh.calls(far.parent / "ssh-calls"):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGALRM)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            dial(parse(TARGET), "test")
    finally:
        interrupting.join()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def test_a_process_that_ssh_leaves_behind_holds_nobody_up(far: Path) -> None:
    """A shared connection (ControlPersist) keeps stderr open when ssh has ended."""
    leave = f"sleep 60 </dev/null >/dev/null & echo $! > {far}/left"
    link = dial(parse(TARGET), "test", command=plays(far, leave, introduction(), WAIT))
    began = time.monotonic()
    link.close()
    assert time.monotonic() - began < 30.0
    os.kill(int((far / "left").read_text()), signal.SIGKILL)


def test_a_long_record_is_taken_whole(far: Path) -> None:
    """What was sent together with the introduction is not lost on the way into the event loop."""
    lines = said(*(Logs(lines=[[0.0, "hub", "INFO", f"{number} {'x' * 200}"]]) for number in range(5000)))

    async def follow() -> int:
        remote = await played(far, introduction(live=False) + lines + said(CaughtUp()))
        try:
            return len(await heard(remote))
        finally:
            await remote.close()

    assert asyncio.run(follow()) == 5001
    assert os.environ["FAKE_SSH_HOME"] == str(far)
