"""Promises of `control.hub`, with real processes that play ranks: a run ends as it should, whatever its ranks do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from plt_tui.config.load import to_toml
from plt_tui.config.schema import ControlSection, RunConfig
from plt_tui.control import hub as hub_module
from plt_tui.control import restart as restart_module
from plt_tui.control.folder import RunFolder
from plt_tui.control.hub import Hub, HubOptions
from plt_tui.control.placement import Placement
from plt_tui.control.record import read_feed, read_journal
from plt_tui.errors import UsageError
from plt_tui.protocol.commands import Command, new_command
from plt_tui.protocol.events import Alert, CommandStatus, End, Event, Failed, Phase, Run, Step

DEADLINE_S = 20.0
EventT = TypeVar("EventT", bound=Event)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recover within moments."""
    monkeypatch.setattr(hub_module, "GATHER_S", 0.15)
    monkeypatch.setattr(hub_module, "LOG_TICK_S", 0.02)
    monkeypatch.setattr(restart_module, "FIRST_BACKOFF_S", 0.02)


@pytest.fixture(autouse=True)
def no_descriptor_left_open() -> Iterator[None]:
    """Pipes and semaphores of ranks go with them, without the garbage collector's help."""
    before = set(os.listdir("/proc/self/fd"))
    yield
    left = [
        f"{number}: {os.readlink(f'/proc/self/fd/{number}')}"
        for number in set(os.listdir("/proc/self/fd")) - before
        if Path(f"/proc/self/fd/{number}").exists()
    ]
    helper = [name for name in left if "pipe:" in name]
    assert len(left) - min(1, len(helper)) <= 0, left  # multiprocessing's helper process keeps one pipe until the end


@pytest.fixture()
def folder(tmp_path: Path) -> RunFolder:
    """The folder of a run that is about to start."""
    made = RunFolder(tmp_path / "a")
    made.create(to_toml(RunConfig()))
    return made


def new_hub(folder: RunFolder, entry: str, *, ranks: int = 2, resume: str = "auto", **control: Any) -> Hub:
    """A hub whose ranks play `entry`."""
    config = RunConfig(control=ControlSection(**control))
    placement = Placement(devices=("cpu",) * ranks, threads=1)
    return Hub(folder, config, HubOptions(placement=placement, resume=resume, entry=f"tests.control.fake_ranks:{entry}"))


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until `is_so`, at most DEADLINE_S."""
    give_up_at = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < give_up_at, "it did not come"
        await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def running(hub: Hub) -> AsyncIterator[asyncio.Task[int]]:
    """The hub at work; a test that fails does not leave it behind."""
    session = asyncio.create_task(hub.run())
    try:
        yield session
    finally:
        session.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await session


def play(scenario: Coroutine[Any, Any, None]) -> None:
    """Run `scenario` in an event loop of its own."""
    asyncio.run(asyncio.wait_for(scenario, 2 * DEADLINE_S))


def finish(hub: Hub) -> int:
    """Run the hub to its end by itself."""
    return asyncio.run(asyncio.wait_for(hub.run(), 2 * DEADLINE_S))


def said(hub: Hub, kind: type[EventT]) -> list[EventT]:
    """What was published, of one kind."""
    return [event for event in hub.feed.events if isinstance(event, kind)]


def phases(hub: Hub) -> list[str]:
    """The phases that the run went through."""
    return [event.phase for event in said(hub, Phase)]


def end_of(hub: Hub) -> End:
    """The last word, which must be the last event of journal and feed."""
    end = hub.feed.events[-1]
    assert isinstance(end, End)
    assert read_journal(RunFolder(Path(hub._folder.path)))[-1] == end
    return end


def status_of(hub: Hub, command: Command) -> str:
    """How far a command is."""
    return next((status.status for status in hub.feed.state.commands if status.id == command.id), "unknown")


async def asked(hub: Hub, verb: str, /, **args: Any) -> Command:
    """Submit a command and wait until it is in force."""
    command = new_command(verb, args, actor="tui ana@box")
    await hub.submit(command)
    await until(lambda: status_of(hub, command) == "applied")
    return command


def is_training(hub: Hub) -> Callable[[], bool]:
    """True once ranks make steps."""
    return lambda: hub.feed.state.phase == "running" and hub.feed.state.step > 0


def rank_pid(hub: Hub, rank: int) -> int:
    """Process id of a rank."""
    return hub._supervisor.pids[rank]


def test_a_run_trains_to_its_target(folder: RunFolder) -> None:
    """Every step is in the history once, the end says finished with the weights' hash, and the exit code is 0."""
    hub = new_hub(folder, "trains")
    assert finish(hub) == 0
    assert list(hub.feed.history.columns["step"]) == list(range(1, 13))
    end = end_of(hub)
    assert (end.phase, end.step, end.exit_code, end.weights_sha256) == ("finished", 12, 0, "sha of 12")
    assert phases(hub) == ["starting", "running"]
    assert {rank.rank for rank in hub.feed.state.ranks.values()} == {0, 1}
    info = folder.read_info()
    assert info is not None
    assert (info.phase, info.pid, info.name) == ("finished", os.getpid(), "a")


