"""Promises of `control.hub`, with real processes that play ranks: a run ends as it should, whatever its ranks do."""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from plt_tui.control import attempt as attempt_module
from plt_tui.control import supervisor as supervisor_module
from plt_tui.control.folder import RunFolder
from plt_tui.control.hub import Hub
from plt_tui.control.machine import CLEAR_AFTER, TOLD_AFTER
from plt_tui.control.record import read_feed
from plt_tui.errors import RankFailed
from plt_tui.protocol.commands import new_command
from plt_tui.protocol.events import Alert, Checkpoint, Failed, Gauges, Run
from tests.control.fake_ranks import FLOOD
from tests.control.hubs import (
    asked,
    end_of,
    finish,
    is_training,
    new_hub,
    phases,
    play,
    rank_pid,
    running,
    said,
    until,
)

pytestmark = pytest.mark.usefixtures("quick", "no_descriptor_left_open")


def test_a_run_trains_to_its_target(hub_folder: RunFolder) -> None:
    """Every step is in the history once, the end says finished with the weights' hash, and the exit code is 0."""
    hub = new_hub(hub_folder, "trains")
    assert finish(hub) == 0
    assert list(hub.feed.history.columns["step"]) == list(range(1, 13))
    end = end_of(hub)
    assert (end.phase, end.step, end.exit_code, end.weights_sha256) == ("finished", 12, 0, "sha of 12")
    assert phases(hub) == ["starting", "running"]
    assert {rank.rank for rank in hub.feed.state.ranks.values()} == {0, 1}
    info = hub_folder.read_info()
    assert info is not None
    assert (info.phase, info.pid, info.name) == ("finished", os.getpid(), "a")


def test_the_record_of_a_run_is_what_its_views_saw(hub_folder: RunFolder) -> None:
    """Folding the files gives the hub's last state, but for what is only of the moment."""
    hub = new_hub(hub_folder, "raises_once")
    assert finish(hub) == 0
    read = read_feed(hub_folder)
    assert read.events == hub.feed.events
    assert read.history.columns == hub.feed.history.columns
    assert read.state == replace(hub.feed.state, ranks={}, gauges=None, progress=None)


def test_what_ranks_print_is_in_the_feed_and_safe(hub_folder: RunFolder) -> None:
    """From Python and from native code, of every rank, without anything that a terminal acts on."""
    hub = new_hub(hub_folder, "prints")
    assert finish(hub) == 0
    lines = {(source, level, text) for _, source, level, text in hub.feed.log_tail(100)}
    for source in ("rank 0", "rank 1"):
        assert (source, "WARNING", "\\x1b]0;owned\\x07") in lines
        assert (source, "INFO", "native library says hi") in lines
        assert (source, "INFO", "100%") in lines


def test_a_rank_that_raised_is_tried_again(hub_folder: RunFolder) -> None:
    """All ranks start again and the run reaches its target; the cause, with its last log lines, is in the journal."""
    hub = new_hub(hub_folder, "raises_once")
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
    hub_folder: RunFolder, entry: str, max_restarts: int, exit_code: int, failures: int, reason: str
) -> None:
    """With the exit code of its kind and a reason in words; nothing is retried for ever."""
    hub = new_hub(hub_folder, entry, max_restarts=max_restarts)
    assert finish(hub) == exit_code
    end = end_of(hub)
    assert (end.phase, end.exit_code, end.reason) == ("failed", exit_code, reason)
    assert len(said(hub, Failed)) == failures


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_is_named_with_its_signal_and_the_run_goes_on(hub_folder: RunFolder, rank: int) -> None:
    """Kill -9 of any rank costs a restart, and the person reads SIGKILL."""
    hub = new_hub(hub_folder, "trains_on")

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


