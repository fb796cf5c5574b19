"""The hub of a run whose ranks are gone on purpose, and what it makes of rewinds and of a past that it did not see end."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace

import pytest

from plt_tui.control.folder import RunFolder
from plt_tui.control.record import Recorder, read_feed
from plt_tui.errors import EXIT_SIGTERM, UsageError
from plt_tui.protocol import commands
from plt_tui.protocol.commands import new_command
from plt_tui.protocol.events import CommandStatus, Failed, Run, Spike
from tests.control.hubs import (
    asked,
    end_of,
    is_dead,
    is_training,
    new_hub,
    phases,
    play,
    rank_pid,
    running,
    said,
    status_of,
    until,
)

ENTRY = "trains_on_from_its_saves"


def test_a_hibernated_run_holds_no_process_and_comes_back(hub_folder: RunFolder) -> None:
    """Its ranks are gone, its hub and its doors are not; a resume starts them where they were, not paused."""
    hub = new_hub(hub_folder, ENTRY)

    async def scenario() -> None:
        async with running(hub) as session:
            await until(is_training(hub))
            pids = [rank_pid(hub, rank) for rank in range(2)]
            await asked(hub, "hibernate")
            await until(lambda: hub.feed.state.phase == "hibernated")
            assert all(map(is_dead, pids))
            slept_at = hub.feed.state.step
            await asked(hub, "resume")
            await until(lambda: hub.feed.state.step > slept_at)
            assert said(hub, Run)[-1].start_step == slept_at
            await asked(hub, "stop")
            assert await session == EXIT_SIGTERM

    play(scenario())
    assert phases(hub) == ["starting", "running", "hibernated", "starting", "running", "stopping"]


def test_a_paused_run_wakes_from_hibernation_training(hub_folder: RunFolder) -> None:
    """The resume that brings it back ends its pause too."""
    hub = new_hub(hub_folder, ENTRY)

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))
            await asked(hub, "pause")
            await asked(hub, "hibernate")
            await until(lambda: hub.feed.state.phase == "hibernated")
            slept_at = hub.feed.state.step
            await asked(hub, "resume")
            await until(lambda: hub.feed.state.step > slept_at)

    play(scenario())


def test_a_hibernated_run_refuses_what_needs_ranks(hub_folder: RunFolder) -> None:
    """With the way out; a note is kept, and a stop ends the run at once."""
    hub = new_hub(hub_folder, ENTRY)

    async def scenario() -> None:
        async with running(hub) as session:
            with pytest.raises(UsageError, match="no rank is training yet"):
                await hub.submit(new_command("hibernate"))
            await until(is_training(hub))
            await asked(hub, "hibernate")
            await until(lambda: hub.feed.state.phase == "hibernated")
            for verb, args in (("set", {"name": "lr", "value": 1}), ("pause", {}), ("eval", {}), ("hibernate", {})):
                with pytest.raises(UsageError, match="the run is hibernated; resume it first"):
                    await hub.submit(new_command(verb, args))
            await asked(hub, "note", text="good night")
            await hub.submit(new_command("stop"))
            assert await session == EXIT_SIGTERM

    play(scenario())
    assert end_of(hub).phase == "stopped"


def test_a_resume_that_comes_while_the_ranks_leave_is_not_lost(hub_folder: RunFolder) -> None:
    """Asked for between the save and the end of the last process, it wakes the run as soon as that can be."""
    hub = new_hub(hub_folder, ENTRY)

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))
            await asked(hub, "hibernate")
            resume = new_command("resume")
            await hub.submit(resume)  # the ranks are on their way out, or gone
            await until(
                lambda: any(status.id == resume.id and status.status == "applied" for status in hub.feed.state.commands)
            )

    play(scenario())
    assert phases(hub).count("hibernated") == 1


def test_what_came_too_late_for_the_ranks_is_answered_when_they_are_gone(hub_folder: RunFolder) -> None:
    """A second hibernation must not wait for the resume, which it would put back to sleep; nobody waits for an answer."""
    hub = new_hub(hub_folder, ENTRY)

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))
            await asked(hub, "hibernate")
            late = [new_command("hibernate"), new_command("set", {"name": "lr", "value": 1}), new_command("resume")]
            for command in late:
                await hub.submit(command)  # the ranks take nothing any more
            await until(lambda: status_of(hub, late[2]) == "applied")
            assert [status_of(hub, command) for command in late] == ["refused", "refused", "applied"]
            assert "resume it first" in next(one.reason for one in hub.feed.state.commands if one.id == late[0].id)

    play(scenario())
    assert phases(hub).count("hibernated") == 1


def test_a_stop_that_comes_while_the_ranks_leave_ends_the_run(hub_folder: RunFolder) -> None:
    """Whoever wanted it to sleep and then to stop does not find it asleep."""
    hub = new_hub(hub_folder, ENTRY)

    async def scenario() -> None:
        async with running(hub) as session:
            await until(is_training(hub))
            kill = hub._attempt.kill

            async def killed_after_a_stop() -> None:
                await hub.submit(new_command("stop"))
                await kill()

            hub._attempt.kill = killed_after_a_stop  # type: ignore[method-assign]
            await asked(hub, "hibernate")
            assert await session == EXIT_SIGTERM

    play(scenario())
    assert "hibernated" not in phases(hub)
    assert end_of(hub).phase == "stopped"


def test_a_rank_that_stumbles_on_its_way_out_does_not_undo_a_hibernation(hub_folder: RunFolder) -> None:
    """Its step is saved and its command answered: the run sleeps, and is not started again behind somebody's back."""
    hub = new_hub(hub_folder, "crashes_as_it_leaves")

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))
            await asked(hub, "hibernate")
            await until(lambda: hub.feed.state.phase == "hibernated")

    play(scenario())
    assert "restarting" not in phases(hub)
    assert len(said(hub, Failed)) == 1