def test_the_record_of_a_run_is_what_its_views_saw(folder: RunFolder) -> None:
    """Folding the files gives the hub's last state, but for what is only of the moment."""
    hub = new_hub(folder, "raises_once")
    assert finish(hub) == 0
    read = read_feed(folder)
    assert read.events == hub.feed.events
    assert read.history.columns == hub.feed.history.columns
    assert read.state == replace(hub.feed.state, ranks={}, gauges=None, progress=None)


def test_what_ranks_print_is_in_the_feed_and_safe(folder: RunFolder) -> None:
    """From Python and from native code, of every rank, without anything that a terminal acts on."""
    hub = new_hub(folder, "prints")
    assert finish(hub) == 0
    lines = {(source, level, text) for _, source, level, text in hub.feed.log_tail(100)}
    for source in ("rank 0", "rank 1"):
        assert (source, "WARNING", "\\x1b]0;owned\\x07") in lines
        assert (source, "INFO", "native library says hi") in lines
        assert (source, "INFO", "100%") in lines


def test_a_rank_that_raised_is_tried_again(folder: RunFolder) -> None:
    """All ranks start again and the run reaches its target; the cause, with its last log lines, is in the journal."""
    hub = new_hub(folder, "raises_once")
    assert finish(hub) == 0
    (failure,) = said(hub, Failed)
    assert (failure.rank, failure.step, failure.message, failure.exit_code) == (0, 5, "boom \\x1b[2J", 4)
    assert phases(hub) == ["starting", "running", "restarting", "running"]
    assert hub.feed.state.restarts == 1
    assert [run.environment["attempt"] for run in said(hub, Run)] == [0, 1]
    assert hub.feed.state.reason == "target reached"


@pytest.mark.parametrize(
    ("entry", "max_restarts", "exit_code", "failures", "reason"),
    [
        ("raises_at_step_5", 3, 4, 2, "rank 0 failed at step 5: boom (the second time at this step)"),
        ("raises_ever_later", 1, 4, 2, "rank 0 failed at step 6: boom (1 of 1 restarts used)"),
        ("raises_ever_later", 0, 4, 1, "rank 0 failed at step 5: boom (0 of 0 restarts used)"),
        ("has_no_data", 3, 7, 1, "corpus.txt: no such file"),
    ],
)
def test_a_failure_that_would_come_back_ends_the_run(
    folder: RunFolder, entry: str, max_restarts: int, exit_code: int, failures: int, reason: str
) -> None:
    """With the exit code of its kind and a reason in words; nothing is retried for ever."""
    hub = new_hub(folder, entry, max_restarts=max_restarts)
    assert finish(hub) == exit_code
    end = end_of(hub)
    assert (end.phase, end.exit_code, end.reason) == ("failed", exit_code, reason)
    assert len(said(hub, Failed)) == failures


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_is_named_with_its_signal_and_the_run_goes_on(folder: RunFolder, rank: int) -> None:
    """kill -9 of any rank costs a restart, and the person reads SIGKILL."""
    hub = new_hub(folder, "trains_on")

    async def scenario() -> None:
        async with running(hub) as session:
            await until(is_training(hub))
            os.kill(rank_pid(hub, rank), signal.SIGKILL)
            await until(lambda: phases(hub)[-2:] == ["restarting", "running"])
            await asked(hub, "stop")
            assert await session == 143

    play(scenario())
    (failure,) = said(hub, Failed)
    assert (failure.rank, failure.message, failure.is_signal) == (rank, "killed by SIGKILL", True)