def test_the_cause_is_the_killed_rank_not_the_one_that_lost_it(hub_folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken connection is seen first, and yet the kill is named."""
    monkeypatch.setattr(attempt_module, "GATHER_S", 60.0)  # ends as soon as both have spoken
    hub = new_hub(hub_folder, "loses_its_peer")
    assert finish(hub) == 0
    (failure,) = said(hub, Failed)
    assert (failure.rank, failure.message) == (1, "killed by SIGKILL")


def test_an_end_without_a_word_is_a_failure(hub_folder: RunFolder) -> None:
    """Ranks that return 0 without saying that they are done do not leave a hub that waits for ever."""
    hub = new_hub(hub_folder, "ends_without_a_word", max_restarts=0)
    assert finish(hub) == 4
    assert "ended with exit code 0 and no message" in end_of(hub).reason


def test_an_exit_code_without_a_message_comes_with_the_last_log_lines(hub_folder: RunFolder) -> None:
    """What a crash below Python printed is all there is to go by."""
    hub = new_hub(hub_folder, "exits_with_3", ranks=1, max_restarts=0)
    assert finish(hub) == 4
    (failure,) = said(hub, Failed)
    assert (failure.message, failure.log_tail) == ("ended with exit code 3 and no message", ["last words"])


def test_an_entry_that_cannot_be_loaded_is_a_failure_with_its_traceback(hub_folder: RunFolder) -> None:
    """The rank's log says why."""
    hub = new_hub(hub_folder, "no_such_function", ranks=1, max_restarts=0)
    assert finish(hub) == 4
    (failure,) = said(hub, Failed)
    assert "AttributeError" in failure.log_tail[-1]


def test_a_flood_of_events_is_taken_to_the_last_one(hub_folder: RunFolder) -> None:
    """FLOOD steps as fast as a rank can say them: none is lost, none comes twice, and the end comes after them."""
    hub = new_hub(hub_folder, "floods", ranks=1)
    assert finish(hub) == 0
    assert list(hub.feed.history.columns["step"]) == list(range(1, FLOOD + 1))
    assert end_of(hub).step == FLOOD
    assert len(hub_folder.metrics.read_bytes().splitlines()) == FLOOD


@pytest.mark.parametrize(
    ("resume", "saves", "second"),
    [("/some/step-00000007", False, "/some/step-00000007"), ("never", False, "never"), ("/some/step-00000007", True, "auto")],
)
def test_a_restart_resumes_from_where_this_session_is(hub_folder: RunFolder, resume: str, saves: bool, second: str) -> None:
    """From its own checkpoint once there is one; until then from what the person asked for, not from scratch."""
    hub = new_hub(hub_folder, "trains_on", resume=resume)

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))
            if saves:
                await asked(hub, "checkpoint")
            os.kill(rank_pid(hub, 1), signal.SIGKILL)
            await until(lambda: len(said(hub, Run)) == 2)

    play(scenario())
    assert [run.resumed_from for run in said(hub, Run)] == [resume, second]


def test_a_checkpoint_clears_the_alert_of_the_one_that_failed(hub_folder: RunFolder) -> None:
    """The person sees the failed save until a later one is on disk."""
    hub = new_hub(hub_folder, "trains_on")

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))
            hub.publish(Alert(topic="checkpoint", text="step 5 not saved: disk full"))
            assert "checkpoint" in hub.feed.state.alerts
            await asked(hub, "checkpoint")
            assert "checkpoint" not in hub.feed.state.alerts

    play(scenario())


