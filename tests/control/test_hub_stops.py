"""Promises of `control.hub` about stops: by signal or command, at every phase, heard or not."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time

import psutil
import pytest

from plt_tui.control import attempt as attempt_module
from plt_tui.control import restart as restart_module
from plt_tui.control.folder import RunFolder
from plt_tui.errors import STOP_EXIT_CODES, UsageError
from plt_tui.protocol.commands import new_command
from plt_tui.protocol.events import Alert, Run
from tests.control.hubs import (
    asked,
    end_of,
    finish,
    is_training,
    new_hub,
    phases,
    play,
    running,
    said,
    status_of,
    until,
)

pytestmark = pytest.mark.usefixtures("quick", "no_descriptor_left_open")


@pytest.mark.parametrize("number", STOP_EXIT_CODES)
def test_a_signal_saves_and_stops(hub_folder: RunFolder, number: signal.Signals) -> None:
    """SIGINT ends with 130, SIGTERM with 143, both after the ranks have left in good order."""
    hub = new_hub(hub_folder, "trains_on")

    async def scenario() -> None:
        async with running(hub) as session:
            await until(is_training(hub))
            hub.stop_by_signal(number)
            hub.stop_by_signal(signal.SIGTERM)  # harmless
            assert await session == STOP_EXIT_CODES[number]

    play(scenario())
    end = end_of(hub)
    assert (end.phase, end.exit_code, end.weights_sha256 != "") == ("stopped", STOP_EXIT_CODES[number], True)
    assert phases(hub)[-1] == "stopping"


@pytest.mark.parametrize("number", STOP_EXIT_CODES)
def test_ranks_that_do_not_listen_are_killed_after_the_grace(hub_folder: RunFolder, number: signal.Signals) -> None:
    """A rank that hangs cannot hold up a stop for longer than control.grace_s."""
    hub = new_hub(hub_folder, "is_deaf", grace_s=0.2)

    async def scenario() -> None:
        async with running(hub) as session:
            await until(is_training(hub))
            began = time.monotonic()
            hub.stop_by_signal(number)
            assert await session == STOP_EXIT_CODES[number]
            assert 0.2 <= time.monotonic() - began < 20  # less than a grace that nobody has shortened

    play(scenario())
    assert end_of(hub).phase == "stopped"


def test_a_second_interrupt_ends_at_once(hub_folder: RunFolder) -> None:
    """Whoever presses Ctrl-C twice does not wait for the save."""
    hub = new_hub(hub_folder, "is_deaf", grace_s=1000.0)

    async def scenario() -> None:
        async with running(hub) as session:
            await until(is_training(hub))
            hub.stop_by_signal(signal.SIGINT)
            hub.stop_by_signal(signal.SIGINT)
            assert await session == 130

    play(scenario())
    assert "second SIGINT" in end_of(hub).reason


@pytest.mark.parametrize("number", STOP_EXIT_CODES)
def test_a_signal_before_training_ends_at_once(hub_folder: RunFolder, number: signal.Signals) -> None:
    """There is nothing to save, so nobody waits for torch to be imported."""
    hub = new_hub(hub_folder, "never_begins", grace_s=1000.0)

    async def scenario() -> None:
        async with running(hub) as session:
            await until(lambda: len(hub.feed.state.ranks) == 2)
            hub.stop_by_signal(number)
            assert await session == STOP_EXIT_CODES[number]

    play(scenario())
    assert "while no rank was training" in end_of(hub).reason


def test_a_signal_between_two_attempts_ends_at_once(hub_folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the hub waits to start the ranks again there is nothing to save either, and no rank starts afterwards."""
    monkeypatch.setattr(restart_module, "FIRST_BACKOFF_S", 1000.0)
    hub = new_hub(hub_folder, "raises_once", grace_s=1000.0)

    async def scenario() -> None:
        async with running(hub) as session:
            await until(lambda: hub.feed.state.phase == "restarting")
            hub.stop_by_signal(signal.SIGINT)
            assert await session == 130

    play(scenario())
    assert "stopping" not in phases(hub)
    assert [run.environment["attempt"] for run in said(hub, Run)] == [0]


def test_a_second_interrupt_during_a_recovery_leaves_no_rank(hub_folder: RunFolder) -> None:
    """The end of the run and the recovery both end the ranks; neither may forget one or start new ones."""
    hub = new_hub(hub_folder, "is_deaf")

    async def scenario() -> None:
        async with running(hub) as session:
            await until(is_training(hub))
            pids = list(hub._attempt.pids)
            os.kill(pids[1], signal.SIGKILL)
            await until(lambda: bool(hub._attempt._failures))
            hub.stop_by_signal(signal.SIGINT)
            hub.stop_by_signal(signal.SIGINT)
            assert await session == 130
            assert not any(psutil.pid_exists(pid) for pid in pids)

    play(scenario())
    assert end_of(hub).exit_code == 130
    assert "restarting" not in phases(hub)


def test_a_stop_asked_before_training_ends_at_once(hub_folder: RunFolder) -> None:
    """Ranks that do not train yet have nothing to save: nobody waits for torch's import to end a run."""
    hub = new_hub(hub_folder, "begins_late")

    async def scenario() -> None:
        async with running(hub) as session:
            await until(lambda: phases(hub) == ["starting"])
            await hub.submit(new_command("stop", actor="ctl ana@box"))
            assert await session == 143

    play(scenario())
    assert phases(hub) == ["starting"]
    assert end_of(hub).reason == "stopped by ctl ana@box while no rank was training; there is no checkpoint"