def test_the_cause_is_the_killed_rank_not_the_one_that_lost_it(folder: RunFolder) -> None:
    """The broken connection is seen first, and yet the kill is named."""
    hub = new_hub(folder, "loses_its_peer")
    assert finish(hub) == 0
    (failure,) = said(hub, Failed)
    assert (failure.rank, failure.message, failure.step) == (1, "killed by SIGKILL", 3)


def test_an_end_without_a_word_is_a_failure(folder: RunFolder) -> None:
    """Ranks that return 0 without saying that they are done do not leave a hub that waits for ever."""
    hub = new_hub(folder, "ends_without_a_word", max_restarts=0)
    assert finish(hub) == 4
    assert "ended with exit code 0 and no message" in end_of(hub).reason


def test_an_exit_code_without_a_message_comes_with_the_last_log_lines(folder: RunFolder) -> None:
    """What a crash below Python printed is all there is to go by."""
    hub = new_hub(folder, "exits_with_3", ranks=1, max_restarts=0)
    assert finish(hub) == 4
    (failure,) = said(hub, Failed)
    assert (failure.message, failure.log_tail) == ("ended with exit code 3 and no message", ["last words"])


def test_an_entry_that_cannot_be_loaded_is_a_failure_with_its_traceback(folder: RunFolder) -> None:
    """The rank's log says why."""
    hub = new_hub(folder, "no_such_function", ranks=1, max_restarts=0)
    assert finish(hub) == 4
    (failure,) = said(hub, Failed)
    assert "AttributeError" in failure.log_tail[-1]


def test_a_flood_of_events_is_taken_to_the_last_one(folder: RunFolder) -> None:
    """100 000 steps as fast as a rank can say them: none is lost, none comes twice, and the end comes after them."""
    hub = new_hub(folder, "floods", ranks=1)
    assert finish(hub) == 0
    assert list(hub.feed.history.columns["step"]) == list(range(1, 100_001))
    assert end_of(hub).step == 100_000
    assert len(folder.metrics.read_bytes().splitlines()) == 100_000


def test_pause_and_resume(folder: RunFolder) -> None:
    """While paused there are no steps; the phases say who asked."""
    hub = new_hub(folder, "trains_on")

    async def scenario() -> None:
        async with running(hub) as session:
            await until(is_training(hub))
            await asked(hub, "pause")
            assert (hub.feed.state.phase, hub.feed.state.reason) == ("paused", "by tui ana@box")
            at = hub.feed.state.step
            await asyncio.sleep(0.1)
            assert hub.feed.state.step == at
            await asked(hub, "resume")
            await until(lambda: hub.feed.state.step > at)
            assert hub.feed.state.phase == "running"
            await asked(hub, "stop")
            assert await session == 143

    play(scenario())
    end = end_of(hub)
    assert (end.phase, end.exit_code, end.reason) == ("stopped", 143, "stopped by tui ana@box")
    assert end.weights_sha256 == f"sha of {end.step}"


def test_a_command_is_in_the_journal_before_a_rank_hears_of_it(folder: RunFolder) -> None:
    """And its whole life after it: requested, agreed, applied."""
    hub = new_hub(folder, "trains_on")

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))
            command = new_command("set", {"name": "lr", "value": "0.5", "mode": "scale"}, actor="ctl")
            await hub.submit(command)
            (request,) = [event for event in read_journal(folder) if isinstance(event, CommandStatus)]
            assert (request.status, request.args) == ("requested", {"name": "lr", "value": 0.5, "mode": "scale"})
            await until(lambda: status_of(hub, command) == "applied")
            lives = [event.status for event in read_journal(folder) if isinstance(event, CommandStatus)]
            assert lives == ["requested", "agreed", "applied"]
            assert hub.feed.state.edits[0].value == 0.5

    play(scenario())


