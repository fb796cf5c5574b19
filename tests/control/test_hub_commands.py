"""Promises of `control.hub` about commands: each is recorded, applied once, and survives the ranks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import Any

import pytest

from plt_tui.control.folder import RunFolder
from plt_tui.control.record import read_journal
from plt_tui.errors import UsageError
from plt_tui.protocol.commands import Command, new_command
from plt_tui.protocol.events import CommandStatus, Failed, Run
from tests.control.hubs import (
    asked,
    end_of,
    finish,
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

pytestmark = pytest.mark.usefixtures("quick", "no_descriptor_left_open")


def test_pause_and_resume(hub_folder: RunFolder) -> None:
    """While paused there are no steps; the phases say who asked."""
    hub = new_hub(hub_folder, "trains_on")

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


def test_a_command_is_in_the_journal_before_a_rank_hears_of_it(hub_folder: RunFolder) -> None:
    """And its whole life after it: requested, agreed, applied."""
    hub = new_hub(hub_folder, "trains_on")

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))
            command = new_command("set", {"name": "lr", "value": "0.5", "mode": "scale"}, actor="ctl")
            await hub.submit(command)
            (request,) = [event for event in read_journal(hub_folder) if isinstance(event, CommandStatus)]
            assert (request.status, request.args) == ("requested", {"name": "lr", "value": 0.5, "mode": "scale"})
            await until(lambda: status_of(hub, command) == "applied")
            lives = [event.status for event in read_journal(hub_folder) if isinstance(event, CommandStatus)]
            assert lives == ["requested", "agreed", "applied"]
            assert hub.feed.state.edits[0].value == 0.5

    play(scenario())


def test_a_repeated_command_is_applied_once(hub_folder: RunFolder) -> None:
    """A client that lost its connection may send again, at once or after the command is in force."""
    hub = new_hub(hub_folder, "trains_on")

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
def test_a_command_that_can_never_be_applied_is_refused(
    hub_folder: RunFolder, name: str, args: dict[str, Any], text: str
) -> None:
    """At once, with the range or the choices, and without a trace in the journal."""
    hub = new_hub(hub_folder, "trains")

    with contextlib.closing(hub._recorder), pytest.raises(UsageError, match=text):
        asyncio.run(hub.submit(Command(id="1", name=name, args=args)))
    assert hub.feed.events == []


def test_a_note_needs_no_rank(hub_folder: RunFolder) -> None:
    """It is in force as soon as it is written down, also while ranks are only starting."""
    hub = new_hub(hub_folder, "never_begins")

    async def scenario() -> None:
        async with running(hub):
            await until(lambda: phases(hub) == ["starting"])
            command = new_command("note", {"text": "new data"}, actor="ctl")
            await hub.submit(command)
            assert status_of(hub, command) == "applied"

    play(scenario())


def test_a_pause_survives_a_restart(hub_folder: RunFolder) -> None:
    """A run that a person has paused is not trained on because a rank crashed."""
    hub = new_hub(hub_folder, "crashes_once_paused")

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))
            await asked(hub, "pause")
            (hub_folder.path / "die").touch()
            await until(lambda: phases(hub)[-2:] == ["restarting", "paused"])
            assert said(hub, Run)[-1].environment["paused"] is True
            (failure,) = said(hub, Failed)
            assert failure.message == "killed by SIGSEGV"
            await asked(hub, "resume")
            await until(is_training(hub))

    play(scenario())


def test_commands_without_an_answer_are_sent_again_after_a_restart(hub_folder: RunFolder) -> None:
    """What a dying rank took with it, and what was asked while none was there, is applied by the next ones."""
    hub = new_hub(hub_folder, "dies_with_unanswered_commands")

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


def test_a_command_to_a_rank_that_has_just_died_makes_no_noise(
    hub_folder: RunFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    """In a headless run the hub's stderr is the user's terminal."""
    hub = new_hub(hub_folder, "trains_on")

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))
            pid = rank_pid(hub, 0)
            os.kill(pid, signal.SIGKILL)
            await until(lambda: is_dead(pid))
            for _ in range(5):
                await hub.submit(new_command("eval"))
            await until(lambda: phases(hub).count("running") == 2)

    play(scenario())
    assert capfd.readouterr().err == ""


def test_edits_and_numbering_go_on_in_the_next_session(hub_folder: RunFolder) -> None:
    """A resumed run knows its edits, and its record is one sequence."""
    first = new_hub(hub_folder, "trains_on")

    async def scenario() -> None:
        async with running(first) as session:
            await until(is_training(first))
            await asked(first, "set", name="lr", value=0.5)
            await asked(first, "stop")
            assert await session == 143

    play(scenario())
    second = new_hub(hub_folder, "trains")
    assert finish(second) == 0
    (edit,) = said(second, Run)[-1].environment["edits"]
    assert (edit["name"], edit["value"]) == ("lr", 0.5)
    seqs = [event.seq for event in read_journal(hub_folder)]
    assert seqs == sorted(set(seqs))
    assert second.feed.state.end is not None
    assert second.feed.state.phase == "finished"