def test_a_command_that_nobody_answered_is_refused_at_the_end(hub_folder: RunFolder) -> None:
    """No command stays "requested" for ever in the journal of a run that is over."""
    hub = new_hub(hub_folder, "is_deaf", grace_s=0.2)

    async def scenario() -> None:
        async with running(hub) as session:
            await until(is_training(hub))
            pause, stop = new_command("pause"), new_command("stop", {"now": True})
            await hub.submit(pause)
            await hub.submit(stop)
            assert await session == 143
            assert (status_of(hub, pause), status_of(hub, stop)) == ("refused", "refused")

    play(scenario())
    end = end_of(hub)
    assert "not saved within 0.2 s (control.grace_s); there is no checkpoint" in end.reason


def test_a_stop_that_a_person_asked_for_may_take_its_time(hub_folder: RunFolder) -> None:
    """control.grace_s is for signals, behind which a scheduler waits with its kill; the long save of a big model goes on."""
    hub = new_hub(hub_folder, "saves_slowly", grace_s=0.05)

    async def scenario() -> None:
        async with running(hub) as session:
            await until(is_training(hub))
            await hub.submit(new_command("stop", actor="ctl ana@box"))
            await asyncio.sleep(0.3)
            assert not session.done()
            (hub_folder.path / "saved").touch()
            assert await session == 143

    play(scenario())
    assert end_of(hub).weights_sha256 != ""


def test_a_signal_limits_a_stop_that_a_person_asked_for(hub_folder: RunFolder) -> None:
    """From the signal on the grace time counts."""
    hub = new_hub(hub_folder, "is_deaf", grace_s=0.2)

    async def scenario() -> None:
        async with running(hub) as session:
            await until(is_training(hub))
            await hub.submit(new_command("stop"))
            hub.stop_by_signal(signal.SIGINT)
            assert await session == 143

    play(scenario())
    assert end_of(hub).reason.startswith("stopped by signal SIGINT; not saved within 0.2 s (control.grace_s)")


def test_whoever_will_not_wait_for_the_save_says_now(hub_folder: RunFolder) -> None:
    """While a run is stopping a stop `now` ends it at once, and nothing else is taken."""
    hub = new_hub(hub_folder, "is_deaf", grace_s=1000.0)

    async def scenario() -> None:
        async with running(hub) as session:
            await until(is_training(hub))
            await hub.submit(new_command("stop", actor="ctl ana@box"))
            for verb, args in (("stop", {}), ("stop", {"now": False}), ("pause", {})):
                with pytest.raises(UsageError, match="the run is ending or has ended"):
                    await hub.submit(new_command(verb, args))
            now = new_command("stop", {"now": True}, actor="ctl bob@box")
            await hub.submit(now)
            assert await session == 143
            assert status_of(hub, now) == "applied"

    play(scenario())
    assert end_of(hub).reason == "stopped by ctl bob@box at once; the last steps were not saved"


def test_a_stop_that_cannot_save_is_a_storage_failure(hub_folder: RunFolder) -> None:
    """Nobody may take it for a stop with a checkpoint: failed, exit code 5."""
    hub = new_hub(hub_folder, "cannot_save")

    async def scenario() -> None:
        async with running(hub) as session:
            await until(is_training(hub))
            hub.stop_by_signal(signal.SIGTERM)
            assert await session == 5

    play(scenario())
    end = end_of(hub)
    assert (end.phase, end.exit_code, end.reason) == ("failed", 5, "disk full")


def test_a_rank_that_hangs_after_its_last_word_does_not_keep_the_run(
    hub_folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All have said that they are done: the run is finished, and what still hangs is killed."""
    monkeypatch.setattr(attempt_module, "EXIT_PATIENCE_S", 0.2)
    hub = new_hub(hub_folder, "hangs_after_done", max_restarts=0)
    assert finish(hub) == 0
    end = end_of(hub)
    assert (end.phase, end.step, end.weights_sha256) == ("finished", 12, "sha of 12")


def test_a_stop_that_a_rank_failed_says_what_is_saved(hub_folder: RunFolder) -> None:
    """The exit code promises a checkpoint, or a sentence."""
    hub = new_hub(hub_folder, "crashes_as_it_leaves")

    async def scenario() -> None:
        async with running(hub) as session:
            await until(is_training(hub))
            await asked(hub, "checkpoint")
            hub.stop_by_signal(signal.SIGTERM)
            assert await session == 143

    play(scenario())
    assert re.fullmatch(
        r"a rank failed while stopping: killed by SIGKILL; the newest checkpoint is checkpoints/step-\d{8}", end_of(hub).reason
    )


def test_what_fails_after_the_last_word_takes_nothing_back(hub_folder: RunFolder) -> None:
    """All is saved, so the run is finished and nothing is started again; but it is told."""
    hub = new_hub(hub_folder, "fails_after_done")
    assert finish(hub) == 0
    end = end_of(hub)
    assert (end.phase, end.step, end.weights_sha256) == ("finished", 12, "sha of 12")
    assert phases(hub) == ["starting", "running"]
    assert {alert.text for alert in said(hub, Alert)} == {
        "rank 0 was done, and then ended with exit code 1 and no message; nothing is lost, its log may say why",
        "rank 1 was done, and then killed by SIGKILL; nothing is lost, its log may say why",
    }


def test_nothing_is_taken_after_the_end(hub_folder: RunFolder) -> None:
    """The client learns that the run has ended and where to look."""
    hub = new_hub(hub_folder, "trains")
    assert finish(hub) == 0
    with pytest.raises(UsageError, match="pause: the run is ending or has ended; see plt-tui show a"):
        asyncio.run(hub.submit(new_command("pause")))