def test_a_repeated_command_is_applied_once(folder: RunFolder) -> None:
    """A client that lost its connection may send again, at once or after the command is in force."""
    hub = new_hub(folder, "trains_on")

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))
            command = new_command("checkpoint", actor="ctl")
            for _ in range(3):
                await hub.submit(command)
            await until(lambda: status_of(hub, command) == "applied")
            await hub.submit(command)
            await asked(hub, "set", name="lr", value=1.0)  # ranks answer in order: by now a second one would have been saved
            assert [status.status for status in said(hub, CommandStatus) if status.id == command.id] == [
                "requested",
                "agreed",
                "applied",
            ]
            assert len(hub.feed.state.checkpoints) == 1

    play(scenario())


@pytest.mark.parametrize(
    ("name", "args", "text"),
    [
        ("set", {"name": "lr", "value": 99}, r"lr: 99 is outside 0 to 10 \(learning rate, 0 to 10\)"),
        ("set", {"name": "lr", "value": "fast"}, "lr: 'fast' is not a number"),
        ("set", {"name": "width", "value": 1}, "unknown knob 'width'"),
        ("set", {"name": "grad_clip", "value": 1, "mode": "scale"}, "grad_clip: unknown mode 'scale'"),
        ("halt", {}, "unknown command 'halt'"),
    ],
)
def test_a_command_that_can_never_be_applied_is_refused(folder: RunFolder, name: str, args: dict[str, Any], text: str) -> None:
    """At once, with the range or the choices, and without a trace in the journal."""
    hub = new_hub(folder, "trains")

    with contextlib.closing(hub._recorder), pytest.raises(UsageError, match=text):
        asyncio.run(hub.submit(Command(id="1", name=name, args=args)))
    assert hub.feed.events == []


def test_a_note_needs_no_rank(folder: RunFolder) -> None:
    """It is in force as soon as it is written down, also while ranks are only starting."""
    hub = new_hub(folder, "never_begins")

    async def scenario() -> None:
        async with running(hub):
            await until(lambda: phases(hub) == ["starting"])
            command = new_command("note", {"text": "new data"}, actor="ctl")
            await hub.submit(command)
            assert status_of(hub, command) == "applied"

    play(scenario())


def test_nothing_is_taken_after_the_end(folder: RunFolder) -> None:
    """The client learns that the run has ended and where to look."""
    hub = new_hub(folder, "trains")
    assert finish(hub) == 0
    with pytest.raises(UsageError, match="pause: the run is ending or has ended; see plt-tui show a"):
        asyncio.run(hub.submit(new_command("pause")))


def test_a_command_that_nobody_answered_is_refused_at_the_end(folder: RunFolder) -> None:
    """No command stays "requested" for ever in the journal of a run that is over."""
    hub = new_hub(folder, "is_deaf", grace_s=0.2)

    async def scenario() -> None:
        async with running(hub) as session:
            await until(is_training(hub))
            pause, stop = new_command("pause"), new_command("stop")
            await hub.submit(pause)
            await hub.submit(stop)
            assert await session == 143
            assert (status_of(hub, pause), status_of(hub, stop)) == ("refused", "refused")

    play(scenario())
    end = end_of(hub)
    assert "not saved within 0.2 s (control.grace_s); there is no checkpoint" in end.reason


@pytest.mark.parametrize(("interrupt", "exit_code"), [(True, 130), (False, 143)])
def test_a_signal_saves_and_stops(folder: RunFolder, interrupt: bool, exit_code: int) -> None:
    """SIGINT ends with 130, SIGTERM with 143, both after the ranks have left in good order."""
    hub = new_hub(folder, "trains_on")

    async def scenario() -> None:
        async with running(hub) as session:
            await until(is_training(hub))
            hub.stop_by_signal(interrupt=interrupt)
            hub.stop_by_signal(interrupt=False)  # harmless
            assert await session == exit_code

    play(scenario())
    end = end_of(hub)
    assert (end.phase, end.exit_code, end.weights_sha256 != "") == ("stopped", exit_code, True)
    assert phases(hub)[-1] == "stopping"


