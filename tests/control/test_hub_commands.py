"""Promises of `control.hub` about commands: each is recorded, applied once, and survives the ranks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import Any

import pytest

from plt_tui.control.folder import RunFolder
from plt_tui.control.record import read_feed, read_journal
from plt_tui.errors import StorageError, UsageError
from plt_tui.protocol.commands import Command, new_command
from plt_tui.protocol.events import Alert, CommandStatus, Failed, Run, Sample
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


def test_a_chosen_older_checkpoint_leaves_later_edits_behind(hub_folder: RunFolder) -> None:
    """What was set after its step is not set again; the record says who went back, and a crash afterwards changes nothing."""
    first = new_hub(hub_folder, "trains_on")

    async def scenario() -> None:
        async with running(first) as session:
            await until(is_training(first))
            await asked(first, "set", name="lr", value=0.5)
            await until(lambda: first.feed.state.step > first.feed.state.edits[0].step + 1)
            await asked(first, "set", name="lr", value=0.25)
            await asked(first, "stop")
            await session

    play(scenario())
    kept, left = first.feed.state.edits
    second = new_hub(hub_folder, "trains_on", resume="/c/step-00000001", resume_step=kept.step)

    async def resumed() -> None:
        async with running(second):
            await until(is_training(second))
            os.kill(rank_pid(second, 1), signal.SIGKILL)
            await until(lambda: phases(second).count("restarting") == 1 and phases(second)[-1] == "running")

    play(resumed())
    given = [[edit["id"] for edit in run.environment["edits"]] for run in said(second, Run)[-2:]]
    assert given == [[kept.id], [kept.id]]
    (rewind,) = [event for event in read_journal(hub_folder) if isinstance(event, CommandStatus) and event.name == "rewind"]
    assert (rewind.status, rewind.step, rewind.reason) == ("applied", kept.step, "/c/step-00000001")
    assert read_feed(hub_folder).state.edits == (kept,)
    assert left.step > kept.step


def test_a_chosen_checkpoint_that_the_ranks_refuse_changes_nothing(hub_folder: RunFolder) -> None:
    """No rank has begun from it: the record stands where it stood, with all edits, and its last word is the refusal."""
    first = new_hub(hub_folder, "trains_on")

    async def scenario() -> None:
        async with running(first) as session:
            await until(is_training(first))
            await asked(first, "set", name="lr", value=0.5)
            await asked(first, "stop")
            await session

    play(scenario())
    before = first.feed.state
    second = new_hub(hub_folder, "has_no_data", resume="/c/step-00000001", resume_step=1)
    assert finish(second) == 7
    after = read_feed(hub_folder).state
    assert (after.step, after.known_step, after.edits) == (before.step, before.known_step, before.edits)
    assert [status for status in said(second, CommandStatus) if status.name == "rewind"] == []
    assert end_of(second).step == before.step


def test_a_checkpoint_that_is_not_in_the_past_leaves_nothing_behind(hub_folder: RunFolder) -> None:
    """A run that begins from another run's checkpoint has no past to leave."""
    hub = new_hub(hub_folder, "trains", resume="/other/step-00000007", resume_step=7)
    assert finish(hub) == 0
    assert said(hub, CommandStatus) == []


def test_texts_are_made_safe_where_they_enter(hub_folder: RunFolder) -> None:
    """Samples, remarks, actors and answers are safe to print; a prompt stays what was asked, because the model reads it."""
    hub = new_hub(hub_folder, "speaks_in_escapes")

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))
            await hub.submit(new_command("note", {"text": "a\x1b[2J"}, actor="ctl \x9b"))
            await asked(hub, "set", name="prompt", value="b\x07")

    play(scenario())
    (sample,) = said(hub, Sample)
    assert (sample.prompt, sample.text) == ("a\\x1b[2J", "b\n\\x9b31m\\u202e")
    (note, *_) = [status for status in said(hub, CommandStatus) if status.name == "note"]
    assert (note.args, note.actor) == ({"text": "a\\x1b[2J"}, "ctl \\x9b")
    answer = said(hub, CommandStatus)[-1]
    assert (answer.args["value"], answer.reason) == ("b\x07", "1 -> \\x1b]0;owned\\x07")
    for path in (hub_folder.journal, hub_folder.samples):
        written = path.read_text()
        assert "\\u001b" not in written
        assert "\x9b" not in written


def test_what_cannot_be_written_down_is_not_done(hub_folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk an edit would be missing from the record: it is refused. A stop is taken: it is the way out."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    hub = new_hub(hub_folder, "trains_on")

    async def scenario() -> None:
        async with running(hub) as session:
            await until(is_training(hub))
            with monkeypatch.context() as disk:
                disk.setattr(hub._recorder._journal, "write", full)
                command = new_command("set", {"name": "lr", "value": 0.5})
                with pytest.raises(StorageError, match="set: the journal cannot be written"):
                    await hub.submit(command)
                assert status_of(hub, command) == "unknown"
                await asked(hub, "stop")
                assert await session == 143

    play(scenario())
    assert hub.feed.state.edits == ()


def test_a_command_that_was_refused_by_the_disk_can_be_sent_again(
    hub_folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same id, once there is room: it is not taken for a repeat."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    hub = new_hub(hub_folder, "trains_on")

    async def scenario() -> None:
        async with running(hub):
            await until(is_training(hub))
            command = new_command("set", {"name": "lr", "value": 0.5})
            with monkeypatch.context() as disk:
                disk.setattr(hub._recorder._journal, "write", full)
                with pytest.raises(StorageError):
                    await hub.submit(command)
            assert [alert.topic for alert in said(hub, Alert)] == ["record"]
            await hub.submit(command)
            await until(lambda: status_of(hub, command) == "applied")

    play(scenario())


def test_a_full_disk_does_not_close_the_doors(hub_folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """`run.json` cannot tell where they are; the run goes on, and its views are told why."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    hub = new_hub(hub_folder, "trains")
    monkeypatch.setattr(hub._folder, "write_info", full)
    with contextlib.closing(hub._recorder):
        hub.update_info(socket="/s", metrics_url="")
    assert hub.info.socket == "/s"
    assert hub.feed.state.alerts["record"].text == "run.json cannot be written: No space left on device"