def test_a_full_disk_does_not_stop_the_run(hub_folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The person is told once, `run.json` included, and training goes on to its end."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    hub = new_hub(hub_folder, "trains")
    monkeypatch.setattr(hub._recorder._journal, "write", full)
    monkeypatch.setattr(hub._folder, "write_info", full)
    assert finish(hub) == 0
    alerts = [event.text for event in said(hub, Alert)]
    assert alerts[0].startswith("1 line of the record in memory only: No space left on device; free some space on ")
    own = [text for text in alerts if "memory only" in text and not text.startswith("run.json")]
    assert len(own) < 6  # told again only when the number has doubled


def test_what_a_kill_would_take_back_is_told_before_anything_of_it(
    hub_folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint of which the record does not know yet: an alert names the step from which on lines wait, while they do."""
    hub = new_hub(hub_folder, "trains_on")

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))
            with monkeypatch.context() as broken:
                broken.setattr(hub._recorder._journal, "write", full)
                first = hub.feed.state.step
                for _ in range(4):
                    hub.publish(Checkpoint(step=first, path="checkpoints/step-1"))
                    last = hub.feed.state.step
                    await until(lambda last=last: hub.feed.state.step > last)  # type: ignore[misc]
                broken.setattr(hub._folder, "write_info", full)
                hub.update_info(phase="running")
                text = hub.feed.state.alerts["record"].text
                assert text.startswith("run.json cannot be written: No space left on device; ")
                assert "lines of the record in memory only" in text
                clause = f"a kill of the hub loses what was told since step {first}, checkpoints and edits too"
                assert text.endswith(clause)
                told = [event for event in hub.feed.events if isinstance(event, (Alert, Checkpoint))]
                assert isinstance(told[0], Alert)
                assert told[0].text.endswith(clause)
            await until(lambda: "record" not in hub.feed.state.alerts)

    play(scenario())


def fails_on_restart(hub: Hub, act: Callable[[], None], match: str) -> None:
    """Kill a rank once `act` has seen to it that no start of the ranks succeeds; the run must fail with words like `match`."""

    async def scenario() -> None:
        async with running(hub) as session:
            await until(is_training(hub))
            act()
            os.kill(rank_pid(hub, 1), signal.SIGKILL)
            await session

    with pytest.raises(RankFailed, match=match):
        play(scenario())
    end = end_of(hub)
    assert (end.phase, end.exit_code) == ("failed", 4)
    assert re.search(match, end.reason)
    info = hub._folder.read_info()
    assert info is not None
    assert info.phase == "failed"


def test_a_system_that_starts_no_more_processes_ends_the_run_with_a_sentence(
    hub_folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says which rank, why, and what to do; views hear of the end, and the record has it."""

    def refuse(_: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def act() -> None:
        monkeypatch.setattr(supervisor_module.SpawnProcess, "start", refuse)

    fails_on_restart(new_hub(hub_folder, "trains_on"), act, r"rank 0 cannot be started: .* unavailable; .*ulimit -u")


def test_a_hibernated_run_that_cannot_come_back_ends(hub_folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure is the run's, not that of the resume: no view is left with a run that starts for ever."""
    hub = new_hub(hub_folder, "trains_on")

    def refuse(_: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    async def scenario() -> None:
        async with running(hub) as session:
            await until(is_training(hub))
            await asked(hub, "hibernate")
            await until(lambda: hub.feed.state.phase == "hibernated")
            monkeypatch.setattr(supervisor_module.SpawnProcess, "start", refuse)
            await hub.submit(new_command("resume", actor="tui ana@box"))
            await session

    with pytest.raises(RankFailed, match="rank 0 cannot be started"):
        play(scenario())
    assert [status.status for status in hub.feed.state.commands][-1] == "refused"
    assert end_of(hub).exit_code == 4


def test_what_nobody_foresaw_ends_the_run_all_the_same(
    hub_folder: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its kind is in the record, where it came from in the log."""
    hub = new_hub(hub_folder, "trains_on")

    def surprise() -> Path:
        raise ValueError("a surprise")

    fails_on_restart(
        hub, lambda: monkeypatch.setattr(hub._meeting, "fresh", surprise), "the hub failed: ValueError: a surprise"
    )
    (logged,) = [record for record in caplog.records if record.getMessage() == "the hub failed"]
    assert logged.exc_info is not None
    assert isinstance(logged.exc_info[1], ValueError)


def test_a_hot_gpu_is_an_alert_of_the_run(hub_folder: RunFolder) -> None:
    """In the record, and until it has cooled down; the gauges themselves are only shown."""
    hub = new_hub(hub_folder, "trains_on")
    gpu = {"index": 0, "throttled": "heat"}
    hot = Gauges(cores=[], memory_used_bytes=0, memory_total_bytes=0, gpus=[gpu])

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))
            for _ in range(TOLD_AFTER):
                hub.on_gauges(hot)
            assert hub.feed.state.alerts["gpu"].text == "slowed down by heat: gpu 0"
            for _ in range(CLEAR_AFTER + 1):
                hub.on_gauges(replace(hot, gpus=[{**gpu, "throttled": ""}]))
            assert "gpu" not in hub.feed.state.alerts

    play(scenario())
    assert [event.text for event in read_feed(hub_folder).events if isinstance(event, Alert)] == [
        "slowed down by heat: gpu 0",
        "",
    ]