@pytest.mark.parametrize(("interrupt", "exit_code"), [(True, 130), (False, 143)])
def test_ranks_that_do_not_listen_are_killed_after_the_grace(folder: RunFolder, interrupt: bool, exit_code: int) -> None:
    """A rank that hangs cannot hold up a stop for longer than control.grace_s."""
    hub = new_hub(folder, "is_deaf", grace_s=0.2)

    async def scenario() -> None:
        async with running(hub) as session:
            await until(is_training(hub))
            began = time.monotonic()
            hub.stop_by_signal(interrupt=interrupt)
            assert await session == exit_code
            assert 0.2 <= time.monotonic() - began < 5

    play(scenario())
    assert end_of(hub).phase == "stopped"


def test_a_second_interrupt_ends_at_once(folder: RunFolder) -> None:
    """Whoever presses Ctrl-C twice does not wait for the save."""
    hub = new_hub(folder, "is_deaf", grace_s=1000.0)

    async def scenario() -> None:
        async with running(hub) as session:
            await until(is_training(hub))
            hub.stop_by_signal(interrupt=True)
            hub.stop_by_signal(interrupt=True)
            assert await session == 130

    play(scenario())
    assert "second SIGINT" in end_of(hub).reason


@pytest.mark.parametrize(("interrupt", "exit_code"), [(True, 130), (False, 143)])
def test_a_signal_before_training_ends_at_once(folder: RunFolder, interrupt: bool, exit_code: int) -> None:
    """There is nothing to save, so nobody waits for torch to be imported."""
    hub = new_hub(folder, "never_begins", grace_s=1000.0)

    async def scenario() -> None:
        async with running(hub) as session:
            await until(lambda: len(hub.feed.state.ranks) == 2)
            hub.stop_by_signal(interrupt=interrupt)
            assert await session == exit_code

    play(scenario())
    assert "before training began" in end_of(hub).reason