def test_a_start_after_a_rewind_does_not_ask_for_the_checkpoint_that_it_left(hub_folder: RunFolder) -> None:
    """The one that a person chose was set aside by the rewind: the newest of the line is what counts then."""
    hub = new_hub(hub_folder, "trains_on", resume="chosen", resume_step=30)

    async def scenario() -> None:
        async with running(hub):
            await until(lambda: hub.feed.state.step > 40)
            await asked(hub, "pause")  # so that the two failures have steps of their own: the same one twice would end the run
            await asked(hub, "rewind", step=35)
            os.kill(rank_pid(hub, 1), signal.SIGKILL)
            await until(lambda: len(said(hub, Run)) == 2)
            await asked(hub, "rewind", step=10)
            os.kill(rank_pid(hub, 1), signal.SIGKILL)
            await until(lambda: len(said(hub, Run)) == 3)

    play(scenario())
    assert [run.resumed_from for run in said(hub, Run)] == ["chosen", "chosen", "auto"]


def test_a_rewind_is_known_to_the_ranks_of_the_next_start(hub_folder: RunFolder) -> None:
    """A crash after a rewind does not bring back what was left behind: neither its edits nor its steps count."""
    hub = new_hub(hub_folder, ENTRY)

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))
            await asked(hub, "set", name="grad_clip", value=0.5)
            kept = hub.feed.state.edits[0].step
            await until(lambda: hub.feed.state.step > kept + 2)
            await asked(hub, "set", name="lr", value=1.0)
            await asked(hub, "pause")
            await asked(hub, "rewind", step=str(kept), skip="7")
            assert [branch.first for branch in hub.feed.state.branches] == [kept + 1]
            os.kill(rank_pid(hub, 1), signal.SIGKILL)
            await until(lambda: phases(hub)[-2:] == ["restarting", "paused"])
            given = said(hub, Run)[-1].environment
            assert [(edit["name"], edit["value"]) for edit in given["edits"]] == [("grad_clip", 0.5), ("skip", 7)]
            assert (given["known_step"], given["guard_acts"]) == (kept, 0)

    play(scenario())


def test_what_a_killed_hub_left_unanswered_is_refused_by_the_next(hub_folder: RunFolder) -> None:
    """Nobody waits for ever for an answer; how often the guard has acted is not forgotten."""
    recorder = Recorder(hub_folder, 0, lambda problem: None)
    lost = new_command("set", {"name": "lr", "value": 1.0})
    recorder.record(replace(commands.status_of(lost, "requested"), time=time.time()))
    recorder.record(Spike(time=1.0, step=3, what="loss", value=9.0, z=8.0, act="skip"))
    recorder.close()
    hub = new_hub(hub_folder, ENTRY)

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))

    play(scenario())
    answers = [status for status in said(hub, CommandStatus) if status.id == lost.id]
    assert [status.status for status in answers] == ["requested", "refused"]
    assert "hub died" in answers[-1].reason
    assert said(hub, Run)[-1].environment["guard_acts"] == 1
    assert read_feed(hub_folder).state.edits == ()


@pytest.mark.parametrize(
    ("verb", "args", "reason"),
    [
        ("set", {"name": "batch_size", "value": 3, "mode": "keep"}, "does not divide"),
        ("set", {"name": "weights", "value": "1,2"}, "2 numbers for 1 corpora"),
        ("rewind", {"step": "x"}, "whole number"),
    ],
)
def test_what_does_not_fit_this_run_is_refused_before_a_rank_hears_of_it(
    hub_folder: RunFolder, verb: str, args: dict[str, object], reason: str
) -> None:
    """The one who asked is told at once, and the journal holds nothing of it."""
    hub = new_hub(hub_folder, ENTRY)

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))
            with pytest.raises(UsageError, match=reason):
                await hub.submit(new_command(verb, args))

    play(scenario())
    assert said(hub, CommandStatus) == []