def test_a_signal_between_two_attempts_ends_at_once(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the hub waits to start the ranks again there is nothing to save either, and no rank starts afterwards."""
    monkeypatch.setattr(restart_module, "FIRST_BACKOFF_S", 1000.0)
    hub = new_hub(folder, "raises_once")

    async def scenario() -> None:
        async with running(hub) as session:
            await until(lambda: hub.feed.state.phase == "restarting")
            hub.stop_by_signal(interrupt=True)
            assert await session == 130

    play(scenario())
    assert [run.environment["attempt"] for run in said(hub, Run)] == [0]


def test_a_second_interrupt_during_a_recovery_leaves_no_rank(folder: RunFolder) -> None:
    """The end of the run and the recovery both end the ranks; neither may forget one or start new ones."""
    hub = new_hub(folder, "is_deaf")

    async def scenario() -> None:
        async with running(hub) as session:
            await until(is_training(hub))
            pids = list(hub._supervisor.pids)
            os.kill(pids[1], signal.SIGKILL)
            await until(lambda: bool(hub._failures))
            hub.stop_by_signal(interrupt=True)
            hub.stop_by_signal(interrupt=True)
            assert await session == 130
            assert not any(psutil.pid_exists(pid) for pid in pids)

    play(scenario())
    assert end_of(hub).exit_code == 130
    assert "restarting" not in phases(hub)


def test_a_stop_asked_before_training_does_not_look_like_running(folder: RunFolder) -> None:
    """The phase stays "stopping" until the end, although the ranks begin in between, and so does the reason."""
    hub = new_hub(folder, "begins_late")

    async def scenario() -> None:
        async with running(hub) as session:
            await until(lambda: phases(hub) == ["starting"])
            await hub.submit(new_command("stop", actor="ctl ana@box"))
            (folder.path / "begin").touch()
            assert await session == 143

    play(scenario())
    assert phases(hub) == ["starting", "stopping"]
    assert end_of(hub).reason == "stopped by ctl ana@box"


def test_a_pause_survives_a_restart(folder: RunFolder) -> None:
    """A run that a person has paused is not trained on because a rank crashed."""
    hub = new_hub(folder, "crashes_once_paused")

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))
            await asked(hub, "pause")
            (folder.path / "die").touch()
            await until(lambda: phases(hub)[-2:] == ["restarting", "paused"])
            assert said(hub, Run)[-1].environment["paused"] is True
            (failure,) = said(hub, Failed)
            assert failure.message == "killed by SIGSEGV"
            await asked(hub, "resume")
            await until(is_training(hub))

    play(scenario())


def test_commands_without_an_answer_are_sent_again_after_a_restart(folder: RunFolder) -> None:
    """What a dying rank took with it, and what was asked while none was there, is applied by the next ones."""
    hub = new_hub(folder, "dies_with_unanswered_commands")

    async def scenario() -> None:
        async with running(hub):
            await until(lambda: hub.feed.state.phase == "running")
            lost = new_command("set", {"name": "lr", "value": 0.5})
            await hub.submit(lost)
            await until(lambda: hub.feed.state.phase == "restarting")
            late = new_command("checkpoint")
            await hub.submit(late)
            await until(lambda: status_of(hub, lost) == status_of(hub, late) == "applied")
            assert [edit.id for edit in hub.feed.state.edits] == [lost.id]

    play(scenario())


def test_a_command_to_a_rank_that_has_just_died_makes_no_noise(folder: RunFolder, capfd: pytest.CaptureFixture[str]) -> None:
    """In a headless run the hub's stderr is the user's terminal."""
    hub = new_hub(folder, "trains_on")

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))
            process = psutil.Process(rank_pid(hub, 0))
            process.kill()
            await until(lambda: process.status() == psutil.STATUS_ZOMBIE)
            for _ in range(5):
                await hub.submit(new_command("eval"))
            await until(lambda: phases(hub).count("running") == 2)

    play(scenario())
    assert capfd.readouterr().err == ""


def test_edits_and_numbering_go_on_in_the_next_session(folder: RunFolder) -> None:
    """A resumed run knows its edits, and its record is one sequence."""
    first = new_hub(folder, "trains_on")

    async def scenario() -> None:
        async with running(first) as session:
            await until(is_training(first))
            await asked(first, "set", name="lr", value=0.5)
            await asked(first, "stop")
            assert await session == 143

    play(scenario())
    second = new_hub(folder, "trains")
    assert finish(second) == 0
    (edit,) = said(second, Run)[-1].environment["edits"]
    assert (edit["name"], edit["value"]) == ("lr", 0.5)
    seqs = [event.seq for event in read_journal(folder)]
    assert seqs == sorted(set(seqs))
    assert second.feed.state.end is not None
    assert second.feed.state.phase == "finished"


@pytest.mark.parametrize(
    ("resume", "saves", "second"),
    [("/some/step-00000007", False, "/some/step-00000007"), ("never", False, "never"), ("/some/step-00000007", True, "auto")],
)
def test_a_restart_resumes_from_where_this_session_is(folder: RunFolder, resume: str, saves: bool, second: str) -> None:
    """From its own checkpoint once there is one; until then from what the person asked for, not from scratch."""
    hub = new_hub(folder, "trains_on", resume=resume)

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))
            if saves:
                await asked(hub, "checkpoint")
            os.kill(rank_pid(hub, 1), signal.SIGKILL)
            await until(lambda: len(said(hub, Run)) == 2)

    play(scenario())
    assert [run.resumed_from for run in said(hub, Run)] == [resume, second]


def test_a_checkpoint_clears_the_alert_of_the_one_that_failed(folder: RunFolder) -> None:
    """The person sees the failed save until a later one is on disk."""
    hub = new_hub(folder, "trains_on")

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))
            hub.publish(Alert(topic="checkpoint", text="step 5 not saved: disk full"))
            assert "checkpoint" in hub.feed.state.alerts
            await asked(hub, "checkpoint")
            assert "checkpoint" not in hub.feed.state.alerts

    play(scenario())


def test_a_full_disk_does_not_stop_the_run(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The person is told once, `run.json` included, and training goes on to its end."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    hub = new_hub(folder, "trains")
    monkeypatch.setattr(hub._recorder._journal, "write", full)
    monkeypatch.setattr(hub._folder, "write_info", full)
    assert finish(hub) == 0
    alerts = [event.text for event in said(hub, Alert)]
    assert alerts[0] == "No space left on device: the record is incomplete; free some space"
    assert [text for text in alerts if "incomplete" in text] == alerts[:1]
